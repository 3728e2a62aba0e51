"""Tensors as the kernels take them: memory, strides, room for results and tapes."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from undertow.kernels.call import EVEN, Call

native: Any
try:
    from undertow.kernels import native
except ModuleNotFoundError:  # the extension was not built
    native = None

_LARGE = 1 << 15  # elements, 128 KiB in float32: where glibc begins to take memory from the system afresh
Result = TypeVar("Result")
OWN = (Tensor, torch.nn.Parameter)  # a subclass may be anything: fake, distributed, quantised


def are_plain(*tensors: Tensor | None) -> bool:
    """Return whether the kernels may read the memory of all of these: dense CPU tensors of one dtype."""
    plain: bool = native.are_plain(tensors, OWN)
    return plain


def is_plain(t: Tensor) -> bool:
    """Return whether the memory of ``t``, on any device, holds its values, for kernels to read."""
    return type(t) in OWN and t.layout is torch.strided and not (t.is_neg() or t._is_zerotensor())


def made_plain(t: Tensor) -> Tensor:
    """Return ``t`` or a copy that the kernels may read: gradients may be lazily negated, sparse or zero."""
    if are_plain(t) if t.is_cpu else is_plain(t):
        return t
    dense = t if t.layout is torch.strided else t.to_dense()
    return torch.empty(dense.shape, dtype=dense.dtype, device=dense.device).copy_(dense)


def autocasts(x: Tensor) -> bool:
    """Return whether autocast would change the dtype of an operator on x."""
    return x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type)


def without_autocast(x: Tensor) -> Any:
    """Return a context in which autocast does not change operators on x."""
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)


def transformed() -> bool:
    """Return whether a transform of torch is active, so that memory does not show what torch computes."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None  # torch.func and vmap
        or torch._C._len_torch_dispatch_stack() > 0  # FakeTensorMode, FLOP counters, ...
        or forward_ad._current_level >= 0
    )


def are_batched(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether a tensor is one of many, as autograd.grad(is_grads_batched=True) makes them."""
    for t in tensors:  # noqa: SIM110 - a generator would cost a single step a microsecond
        if t is not None and torch._C._functorch.is_legacy_batchedtensor(t):
            return True
    return False


def contiguous(t: Tensor | None) -> Tensor | None:
    """Return ``t``, or a contiguous copy; None for None."""
    return None if t is None else t.contiguous()


def unit_stride(t: Tensor) -> Tensor:
    """Return ``t``, or a copy, with stride 1 in its last dimension."""
    if t.is_contiguous() or t.stride(-1) == 1:
        return t
    return t.clone(memory_format=torch.contiguous_format)


def gathered(value: Any) -> Any:
    """Return what a kernel reads, with copies in place of tensors that it cannot read as they lie."""
    if isinstance(value, Tensor):
        t = value.contiguous()
        return t.clone() if t.data_ptr() % t.element_size() else t
    if isinstance(value, tuple | list):
        each = map(gathered, value)
        return type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    return value


def out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was refused, by torch's allocator or in its words; then idle memory is given back."""
    refused = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    if refused and native is not None:
        native.release_scratch()
    return refused


def repeated(compute: Callable[[], Result]) -> Result:
    """Return what ``compute`` returns; if memory is refused, from a second call when idle memory is back."""
    try:
        return compute()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    return compute()


def of_direction(stacked: Tensor | None, d: int) -> Tensor | None:
    """Return direction d of [D,N,...]; the kernels take [1,N,...] as it is."""
    return stacked if stacked is None or stacked.shape[0] == 1 else stacked[d]


def features(y: Any, d: int, D: int) -> Any:
    """Return the features [...,H] of direction d of y or dy [...,D*H]; None for None."""
    if y is None or D == 1:
        return y
    H = y.shape[-1] // D
    return y.narrow(-1, d * H, H)  # indexing takes three times as long


# ------------------------------------------------------------------------------- room for results


def like(t: Tensor | None, wanted: Any = True) -> Tensor | None:
    """Return room for the gradient of ``t``; None if there is no t or the gradient is not wanted."""
    return empty(t, t.shape) if wanted and t is not None else None


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return a new tensor, not initialised, of the dtype of ``like`` unless one is given.

    A large one comes from the kernels' pool. The system's allocator would take its pages back after every
    training step and fault them in again, which costs more than the arithmetic.
    """
    count = math.prod(shape)
    if count < _LARGE or native is None:
        same = dtype is None or dtype is like.dtype
        return like.new_empty(*shape) if same else like.new_empty(*shape, dtype=dtype)
    dtype = dtype or like.dtype
    if dtype is torch.bfloat16:
        halves: Tensor = native.pooled((count + 1) // 2, False).view(dtype)
        return halves[:count].view(shape).data
    tensor: Tensor = native.pooled(count, dtype is torch.float64)
    return tensor.view(shape).data  # a view, as a node's result, could not be written to


def outputs(call: Call) -> tuple[Tensor, ...]:
    """Return room for y, h_n and, for the LSTM, c_n."""
    x, D, H = call.real, len(call.weights), call.weights[0][1].shape[1]
    if call.ragged is EVEN:
        T, N, _ = call.x.shape
        y = x.new_empty(T, N, D * H) if T * N * D * H < _LARGE else empty(x, (T, N, D * H))
    else:
        N, y = call.N, empty(x, (*call.x.shape[:-1], D * H))
    h_n = x.new_empty(D, N, H)
    return (y, h_n, torch.empty_like(h_n)) if call.cell == "lstm" else (y, h_n)


def tape(call: Call) -> tuple[Tensor, ...]:
    """Return room for the tape of one direction, as native/lstm.h lays it out.

    It is gates and c, with layer normalisation also the normed sums and their scale. It is empty for the RNN,
    whose y holds everything.
    """
    if call.cell == "rnn":
        return ()
    x, rows = call.real, call.rows_shape
    N = rows[1] if call.ragged is EVEN else call.N
    of_gates, of_c = tape_shapes(call, rows, N)
    found = empty(x, of_gates), empty(x, of_c, cell_dtype(call))
    if call.variant.gain_x is None:
        return found
    H = call.H
    return *found, empty(x, (*rows, 2, 4, H)), x.new_empty(*rows, 2)


def steps(call: Call) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return room for the gradients of every step of one direction: dgates, dh and, for the LSTM, dc.

    dh and dc begin with dh_0 and dc_0: [T+1,N,H], or [N+R,H].
    """
    x, rows, H = call.real, call.rows_shape, call.H
    dgates = empty(x, (*rows, 4 if call.cell == "lstm" else 1, H))
    states = states_shape(rows, call.N, H)
    return dgates, empty(x, states), empty(x, states) if call.cell == "lstm" else None


def states_shape(rows: Sequence[Any], N: Any, H: Any) -> tuple[Any, ...]:
    """Return the shape of states before and after every step: [T+1,N,H], or [N+R,H] where lengths differ."""
    return (rows[0] + 1, N, H) if len(rows) == 2 else (N + rows[0], H)


def tape_shapes(call: Call, rows: Sequence[Any], N: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the shapes of gates and c for ``rows`` of ``Call.rows_shape``; numbers may be symbols."""
    H = call.weights[0][1].shape[1]
    return (*rows, 4, H), states_shape(rows, N, H)


def cell_dtype(call: Call) -> torch.dtype:
    """Return the dtype of the tape of c, which is float32 for a bfloat16 layer."""
    dtype: torch.dtype = call.real.dtype
    return torch.float32 if dtype is torch.bfloat16 else dtype
