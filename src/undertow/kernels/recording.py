"""What a traced call leaves of one layer, as the kernels left it, and from there to tape.py's records.

An engine fills a Recording while it computes: references to what it reads and writes anyway, copies of what
will change. All else is computed when somebody reads it (``undertow.tracing``), by the engine that ran.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from undertow import equations
from undertow.kernels.call import EVEN, PLAIN, Call, Ragged, Variant
from undertow.kernels.tensors import made_plain
from undertow.records.layer import NotRecorded, StepGradients
from undertow.records.rows import Places
from undertow.tape import Array, Gradients, RNNGradients, RNNTape, Tape

if TYPE_CHECKING:
    from undertow.kernels.node import KernelEngine

# Each traced module, and the function that opens each of its calls; that returns the function that makes each
# layer's Recording. A context's own: other threads' calls are not recorded. None where nothing is traced.
traced: ContextVar[dict[torch.nn.Module, Callable[[], Callable[[], "Recording"]]] | None] = ContextVar(
    "undertow.traced", default=None
)


# A token for each open trace, in any thread: while there is none, calls look no further.
_open: list[Any] = []


def watch(modules: dict[torch.nn.Module, Callable[[], Callable[[], "Recording"]]]) -> Any:
    """Have calls of ``modules`` recorded in this context, until ``unwatch`` gets the token returned."""
    token = traced.set((traced.get() or {}) | modules)
    _open.append(token)
    return token


def unwatch(token: Any) -> None:
    """End what ``watch`` began. Raises ValueError in another context than that of ``watch``."""
    _open.remove(token)
    traced.reset(token)


def in_backward() -> bool:
    """Whether this thread runs a backward pass, as when torch.utils.checkpoint makes a call again."""
    return torch._C._current_graph_task_id() != -1


def listener(module: torch.nn.Module) -> "Callable[[], Recording] | None":
    """What gives the Recording of each layer of this call of ``module``; None where nobody traces it."""
    if not _open:
        return None
    if torch.compiler.is_compiling():  # which records a program and runs none
        return None
    modules = traced.get()
    return None if modules is None or module not in modules else modules[module]()


class Recording:
    """One layer of one call, all its directions. ``missing`` says why there is nothing, None if there is.

    ``weights``: the copies that the same layer's recording of the last call made. They are shared where they
    are still the same, since calls may be many and short. ``reached``: called when backward first comes.
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

    def forward(self, engine: "KernelEngine", call: Call, kept: Sequence[Tensor], grad: bool) -> None:
        """``engine`` computed ``call`` and kept y and the tapes; ``grad``: whether a backward can come."""
        y, *tapes = kept
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
            ragged=EVEN
            if call.ragged is EVEN
            else Ragged(*(t if t is None else t.clone() for t in call.ragged)),
            variant=variant,
            recording=None,
        )
        self.x = Kept("x", call.x)
        # Without a graph nothing forbids to write into y: then its values are kept apart.
        self.y = Kept("y", y if grad else y.clone())

    @property
    def cell(self) -> str:
        """ "lstm" or "rnn"."""
        return self._call.cell

    @property
    def added(self) -> tuple[str, ...]:
        """What is added to the equations: names of a Variant's fields."""
        return self._call.variant.added

    def backward(self, douts: Sequence[Tensor | None], many: bool) -> None:
        """The gradients of y, h_n and, LSTM, c_n, None where there are none; ``many``: for many at once."""
        self.reached = True
        if self._tell is not None:
            self._tell(self)
            self._tell = None  # who was told may keep this: no cycle, which would hold a tape
        if many:
            return self.without_gradients("backward was run for many gradients at once")
        names = ("the gradient of y", "the gradient of h_n", "the gradient of c_n")
        self._douts = [None if d is None else Kept(n, d) for n, d in zip(names, douts, strict=False)]
        self._steps = {}
        return None

    def why_not(self) -> str | None:
        """Why there is nothing, or no gradient; None where there are gradients."""
        return self.missing or (self._no_gradients if self._douts is None else None)

    def without_gradients(self, reason: str) -> None:
        """Say why there are no gradients."""
        self._douts, self._no_gradients = None, reason

    def directions(self) -> "list[Direction]":
        return [Direction(self, d) for d in range(len(self.weights))]

    def of(self, sequences: Sequence[int]) -> "Recording":
        """The same of some of the sequences, to be read at their cost alone; itself where lengths differ."""
        if self.places.lengths is not None or self.added:
            return self
        found, chosen = Recording(), torch.as_tensor(sequences, device="cpu")

        def pick(t: Tensor | None) -> Any:
            return None if t is None else t.index_select(1, chosen)

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
        """Where the rows of the tape belong."""
        x = self._call.x
        return Places.of(self._call.ragged, x.shape[0], x.shape[1])

    def tape(self, d: int) -> Sequence[Tensor]:
        """What the kernels kept of direction d beside y: gates, c."""
        each = len(self.tapes) // self._call.D
        return self.tapes[d * each : (d + 1) * each]

    def start(self, k: int, d: int) -> Tensor:
        """h_0 or c_0 of direction d, [N,H]; zero where none was given."""
        given, U = (self._call.h_0, self._call.c_0)[k], self.weights[0][1]
        return U.new_zeros(self.places.N, U.shape[1]) if given is None else given[d]

    def steps(self, d: int) -> StepGradients:
        """Of the last backward; made once, so that what is derived from them can be kept."""
        if self._douts is None:
            raise NotRecorded(f"there are no gradients: {self._no_gradients}")
        if d not in self._steps:
            douts = [None if k is None else k.get() for k in self._douts]
            self._steps[d] = self._make_steps(d, douts)
        return self._steps[d]

    def _make_steps(self, d: int, douts: Sequence[Tensor | None]) -> StepGradients:
        """The engine's backward pass again, by the arguments of the first time: so to the same bits."""
        reverse, places = d == 1, self.places
        dgates, *dstates = self.engine.step_gradients(self._call, (self.y.get(), *self.tapes), douts, d)
        ends = (*(None if f is None else view(made_plain(f[d])) for f in douts[1:]), None)
        dh, dc = (
            None if a is None else places.states(view(a), reverse, end)
            for a, end in zip(dstates, ends, strict=False)
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
    def dtype(self) -> str:
        """What the layer computed in, as torch names it: float32, float64 or bfloat16."""
        return str(self.recording.weights[self.d][0].dtype).removeprefix("torch.")

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
            view(r.start(0, self.d)), r.places.rows(view(r.part(r.y.get(), self.d)), reverse), reverse
        )
        if r.cell == "rnn":
            return RNNTape(h, lengths, reverse)
        gates, c = map(view, r.tape(self.d)[:2])
        gates = r.places.steps(gates, reverse)
        if r.places.batch_sizes is not None:
            c = r.places.with_start(
                view(r.start(1, self.d)), r.places.steps(c[r.places.N :], reverse), reverse
            )
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


class Kept:
    """A tensor of the caller's, by reference, that may since have been written to: then reading it raises."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self._name, self._tensor, self._version = name, tensor.detach(), version(tensor)

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
