"""What a traced call leaves of one layer, as the kernels left it, and from there to tape.py's records.

``dispatch`` fills a Recording while the kernels run: references to what they read and write anyway, copies of
what will change. All else is computed when somebody reads it, which is what ``undertow.tracing`` is for.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from undertow import equations
from undertow.records.layer import NotRecorded, StepGradients
from undertow.records.rows import Places
from undertow.tape import Array, Gradients, RNNGradients, RNNTape, Tape

# Of each module that is being traced: what to ask, at each of its calls, for the one that stands in for
# dispatch.layer. A context's own: other threads' calls are not recorded. None where nothing is traced.
traced: ContextVar[dict[torch.nn.Module, Callable[[], Callable[..., Any]]] | None] = ContextVar(
    "undertow.traced", default=None
)


class Recording:
    """One layer of one call, all its directions. ``missing`` says why there is nothing, None if there is.

    ``step_gradients`` is that of dispatch. ``before``: the same layer's recording of the last call; copies of
    weights are shared with it if they are still the same: calls may be many and short.
    """

    def __init__(self, step_gradients: Callable[..., Any], before: "Recording | None" = None) -> None:
        self.missing: str | None = "the call raised an error"
        self.added: tuple[str, ...] = ()
        self.weights: list[tuple[Tensor, Tensor]] = [] if before is None else before.weights
        self._step_gradients = step_gradients
        self._no_gradients = "backward has not come to this call"
        self._douts: list[Kept | None] | None = None
        self._steps: dict[int, StepGradients] = {}

    def forward(
        self,
        cell: str,
        ragged: Any,
        args: Sequence[Any],
        y: Tensor,
        tapes: Sequence[Any],
        grad: bool,
        added: tuple[str, ...] = (),
        step_gradients: Callable[..., Any] | None = None,
    ) -> None:
        """``args`` as dispatch has them: x, h_0, c_0 and the weights; ``grad``: whether a backward can come.

        ``added`` to the equations, for which ``step_gradients`` is another.
        """
        self.added, self._step_gradients = added, step_gradients or self._step_gradients
        x, *states = args[:3]
        self.missing, self.cell, self.tapes = None, cell, tapes
        if not grad:
            self.without_gradients(
                "the call was made where no backward can come: under no_grad or inference_mode, or with "
                "nothing that requires a gradient"
            )
        self.weights = self._copied(list(zip(args[3::4], args[4::4], strict=True)))
        self.states = [None if s is None else copy_of(s) for s in states]
        self.ragged = type(ragged)(*(None if t is None else t.clone() for t in ragged))
        # Without a graph nothing forbids to write into y: then its values are kept apart.
        self.y = Kept("y", y if grad else y.clone())
        self.x = Kept("x", x)

    def backward(self, douts: Sequence[Tensor | None]) -> None:
        """The gradients of y, h_n and, LSTM, c_n, None where there are none."""
        names = ("the gradient of y", "the gradient of h_n", "the gradient of c_n")
        self._douts = [None if d is None else Kept(n, d) for n, d in zip(names, douts, strict=False)]
        self._steps = {}

    def without_gradients(self, reason: str) -> None:
        self._douts, self._no_gradients = None, reason

    def directions(self) -> "list[Direction]":
        return [Direction(self, d) for d in range(len(self.weights))]

    def of(self, sequences: Sequence[int]) -> "Recording":
        """The same of some of the sequences, to be read at their cost alone; itself where lengths differ."""
        if self.places.lengths is not None:
            return self
        found, chosen = Recording(self._step_gradients), torch.as_tensor(sequences)

        def pick(t: Tensor) -> Tensor:
            return t.index_select(1, chosen)

        found.missing, found.cell, found.weights, found.ragged = None, self.cell, self.weights, self.ragged
        found.tapes = [tuple(map(pick, tape)) for tape in self.tapes]
        found.states = [None if s is None else pick(s) for s in self.states]
        found.x, found.y = Kept("x", pick(self.x.unchecked)), Kept("y", pick(self.y.get()))
        found._no_gradients = self._no_gradients
        if self._douts is not None:
            found._douts = [None if d is None else Kept("a gradient", pick(d.get())) for d in self._douts]
        return found

    @cached_property
    def places(self) -> Places:
        shape = self.x.shape
        return Places.of(self.ragged, shape[0], shape[1])

    def steps(self, d: int) -> StepGradients:
        """Of the last backward; made once, so that what is derived from them can be kept."""
        if self._douts is None:
            raise NotRecorded(f"there are no gradients: {self._no_gradients}")
        if d not in self._steps:
            dy, dh_n, dc_n = (*(None if k is None else k.get() for k in self._douts), None)[:3]
            self._steps[d] = self._make_steps(d, dy, dh_n, dc_n)
        return self._steps[d]

    def _make_steps(self, d: int, dy: Tensor | None, *dfinals: Tensor | None) -> StepGradients:
        """The kernel's backward again, by the arguments of the first time: so to the same bits."""
        reverse, places = d == 1, self.places
        ends = [None if f is None else f[d].contiguous() for f in dfinals]
        inputs = (self.x.unchecked, *(None if s is None else s[d] for s in self.states), *self.weights[d])
        dy = None if dy is None else self.part(dy, d)
        dy = dy if dy is None or dy.stride(-1) == 1 else dy.contiguous()
        dgates, *dstates = self._step_gradients(
            self.cell, self.ragged, inputs, self.part(self.y.get(), d), self.tapes[d], (dy, *ends), reverse
        )
        dh, dc = (
            None if a is None else places.states(view(a), reverse, None if end is None else view(end))
            for a, end in zip(dstates, ends, strict=True)
        )
        assert dh is not None
        return StepGradients(places.steps(view(dgates), reverse), dh, dc)

    def part(self, y: Tensor, d: int) -> Tensor:
        """Of y, or dy, [T,N,D*H] or [R,D*H] what belongs to one direction."""
        H = self.weights[0][1].shape[1]
        return y[..., d * H : (d + 1) * H]

    def _copied(self, weights: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """weight_ih and weight_hh of each direction as they are now: the next optimizer step changes them."""
        before = self.weights
        pairs = zip(sum(before, ()), sum(weights, ()), strict=False)
        if before and all(old.dtype == new.dtype and torch.equal(old, new) for old, new in pairs):
            return before
        return [(copy_of(W), copy_of(U)) for W, U in weights]


@dataclass(frozen=True)
class Direction:
    """One direction of a recording, as tape.py's records: what a ``tracing.Layer`` reads."""

    recording: Recording
    d: int

    @property
    def cell(self) -> str:
        return self.recording.cell

    @property
    def weights(self) -> tuple[Array, Array]:
        W, U = self.recording.weights[self.d]
        return view(W), view(U)

    @property
    def steps(self) -> StepGradients:
        return self.recording.steps(self.d)

    @cached_property
    def tape(self) -> Tape | RNNTape:
        r, reverse = self.recording, self.d == 1
        lengths = r.places.lengths
        h = r.places.with_start(
            self._start(0), r.places.rows(view(r.part(r.y.get(), self.d)), reverse), reverse
        )
        if r.cell == "rnn":
            return RNNTape(h, lengths, reverse)
        gates, c = map(view, r.tapes[self.d][:2])
        gates = r.places.steps(gates, reverse)
        if r.places.batch_sizes is not None:
            c = r.places.with_start(self._start(1), r.places.steps(c[r.places.N :], reverse), reverse)
        return Tape(gates, h, c, lengths, reverse, added=r.added)

    @property
    def gradients(self) -> RNNGradients:
        """The kernel's gradients at each step, and their sums as the equations write them."""
        r, steps, tape, (W, _) = self.recording, self.steps, self.tape, self.weights
        if r.added:
            raise NotRecorded(
                f"sums over steps are made by the LSTM's own equations, not with {', '.join(r.added)}; the "
                "parameters' own .grad has them"
            )
        x = r.places.rows(view(r.x.get()), tape.reverse)
        sums = equations.sum_over_steps(steps.dgates, x, tape.h[:-1], W, tape.reverse)
        if steps.dc is None:
            return RNNGradients(*sums, steps.dgates, steps.dh)
        return Gradients(*sums, steps.dgates, steps.dh, steps.dc)

    def _start(self, k: int) -> Array:
        """h_0 or c_0, [N,H]; zero where none was given."""
        r = self.recording
        given = r.states[k]
        if given is not None:
            return view(given[self.d])
        return view(torch.zeros(r.places.N, r.weights[0][1].shape[1], dtype=r.weights[0][1].dtype))


class Kept:
    """A tensor of the caller's, by reference, that may since have been written to: then reading it raises."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self._name, self._tensor, self._version = name, tensor.detach(), version(tensor)

    @property
    def shape(self) -> torch.Size:
        return self._tensor.shape

    @property
    def unchecked(self) -> Tensor:
        """Where its values do not matter."""
        return self._tensor

    def get(self) -> Tensor:
        if version(self._tensor) != self._version:
            raise NotRecorded(
                f"{self._name} was changed in place after the call, and the trace had not copied it"
            )
        return self._tensor


def version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)


def copy_of(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def view(tensor: Tensor) -> Array:
    """``tensor`` as an array over the same memory, not to be written to: a backward may yet read it.

    bfloat16, which NumPy does not have, becomes float32.
    """
    tensor = tensor.detach()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    array.flags.writeable = False
    return array
