"""``lstm.stateful()``: sequences that come in pieces; each call continues where the last one ended.

    >>> carried = undertow.LSTM(3, 8).stateful()
    >>> for piece in x.split(50):  # x [T,N,3]
    ...     y, _ = carried(piece)
    ...     y.square().mean().backward()  # through these 50 steps only

The state is detached between calls: truncated back-propagation through time (Williams & Peng 1990, Neural
Computation 2(4)). Outputs are those of one call on the whole sequence. Gradients stop where a piece starts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from undertow.nn import parameters


class Stateful:
    """Calls a module and carries its state from call to call.

    A Stateful is no module and has no parameters; a model must hold the LSTM itself, too. No state_dict
    contains the state, but ``state`` reads and sets it.

    Args:
        layer: an ``LSTM`` or ``RNN`` with one direction.

    Raises:
        ValueError: the module is bidirectional.
    """

    def __init__(self, layer: Any) -> None:
        if layer.bidirectional:
            raise ValueError(
                "stateful: expected bidirectional=False: the reverse direction begins at a sequence's end, "
                "which the pieces before it have not seen"
            )
        self.layer = layer
        self._state: Any = None  # detached: h, or (h, c); None: all sequences start anew
        self._fresh: Tensor | None = None  # bool [N]: sequences that start anew

    def __call__(self, input: Any, *, lengths: Any = None, mask: Any = None, reset: Any = None) -> Any:
        """Call the module with the carried state as ``hx``.

        Args:
            input: as in ``LSTM.forward``, with the same number of sequences as in the call before.
            lengths: as in ``LSTM.forward``.
            mask: as in ``LSTM.forward``.
            reset: as in ``LSTM.forward``; sequences may start anew at any step of the input.

        Returns:
            The result of the module.

        Raises:
            ValueError: the number of sequences differs from the call before. After this and any other
                exception of the module the state is as before.
        """
        self._check_batch(input)
        result = self.layer(input, self._start(), lengths=lengths, mask=mask, reset=reset)
        self.state = _each(lambda s: s.detach().clone(), result[1])  # the caller may write into the result
        return result

    @property
    def state(self) -> Any:
        """The state from which the next call starts: h_n for the RNN, (h_n, c_n) for the LSTM, detached.

        It is None before the first call. Set it to continue from a saved state, or to None.
        """
        return _each(Tensor.detach, self._start())

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._fresh = _each(Tensor.detach, state), None

    def reset(self, sequences: Any = None) -> None:
        """Let sequences start anew at the next call, from the module's initial state, zero or learnt.

        Before the first call this has no effect.

        Args:
            sequences: indices of sequences, or bool [N]; None: all.

        Raises:
            TypeError: ``sequences`` holds neither integers nor booleans.
            ValueError: ``sequences`` does not fit the batch, or the state is of one unbatched sequence.
        """
        if sequences is None:
            self.state = None
        elif self._state is not None:
            fresh = _chosen(sequences, self._batch)
            self._fresh = fresh if self._fresh is None else self._fresh | fresh

    @property
    def _batch(self) -> int | None:
        """N of the state; None if it is of one unbatched sequence."""
        h = _first(self._state)
        return h.shape[1] if h.dim() == 3 else None

    def _check_batch(self, input: Any) -> None:
        if self._state is None or not (isinstance(input, PackedSequence) or _is_sequence(input)):
            return
        given = _batch_of(input, self.layer.batch_first)
        if given != self._batch:
            was, now = ("no batch" if N is None else f"{N} sequences" for N in (self._batch, given))
            raise ValueError(f"input: expected {was}, as in the call before, got {now}; reset() begins anew")

    def _start(self) -> Any:
        """The state; fresh sequences have the module's initial state, which may receive a gradient."""
        if self._fresh is None:
            return self._state
        lstm = self.layer.mode == "LSTM"
        states = self._state if lstm else (self._state,)
        learnt = parameters.initial(self.layer) or [None] * len(states)
        found = tuple(self._fill(s, start) for s, start in zip(states, learnt, strict=True))
        return found if lstm else found[0]

    def _fill(self, state: Any, start: Any) -> Any:
        if isinstance(state, tuple | list):  # a tensor for each layer
            return tuple(map(self._fill, state, start or [None] * len(state)))
        assert self._fresh is not None
        fresh = self._fresh.to(state.device).view(1, -1, 1)
        return torch.where(fresh, state.new_zeros(()) if start is None else start.unsqueeze(1), state)


def _chosen(sequences: Any, N: int | None) -> Tensor:
    """Convert indices or booleans to bool [N]."""
    if N is None:
        raise ValueError("reset: expected no argument for an unbatched state; reset() begins anew")
    found = torch.as_tensor(sequences, device="cpu")
    if found.dtype == torch.bool:
        if found.shape != (N,):
            raise ValueError(f"reset: expected booleans of shape [{N}], got {list(found.shape)}")
        return found.clone()  # the caller may change its tensor before the next call
    if found.numel() == 0:
        return torch.zeros(N, dtype=torch.bool, device="cpu")
    if found.is_floating_point() or found.is_complex():
        raise TypeError(f"reset: expected indices or booleans, got {found.dtype}")
    if found.min() < -N or found.max() >= N:
        raise ValueError(f"reset: expected indices of {N} sequences, got {found.tolist()}")
    return torch.zeros(N, dtype=torch.bool, device="cpu").index_fill(0, found.flatten() % N, True)


def _is_sequence(input: Any) -> bool:
    """Whether the input is a tensor that the module may accept; it refuses others with its own message."""
    return isinstance(input, Tensor) and input.dim() in (2, 3)


def _batch_of(input: Any, batch_first: bool) -> int | None:
    if isinstance(input, PackedSequence):
        return int(input.batch_sizes[0])
    return None if input.dim() == 2 else input.shape[0 if batch_first else 1]


def _first(state: Any) -> Any:
    return _first(state[0]) if isinstance(state, tuple | list) else state


def _each(change: Callable[[Tensor], Tensor], state: Any) -> Any:
    if isinstance(state, Sequence):
        return tuple(_each(change, s) for s in state)
    return None if state is None else change(state)
