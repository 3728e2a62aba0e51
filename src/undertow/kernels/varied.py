"""An LSTM layer with a Variant in the native kernel: a node of torch's graph, as ``dispatch._Native`` is.

A part of ``dispatch``, which decides when it serves.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import dispatch, plain
from undertow.kernels.call import Variant
from undertow.kernels.recording import Recording, copy_of

_FIELDS = tuple(name for name in Variant._fields if name != "coupled")
_NORMS = ("gain_x", "gain_h", "gain_c", "bias_c")
_TRAINED = ("reset_h", "reset_c", "peepholes", *_NORMS)


def serves(variant: Variant, args: Sequence[Any]) -> bool:
    """Whether the kernel can add this: ``args`` are those of the layer, which it serves already."""
    x = args[0]
    if x.dtype is torch.bfloat16:
        return False
    for name in _FIELDS:
        t = getattr(variant, name)
        if t is None:
            continue
        wanted = torch.bool if name in ("mask", "reset") else x.dtype
        if t.dtype is not wanted or type(t) not in dispatch._OWN_MEMORY or not t.is_cpu:
            return False
        if t.requires_grad and name not in _TRAINED:
            return False
    return True


def autocast(variant: Variant) -> Variant:
    """As ``dispatch`` casts the layer's other arguments."""
    dtype, given = torch.get_autocast_dtype("cpu"), variant._asdict()
    kept = (torch.bool, torch.float64)
    cast: dict[str, Any] = {
        n: t.to(dtype) for n, t in given.items() if isinstance(t, Tensor) and t.dtype not in kept
    }
    return variant._replace(**cast)


def layer(
    ragged: dispatch.Ragged, args: Sequence[Any], variant: Variant, recording: Recording | None = None
) -> tuple[Tensor, ...]:
    """y, h_n and c_n of an LSTM layer; ``args`` as dispatch has them: x, h_0, c_0, D times four weights."""
    added = [getattr(variant, name) for name in _FIELDS]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*args, *added)):
        return apply(ragged, recording, variant.coupled, len(args), *args, *added)  # type: ignore[no-any-return]
    tapes: list[_Tape] = []
    outputs = _forward(ragged, args, variant, None if recording is None else tapes)
    if recording is not None:
        _record(recording, ragged, args, variant, outputs[0], tapes, grad=False)
    return outputs


class _Varied(torch.autograd.Function):
    """The arguments of the layer, then the fields of the variant."""

    @staticmethod
    def forward(
        ctx: Any,
        ragged: dispatch.Ragged,
        recording: Recording | None,
        coupled: bool,
        count: int,
        *tensors: Any,
    ) -> tuple[Tensor, ...]:
        args, variant = tensors[:count], _variant(coupled, tensors[count:])
        tapes: list[_Tape] = []
        outputs = _forward(ragged, args, variant, tapes)
        ctx.save_for_backward(outputs[0], *tensors, *(t for tape in tapes for t in tape))
        ctx.recording = recording
        if recording is not None:
            _record(recording, ragged, args, variant, outputs[0], tapes, grad=True)
        ctx.ragged, ctx.coupled, ctx.counts = ragged, coupled, (count, len(tensors))
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        count, total = ctx.counts
        y, *saved = ctx.saved_tensors
        tensors, kept = saved[:total], saved[total:]
        args, variant = tensors[:count], _variant(ctx.coupled, tensors[count:])
        wanted = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled() or dispatch._transformed() or any(map(dispatch._batched, douts)):
            grads = _plain_backward(ctx.ragged, count, tensors, variant, douts, wanted)
        else:
            grads = _backward(ctx.ragged, args, variant, y, kept, douts, wanted)
        dispatch.record_backward(ctx.recording, douts)
        return None, None, None, None, *grads


apply: Any = super(torch.autograd.Function, _Varied).apply  # as dispatch._apply

_Tape = tuple[Tensor, ...]  # gates and c; with norms normed and scale


def _variant(coupled: bool, added: Sequence[Any]) -> Variant:
    return Variant(coupled=coupled, **dict(zip(_FIELDS, added, strict=True)))


