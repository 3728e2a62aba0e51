"""The boundary between torch and the kernels: one layer, all its directions, any tensors torch can make.

Which path serves a call is decided here and nowhere else:

========  =====================================================================================
torch     (``torch_serves``, the whole module at once) every device but the CPU and meta, cuDNN
          on CUDA among them; and while jit.trace or torch.onnx record a program
compiled  (``compiled``, of each layer) while torch.compile or torch.export record one: an operator
          that takes one of the two ways below when the program runs
native    float32, float64 or bfloat16 on the CPU, all tensors of one dtype (also of autocast's
          making), LSTM or tanh RNN without projection; forward, and backward while no graph of
          the backward is asked for; with ``checkpoint``, training goes through ``segments``; with
          a variant (``variant.native``), float32 and float64 and the LSTM alone
plain     all else: projections, relu, other dtypes, meta and fake tensors, empty batches,
          functorch transforms, forward-mode gradients, double backward, no extension;
          ``lengths`` wherever native does not serve
========  =====================================================================================
"""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from undertow.kernels import plain
from undertow.kernels.call import PLAIN, Variant
from undertow.kernels.recording import Recording

native: Any
try:
    native = import_module("undertow.kernels.native")
    native.share_openmp()  # torch's threads: a second pool would fight with them for the cores
except ModuleNotFoundError:  # the extension was not built: plain serves in its place
    native = None

_LARGE = 1 << 15  # elements, 128 KiB in float32: where glibc begins to take memory from the system afresh
_NATIVE_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_OWN_MEMORY = (Tensor, torch.nn.Parameter)  # a subclass may be anything: fake, distributed, quantised
_DIRECTION = 4  # weight_ih, weight_hh, bias_ih, bias_hh: what each direction adds to the arguments

Weights = Sequence[Any]  # weight_ih [G*H,C], weight_hh [G*H,R], bias_ih, bias_hh [G*H], weight_hr [P,H]


class Ragged(NamedTuple):
    """Sequences of different lengths: padded, with ``lengths``; or packed, with the other two."""

    lengths: Tensor | None = None  # int64 [N], in any order, between 0 and T
    batch_sizes: Tensor | None = None  # int64 [T], as PackedSequence has them
    order: Tensor | None = None  # int64 [N], PackedSequence's sorted_indices


EVEN = Ragged()


def torch_serves(x: Tensor) -> bool:
    """Whether torch's own operator runs this module as a whole."""
    if not (x.is_cpu or x.is_meta):
        return True
    return torch.onnx.is_in_onnx_export() if torch.compiler.is_compiling() else torch._C._is_tracing()


def layer(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    ragged: Ragged = EVEN,
    nonlinearity: str = "tanh",
    checkpoint: int | None = None,
    recording: Recording | None = None,
    variant: Variant = PLAIN,
) -> tuple[Tensor, ...]:
    """One layer of ``cell`` "lstm" or "rnn", in one direction for each of D ``weights``, the second reversed.

    LSTM: c_t = i ⊙ g + f ⊙ c_{t-1}, h_t = o ⊙ tanh(c_t); RNN: h_t = φ(W x_t + U h_{t-1} + b), φ tanh or relu.
    x [T,N,C], packed [R,C]; ``states`` h_0 [D,N,R] and, LSTM, c_0 [D,N,H], or none for zero. Biases and
    weight_hr may be None. Returns y [T,N,D*R] (zero past a sequence's end), packed [R,D*R]; h_n [D,N,R], and
    c_n [D,N,H]: the states at each sequence's own end, for the reverse direction at its start.
    ``checkpoint``: train in segments of so many steps (``segments``) where native serves; nothing elsewhere.
    ``recording`` receives what the kernels read and write, for which the tape is kept whole, or why nothing.
    ``variant``: what is added to these equations (``undertow.equations.variants``).
    Raises ValueError where lengths do not fit x.
    """
    if variant is not PLAIN:
        return _varied_layer(cell, x, states, weights, ragged, nonlinearity, recording, variant)
    if torch.is_autocast_enabled("cpu") and x.is_cpu:
        x, states, weights = _autocast(x, states, weights)
    h_0, c_0 = (*states, None, None)[:2]
    args = [x, h_0, c_0]
    for each in weights:
        args += each[:_DIRECTION]
    if weights[0][_DIRECTION] is None and nonlinearity == "tanh" and _native_serves(args):
        if torch.is_grad_enabled():
            for t in args:
                if t is not None and t.requires_grad:
                    if checkpoint is not None and recording is None:
                        from undertow.kernels import segments  # which builds on this module

                        return segments.apply(cell, ragged, checkpoint, *args)  # type: ignore[no-any-return]
                    return _apply(cell, ragged, recording, *args)  # type: ignore[no-any-return]
        if recording is None:
            return _forward(cell, ragged, args, [None] * len(weights))
        tapes = _new_tapes(cell, ragged, args)
        outputs = _forward(cell, ragged, args, tapes)
        recording.forward(cell, ragged, args, outputs[0], tapes, grad=False)
        return outputs
    if recording is not None:
        recording.missing = _why_plain(weights, nonlinearity, args)
    with torch.autocast("cpu", enabled=False):
        return plain.layer(cell, x, states, weights, *ragged, nonlinearity)


