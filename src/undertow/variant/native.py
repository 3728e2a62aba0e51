"""An LSTM layer with a Variant in the native kernel: a node of torch's graph, as ``ops._Native`` is without.

A part of ``ops``, which decides when it serves. With layer normalisation, LN(W x_t) of all steps is made here
by torch in one product, and the kernel starts from there.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from undertow import ops
from undertow.kernels import plain
from undertow.recording import Recording, copy_of
from undertow.variant import Variant

_MADE = 4  # tensors that layer normalisation makes of the inputs of one direction, beforehand
EPSILON = 1e-5  # of layer normalisation, as native/lstm.h has it
_FIELDS = tuple(name for name in Variant._fields if name != "coupled")
_TRAINED = ("reset_h", "reset_c", "peepholes", "gain_x", "gain_h", "gain_c", "bias_c")


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
        if t.dtype is not wanted or type(t) not in ops._OWN_MEMORY or not t.is_cpu:
            return False
        if t.requires_grad and name not in _TRAINED:
            return False
    return True


def autocast(variant: Variant) -> Variant:
    """As ``ops`` casts the layer's other arguments."""
    dtype, given = torch.get_autocast_dtype("cpu"), variant._asdict()
    kept = (torch.bool, torch.float64)
    cast: dict[str, Any] = {
        n: t.to(dtype) for n, t in given.items() if isinstance(t, Tensor) and t.dtype not in kept
    }
    return variant._replace(**cast)


def layer(
    ragged: ops.Ragged, args: Sequence[Any], variant: Variant, recording: Recording | None = None
) -> tuple[Tensor, ...]:
    """y, h_n and c_n of an LSTM layer; ``args`` as ops has them: x, h_0, c_0, and D times four weights."""
    added = [getattr(variant, name) for name in _FIELDS]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*args, *added)):
        return apply(ragged, recording, variant.coupled, len(args), *args, *added)  # type: ignore[no-any-return]
    tapes: list[_Tape] = []
    outputs, _ = _forward(ragged, args, variant, None if recording is None else tapes)
    if recording is not None:
        _record(recording, ragged, args, variant, outputs[0], tapes, grad=False)
    return outputs


class _Varied(torch.autograd.Function):
    """The arguments of the layer, then the fields of the variant."""

    @staticmethod
    def forward(
        ctx: Any, ragged: ops.Ragged, recording: Recording | None, coupled: bool, count: int, *tensors: Any
    ) -> tuple[Tensor, ...]:
        args, variant = tensors[:count], _variant(coupled, tensors[count:])
        tapes: list[_Tape] = []
        outputs, pre = _forward(ragged, args, variant, tapes)
        kept = [t for tape in tapes for t in tape]
        ctx.save_for_backward(outputs[0], *tensors, *(pre or ()), *kept)
        ctx.recording = recording
        if recording is not None:
            _record(recording, ragged, args, variant, outputs[0], tapes, grad=True)
        ctx.ragged, ctx.coupled, ctx.counts = ragged, coupled, (count, len(tensors), len(pre or ()))
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        count, total, made = ctx.counts
        y, *saved = ctx.saved_tensors
        tensors, pre, kept = saved[:total], saved[total : total + made], saved[total + made :]
        args, variant = tensors[:count], _variant(ctx.coupled, tensors[count:])
        wanted = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled() or ops._transformed() or any(map(ops._batched, douts)):
            grads = _plain_backward(ctx.ragged, count, tensors, variant, douts, wanted)
        else:
            grads = _backward(ctx.ragged, args, variant, y, pre, kept, douts, wanted)
        ops.record_backward(ctx.recording, douts)
        return None, None, None, None, *grads


apply: Any = super(torch.autograd.Function, _Varied).apply  # as ops._apply

_Tape = tuple[Tensor, ...]  # gates and c; with norms normed and scale


def _variant(coupled: bool, added: Sequence[Any]) -> Variant:
    return Variant(coupled=coupled, **dict(zip(_FIELDS, added, strict=True)))


