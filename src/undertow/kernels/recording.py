"""Recordings of traced calls: what the engine read and wrote, and its conversion to the records of tape.py.

An engine fills a Recording while it computes: with references to tensors that training keeps anyway, and
with copies of tensors that will change. The engine computes everything else when a program reads the trace.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from undertow import equations
from undertow.kernels.call import EVEN, PLAIN, Call, Ragged, Variant
from undertow.kernels.kept import Kept, copy_of, view
from undertow.kernels.tensors import made_plain
from undertow.records.layer import NotRecorded, StepGradients
from undertow.records.rows import Places
from undertow.tape import Array, Gradients, RNNGradients, RNNTape, Tape

if TYPE_CHECKING:
    from undertow.kernels.node import KernelEngine


class Recording:
    """The recording of one layer of one call, with all directions.

    Args:
        weights: the copies of the weights in the recording of the module's last call. They are shared if the
            weights are still equal, because there may be many short calls.
        reached: a function that is called when the backward pass first reaches the call.

    Attributes:
        missing: why nothing was recorded; None if something was.
        weights: copies of weight_ih [G*H,C] and weight_hh [G*H,H] of each direction.
        reached: whether a backward pass has reached the call.
        engine: the engine that computed the call.
        tapes: gates and, LSTM, c of each direction, in the layout of native/lstm.h; or, of an engine that is
            ``in_time``, in rows as those of y.
        x: the layer's input.
        y: the layer's output.
    """

    def __init__(
        self,
        weights: Sequence[tuple[Tensor, Tensor]] = (),
        reached: "Callable[[Recording], None] | None" = None,
    ) -> None:
        self.missing: str | None = "the call raised an error"
        self.weights = list(weights)
        self.reached = False
        self._tell = reached
        self._no_gradients = "backward has not come to this call"
        self._douts: list[Kept | None] | None = None
        self._steps: dict[int, StepGradients] = {}

    def forward(self, engine: "KernelEngine", call: Call, kept: tuple[Tensor, ...], grad: bool) -> None:
        """Take what a forward pass leaves. The engine calls this.

        Args:
            engine: the engine that computed the call.
            call: the call.
            kept: y and the tapes.
            grad: whether a backward pass can come.
        """
        y, *tapes = engine.shown(call, kept)
        self.missing, self.engine, self.tapes = None, engine, tapes
        if not grad:
            self.without_gradients(
                "the call was made where no backward can come: under no_grad or inference_mode, or with "
                "nothing that requires a gradient"
            )
        self.weights = self._copied([(W, U) for W, U, *_ in call.weights])
        states = [None if s is None else copy_of(s) for s in (call.h_0, call.c_0)]
        variant, ragged = call.variant, call.ragged
        if variant is not PLAIN:
            copies = (None if t is None else copy_of(t) for t in variant[:-1])
            variant = Variant._make([*copies, variant.coupled])
        if ragged is not EVEN:
            ragged = Ragged(*(None if t is None else t.clone() for t in ragged))
        self._call = call._replace(
            x=call.x.detach(),
            h_0=states[0],
            c_0=states[1],
            weights=[(W, U, None, None, None) for W, U in self.weights],
            ragged=ragged,
            variant=variant,
            recording=None,
        )
        self.x = Kept("x", call.x)
        # without a graph the program may write to y, so the recording keeps a copy
        self.y = Kept("y", y if grad else y.clone())

    @property
    def cell(self) -> str:
        """The kind of layer, "lstm" or "rnn"."""
        return self._call.cell

    @property
    def added(self) -> tuple[str, ...]:
        """The fields of ``Variant`` that add to the equations, by name."""
        return self._call.variant.added

    def backward(self, douts: Sequence[Tensor | None], many: bool) -> None:
        """Take the gradients of a backward pass. The autograd node calls this.

        Args:
            douts: gradients of y, h_n and, LSTM, c_n, None where there is none.
            many: the backward pass computes gradients of many outputs at once (vmap).
        """
        self.reached = True
        if self._tell is not None:
            self._tell(self)
            self._tell = None  # the callee may keep this recording; a cycle would keep the tape alive
        if many:
            return self.without_gradients("backward was run for many gradients at once")
        names = ("the gradient of y", "the gradient of h_n", "the gradient of c_n")
        self._douts = [None if d is None else Kept(n, d) for n, d in zip(names, douts, strict=False)]
        self._steps = {}
        return None

    def why_not(self) -> str | None:
        """Return the reason why nothing or no gradient was recorded; None if gradients were."""
        return self.missing or (self._no_gradients if self._douts is None else None)

    def without_gradients(self, reason: str) -> None:
        """Drop the gradients.

        Args:
            reason: why there are none, for the message of ``NotRecorded``.
        """
        self._douts, self._no_gradients = None, reason

    def directions(self) -> "list[Direction]":
        """Return each direction, forward first."""
        return [Direction(self, d) for d in range(len(self.weights))]

    def of(self, sequences: Sequence[int]) -> "Recording":
        """Select some sequences, so that reading takes time for these alone.

        Args:
            sequences: indices of sequences.

        Returns:
            A recording of these sequences; this recording itself if sequences differ in length or a variant
            adds to the equations.
        """
        if self.places.lengths is not None or self.added:
            return self
        found, chosen = Recording(), torch.as_tensor(sequences, device="cpu")

        def pick(t: Tensor | None) -> Any:
            return None if t is None else t.index_select(1, chosen.to(t.device))

        call = self._call
        found.missing, found.engine, found.weights = None, self.engine, self.weights
        found._call = call._replace(x=pick(call.x), h_0=pick(call.h_0), c_0=pick(call.c_0))
        found.tapes = list(map(pick, self.tapes))
        found.x, found.y = Kept("x", found._call.x), Kept("y", pick(self.y.get()))
        found._no_gradients = self._no_gradients
        if self._douts is not None:
            found._douts = [None if d is None else Kept("a gradient", pick(d.get())) for d in self._douts]
        return found

    @cached_property
    def places(self) -> Places:
        """The step and sequence to which each row of the tape belongs."""
        x, ragged = self._call.x, Ragged(*(None if t is None else t.cpu() for t in self._call.ragged))
        return Places.of(ragged, x.shape[0], x.shape[1])

    def tape(self, d: int) -> Sequence[Tensor]:
        """Return what the kernels kept of one direction apart from y.

        Args:
            d: the direction, 0 or 1.

        Returns:
            gates and c, as in ``tapes``; for the RNN nothing.
        """
        each = len(self.tapes) // self._call.D
        return self.tapes[d * each : (d + 1) * each]

    def start(self, k: int, d: int) -> Tensor:
        """Return an initial state.

        Args:
            k: 0 for h_0, 1 for c_0.
            d: the direction, 0 or 1.

        Returns:
            [N,H]; zero if the call had none.
        """
        given, U = (self._call.h_0, self._call.c_0)[k], self.weights[0][1]
        return U.new_zeros(self.places.N, U.shape[1]) if given is None else given[d]

    def steps(self, d: int) -> StepGradients:
        """Return the gradients at each step. They are computed once, so that a reader can cache results.

        Args:
            d: the direction, 0 or 1.

        Returns:
            The gradients of the last backward pass, in the order of processing.

        Raises:
            NotRecorded: there are no gradients. The message gives the reason.
        """
        if self._douts is None:
            raise NotRecorded(f"there are no gradients: {self._no_gradients}")
        if d not in self._steps:
            douts = [None if k is None else k.get() for k in self._douts]
            self._steps[d] = self._make_steps(d, douts)
        return self._steps[d]

    def _make_steps(self, d: int, douts: Sequence[Tensor | None]) -> StepGradients:
        """Repeat the engine's backward pass with the same arguments, which gives the same bits."""
        reverse, places = d == 1, self.places
        dgates, *dstates = self.engine.step_gradients(self._call, (self.y.get(), *self.tapes), douts, d)
        ends = (*(None if f is None else view(made_plain(f[d])) for f in douts[1:]), None)
        states = places.states_in_time if self.engine.in_time else places.states
        dh, dc = (
            None if a is None else states(view(a), reverse, end)
            for a, end in zip(dstates, ends, strict=False)
        )
        assert dh is not None
        steps = places.rows if self.engine.in_time else places.steps
        return StepGradients(steps(view(dgates), reverse), dh, dc)

    def part(self, y: Tensor, d: int) -> Tensor:
        """Return one direction of y or dy.

        Args:
            y: [T,N,D*H], or packed rows [R,D*H].
            d: the direction, 0 or 1.

        Returns:
            A view, [T,N,H] or [R,H].
        """
        H = self.weights[0][1].shape[1]
        return y[..., d * H : (d + 1) * H]

    def _copied(self, weights: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Copy weight_ih and weight_hh of each direction, because the next optimizer step changes them.

        To compare them would wait for another device than the CPU.
        """
        before = self.weights
        pairs = zip(sum(before, ()), sum(weights, ()), strict=False)
        if (
            before
            and weights[0][0].is_cpu
            and all(old.dtype == new.dtype and torch.equal(old, new) for old, new in pairs)
        ):
            return before
        return [(copy_of(W), copy_of(U)) for W, U in weights]


@dataclass(frozen=True)
class Direction:
    """One direction of a recording in the form of tape.py: the ``Source`` of a ``records.layer.Layer``.

    Attributes:
        recording: the recording of the layer.
        d: the direction, 0 or 1.
    """

    recording: Recording
    d: int

    @property
    def cell(self) -> str:
        """The kind of layer, "lstm" or "rnn"."""
        return self.recording.cell

    @property
    def dtype(self) -> str:
        """The dtype in which the layer computed: "float32", "float64" or "bfloat16"."""
        return str(self.recording.weights[self.d][0].dtype).removeprefix("torch.")

    @property
    def weights(self) -> tuple[Array, Array]:
        """W [G*H,C] and U [G*H,H] at the time of the call."""
        W, U = self.recording.weights[self.d]
        return view(W), view(U)

    @property
    def steps(self) -> StepGradients:
        """The gradients at each step, in the order of processing. Raises NotRecorded if there are none."""
        return self.recording.steps(self.d)

    @cached_property
    def tape(self) -> Tape | RNNTape:
        """The forward pass in the order of processing."""
        r, reverse = self.recording, self.d == 1
        lengths = r.places.lengths
        h = r.places.with_start(
            view(r.start(0, self.d)), r.places.rows(view(r.part(r.y.get(), self.d)), reverse), reverse
        )
        if r.cell == "rnn":
            return RNNTape(h, lengths, reverse)
        gates, c = map(view, r.tape(self.d)[:2])
        if r.engine.in_time:
            gates, after = (r.places.rows(a, reverse) for a in (gates, c))
            c = r.places.with_start(view(r.start(1, self.d)), after, reverse)
        else:
            gates = r.places.steps(gates, reverse)
            if r.places.batch_sizes is not None:
                after = r.places.steps(c[r.places.N :], reverse)
                c = r.places.with_start(view(r.start(1, self.d)), after, reverse)
        return Tape(gates, h, c, lengths, reverse, added=r.added)

    @property
    def gradients(self) -> RNNGradients:
        """The kernel's gradients at each step, and their sums by ``undertow.equations``.

        Raises:
            NotRecorded: there are no gradients, or a variant adds to the equations.
        """
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