def _varied_layer(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    ragged: Ragged,
    nonlinearity: str,
    recording: Recording | None,
    variant: Variant,
) -> tuple[Tensor, ...]:
    """``layer`` with a variant: ``variant.native`` where it serves, else the plain path."""
    from undertow.kernels import varied  # which builds on this module

    if torch.is_autocast_enabled("cpu") and x.is_cpu:
        x, states, weights = _autocast(x, states, weights)
        variant = varied.autocast(variant)
    args = [x, *(*states, None, None)[:2]]
    for each in weights:
        args += each[:_DIRECTION]
    kernel = cell == "lstm" and weights[0][_DIRECTION] is None and not torch.compiler.is_compiling()
    if kernel and _native_serves(args) and varied.serves(variant, args):
        return varied.layer(ragged, args, variant, recording)
    if recording is not None:
        recording.missing = _why_plain(weights, nonlinearity, args, cell)
    with torch.autocast("cpu", enabled=False):
        return plain.layer(cell, x, states, weights, *ragged, nonlinearity, variant=variant)


def layer_with_steps(
    steps: list[plain.Steps],
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    ragged: Ragged = EVEN,
    nonlinearity: str = "tanh",
    checkpoint: int | None = None,
    variant: Variant = PLAIN,
) -> tuple[Tensor, ...]:
    """``layer`` on the plain path, which adds the layer's gates and states to ``steps``, with their graph."""
    if torch.is_autocast_enabled("cpu") and x.is_cpu:
        x, states, weights = _autocast(x, states, weights)
    with torch.autocast("cpu", enabled=False):
        return plain.layer(cell, x, states, weights, *ragged, nonlinearity, steps, variant)


def _native_serves(args: Sequence[Any]) -> bool:
    if torch.compiler.is_compiling():
        return False
    dtype = args[0].dtype
    for t in args:
        if t is None:
            continue
        if t.dtype is not dtype or type(t) not in _OWN_MEMORY or not t.is_cpu or t.is_neg():
            return False
    return (
        native is not None
        and dtype in _NATIVE_DTYPES
        and args[0].numel() > 0
        and not _transformed()
        and not torch._C._is_tracing()
    )


def _why_plain(weights: Sequence[Weights], nonlinearity: str, args: Sequence[Any], varied: str = "") -> str:
    """For people: what kept a call from the native kernels, which alone are recorded."""
    x = args[0]
    if native is None:
        return "the native kernels were not built"
    if weights[0][_DIRECTION] is not None:
        return "projections (proj_size) have no native kernel"
    if nonlinearity != "tanh":
        return f"nonlinearity {nonlinearity!r} has no native kernel"
    if x.dtype not in _NATIVE_DTYPES:
        return f"{x.dtype} has no native kernel"
    if varied == "rnn":
        return "a variant of the rnn has no native kernel"
    if varied and x.dtype == torch.bfloat16:
        return f"a variant of the lstm has no native kernel for {x.dtype}"
    return "its tensors are of a kind that the native kernels do not take: see undertow.kernels.dispatch"


