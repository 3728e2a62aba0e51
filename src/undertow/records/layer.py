"""A traced layer as people read it: NumPy arrays in the order of time.

``undertow.trace`` makes them from arrays in the order of processing, as described in tape.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from undertow.layout import GATES
from undertow.tape import Array, Lengths, RNNGradients, RNNTape, Tape

Mask = npt.NDArray[np.bool_]


class NotRecorded(RuntimeError):
    """The trace does not hold what was asked for; the message says why."""


@dataclass(frozen=True)
class StepGradients:
    """The gradients at each step: the fields of tape.Gradients that are not sums over steps."""

    dgates: Array
    dh: Array
    dc: Array | None  # None for the plain RNN


class Source(Protocol):
    """Where a Layer's arrays come from, a recording or a file.

    Each property raises NotRecorded if its arrays are missing.
    """

    @property
    def cell(self) -> str:
        """The kind of layer, "lstm" or "rnn"."""

    @property
    def dtype(self) -> str:
        """What the layer computed in, "float32", "float64" or "bfloat16"."""

    @property
    def weights(self) -> tuple[Array, Array]:
        """W [G*H,C] and U [G*H,H] as they were at the call."""

    @property
    def tape(self) -> Tape | RNNTape:
        """The forward pass in the order of processing."""

    @property
    def steps(self) -> StepGradients:
        """The gradients at each step, in the order of processing."""

    @property
    def gradients(self) -> RNNGradients:
        """The gradients at each step, and the sums over steps."""


class Layer:
    """One layer of one call in one direction, as read-only arrays [T,N,...] in the order of time.

    Arrays are float32 or float64, as the layer computed; a bfloat16 layer is shown in float32. The reverse
    direction is in the order of time too: entry t of a gate belongs to time t. Arrays of states and their
    gradients are [T+1,N,H]: entry 0 is the initial state, and entry t+1 is the state that the step at time t
    made. So y_t is h[t+1] in either direction. Without a batch N is 1; batch_first makes no difference.

    Where sequences differ in length, entries past a sequence's own end are NaN, so they cannot pass for data;
    ``lengths`` and ``mask`` say where that is. If all sequences have T steps, arrays are views of the
    kernels' memory, except h and the states of the reverse direction, which are copies.

    A step that ``mask=`` skipped has gates of zero and the states of the step before. ``tape.added`` names
    what a Variant added to the equations; then the arrays are exact, but ``undertow.flow`` and the doctor
    refuse them.

    Gradients are ∂E/∂(...) for the E on which backward was last called. The first gradient that is read runs
    the kernel's backward pass again, for all of them. If no backward pass came, reading one raises
    NotRecorded with the reason. A plain RNN has h and dh, and ``da`` in place of the gates' gradients.
    """

    def __init__(self, source: Source, other: "Layer | None" = None) -> None:
        self.source, self._other = source, other
        self._made: dict[str, tuple[Array, Array]] = {}

    @staticmethod
    def of(sources: Sequence[Source]) -> "Layer":
        """Make a Layer of one direction, or of the forward and the reverse direction."""
        return Layer(sources[0], Layer(sources[1]) if len(sources) > 1 else None)

    @property
    def directions(self) -> "list[Layer]":
        """This direction and, if there is one, its reverse."""
        return [self] if self._other is None else [self, self._other]

    @property
    def reverse(self) -> "Layer":
        """The reverse direction of the same layer. Raises AttributeError if there is none."""
        if self._other is None:
            raise AttributeError("reverse: the layer has one direction, or this is its reverse already")
        return self._other

    @property
    def dtype(self) -> str:
        """What the layer computed in: float32, float64 or bfloat16, whose arrays are shown as float32."""
        return self.source.dtype

    # ------------------------------------------------------------------ forward

    @property
    def i(self) -> Array:
        """Input gate i_t after its sigmoid, [T,N,H]."""
        return self._gate("i")

    @property
    def f(self) -> Array:
        """Forget gate f_t after its sigmoid, [T,N,H]."""
        return self._gate("f")

    @property
    def g(self) -> Array:
        """Input modulation g_t after its tanh, [T,N,H]."""
        return self._gate("g")

    @property
    def o(self) -> Array:
        """Output gate o_t after its sigmoid, [T,N,H]."""
        return self._gate("o")

    @property
    def c(self) -> Array:
        """Cell state c_t, [T+1,N,H]."""
        return self._states("c", self._lstm("c").c)

    @property
    def h(self) -> Array:
        """Hidden state h_t, [T+1,N,H]."""
        return self._states("h", self.tape.h)

    # ------------------------------------------------------------------ backward

    @property
    def dc(self) -> Array:
        """∂E/∂c_t in total, through h_t and through every later step, [T+1,N,H]."""
        self._lstm("dc")
        dc = self.source.steps.dc
        assert dc is not None
        return self._states("dc", dc)

    @property
    def dh(self) -> Array:
        """∂E/∂h_t in total, through y_t and through every later step, [T+1,N,H]."""
        return self._states("dh", self.source.steps.dh)

    @property
    def di(self) -> Array:
        """∂E/∂(input gate before its sigmoid), [T,N,H]. The gradient of i_t itself is di / (i (1 - i))."""
        return self._dgate("di")

    @property
    def df(self) -> Array:
        """∂E/∂(forget gate before its sigmoid), [T,N,H]."""
        return self._dgate("df")

    @property
    def dg(self) -> Array:
        """∂E/∂(input modulation before its tanh), [T,N,H]."""
        return self._dgate("dg")

    @property
    def do(self) -> Array:
        """∂E/∂(output gate before its sigmoid), [T,N,H]."""
        return self._dgate("do")

    @property
    def da(self) -> Array:
        """∂E/∂a_t of a plain RNN, where h_t = tanh(a_t), [T,N,H]."""
        if self.cell != "rnn":
            raise AttributeError("da: an LSTM has di, df, dg and do")
        return self._steps("dgates", self.source.steps.dgates)[:, :, 0]

    # ------------------------------------------------------------------ what belongs to them

    @property
    def cell(self) -> str:
        """The kind of layer, "lstm" or "rnn"."""
        return self.source.cell

    @property
    def weight_ih(self) -> Array:
        """W [G*H,C] as it was at the call; G is 4 for an LSTM, 1 for a plain RNN."""
        return self.source.weights[0]

    @property
    def weight_hh(self) -> Array:
        """U [G*H,H] as it was at the call; ``undertow.flow`` takes it with the tape."""
        return self.source.weights[1]

    @property
    def lengths(self) -> Lengths:
        """How many steps each sequence has, int64 [N]."""
        T, N = self.tape.h[1:].shape[:2]
        return np.full(N, T) if self.tape.lengths is None else self.tape.lengths

    @property
    def mask(self) -> Mask:
        """Where there is data, bool [T,N]."""
        mask: Mask = np.arange(len(self.tape.h) - 1)[:, None] < self.lengths
        return mask

    @property
    def tape(self) -> Tape | RNNTape:
        """The forward pass in the order of processing, for ``undertow.flow``: see tape.py."""
        return self.source.tape

    @property
    def gradients(self) -> RNNGradients:
        """The backward pass in the order of processing: Gradients, or RNNGradients of a plain RNN.

        The kernel computed the gradients at each step. dx and the gradients of the weights are sums of them,
        of this layer and direction alone; each reading computes these sums anew.
        """
        return self.source.gradients

    def __repr__(self) -> str:
        T, N, H = self.tape.h[1:].shape
        return f"Layer({self.cell}, T={T}, N={N}, H={H}{', reverse' * self.tape.reverse})"

    def _lstm(self, name: str) -> Tape:
        if not isinstance(self.tape, Tape):
            raise AttributeError(f"{name}: a plain RNN has only h, dh and da")
        return self.tape

    def _gate(self, name: str) -> Array:
        return self._steps("gates", self._lstm(name).gates)[:, :, GATES.index(name)]

    def _dgate(self, name: str) -> Array:
        self._lstm(name)
        return self._steps("dgates", self.source.steps.dgates)[:, :, GATES.index(name[1])]

    def _steps(self, name: str, array: Array) -> Array:
        """Return [T,N,...] in the order of time."""
        return self._kept(name, array, lambda: (array[::-1] if self.tape.reverse else array, self.mask))

    def _states(self, name: str, array: Array) -> Array:
        """Return states [T+1,N,H], or their gradients, in the order of time; entry 0 stays."""

        def made() -> tuple[Array, Mask]:
            in_time = np.concatenate([array[:1], array[:0:-1]]) if self.tape.reverse else array
            return in_time, np.concatenate([np.ones_like(self.mask[:1]), self.mask])

        return self._kept(name, array, made)

    def _kept(self, name: str, array: Array, make: Callable[[], tuple[Array, Mask]]) -> Array:
        """Return ``make``'s result with NaN outside its mask, made anew only if ``array`` is another."""
        kept = self._made.get(name)
        if kept is None or kept[0] is not array:
            found, mask = make()
            if self.tape.lengths is not None:
                own = mask.reshape(*mask.shape, *[1] * (found.ndim - 2))
                found = np.where(own, found, found.dtype.type(np.nan))
            found = found.view()
            found.flags.writeable = False
            self._made[name] = kept = array, found
        return kept[1]
