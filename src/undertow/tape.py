"""What a pass leaves behind: plain records of arrays, shared by the equations and the kernels.

Entries stand in the order in which steps were processed. A forward layer processes t = 0..T-1. A reverse
layer processes t = T-1..0, so its entry s belongs to time T-1-s. In ``h`` and ``c`` index 0 is the initial
state and index s+1 the state after step s; the last entry is h_n or c_n. Past a sequence's own end ``h`` and
``c`` are carried unchanged and ``gates`` are zero.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # float64 from the equations, float32 or float64 from a kernel
Index = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tape:
    """What the backward pass of an LSTM needs of the forward pass: one layer, one direction."""

    gates: Array  # [T, N, 4, H], after the activation, in the order i, f, g, o
    h: Array  # [T+1, N, H]
    c: Array  # [T+1, N, H]
    lengths: Lengths | None = None  # [N], None: every sequence has T steps
    reverse: bool = False
    added: tuple[str, ...] = field(default=(), kw_only=True)  # to the equations: names of a Variant's fields

    def of(self, chosen: Index) -> "Tape":
        """Return the tape of the sequences ``chosen``, int64 [n], in that order."""
        return Tape(
            self.gates[:, chosen],
            self.h[:, chosen],
            self.c[:, chosen],
            None if self.lengths is None else self.lengths[chosen],
            self.reverse,
            added=self.added,
        )


@dataclass(frozen=True)
class RNNTape:
    """What the backward pass of a plain RNN needs of the forward pass. Its only state is h."""

    h: Array  # [T+1, N, H]
    lengths: Lengths | None = None  # [N]
    reverse: bool = False
    added: tuple[str, ...] = field(default=(), kw_only=True)

    def of(self, chosen: Index) -> "RNNTape":
        """Return the tape of the sequences ``chosen``, int64 [n], in that order."""
        lengths = None if self.lengths is None else self.lengths[chosen]
        return RNNTape(self.h[:, chosen], lengths, self.reverse, added=self.added)


@dataclass(frozen=True)
class RNNGradients:
    """∂E/∂(everything) of one plain RNN layer. ``dx`` is in the order of time, the rest in the tape's."""

    dx: Array  # [T, N, C]
    dweight_ih: Array  # [G*H, C]
    dweight_hh: Array  # [G*H, H]
    dbias: Array  # [G*H], the gradient of bias_ih and of bias_hh alike
    dgates: Array  # [T, N, G, H], with respect to the gates before the activation
    dh: Array  # [T+1, N, H], total: through y_t and through every later step

    @property
    def dh_0(self) -> Array:
        """Gradient of the initial hidden state, [N, H]."""
        return self.dh[0, :]


@dataclass(frozen=True)
class Gradients(RNNGradients):
    """∂E/∂(everything) of one LSTM layer (G = 4): the same fields, and the gradient of the cell."""

    dc: Array  # [T+1, N, H], total: through h_t and through every later step

    @property
    def dc_0(self) -> Array:
        """Gradient of the initial cell state, [N, H]."""
        return self.dc[0, :]