def _transformed() -> bool:
    """Whether torch would see our tensors' operations in another way than their memory shows."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None  # torch.func and vmap
        or torch._C._len_torch_dispatch_stack() > 0  # FakeTensorMode, FLOP counters, ...
        or forward_ad._current_level >= 0
    )


def _batched(t: Tensor | None) -> bool:
    """Whether t is one of many, as autograd.grad(is_grads_batched=True) makes them."""
    return t is not None and torch._C._functorch.is_legacy_batchedtensor(t)


# ---------------------------------------------------------------------------------------- native


def _forward(cell: str, ragged: Ragged, args: Sequence[Any], tapes: Sequence[Any]) -> tuple[Tensor, ...]:
    """Run the kernel in each direction, leaving its tape in (gates, c) where there is one -> y, h_n, c_n."""
    x, h_0, c_0, _, weight_hh = args[:5]
    D, N, H = len(tapes), _batch(x, ragged), weight_hh.shape[1]
    shape = list(x.shape)
    shape[-1] = D * H
    y, h_n = _pooled(x, shape), x.new_empty(D, N, H)
    c_n = torch.empty_like(h_n) if cell == "lstm" else None
    x, h_0, c_0, threads = _unit_stride(x), _contiguous(h_0), _contiguous(c_0), torch.get_num_threads()
    for d, tape in enumerate(tapes):
        W, U, b_ih, b_hh = args[3 + d * _DIRECTION : 3 + (d + 1) * _DIRECTION]
        native.forward(
            cell,
            x,
            (h_0, c_0) if D == 1 else (_direction(h_0, d), _direction(c_0, d)),
            (W.contiguous(), U.contiguous(), _contiguous(b_ih), _contiguous(b_hh)),
            (y, h_n, c_n)
            if D == 1
            else (y[..., d * H : (d + 1) * H], _direction(h_n, d), _direction(c_n, d)),
            tape,
            ragged,
            None,
            d == 1,
            threads,
        )
    return (y, h_n, c_n) if c_n is not None else (y, h_n)


def _batch(x: Tensor, ragged: Ragged) -> int:
    return x.shape[1] if ragged.batch_sizes is None else int(ragged.batch_sizes[0])


def _direction(stacked: Tensor | None, d: int) -> Tensor | None:
    """The d-th of [D,N,·]; the kernels take [1,N,·] as it is."""
    return stacked if stacked is None or stacked.shape[0] == 1 else stacked[d]


def _new_tapes(cell: str, ragged: Ragged, args: Sequence[Any]) -> list[Any]:
    """A tape for each direction; the RNN has none."""
    x, D = args[0], len(args) // _DIRECTION
    if cell == "rnn":
        return [()] * D
    return [_new_tape(x, _batch(x, ragged), args[4].shape[1], ragged) for _ in range(D)]


def _new_tape(x: Tensor, N: int, H: int, ragged: Ragged) -> tuple[Tensor, Tensor]:
    """gates and c, as native/lstm.h lays them out, not initialised."""
    steps = _steps_shape(x, ragged)
    c = (steps[0] + 1, N, H) if len(steps) == 2 else (N + steps[0], H)
    return _pooled(x, (*steps, 4, H)), _pooled(x, c, cell=True)


def _steps_shape(x: Tensor, ragged: Ragged) -> tuple[int, ...]:
    """[T,N], or [R] where lengths differ: a row for each step that a sequence takes."""
    if ragged.lengths is not None:
        return (int(ragged.lengths.sum()),)
    return (x.shape[0],) if ragged.batch_sizes is not None else (x.shape[0], x.shape[1])


def _pooled(like: Tensor, shape: Sequence[int], cell: bool = False) -> Tensor:
    """A new tensor; ``cell``: for the tape of c, which is float32 beside bfloat16. A large one comes from
    the kernels' pool: the system's allocator would hand its pages back after every training step and fault
    them in again, which costs more than the arithmetic.
    """
    count, dtype = math.prod(shape), like.dtype
    if cell and dtype is torch.bfloat16:
        dtype = torch.float32
    if count < _LARGE:
        return like.new_empty(*shape, dtype=dtype)  # faster than from a tuple
    if dtype is torch.bfloat16:
        halves: Tensor = native.pooled((count + 1) // 2, False).view(dtype)
        return halves[:count].view(shape)
    tensor: Tensor = native.pooled(count, dtype is torch.float64).view(shape)
    return tensor


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def _unit_stride(t: Tensor) -> Tensor:
    """``t``, or a copy, with stride 1 in its last dimension."""
    if t.is_contiguous() or t.stride(-1) == 1:
        return t
    return t.clone(memory_format=torch.contiguous_format)


class _Native(torch.autograd.Function):
    """The native kernel as a node of torch's graph, for one layer."""

    @staticmethod
    def forward(
        ctx: Any, cell: str, ragged: Ragged, recording: Recording | None, *args: Any
    ) -> tuple[Tensor, ...]:
        tapes = _new_tapes(cell, ragged, args)
        outputs = _forward(cell, ragged, args, tapes)
        ctx.save_for_backward(outputs[0], *args, *(t for tape in tapes for t in tape))
        ctx.cell, ctx.ragged, ctx.recording, ctx.directions = cell, ragged, recording, len(tapes)
        if recording is not None:
            recording.forward(cell, ragged, args, outputs[0], tapes, grad=True)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        D, recording = ctx.directions, ctx.recording
        y, *rest = ctx.saved_tensors
        args, tapes = rest[: 3 + D * _DIRECTION], rest[3 + D * _DIRECTION :]
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or _transformed() or any(map(_batched, douts)):
            grads = _plain_backward(ctx.cell, ctx.ragged, args, douts, wanted)
        else:
            grads = _native_backward(ctx.cell, ctx.ragged, args, y, tapes, douts, wanted)
        record_backward(recording, douts)
        return None, None, None, *grads


