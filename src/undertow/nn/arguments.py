"""Validates the arguments of a module's call, torch's and ours, and converts them to one layout."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from undertow.kernels import operators
from undertow.kernels.call import EVEN, Ragged
from undertow.kernels.tensors import autocasts
from undertow.nn import parameters


class Given(NamedTuple):
    """The arguments of a module's call in the kernels' layout.

    Attributes:
        x: [T,N,C], or packed rows [R,C].
        states: h and for the LSTM c, [L*D,N,·] each; a tuple of L tensors [D,N,H] each if the module has a
            width for each layer; empty if the call has no initial states.
        N: the number of sequences.
        ragged: the lengths or the packing.
        layout: the layout of the results: ``"steps first"``, ``"batch first"``, ``"unbatched"``, or the
            PackedSequence that was given.
    """

    x: Tensor
    states: Sequence[Any]
    N: int
    ragged: Ragged
    layout: Any

    def restored(self, y: Tensor, finals: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """Convert results to the layout of the arguments.

        Args:
            y: [T,N,·], or packed rows [R,·].
            finals: the final states, [L*D,N,·] each, or a tuple of L tensors [D,N,H] each.

        Returns:
            y and the final states in the layout of the arguments.
        """
        if self.layout == "steps first":
            return y, finals
        if self.layout == "batch first":
            return y.transpose(0, 1), finals
        if self.layout == "unbatched":
            return y.squeeze(1), [_each(partial(torch.squeeze, dim=1), s) for s in finals]
        _, batch_sizes, order, inverse = self.layout
        return PackedSequence(y, batch_sizes, order, inverse), finals


def normalised(module: Any, input: Any, hx: Any, ragged: Ragged) -> Given | None:
    """Convert the arguments of a call to the kernels' layout, without copying.

    Args:
        module: the ``LSTM`` or ``RNN`` that is called.
        input: a tensor [T,N,C], [N,T,C] with batch_first or [T,C]; or a PackedSequence.
        hx: the initial states as torch takes them; or None.
        ragged: the lengths of a batched tensor.

    Returns:
        The arguments; None if they have a form that torch refuses.
    """
    states: Any = ()
    if hx is not None:
        states = hx if module.mode == "LSTM" else (hx,)
        if not isinstance(states, tuple | list) or not states:
            return None
    if isinstance(input, Tensor) and input.dim() == 3:
        if module.batch_first:
            x = input.transpose(0, 1)
            return Given(x, states, x.shape[1], ragged, "batch first")
        return Given(input, states, input.shape[1], ragged, "steps first")
    if isinstance(input, PackedSequence):
        data, batch_sizes, order, _ = input
        if data.dim() != 2:
            return None
        N = operators.batch(batch_sizes, states)
        return Given(data, states, N, Ragged(None, batch_sizes, order), input)
    if not isinstance(input, Tensor) or input.dim() != 2:
        return None
    if not all(_has_dim(s, 2) for s in states):
        return None
    batch = [_each(partial(torch.unsqueeze, dim=1), s) for s in states]
    return Given(input.unsqueeze(1), batch, 1, EVEN, "unbatched")


def fit(module: Any, given: Given, dtype: torch.dtype, embedding: Tensor | None = None) -> bool:
    """Whether torch would accept the arguments, too.

    Args:
        module: the ``LSTM`` or ``RNN`` that is called.
        given: the arguments of the call.
        dtype: the dtype of the module's parameters.
        embedding: [S,C], whose rows the symbols x [T,N,1] stand for; or None.

    Returns:
        True if sizes and dtypes fit the module. If False, torch's own forward decides, with its own message.
    """
    x, states = given.x, given.states
    C, of_x = (x.shape[-1], x.dtype) if embedding is None else (embedding.shape[-1], embedding.dtype)
    alike = of_x is dtype or (of_x.is_floating_point and autocasts(x))
    if module.input_size != C or x.shape[0] == 0 or not alike:
        return False
    if not states:
        return True
    autocast, batch = autocasts(x), (given.N,)
    if isinstance(module.hidden_size, tuple):
        return _widths_fit(module, states, batch, dtype, autocast)
    blocks, sizes = len(module._all_weights), [module.proj_size or module.hidden_size]
    if module.mode == "LSTM":
        sizes.append(module.hidden_size)
    return len(states) == len(sizes) and all(
        isinstance(s, Tensor) and s.shape == (blocks, *batch, size) and (s.dtype == dtype or autocast)
        for s, size in zip(states, sizes, strict=True)
    )


def _has_dim(state: Any, dim: int) -> bool:
    """Whether a state is a tensor with ``dim`` dimensions; of a tuple, whether each layer's state is."""
    return all(
        isinstance(s, Tensor) and s.dim() == dim
        for s in (state if isinstance(state, tuple | list) else [state])
    )