def _forward(
    ragged: dispatch.Ragged, args: Sequence[Any], variant: Variant, tapes: list[_Tape] | None
) -> tuple[Tensor, ...]:
    """y, h_n, c_n; a tape for each direction into ``tapes``."""
    x, h_0, c_0 = dispatch._unit_stride(args[0]), dispatch._contiguous(args[1]), dispatch._contiguous(args[2])
    D, N, H = len(args) // dispatch._DIRECTION, dispatch._batch(x, ragged), args[4].shape[1]
    y, h_n = dispatch._pooled(x, (*x.shape[:-1], D * H)), x.new_empty(D, N, H)
    c_n = torch.empty_like(h_n)
    for d in range(D):
        weights = args[3 + d * dispatch._DIRECTION : 3 + (d + 1) * dispatch._DIRECTION]
        tape: _Tape = ()
        if tapes is not None:
            tape = _new_tape(x, N, H, ragged, variant)
            tapes.append(tape)
        dispatch.native.forward(
            "lstm",
            x,
            (dispatch._direction(h_0, d), dispatch._direction(c_0, d)),
            tuple(map(dispatch._contiguous, weights)),
            (y if D == 1 else y[..., d * H : (d + 1) * H], h_n[d], c_n[d]),
            tape or None,
            ragged,
            _added(ragged, variant, d),
            d == 1,
            torch.get_num_threads(),
        )
    return y, h_n, c_n


def _added(ragged: dispatch.Ragged, variant: Variant, d: int) -> Variant:
    """A direction's part of the variant."""
    v = variant

    def own(*names: str) -> list[Tensor | None]:
        return [None if getattr(v, n) is None else getattr(v, n)[d].contiguous() for n in names]

    marks = dispatch._contiguous(v.mask), _as_run(v.reset, ragged, d == 1)
    zoneout = (None if z is None else dispatch._unit_stride(z[d]) for z in (v.zoneout_h, v.zoneout_c))
    fields: list[Any] = [*marks, *own("reset_h", "reset_c", "recurrent"), *zoneout, v.coupled]
    return Variant(*fields, *own("peepholes", *_NORMS))


def _as_run(reset: Tensor | None, ragged: dispatch.Ragged, reverse: bool) -> Tensor | None:
    """Before which steps to reset: in reverse the same boundaries are crossed on the way from t to t-1."""
    if reset is None or not reverse:
        return dispatch._contiguous(reset)
    later = torch.zeros_like(reset, memory_format=torch.contiguous_format)
    later[:-1] = reset[1:]
    if ragged.lengths is not None:
        later &= torch.arange(1, len(reset) + 1).unsqueeze(1) < ragged.lengths
    return later


def _new_tape(x: Tensor, N: int, H: int, ragged: dispatch.Ragged, variant: Variant) -> _Tape:
    tape, steps = dispatch._new_tape(x, N, H, ragged), dispatch._steps_shape(x, ragged)
    if variant.gain_x is None:
        return tape
    return *tape, dispatch._pooled(x, (*steps, 2, 4, H)), x.new_empty(*steps, 2)


