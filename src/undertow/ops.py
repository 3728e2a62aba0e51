"""The boundary between torch and the kernels: one layer, one direction, any tensors torch can make.

Which path serves a call is decided here and nowhere else:

========  =====================================================================================
torch     (``torch_serves``, the whole module at once) every device but the CPU and meta, cuDNN
          on CUDA among them; and while torch records a program: jit.trace, export, compile
native    float32 or float64 on the CPU, all tensors of one dtype, LSTM or tanh RNN without
          projection; forward, and backward while no graph of the backward is asked for
plain     all else: projections, relu, other dtypes, autocast, meta and fake tensors, empty
          batches, functorch transforms, forward-mode gradients, double backward, no extension
========  =====================================================================================
"""

import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from undertow.kernels import plain

native: Any
try:
    native = import_module("undertow.kernels.native")
    native.share_openmp()  # torch's threads: a second pool would fight with them for the cores
except ModuleNotFoundError:  # the extension was not built: plain serves in its place
    native = None

_LARGE = 1 << 15  # elements, 128 KiB in float32: where glibc begins to take memory from the system afresh
_NATIVE_DTYPES = (torch.float32, torch.float64)
# x, h_0, c_0 (the RNN has none), weight_ih, weight_hh, bias_ih, bias_hh: what every native call takes
_Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None]
_OWN_MEMORY = (Tensor, torch.nn.Parameter)  # a subclass may be anything: fake, distributed, quantised


def torch_serves(x: Tensor) -> bool:
    """Whether torch's own operator runs this module as a whole."""
    return not (x.is_cpu or x.is_meta) or torch.compiler.is_compiling() or torch._C._is_tracing()


def lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_hr: Tensor | None = None,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer in one direction: c_t = i ⊙ g + f ⊙ c_{t-1}, h_t = o ⊙ tanh(c_t).

    x [T,N,C]; h_0 [N,R] and c_0 [N,H]; weight_ih [4H,C], weight_hh [4H,R], biases [4H], weight_hr [P,H];
    R = P with weight_hr, else H. batch_sizes int64 [T] on the CPU, non-increasing: how many sequences,
    counted from the first, are active at step t. ``reverse`` goes from each sequence's end to its start.
    Returns y [T,N,R], zero past a sequence's end, and h_n [N,R], c_n [N,H], its states there.
    """
    if weight_hr is None:
        args = (x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh)
        if _native_serves(*args):
            y, h_n, c_n = _run_native("lstm", args, reverse, batch_sizes)
            return y, h_n, c_n
    tensors = _autocast(x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    return plain.lstm(*tensors, reverse=reverse, batch_sizes=batch_sizes)


def rnn(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One plain RNN layer in one direction: h_t = tanh(W x_t + U h_{t-1} + b), or relu in tanh's place.

    Shapes as in ``lstm``, with weight_ih [H,C], weight_hh [H,H], biases [H]. Returns y [T,N,H], h_n [N,H].
    """
    args = (x, h_0, None, weight_ih, weight_hh, bias_ih, bias_hh)
    if nonlinearity == "tanh" and _native_serves(*args):
        y, h_n = _run_native("rnn", args, reverse, batch_sizes)
        return y, h_n
    tensors = _autocast(x, h_0, weight_ih, weight_hh, bias_ih, bias_hh)
    return plain.rnn(*tensors, nonlinearity=nonlinearity, reverse=reverse, batch_sizes=batch_sizes)


def _native_serves(x: Tensor, *others: Tensor | None) -> bool:
    dtype = x.dtype
    return (
        native is not None
        and dtype in _NATIVE_DTYPES
        and x.numel() > 0
        and not _transformed()
        and not (dtype == torch.float32 and torch.is_autocast_enabled("cpu"))
        and _own_memory(x)
        and all(t is None or (t.dtype == dtype and _own_memory(t)) for t in others)
    )


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


def _own_memory(t: Tensor) -> bool:
    return t.is_cpu and type(t) in _OWN_MEMORY and not t.is_neg()


def _autocast(x: Tensor, *others: Tensor | None) -> Any:
    """Under CPU autocast, what nn.LSTM would compute in; float64 is left alone, as autocast does."""
    if not (x.is_cpu and torch.is_autocast_enabled("cpu")):
        return (x, *others)
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in (x, *others))


def _run_native(cell: str, args: _Arguments, reverse: bool, batch_sizes: Tensor | None) -> Any:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args):
        return _Native.apply(cell, reverse, batch_sizes, *args)  # type: ignore[no-untyped-call]
    return _forward(cell, args, None, None, reverse, batch_sizes)