def _forward(
    ragged: ops.Ragged, args: Sequence[Any], variant: Variant, tapes: list[_Tape] | None
) -> tuple[tuple[Tensor, ...], list[Tensor] | None]:
    """y, h_n, c_n, and what ``_normed_inputs`` made; a tape for each direction into ``tapes``."""
    x, h_0, c_0 = args[0], ops._contiguous(args[1]), ops._contiguous(args[2])
    D, N, H = len(args) // ops._DIRECTION, ops._batch(x, ragged), args[4].shape[1]
    y, h_n = ops._pooled(x, (*x.shape[:-1], D * H)), x.new_empty(D, N, H)
    c_n, pre = torch.empty_like(h_n), None
    if variant.gain_h is not None:
        x, pre = _normed_inputs(ragged, args, variant)
    for d in range(D):
        weights = _weights(args, d, variant)
        tape: _Tape = ()
        if tapes is not None:
            tape = _new_tape(x, N, H, ragged, variant)
            tapes.append(tape)
        gates, c, normed, scale = (*tape, None, None, None, None)[:4]
        ops.native.varied_forward(
            *_added(ragged, variant, d, x, pre),
            normed,
            scale,
            "lstm",
            ops._unit_stride(x),
            ops._direction(h_0, d),
            ops._direction(c_0, d),
            *weights,
            y if D == 1 else y[..., d * H : (d + 1) * H],
            h_n[d],
            c_n[d],
            gates,
            c,
            *ragged,
            d == 1,
            torch.get_num_threads(),
        )
    return (y, h_n, c_n), pre


def _weights(args: Sequence[Any], d: int, variant: Variant) -> list[Any]:
    """weight_ih, weight_hh and the biases of a direction; with norms what is left for the kernel."""
    W, U, *biases = args[3 + d * ops._DIRECTION : 3 + (d + 1) * ops._DIRECTION]
    if variant.gain_h is not None:
        return [W.new_empty(len(W), 0), U.contiguous(), None, None]
    return [W.contiguous(), U.contiguous(), *map(ops._contiguous, biases)]


def _added(ragged: ops.Ragged, variant: Variant, d: int, x: Tensor, pre: Any) -> list[Any]:
    """A direction's part of the variant, in the order of the kernels' arguments."""
    v = variant
    h_reset, c_reset, recurrent, peepholes, gain_h, gain_c, bias_c = (
        None if t is None else t[d].contiguous()
        for t in (v.reset_h, v.reset_c, v.recurrent, v.peepholes, v.gain_h, v.gain_c, v.bias_c)
    )
    zoneout = (None if z is None else ops._unit_stride(z[d]) for z in (v.zoneout_h, v.zoneout_c))
    states = ops._contiguous(v.mask), _as_run(v.reset, ragged, d == 1), h_reset, c_reset, recurrent
    norms = gain_h, gain_c, bias_c, None if pre is None else pre[_MADE * d]
    return [*states, *zoneout, peepholes, v.coupled, *norms]


def _as_run(reset: Tensor | None, ragged: ops.Ragged, reverse: bool) -> Tensor | None:
    """Before which steps to reset: in reverse the same boundaries are crossed on the way from t to t-1."""
    if reset is None or not reverse:
        return ops._contiguous(reset)
    later = torch.zeros_like(reset, memory_format=torch.contiguous_format)
    later[:-1] = reset[1:]
    if ragged.lengths is not None:
        later &= torch.arange(1, len(reset) + 1).unsqueeze(1) < ragged.lengths
    return later


def _new_tape(x: Tensor, N: int, H: int, ragged: ops.Ragged, variant: Variant) -> _Tape:
    tape = ops._new_tape(x, N, H, ragged)
    if variant.gain_h is None:
        return tape
    return *tape, torch.empty_like(tape[0]), x.new_empty(ops._steps_shape(x, ragged))