def _backward(
    ragged: dispatch.Ragged,
    args: Sequence[Any],
    variant: Variant,
    y: Tensor,
    kept: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``args`` and of the variant's fields, None where not wanted."""
    D, H = len(args) // dispatch._DIRECTION, args[4].shape[1]
    want = dict(zip(_FIELDS, wanted[len(args) :], strict=True))
    # with norms the kernel gives all their gradients, or none
    dadded = {n: _like(getattr(variant, n), want[n] or n in _NORMS) for n in _TRAINED}
    dstates = [_like(s, w) for s, w in zip(args[1:3], wanted[1:3], strict=True)]
    dy, *dfinals = douts
    dy, dfinals = (
        None if dy is None else dispatch._unit_stride(dy),
        [dispatch._contiguous(d) for d in dfinals],
    )
    dx, dweights, each = None, [], len(kept) // D
    for d in range(D):
        here, mine = (
            slice(d * H, (d + 1) * H),
            slice(3 + d * dispatch._DIRECTION, 3 + (d + 1) * dispatch._DIRECTION),
        )
        given = (y[..., here], *kept[d * each : (d + 1) * each])
        ends = (None if dy is None else dy[..., here], *(dispatch._direction(f, d) for f in dfinals))
        starts = [dispatch._direction(s, d) for s in dstates]
        sums = {n: None if a is None else a[d] for n, a in dadded.items()}
        wants = (wanted[0], *wanted[mine])
        dx_d, dW, dU, db = _one_way(ragged, args, variant, d, given, ends, starts, sums, wants)
        if dx_d is not None:
            dx = dx_d if dx is None else dx.add_(dx_d)
        dweights += [dW, dU, *(db if w else None for w in wanted[mine][2:])]
    return [dx, *dstates, *dweights, *(dadded.get(n) if want[n] else None for n in _FIELDS)]


def _like(t: Tensor | None, wanted: bool) -> Tensor | None:
    return torch.empty_like(t, memory_format=torch.contiguous_format) if t is not None and wanted else None


def _one_way(
    ragged: dispatch.Ragged,
    args: Sequence[Any],
    variant: Variant,
    d: int,
    given: Sequence[Tensor],
    ends: Sequence[Tensor | None],
    dstarts: Sequence[Tensor | None],
    sums: dict[str, Any],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """One direction, from what it left, y and its tape, and the gradients of y, h_n and c_n.

    Fills ``dstarts`` and ``sums``; returns the gradients of x, weight_ih, weight_hh and the biases.
    """
    x, W, U = (
        dispatch._unit_stride(t)
        for t in (args[0], *args[3 + d * dispatch._DIRECTION : 5 + d * dispatch._DIRECTION])
    )
    y, *tape = given
    dx = dispatch._pooled(x, x.shape) if wanted[0] else None
    dW, dU = _like(W, wanted[1]), _like(U, wanted[2])
    db = x.new_empty(len(W)) if any(wanted[3:]) else None
    dispatch.native.backward(
        "lstm",
        x,
        tuple(dispatch._direction(dispatch._contiguous(s), d) for s in args[1:3]),
        (W.contiguous(), U.contiguous()),
        y,
        tape,
        ends,
        (dx, *dstarts, dW, dU, db),
        None,
        ragged,
        _added(ragged, variant, d),
        Variant(**sums),
        d == 1,
        torch.get_num_threads(),
    )
    return dx, dW, dU, db


def _record(
    recording: Recording,
    ragged: dispatch.Ragged,
    args: Sequence[Any],
    variant: Variant,
    y: Tensor,
    tapes: Sequence[_Tape],
    grad: bool,
) -> None:
    given = {n: value for n, value in variant._asdict().items() if value is not None and value is not False}
    kept: dict[str, Any] = {n: copy_of(t) if isinstance(t, Tensor) else t for n, t in given.items()}
    names = tuple(given)
    recording.forward("lstm", ragged, args, y, tapes, grad, names, partial(_step_gradients, Variant(**kept)))


def _step_gradients(
    variant: Variant,
    cell: str,
    ragged: dispatch.Ragged,
    inputs: Sequence[Any],
    y: Tensor,
    tape: _Tape,
    douts: Sequence[Tensor | None],
    reverse: bool,
) -> Any:
    """``dispatch.step_gradients`` of such a layer."""
    (x, h_0, c_0, W, U), d = inputs, int(reverse)
    found, of_steps, of_starts = dispatch.room_for_steps(cell, ragged, x, W, U)
    dispatch.native.backward(
        "lstm",
        dispatch._unit_stride(x),
        (h_0, c_0),
        (W, U),
        y,
        tape,
        douts,
        (None, *of_starts, None, None, None),
        of_steps,
        ragged,
        _added(ragged, variant, d),
        None,
        reverse,
        torch.get_num_threads(),
    )
    return found


def _plain_backward(
    ragged: dispatch.Ragged,
    count: int,
    tensors: Sequence[Any],
    variant: Variant,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients by running the plain path again: torch then knows how they came about."""

    def run(views: Sequence[Any]) -> tuple[Tensor, ...]:
        weights = [[*views[k : k + dispatch._DIRECTION], None] for k in range(3, count, dispatch._DIRECTION)]
        states = [s for s in views[1:3] if s is not None]
        added = _variant(variant.coupled, views[count:])
        return plain.layer("lstm", views[0], states, weights, *ragged, variant=added)

    return dispatch.backward_by_torch(run, tensors, douts, wanted)
