"""A traced layer as people read it: NumPy arrays in the order of time.

``undertow.trace`` makes them. What they are made of stands in the order of processing, as in tape.py.
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
    """What was asked for is not in the trace; the message says why."""


@dataclass(frozen=True)
class StepGradients:
    """The gradients at each step: of tape.Gradients those that are no sums."""

    dgates: Array
    dh: Array
    dc: Array | None  # None for the plain RNN


class Source(Protocol):
    """Where a Layer's arrays come from, a recording or a file. NotRecorded where there is nothing."""

    @property
    def cell(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def weights(self) -> tuple[Array, Array]: ...
    @property
    def tape(self) -> Tape | RNNTape: ...
    @property
    def steps(self) -> StepGradients: ...
    @property
    def gradients(self) -> RNNGradients: ...


class Layer:
    """One layer of one call in one direction: arrays [T,N,·], float32 or float64 as the layer, not writable.

    In the order of time, the reverse direction too: entry t of a gate belongs to time t. Of states and
    their gradients, [T+1,N,H], entry 0 is the initial state and entry t+1 what the step at time t made: y_t
    is h[t+1] in either direction. Without a batch N is 1; batch_first does not matter.

    Where sequences differ in length there is NaN past a sequence's own end, so that nothing there can pass
    for data; ``lengths`` and ``mask`` say where. Where they do not, arrays are views of the kernels' own,
    but for h and the states of the reverse direction.

    A step that a mask passed over has gates of zero, and the states of the step before. What a Variant
    added to the equations is named in ``tape.added``: arrays are true, but flow and the doctor refuse it.

    Gradients are those of the last backward, ∂E/∂(...) of whatever it was called on; the first that is read
    has the kernel go back through the layer once more, for all of them. NotRecorded, naming the reason, is
    raised where no backward came. A plain RNN has h and dh, and ``da`` in the gates' place.
    """

    def __init__(self, source: Source, other: "Layer | None" = None) -> None:
        self.source, self._other = source, other
        self._made: dict[str, tuple[Array, Array]] = {}

    @staticmethod
    def of(sources: Sequence[Source]) -> "Layer":
        """The forward direction of one or two."""
        return Layer(sources[0], Layer(sources[1]) if len(sources) > 1 else None)

    @property
    def directions(self) -> "list[Layer]":
        """This one and, where there is one, its reverse."""
        return [self] if self._other is None else [self, self._other]

    @property
    def reverse(self) -> "Layer":
        """The other direction of the same layer. Raises AttributeError where there is none."""
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
        """∂E/∂c_t, whole: through h_t and through every later step. [T+1,N,H]."""
        self._lstm("dc")
        dc = self.source.steps.dc
        assert dc is not None
        return self._states("dc", dc)

    @property
    def dh(self) -> Array:
        """∂E/∂h_t, whole: through y_t and through every later step. [T+1,N,H]."""
        return self._states("dh", self.source.steps.dh)

    @property
    def di(self) -> Array:
        """∂E/∂ of the input gate *before* its sigmoid, [T,N,H]; of i_t itself it is di / (i (1 - i))."""
        return self._dgate("di")

    @property
    def df(self) -> Array:
        """∂E/∂ of the forget gate before its sigmoid, [T,N,H]."""
        return self._dgate("df")

    @property
    def dg(self) -> Array:
        """∂E/∂ of the input modulation before its tanh, [T,N,H]."""
        return self._dgate("dg")

    @property
    def do(self) -> Array:
        """∂E/∂ of the output gate before its sigmoid, [T,N,H]."""
        return self._dgate("do")

    @property
    def da(self) -> Array:
        """Of a plain RNN: ∂E/∂a_t with h_t = tanh(a_t), [T,N,H]."""
        if self.cell != "rnn":
            raise AttributeError("da: an LSTM has di, df, dg and do")
        return self._steps("dgates", self.source.steps.dgates)[:, :, 0]

    # ------------------------------------------------------------------ what belongs to them

    @property
    def cell(self) -> str:
        """ "lstm" or "rnn"."""
        return self.source.cell

    @property
    def weight_ih(self) -> Array:
        """W [G*H,C] as it was at the call; G is 4, of a plain RNN 1."""
        return self.source.weights[0]

    @property
    def weight_hh(self) -> Array:
        """U [G*H,H] as it was at the call: what undertow.flow wants beside the tape."""
        return self.source.weights[1]

    @property
    def lengths(self) -> Lengths:
        """int64 [N]: how many steps each sequence has."""
        T, N = self.tape.h[1:].shape[:2]
        return np.full(N, T) if self.tape.lengths is None else self.tape.lengths

    @property
    def mask(self) -> Mask:
        """bool [T,N]: where there is data."""
        mask: Mask = np.arange(len(self.tape.h) - 1)[:, None] < self.lengths
        return mask

    @property
    def tape(self) -> Tape | RNNTape:
        """The forward pass in the order of processing, for undertow.flow: see undertow.tape."""
        return self.source.tape

    @property
    def gradients(self) -> RNNGradients:
        """The backward pass likewise: Gradients, of a plain RNN RNNGradients.

        Gradients at every step are the kernel's. dx and the weights' are sums of them, of this layer and
        direction alone, computed here at each reading.
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
        """[T,N,...] in the order of time."""
        return self._kept(name, array, lambda: (array[::-1] if self.tape.reverse else array, self.mask))

    def _states(self, name: str, array: Array) -> Array:
        """[T+1,N,H] likewise, where entry 0 stays."""

        def made() -> tuple[Array, Mask]:
            in_time = np.concatenate([array[:1], array[:0:-1]]) if self.tape.reverse else array
            return in_time, np.concatenate([np.ones_like(self.mask[:1]), self.mask])

        return self._kept(name, array, made)

    def _kept(self, name: str, array: Array, make: Callable[[], tuple[Array, Mask]]) -> Array:
        """What ``make`` makes of ``array``, NaN outside of its mask. Made anew only for another array."""
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
