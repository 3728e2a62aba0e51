"""One layer's call, all its directions: the record that ``nn`` makes once and passes on whole.

T steps, N sequences, C input features, H units, R features of h (H, or proj_size), D directions, G gates.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from undertow.layout import N_GATES

if TYPE_CHECKING:
    from undertow.kernels.recording import Recording

Weights = Sequence[
    Any
]  # weight_ih [G*H,C], weight_hh [G*H,R], bias_ih, bias_hh [G*H], weight_hr [R,H] or None
WEIGHTS = 5  # of a direction
_NONE = (None,) * WEIGHTS


class Ragged(NamedTuple):
    """Sequences of different lengths: padded with ``lengths``, or packed with the other two."""

    lengths: Tensor | None = None  # int64 [N] on the CPU or beside x, in any order, between 0 and T
    batch_sizes: Tensor | None = None  # int64 [T], as PackedSequence has them
    order: Tensor | None = None  # int64 [N], PackedSequence's sorted_indices


EVEN = Ragged()


class Variant(NamedTuple):
    """What is added to the equations, see ``undertow.equations.variants``; None where nothing is."""

    mask: Tensor | None = None  # bool [T,N]; False: the step is passed over, h and c stay as they are
    reset: Tensor | None = None  # bool [T,N]; True: the first step of a new sequence
    reset_h: Tensor | None = None  # [D,N,R], the state that it begins from; None: zero
    reset_c: Tensor | None = None  # [D,N,H]
    recurrent: Tensor | None = None  # [D,N,R], factors of h_{t-1} on its way into the gates
    zoneout_h: Tensor | None = None  # [D,T,N,R], packed [D,rows,R]: the part of h_{t-1} that stays
    zoneout_c: Tensor | None = None  # [D,T,N,H]
    peepholes: Tensor | None = None  # [D,3,H]: p_i, p_f, p_o
    gain_x: Tensor | None = None  # [D,4H], of layer normalisation: all four or none
    gain_h: Tensor | None = None  # [D,4H]
    gain_c: Tensor | None = None  # [D,H]
    bias_c: Tensor | None = None  # [D,H]
    coupled: bool = False  # f = 1 - i; the last field, the only one that is no tensor

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the fields that add something."""
        return tuple(n for n, v in self._asdict().items() if v is not None and v is not False)


PLAIN = Variant()


class Call(NamedTuple):
    """A layer of ``cell`` "lstm" or "rnn", in one direction for each of ``weights``, the second reversed.

    LSTM: c_t = i ⊙ g + f ⊙ c_{t-1}, h_t = o ⊙ tanh(c_t); RNN: h_t = φ(W x_t + U h_{t-1} + b), φ tanh or relu.
    The call returns y [T,N,D*R], zero past a sequence's end, or packed [R,D*R]; h_n [D,N,R]; and for the LSTM
    c_n [D,N,H]. h_n and c_n are the states at each sequence's own end, in the reverse direction at its start.
    """

    cell: str
    x: Any  # Tensor [T,N,C], or packed rows [R,C]; or symbols int64 [T,N,1], each a column of weight_ih
    h_0: Any  # Tensor [D,N,R], or None: zero
    c_0: Any  # Tensor [D,N,H], or None: zero; None for the RNN
    weights: Sequence[Weights]  # [D]
    ragged: Ragged = EVEN
    variant: Variant = PLAIN
    nonlinearity: str = "tanh"
    checkpoint: int | None = None  # steps of a segment in training (``segments``); None: one tape
    recording: "Recording | None" = None  # receives what the engine reads and writes

    @property
    def D(self) -> int:
        """The number of directions, 1 or 2."""
        return len(self.weights)

    @property
    def H(self) -> Any:
        """The number of units, also if h is projected; a symbol while a compiler records."""
        return self.weights[0][0].shape[0] // N_GATES[self.cell]

    @property
    def reads_symbols(self) -> bool:
        """Whether a symbol s stands for the vector of which number s is 1 and the others are 0."""
        return self.x.dtype is torch.int64

    @property
    def real(self) -> Tensor:
        """A tensor of the dtype and device of y."""
        found: Tensor = self.weights[0][1] if self.reads_symbols else self.x
        return found

    @property
    def N(self) -> Any:
        """The number of sequences."""
        sizes = self.ragged.batch_sizes
        return self.x.shape[1] if sizes is None else int(sizes[0])

    @property
    def states(self) -> tuple[Any, ...]:
        """h_0, and for the LSTM c_0."""
        return (self.h_0, self.c_0) if self.cell == "lstm" else (self.h_0,)

    @property
    def rows_shape(self) -> tuple[int, ...]:
        """The tape's leading shape: [T,N], or [R] where lengths differ, a row for each step of a sequence."""
        if self.ragged.lengths is not None:
            return (int(self.ragged.lengths.sum()),)
        return tuple(self.x.shape[:-1])

    # What may require a gradient, as one flat sequence, and the way back.

    @property
    def tensors(self) -> list[Any]:
        """x, h_0, c_0, the weights of each direction and, with a variant, its tensors."""
        flat = [self.x, self.h_0, self.c_0]
        for each in self.weights:
            flat += each
        if self.variant is not PLAIN:
            flat += self.variant[:-1]
        return flat

    def filled(self, values: Sequence[Any]) -> "Call":
        """Return the same call with ``values`` in the places of ``tensors``: other tensors, or booleans."""
        end = 3 + WEIGHTS * len(self.weights)
        weights = tuple(tuple(values[k : k + WEIGHTS]) for k in range(3, end, WEIGHTS))
        variant = self.variant
        if variant is not PLAIN:
            variant = Variant._make([*values[end:], variant.coupled])
        x, h_0, c_0 = values[:3]
        # _replace takes three times as long
        return tuple.__new__(Call, (self.cell, x, h_0, c_0, weights, self.ragged, variant, *self[7:]))

    def emptied(self) -> "Call":
        """Return the same call without its tensors, for holders that must not keep them alive."""
        variant = self.variant
        if variant is not PLAIN:
            variant = Variant(coupled=variant.coupled)
        weights = (_NONE,) * len(self.weights)
        return tuple.__new__(Call, (self.cell, None, None, None, weights, self.ragged, variant, *self[7:]))

    def cast(self, dtype: torch.dtype) -> "Call":
        """Return the call in ``dtype`` as autocast casts: all floating-point tensors except float64."""

        def change(t: Any) -> Any:
            kept = t is None or not t.is_floating_point() or t.dtype == torch.float64
            return t if kept else t.to(dtype)

        return self.filled([change(t) for t in self.tensors])

    def directions(self) -> Iterator[tuple[int, Weights]]:
        """Number the directions, with the weights of each."""
        return enumerate(self.weights)