def _normed_inputs(ragged: ops.Ragged, args: Sequence[Any], variant: Variant) -> tuple[Tensor, list[Tensor]]:
    """An x without features; of each direction LN(W x_t) ⊙ gain_x + b, mean, 1/deviation and W x_t."""
    x = _readable(args[0], ragged, variant.mask)
    found: list[Tensor] = []
    for d in range(len(args) // ops._DIRECTION):
        W, _, b_ih, b_hh = args[3 + d * ops._DIRECTION : 3 + (d + 1) * ops._DIRECTION]
        bias = b_ih if b_hh is None else b_hh if b_ih is None else b_ih + b_hh
        assert variant.gain_x is not None
        rows, moments = (*x.shape[:-1], len(W)), (*x.shape[:-1], 1)
        Wx, pre = ops._pooled(x, rows), ops._pooled(x, rows)
        torch.mm(x.reshape(-1, x.shape[-1]), W.t(), out=Wx.view(-1, len(W)))
        gain, out = variant.gain_x[d], (pre, x.new_empty(moments), x.new_empty(moments))
        torch.ops.aten.native_layer_norm.out(
            Wx, [len(W)], gain, bias, EPSILON, out0=out[0], out1=out[1], out2=out[2]
        )
        found += [*out, Wx]
    return x.new_empty(*x.shape[:-1], 0), found


def _readable(x: Tensor, ragged: ops.Ragged, mask: Tensor | None) -> Tensor:
    """x with zeros where nobody may read: its products with zero must be zero."""
    if ragged.lengths is not None:
        inside = torch.arange(len(x)).unsqueeze(1) < ragged.lengths
        mask = inside if mask is None else mask & inside
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _backward(
    ragged: ops.Ragged,
    args: Sequence[Any],
    variant: Variant,
    y: Tensor,
    pre: Sequence[Tensor],
    kept: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``args`` and of the variant's fields, None where not wanted."""
    D, H = len(args) // ops._DIRECTION, args[4].shape[1]
    want = dict(zip(_FIELDS, wanted[len(args) :], strict=True))
    norms = ("gain_h", "gain_c", "bias_c") if variant.gain_h is not None else ()
    dadded = {n: _like(getattr(variant, n), want[n] or n in norms) for n in _TRAINED}
    dstates = [_like(s, w) for s, w in zip(args[1:3], wanted[1:3], strict=True)]
    dy, *dfinals = douts
    dy, dfinals = None if dy is None else ops._unit_stride(dy), [ops._contiguous(d) for d in dfinals]
    dx, dweights, each = None, [], len(kept) // D
    for d in range(D):
        here, mine = slice(d * H, (d + 1) * H), slice(3 + d * ops._DIRECTION, 3 + (d + 1) * ops._DIRECTION)
        given = (y[..., here], *kept[d * each : (d + 1) * each])
        ends = (None if dy is None else dy[..., here], *(ops._direction(f, d) for f in dfinals))
        starts = [ops._direction(s, d) for s in dstates]
        sums = {n: None if a is None else a[d] for n, a in dadded.items()}
        wants = (wanted[0], *wanted[mine])
        dx_d, dW, dU, db = _one_way(ragged, args, variant, d, pre, given, ends, starts, sums, wants)
        if dx_d is not None:
            dx = dx_d if dx is None else dx.add_(dx_d)
        dweights += [dW, dU, *(db if w else None for w in wanted[mine][2:])]
    return [dx, *dstates, *dweights, *(dadded.get(n) if want[n] else None for n in _FIELDS)]


def _like(t: Tensor | None, wanted: bool) -> Tensor | None:
    return torch.empty_like(t, memory_format=torch.contiguous_format) if t is not None and wanted else None


def _one_way(
    ragged: ops.Ragged,
    args: Sequence[Any],
    variant: Variant,
    d: int,
    pre: Sequence[Tensor],
    given: Sequence[Tensor],
    ends: Sequence[Tensor | None],
    dstarts: Sequence[Tensor | None],
    sums: dict[str, Tensor | None],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """One direction, from what it left, y and its tape, and the gradients of y, h_n and c_n.

    Fills ``dstarts`` and ``sums``; returns the gradients of x, weight_ih, weight_hh and the biases.
    """
    x, W, U = args[0], *args[3 + d * ops._DIRECTION : 5 + d * ops._DIRECTION]
    y, gates, c, normed, scale = (*given, None, None)[:5]
    dx = dW = db = dpre = None
    dU = _like(U, wanted[2])
    if variant.gain_h is not None:
        dpre = ops._pooled(x, (*x.shape[:-1], len(W)))
    else:
        dx = ops._pooled(x, x.shape) if wanted[0] else None
        dW, db = _like(W, wanted[1]), x.new_empty(len(W)) if any(wanted[3:]) else None
    ops.native.varied_backward(
        *_added(ragged, variant, d, x, pre or None),
        *(normed, scale),
        *(sums[n] for n in _TRAINED if n != "gain_x"),
        dpre,
        "lstm",
        x.new_empty(*x.shape[:-1], 0) if dpre is not None else ops._unit_stride(x),
        *(ops._direction(ops._contiguous(s), d) for s in args[1:3]),
        *_weights(args, d, variant)[:2],
        *(y, gates, c, *ends),
        *(dx, *dstarts, dW, dU, db),
        *(None, None, None),
        *(*ragged, d == 1, torch.get_num_threads()),
    )
    if dpre is not None:
        dx, dW, db = _normed_backward(ragged, args, variant, d, pre, dpre, sums["gain_x"], wanted[0])
    return dx, dW, dU, db


def _normed_backward(
    ragged: ops.Ragged,
    args: Sequence[Any],
    variant: Variant,
    d: int,
    pre: Sequence[Tensor],
    dpre: Tensor,
    dgain: Tensor | None,
    want_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """From that of what ``_normed_inputs`` made, the gradients of x, weight_ih and bias; fills dgain_x."""
    x, W = _readable(args[0], ragged, variant.mask), args[3 + d * ops._DIRECTION]
    assert variant.gain_x is not None
    gain, (mean, scale, Wx) = variant.gain_x[d], pre[_MADE * d + 1 : _MADE * (d + 1)]
    dWx, db = ops._pooled(dpre, dpre.shape), torch.empty_like(gain)
    dgain = torch.empty_like(gain) if dgain is None else dgain
    torch.ops.aten.native_layer_norm_backward.out(
        *(dpre, Wx, [len(W)], mean, scale, gain, torch.zeros_like(gain), [True, True, True]),
        out0=dWx,
        out1=dgain,
        out2=db,
    )
    dW = dWx.view(-1, len(W)).t() @ x.reshape(-1, x.shape[-1])
    return (dWx @ W if want_x else None), dW, db


def _record(
    recording: Recording,
    ragged: ops.Ragged,
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
    ragged: ops.Ragged,
    inputs: Sequence[Any],
    y: Tensor,
    tape: _Tape,
    douts: Sequence[Tensor | None],
    reverse: bool,
) -> Any:
    """``ops.step_gradients`` of such a layer."""
    (x, h_0, c_0, W, U), d = inputs, int(reverse)
    found, of_steps, of_starts = ops.room_for_steps(cell, ragged, x, W, U)
    gates, c, normed, scale = (*tape, None, None)[:4]
    sums: list[Any] = [None] * 7
    pre = None
    if variant.gain_h is not None:  # then the kernel gives all its sums, or none
        rows = (*x.shape[:-1], len(W))
        pre = [x.new_empty(rows)] * (_MADE * d + 1)
        sums[3:] = [torch.empty_like(t[d]) for t in (variant.gain_h, variant.gain_c, variant.bias_c)]  # type: ignore[index]
        sums.append(x.new_empty(rows))
        x, W = x.new_empty(*x.shape[:-1], 0), W.new_empty(len(W), 0)
    ops.native.varied_backward(
        *_added(ragged, variant, d, x, pre),
        *(normed, scale, *sums, "lstm", ops._unit_stride(x), h_0, c_0, W, U, y, gates, c, *douts),
        *(None, *of_starts, None, None, None, *of_steps),
        *(*ragged, reverse, torch.get_num_threads()),
    )
    return found


def _plain_backward(
    ragged: ops.Ragged,
    count: int,
    tensors: Sequence[Any],
    variant: Variant,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients by running the plain path again: torch then knows how they came about."""

    def run(views: Sequence[Any]) -> tuple[Tensor, ...]:
        weights = [[*views[k : k + ops._DIRECTION], None] for k in range(3, count, ops._DIRECTION)]
        states = [s for s in views[1:3] if s is not None]
        added = _variant(variant.coupled, views[count:])
        return plain.layer("lstm", views[0], states, weights, *ragged, variant=added)

    return ops.backward_by_torch(run, tensors, douts, wanted)
