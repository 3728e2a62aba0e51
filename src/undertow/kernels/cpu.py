"""The engine on the CPU: the C++ kernels for torch tensors.

It serves the LSTM and the tanh RNN without projection, in float32, float64 or bfloat16, with all tensors of
one dtype. With a variant it serves the LSTM in float32 and float64; without one it alone serves symbols, see
``nn.lookup``. The kernels compute the backward pass, unless the program asks for a graph of that pass.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import tensors
from undertow.kernels.call import EVEN, PLAIN, WEIGHTS, Call, Variant
from undertow.kernels.engine import Outputs
from undertow.kernels.node import Gradients, Kept, KernelEngine
from undertow.kernels.tensors import (
    contiguous,
    features,
    made_plain,
    of_direction,
    unit_stride,
)

native: Any = tensors.native  # None: the extension was not built
if native is not None:
    native.share_openmp()  # torch's threads: a second pool would compete with them for the cores

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
NORMS = ("gain_x", "gain_h", "gain_c", "bias_c")
TRAINED = ("reset_h", "reset_c", "peepholes", *NORMS)  # the fields of a variant that have gradients
MARKS = ("mask", "reset")
COMPUTED = (*MARKS, *TRAINED, "recurrent", "zoneout_h", "zoneout_c")  # the kernels would ignore other tensors
FORWARD_READS = (1, 2, 3, 6, 7)  # x, states, weights, ragged, options
BACKWARD_READS = (1, 2, 3, 4, 5, 6, 9, 10)  # x, states, weights, y, tape, douts, ragged, options
HEAD_READS = (0, 2, 3, 4, 5, 6)  # hidden, kept, weights, window, target, unit


class CPU(KernelEngine):
    """Runs the kernels of native/lstm.h, once for each direction."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``."""
        if native is None or not served_kind(call):
            return False
        x = call.x
        if x.dtype is torch.int64:
            if not (x.is_cpu and tensors.is_plain(x)):
                return False
            x = call.real
        held = (
            x,
            call.h_0,
            call.c_0,
            *call.weights[0],
            *(call.weights[1] if len(call.weights) == 2 else ()),
        )
        if not native.are_plain(held, tensors.OWN):
            return False
        if tensors.transformed() or torch._C._is_tracing():
            return False
        return call.variant is PLAIN or _serves_variant(call.variant, call.x.dtype)

    def why_not(self, call: Call) -> str:
        """See ``KernelEngine.why_not``."""
        varied = call.variant is not PLAIN
        if native is None:
            return "the native kernels were not built"
        if call.weights[0][4] is not None:
            return "projections (proj_size) have no native kernel"
        if call.nonlinearity != "tanh":
            return f"nonlinearity {call.nonlinearity!r} has no native kernel"
        if call.x.dtype not in DTYPES:
            return f"{call.x.dtype} has no native kernel"
        if varied and call.cell == "rnn":
            return "a variant of the rnn has no native kernel"
        if varied and call.x.dtype == torch.bfloat16:
            return f"a variant of the lstm has no native kernel for {call.x.dtype}"
        return "its tensors are of a kind that the native kernels do not take: see undertow.kernels.engines"

    def infer(self, call: Call) -> Outputs:
        """See ``KernelEngine.infer``."""
        outputs = tensors.outputs(call)
        run_forward(call, outputs, (None,) * len(call.weights))
        return outputs

    def forward(self, call: Call, tapes: Sequence[Any] = ()) -> tuple[Outputs, Kept]:
        """See ``KernelEngine.forward``.

        Args:
            call: the call.
            tapes: arrays for the tape of each direction, as ``tensors.tape`` makes them; empty: new ones.

        Returns:
            The outputs; and y and the tape of each direction.
        """
        tapes = tapes or [tensors.tape(call) for _ in call.weights]
        outputs = tensors.outputs(call)
        run_forward(call, outputs, tapes)
        return outputs, (outputs[0], *(t for tape in tapes for t in tape))

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """See ``KernelEngine.backward``."""
        D, variant = len(call.weights), call.variant
        dy, dfinals = received(douts)
        dh_0, dc_0 = tensors.like(call.h_0, wanted[1]), tensors.like(call.c_0, wanted[2])
        dvariant = PLAIN if variant is PLAIN else _room_for_variant(variant, wanted[3 + WEIGHTS * D :])
        dx: Tensor | None = None
        dweights: list[Any] = []
        for d, (W, U, *_) in enumerate(call.weights):
            want = wanted[3 + WEIGHTS * d : 3 + WEIGHTS * (d + 1)]
            dx_d = tensors.like(call.x, wanted[0])
            sums = room_for_sums(W, U, want)
            ends, starts = (dy, *dfinals), (dh_0, dc_0)
            if D == 2:
                ends = features(dy, d, D), *(of_direction(f, d) for f in dfinals)
                starts = of_direction(dh_0, d), of_direction(dc_0, d)
            dadded = None if variant is PLAIN else direction(dvariant, d)
            run_backward(call, d, kept, ends, (dx_d, *starts, *sums), doptions=dadded)
            if dx_d is not None:
                dx = dx_d if dx is None else dx_d.add_(dx)
            dweights.append(shared_out(sums, want))
        found = [dx, dh_0, dc_0]
        for each in dweights:
            found += each
        if variant is PLAIN:
            return found
        found += dvariant[:-1]  # with norms all of theirs
        return [g if w else None for g, w in zip(found, wanted, strict=True)]

    def step_gradients(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], d: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See ``KernelEngine.step_gradients``. This repeats the backward pass and gives the same bits."""
        dgates, dh, dc = tensors.steps(call)
        first = 1 if dh.dim() == 3 else call.N
        starts = [None if s is None else s[:first].view(call.N, call.H) for s in (dh, dc)]
        later = [None if s is None else s[first:] for s in (dh, dc)]
        dy, dfinals = received(douts)
        ends = features(dy, d, call.D), *(of_direction(f, d) for f in dfinals)
        run_backward(call, d, kept, ends, (None, *starts, None, None, None), (dgates, *later))
        return dgates, dh, dc


ENGINE = CPU()


def release() -> None:
    """Give the memory that the kernels keep for the next call back to the system."""
    if native is not None:
        native.release_scratch()


# --------------------------------------------------------------------------------------- what serves


def served_kind(call: Call) -> bool:
    """Return whether there is a kernel for such a call, apart from the kind of its tensors' memory.

    Args:
        call: a call of a layer.

    Returns:
        True if cell, activation, projection, dtype and variant have a kernel, and x is not empty.
    """
    x = call.x
    dtype, plain = x.dtype, call.variant is PLAIN
    if dtype is torch.int64:
        dtype = call.real.dtype
        if call.cell == "rnn" or not plain:
            return False
    return (
        call.nonlinearity == "tanh"
        and call.weights[0][4] is None
        and dtype in DTYPES
        and x.numel() > 0
        and (plain or (call.cell == "lstm" and dtype is not torch.bfloat16))
    )


def _serves_variant(variant: Variant, dtype: torch.dtype) -> bool:
    for name, t in zip(variant._fields[:-1], variant[:-1], strict=True):
        if t is None:
            continue
        if name not in COMPUTED:
            return False
        if t.dtype is not (torch.bool if name in MARKS else dtype) or not tensors.are_plain(t):
            return False
        if t.requires_grad and name not in TRAINED:
            return False
    return True


# ------------------------------------------------------------------------------------------- kernels


def run_forward(call: Call, outputs: Sequence[Any], tapes: Sequence[Any], reverse: bool = False) -> None:
    """Run the forward kernel for each direction.

    Args:
        call: the call; the kernels must serve it.
        outputs: tensors for y, h_n and, LSTM, c_n, as ``tensors.outputs`` makes them; they are filled.
        tapes: for each direction tensors for its tape, which are filled; or None.
        reverse: the call has one direction, and it is the reverse one.
    """
    for given in forward_arguments(call, outputs, tapes, reverse):
        run(native.forward, FORWARD_READS, given)


def forward_arguments(
    call: Call, outputs: Sequence[Any], tapes: Sequence[Any], reverse: bool = False
) -> Iterator[list[Any]]:
    """Yield what the forward kernel is given for each direction. Arguments: those of ``run_forward``."""
    D, ragged, threads = len(call.weights), call.ragged, torch.get_num_threads()
    y, h_n, c_n = (*outputs, None)[:3]
    for d, weights in enumerate(call.weights):
        states, ends, added = (call.h_0, call.c_0), (y, h_n, c_n), None
        if D == 2:
            states = of_direction(call.h_0, d), of_direction(call.c_0, d)
            ends = features(y, d, D), of_direction(h_n, d), of_direction(c_n, d)
        if call.variant is not PLAIN:
            added = options(call, d)
        tape, lengths = tapes[d] or None, None if ragged is EVEN else ragged
        yield [call.cell, call.x, states, weights, ends, tape, lengths, added, reverse or d == 1, threads]


def run_backward(
    call: Call,
    d: int,
    kept: Kept,
    ends: Any,
    dins: Any,
    dsteps: Any = None,
    doptions: Any = None,
    reverse: bool = False,
) -> None:
    """Run the backward kernel for one direction. Tensors for gradients are filled; None: not wanted.

    Args:
        call: the call of the forward pass.
        d: the direction, 0 or 1.
        kept: y and the tapes of the forward pass.
        ends: the gradients of y, h_n and c_n of this direction, None where there is none.
        dins: tensors for the gradients of x, h_0, c_0, W, U and b.
        dsteps: tensors for dgates, dh and dc of every step; or None.
        doptions: a ``Variant`` with tensors for the gradients of its fields; or None.
        reverse: the call has one direction, and it is the reverse one.
    """
    given = backward_arguments(call, d, kept, ends, dins, dsteps, doptions, reverse)
    run(native.backward, BACKWARD_READS, given)


def backward_arguments(
    call: Call,
    d: int,
    kept: Kept,
    ends: Any,
    dins: Any,
    dsteps: Any = None,
    doptions: Any = None,
    reverse: bool = False,
) -> list[Any]:
    """Return what the backward kernel is given. Arguments: those of ``run_backward``."""
    D, (y, *tapes) = len(call.weights), kept
    states = call.h_0, call.c_0
    if D == 2:
        y, states = features(y, d, D), (of_direction(call.h_0, d), of_direction(call.c_0, d))
        each = len(tapes) // 2
        tapes = tapes[d * each : (d + 1) * each]
    return [
        call.cell,
        call.x,
        states,
        call.weights[d],
        y,
        tapes or None,
        ends,
        dins,
        dsteps,
        None if call.ragged is EVEN else call.ragged,
        None if call.variant is PLAIN else options(call, d),
        doptions,
        reverse or d == 1,
        torch.get_num_threads(),
    ]


def run(kernel: Any, reads: tuple[int, ...], given: Sequence[Any]) -> Any:
    """Run a kernel, on copies of what it cannot read as it lies.

    Args:
        kernel: the kernel.
        reads: the places of the arguments that it only reads.
        given: its arguments.

    Returns:
        What it returns.
    """
    try:
        return kernel(*given)
    except native.Scattered:
        return kernel(*(tensors.gathered(value) if k in reads else value for k, value in enumerate(given)))


def received(douts: Sequence[Tensor | None]) -> tuple[Tensor | None, list[Tensor | None]]:
    """Convert the gradients of the outputs for the kernels.

    Args:
        douts: gradients of y, h_n and, LSTM, c_n, None where there is none.

    Returns:
        dy with stride 1 in its last dimension, and [dh_n, dc_n], contiguous.
    """
    dy, *dfinals = douts
    dh_n, dc_n = (*(None if d is None else made_plain(d).contiguous() for d in dfinals), None)[:2]
    return None if dy is None else unit_stride(made_plain(dy)), [dh_n, dc_n]


def room_for_sums(W: Tensor, U: Tensor, want: Sequence[bool]) -> tuple[Any, Any, Any]:
    """Make tensors for the gradients of one direction's weights.

    Args:
        W: weight_ih, [G*H,C].
        U: weight_hh, [G*H,H].
        want: whether the gradients of W, U, b_ih and b_hh are wanted.

    Returns:
        dW, dU and db [G*H], uninitialised; None where not wanted.
    """
    db = W.new_empty(W.shape[0]) if want[2] or want[3] else None
    return tensors.like(W, want[0]), tensors.like(U, want[1]), db


def shared_out(sums: Sequence[Any], want: Sequence[bool]) -> tuple[Any, ...]:
    """Assign the gradients to the weights of one direction.

    Both biases have the gradient db, because only their sum matters. Each gets its own tensor: a program that
    scales gradients in place must not scale the same one twice.

    Args:
        sums: dW, dU and db.
        want: whether the gradients of W, U, b_ih and b_hh are wanted.

    Returns:
        Gradients of W, U, b_ih, b_hh and the absent projection, None where not wanted.
    """
    dW, dU, db = sums
    both = want[2] and want[3]
    return dW, dU, db if want[2] else None, db.clone() if both else db if want[3] else None, None


# ------------------------------------------------------------------------------------------- variants


def options(call: Call, d: int) -> Variant | None:
    """Return one direction of the call's variant for the kernels.

    Args:
        call: the call.
        d: the direction, 0 or 1.

    Returns:
        The variant with contiguous tensors; for the reverse direction ``reset`` is shifted by one step. None
        if nothing is added.
    """
    found = direction(call.variant, d)
    if found is None:
        return None
    ready = [_ready(n, t) for n, t in zip(Variant._fields[:-1], found[:-1], strict=True)]
    return Variant._make([*ready, found.coupled])._replace(reset=_as_run(call, d == 1))


def _ready(name: str, t: Tensor | None) -> Tensor | None:
    if t is None:
        return None
    return unit_stride(t) if name in ("zoneout_h", "zoneout_c") else t.contiguous()


def direction(variant: Variant, d: int) -> Variant | None:
    """Return one direction of a variant.

    Args:
        variant: a variant with all directions stacked, [D,...].
        d: the direction, 0 or 1.

    Returns:
        The variant without the first dimension; mask and reset, which have no such dimension, as they are.
        None if nothing is added.
    """
    if variant is PLAIN:
        return None
    each = zip(Variant._fields[:-1], variant[:-1], strict=True)
    own = [t if t is None or n in MARKS else t[d] for n, t in each]
    return Variant._make([*own, variant.coupled])


def _as_run(call: Call, reverse: bool) -> Tensor | None:
    """Steps before which to reset: the reverse direction crosses a boundary on the way from t to t-1."""
    reset = call.variant.reset
    if reset is None or not reverse:
        return contiguous(reset)
    later = torch.zeros_like(reset, memory_format=torch.contiguous_format)
    later[:-1] = reset[1:]
    if call.ragged.lengths is not None:
        later &= torch.arange(1, len(reset) + 1, device="cpu").unsqueeze(1) < call.ragged.lengths
    return later


def _room_for_variant(variant: Variant, wanted: Sequence[bool]) -> Variant:
    """Make tensors for the gradients of a variant. The kernels give the gradients of all norms or of none."""
    want = dict(zip(Variant._fields, wanted, strict=False))
    room: dict[str, Any] = {n: tensors.like(getattr(variant, n), want[n] or n in NORMS) for n in TRAINED}
    return Variant(**room)