def _forward(
    cell: str,
    args: Any,
    gates: Tensor | None,
    c: Tensor | None,
    reverse: bool,
    batch_sizes: Tensor | None,
) -> tuple[Tensor, ...]:
    """Run the kernel, with the tape in ``gates`` and ``c`` where they are given -> y, h_n and, LSTM, c_n."""
    x, *others = args
    T, N, H = x.shape[0], x.shape[1], args[1].shape[1]
    y = _pooled(x, T, N, H)
    h_n = x.new_empty(N, H)
    c_n = x.new_empty(N, H) if cell == "lstm" else None
    inputs = (_unit_stride(x), *map(_contiguous, others))
    native.forward(cell, *inputs, y, h_n, c_n, gates, c, batch_sizes, reverse, torch.get_num_threads())
    return (y, h_n) if c_n is None else (y, h_n, c_n)


def _pooled(like: Tensor, *shape: int) -> Tensor:
    """A new tensor. A large one comes from the kernels' pool: the system's allocator would hand
    its pages back after every training step and fault them in again, which costs more than the arithmetic.
    """
    count = math.prod(shape)
    if count < _LARGE:
        return like.new_empty(shape)
    tensor: Tensor = native.pooled(count, like.dtype == torch.float64).view(shape)
    return tensor


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def _unit_stride(t: Tensor) -> Tensor:
    """``t``, or a copy, with stride 1 in its last dimension, also where that has size 1."""
    return t if t.stride(-1) == 1 else t.clone(memory_format=torch.contiguous_format)


class _Native(torch.autograd.Function):
    """The native kernel as a node of torch's graph, for one layer and direction."""

    @staticmethod
    def forward(
        ctx: Any, cell: str, reverse: bool, batch_sizes: Tensor | None, *args: Any
    ) -> tuple[Tensor, ...]:
        x, h_0 = args[:2]
        T, N, H = x.shape[0], x.shape[1], h_0.shape[1]
        gates = _pooled(x, T, N, 4, H) if cell == "lstm" else None  # after the activation
        c = _pooled(x, T + 1, N, H) if cell == "lstm" else None
        outputs = _forward(cell, args, gates, c, reverse, batch_sizes)
        ctx.save_for_backward(batch_sizes, outputs[0], gates, c, *args)
        ctx.cell, ctx.reverse = cell, reverse
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        batch_sizes, y, gates, c, *args = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or _transformed() or any(map(_batched, douts)):
            grads = _plain_backward(ctx.cell, args, douts, wanted, ctx.reverse, batch_sizes)
        else:
            tape = (y, gates, c)
            grads = _native_backward(ctx.cell, args, tape, douts, wanted, ctx.reverse, batch_sizes)
        return None, None, None, *grads


def _native_backward(
    cell: str,
    args: list[Any],
    tape: tuple[Any, ...],
    douts: tuple[Tensor | None, ...],
    wanted: tuple[bool, ...],
    reverse: bool,
    batch_sizes: Tensor | None,
) -> list[Tensor | None]:
    """Gradients of ``args``, None where not wanted, from those of the outputs, None where there are none."""
    dy, dh_n, dc_n = douts if len(douts) == 3 else (*douts, None)
    if dy is not None:
        dy = _unit_stride(dy)
    x, *others = args[:5]
    grads = [_pooled(t, *t.shape) if want else None for t, want in zip(args[:5], wanted, strict=False)]
    dbias = x.new_empty(args[3].shape[0]) if any(wanted[5:]) else None  # of both, for b_ih + b_hh is used
    inputs = (_unit_stride(x), *map(_contiguous, others))
    outs = (dy, _contiguous(dh_n), _contiguous(dc_n))
    threads = torch.get_num_threads()
    native.backward(cell, *inputs, *tape, *outs, *grads, dbias, batch_sizes, reverse, threads)
    return [*grads, *(dbias if want else None for want in wanted[5:])]


def _plain_backward(
    cell: str,
    args: list[Any],
    douts: tuple[Tensor | None, ...],
    wanted: tuple[bool, ...],
    reverse: bool,
    batch_sizes: Tensor | None,
) -> list[Tensor | None]:
    """The same gradients by running the plain path again: torch then knows how they came about."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # views, because one argument may depend on another, and each gradient is along that one alone
        views: list[Any] = [None if t is None else t.view_as(t) for t in args]
        run: Any = plain.lstm if cell == "lstm" else plain.rnn
        given = views if cell == "lstm" else [*views[:2], *views[3:]]
        outputs: Any = run(*given, reverse=reverse, batch_sizes=batch_sizes)
        heard = [(out, dout) for out, dout in zip(outputs, douts, strict=True) if dout is not None]
        outs, grad_outs = zip(*heard, strict=True)
        inputs = [view for view, want in zip(views, wanted, strict=True) if want]
        grads = iter(
            torch.autograd.grad(outs, inputs, grad_outs, create_graph=create_graph, allow_unused=True)
        )
    return [next(grads) if want else None for want in wanted]