def _each(change: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply ``change`` to a state; to a tuple, apply it to each layer's state."""
    return tuple(map(change, state)) if isinstance(state, tuple | list) else change(state)


def _widths_fit(
    module: Any, states: Sequence[Any], batch: tuple[int, ...], dtype: torch.dtype, autocast: bool
) -> bool:
    """``fit`` for states that are tuples with a tensor [D,*batch,H] for each layer."""
    D, kinds = 1 + module.bidirectional, 2 if module.mode == "LSTM" else 1
    return len(states) == kinds and all(
        isinstance(state, tuple | list)
        and len(state) == module.num_layers
        and isinstance(s, Tensor)
        and s.shape == (D, *batch, H)
        and (s.dtype == dtype or autocast)
        for state in states
        for s, H in zip(state, parameters.widths(module), strict=False)
    )


def lengths(given: Any, input: Any, batch_first: bool) -> Tensor:
    """Check the argument ``lengths`` of a call.

    Args:
        given: integers [N], as a tensor, array or list.
        input: the input of the call.
        batch_first: whether the input is [N,T,C] and not [T,N,C].

    Returns:
        int64 [N] on the CPU, or where the input lies if they lie there: a copy, so that it is still the same
        in the backward pass.

    Raises:
        TypeError: ``given`` does not hold integers.
        ValueError: the input is not batched, or ``given`` does not have one length for each sequence.
    """
    if not isinstance(input, Tensor) or input.dim() != 3:
        raise ValueError(f"lengths: expected with a batched input of 3 dimensions, got {kind(input)}")
    found = given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")
    if found.numel() == 0:  # torch takes [] for floats
        found = found.long()
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"lengths: expected integers, got {found.dtype}")
    N = input.shape[0 if batch_first else 1]
    if found.shape != (N,):
        raise ValueError(f"lengths: expected shape [{N}], one for each sequence, got {list(found.shape)}")
    device = found.device if found.device == input.device else "cpu"
    return found.to(device, torch.int64, copy=True).contiguous()


def mark(name: str, value: Any, input: Any, batch_first: bool) -> Tensor:
    """Check the argument ``mask`` or ``reset`` of a call.

    Args:
        name: the name of the argument.
        value: booleans [T,N], [N,T] with batch_first or [T] unbatched, as a tensor, array or list.
        input: the input of the call.
        batch_first: whether the input is [N,T,C] and not [T,N,C].

    Returns:
        bool [T,N] on the device of the input.

    Raises:
        TypeError: ``value`` does not hold booleans.
        ValueError: ``value`` does not have the shape of the input's steps, or the input is packed.
    """
    if isinstance(input, PackedSequence):
        raise ValueError(
            f"{name}: expected None with a PackedSequence, which has no place for steps [T, N]; "
            "give the padded input and lengths="
        )
    if not isinstance(input, Tensor) or input.dim() not in (2, 3):
        raise ValueError(f"{name}: expected with an input of 2 or 3 dimensions, got {kind(input)}")
    # an array is copied: torch would not notice if it changed before the backward pass
    found = value if isinstance(value, Tensor) else torch.tensor(value, device="cpu")
    if found.dtype != torch.bool:
        raise TypeError(f"{name}: expected booleans, got {found.dtype}")
    if found.shape != input.shape[:-1]:
        axes = "T" if input.dim() == 2 else "N, T" if batch_first else "T, N"
        sizes = list(input.shape[:-1])
        raise ValueError(
            f"{name}: expected shape [{axes}] = {sizes}, as the input has, got {list(found.shape)}"
        )
    found = found.to(input.device)
    if input.dim() == 2:
        return found.unsqueeze(1)
    return found.transpose(0, 1).contiguous() if batch_first else found


def kind(input: Any) -> str:
    """Describe an argument for a message: the shape of a tensor, the type of anything else."""
    return f"shape {list(input.shape)}" if isinstance(input, Tensor) else type(input).__name__