def record_backward(recording: Recording | None, douts: Sequence[Tensor | None]) -> None:
    if recording is None:
        return
    if _transformed() or any(map(_batched, douts)):
        recording.without_gradients("backward was run for many gradients at once")
    else:
        recording.backward(douts)


# Function.apply itself, past a wrapper for functorch, which _native_serves has excluded.
_apply: Any = super(torch.autograd.Function, _Native).apply


def _native_backward(
    cell: str,
    ragged: Ragged,
    args: Sequence[Any],
    y: Tensor,
    tapes: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``args``, None where not wanted, from those of the outputs, None where there are none."""
    x, *states = args[:3]
    D, H = len(args) // _DIRECTION, args[4].shape[1]
    dy, dh_n, dc_n = (*douts, None)[:3]
    dy, dh_n, dc_n = None if dy is None else _unit_stride(dy), _contiguous(dh_n), _contiguous(dc_n)
    dh_0, dc_0 = (_pooled(s, s.shape) if want else None for s, want in zip(states, wanted[1:3], strict=True))
    grads: list[Any] = [None, dh_0, dc_0]
    x, (h_0, c_0), threads = _unit_stride(x), map(_contiguous, states), torch.get_num_threads()
    for d in range(D):
        weights = args[3 + d * _DIRECTION : 3 + (d + 1) * _DIRECTION]
        want = wanted[3 + d * _DIRECTION : 3 + (d + 1) * _DIRECTION]
        dW, dU = (_pooled(t, t.shape) if w else None for t, w in zip(weights[:2], want, strict=False))
        db = x.new_empty(weights[0].shape[0]) if want[2] or want[3] else None  # of both: b_ih + b_hh is used
        y_d, dy_d = y, dy
        if D > 1:
            y_d = y[..., d * H : (d + 1) * H]
            dy_d = None if dy is None else dy[..., d * H : (d + 1) * H]
        dx_d = _pooled(x, x.shape) if wanted[0] else None
        starts, dfinals = (_direction(h_0, d), _direction(c_0, d)), (_direction(dh_n, d), _direction(dc_n, d))
        dstarts = (_direction(dh_0, d), _direction(dc_0, d))
        tape = tapes[2 * d : 2 * d + 2]
        given = (x, starts, tuple(map(_contiguous, weights[:2])), y_d, tape, (dy_d, *dfinals))
        made = (dx_d, *dstarts, dW, dU, db)
        native.backward(cell, *given, made, None, ragged, None, None, d == 1, threads)
        if dx_d is not None:
            grads[0] = dx_d if d == 0 else dx_d.add_(grads[0])
        grads += [dW, dU, db if want[2] else None, db if want[3] else None]
    return grads


def step_gradients(
    cell: str,
    ragged: Ragged,
    inputs: Sequence[Any],
    y: Tensor,
    tape: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """For a recording, of one direction, from x, h_0, c_0, weight_ih, weight_hh and dy, dh_n, dc_n: dgates of
    every step as native/lstm.h lays them out, dh, and dc of the LSTM, which have dh_0 and dc_0 first:
    [T+1,N,H], or [N+R,H].
    """
    x, h_0, c_0, W, U = inputs
    found: tuple[Tensor, Tensor, Tensor | None]
    found, of_steps, of_starts = room_for_steps(cell, ragged, x, W, U)
    given = (_unit_stride(x), (h_0, c_0), (W, U), y, tape, douts)
    made = ((None, *of_starts, None, None, None), of_steps)
    native.backward(cell, *given, *made, ragged, None, None, reverse, torch.get_num_threads())
    return found


def room_for_steps(cell: str, ragged: Ragged, x: Tensor, W: Tensor, U: Tensor) -> Any:
    """dgates, dh and dc; and as the kernels take them dgates, dh, dc of the steps, then dh_0 and dc_0."""
    N, H, steps = _batch(x, ragged), U.shape[1], _steps_shape(x, ragged)
    dgates = _pooled(x, (*steps, len(W) // H, H))
    states = (steps[0] + 1, N, H) if len(steps) == 2 else (N + steps[0], H)
    first = 1 if len(steps) == 2 else N
    dh, dc = _pooled(x, states), _pooled(x, states) if cell == "lstm" else None
    dh_0, dh_t = dh[:first].view(N, H), dh[first:]
    dc_0, dc_t = (None, None) if dc is None else (dc[:first].view(N, H), dc[first:])
    return (dgates, dh, dc), (dgates, dh_t, dc_t), (dh_0, dc_0)


# ---------------------------------------------------------------------------------------- plain


def _autocast(x: Tensor, states: Sequence[Tensor], weights: Sequence[Weights]) -> tuple[Any, Any, Any]:
    """All in the dtype that CPU autocast would give nn.LSTM; float64 is left alone, as autocast does."""
    dtype = torch.get_autocast_dtype("cpu")

    def cast(t: Tensor | None) -> Tensor | None:
        return t if t is None or t.dtype == torch.float64 else t.to(dtype)

    return cast(x), [cast(s) for s in states], [[cast(w) for w in each] for each in weights]


def _plain_backward(
    cell: str,
    ragged: Ragged,
    args: Sequence[Any],
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients by running the plain path again: torch then knows how they came about."""

    def run(views: Sequence[Any]) -> tuple[Tensor, ...]:
        weights = [[*views[k : k + _DIRECTION], None] for k in range(3, len(views), _DIRECTION)]
        return plain.layer(cell, views[0], [s for s in views[1:3] if s is not None], weights, *ragged)

    return backward_by_torch(run, args, douts, wanted)


def backward_by_torch(
    run: Callable[[Sequence[Any]], tuple[Tensor, ...]],
    args: Sequence[Any],
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``args``, None where not wanted, by torch's own differentiation of ``run``."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # views, because one argument may depend on another, and each gradient is along that one alone
        views: list[Any] = [None if t is None else t.view_as(t) for t in args]
        outputs = run(views)
        heard = [(out, dout) for out, dout in zip(outputs, douts, strict=True) if dout is not None]
        outs, grad_outs = zip(*heard, strict=True)
        inputs = [view for view, want in zip(views, wanted, strict=True) if want]
        grads = iter(
            torch.autograd.grad(outs, inputs, grad_outs, create_graph=create_graph, allow_unused=True)
        )
    return [next(grads) if want else None for want in wanted]
