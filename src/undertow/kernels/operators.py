"""A layer as operators of torch, for programs that torch records: torch.compile, torch.export, jit.trace.

A recording knows shapes and no numbers, and takes torch's own LSTM apart into T steps. Here a layer is one
node, for any T and N:

undertow::layer            y, h_n and, LSTM, c_n
undertow::layer_with_tape  the same and the tape; it replaces ``layer`` if gradients are asked for
undertow::layer_backward   the gradients, from the tape
undertow::traced_layer     ``layer`` as torch.jit.trace can record it, whose lists have no gaps

When the program runs, ``engines`` computes. Calls without a kernel (projections, relu, half precision on the
CPU, empty batches) are one node too, and so are variants. They leave no tape: their gradients come from
running the layer again.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from undertow.kernels import cpu, engines, plain, tensors, triton
from undertow.kernels.call import PLAIN, WEIGHTS, Call, Ragged, Variant
from undertow.kernels.engine import Outputs
from undertow.kernels.node import again, given_to


def layer(call: Call) -> Outputs:
    """Record ``engines.layer`` as one node of the program; ``checkpoint`` is ignored.

    Inside torch.func's transforms it is the plain path, step by step: an operator would be opaque to them.
    Raises RuntimeError in torch.onnx.export, which knows no such operator.
    """
    _refuse_onnx()
    if torch._C._are_functorch_transforms_active():
        return plain.layer(engines.autocast(call))
    return tuple(torch.ops.undertow.layer(*_written(engines.autocast(call))))


def traced_layer(call: Call) -> Outputs:
    """The same for torch.jit.trace. Raises RuntimeError in torch.onnx.export."""
    _refuse_onnx()
    cell, phi, lengths, batch_sizes, order, flat, *rest = _written(engines.autocast(call))
    every = (lengths, batch_sizes, order, *flat)
    there, given = [t for t in every if t is not None], [int(t is not None) for t in every]
    return tuple(torch.ops.undertow.traced_layer(cell, phi, there, given, *rest))


def _refuse_onnx() -> None:
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "torch.onnx.export: expected calls without lengths, mask and reset, of modules with torch's "
            "options alone; undertow.onnx.export takes lengths, peepholes and coupled gates, too"
        )


def batch(batch_sizes: Tensor, states: Sequence[Any]) -> Any:
    """N of a PackedSequence. A recording has it from the states alone, which the kernels will check."""
    if torch.compiler.is_compiling() and states and isinstance(states[0], Tensor) and states[0].dim() == 3:
        return states[0].shape[1]
    if not torch.compiler.is_compiling() and torch._C._is_tracing():
        return batch_sizes[0]
    return int(batch_sizes[0])


# ----------------------------------------------------------------------- a call as operators take it

_CALL = (
    "str cell, str phi, Tensor? lengths, Tensor? batch_sizes, Tensor? order, Tensor?[] tensors, "
    "int directions, bool varied, bool coupled"
)
_WRITTEN = 9  # arguments


def _written(call: Call) -> tuple[Any, ...]:
    varied = call.variant is not PLAIN
    return (
        call.cell, call.nonlinearity, *call.ragged, call.tensors, call.D, varied, call.variant.coupled,
    )  # fmt: skip


def _read(given: Sequence[Any]) -> Call:
    cell, phi, lengths, batch_sizes, order, flat, D, varied, coupled = given
    blank = Call(
        cell,
        *(None, None, None),
        weights=((None,) * WEIGHTS,) * D,
        ragged=Ragged(lengths, batch_sizes, order),
        variant=Variant(coupled=coupled) if varied else PLAIN,
        nonlinearity=phi,
    )
    return blank.filled(flat)


def _taped(call: Call) -> bool:
    """Return whether a tape is kept: kernels serve, without a variant. Independent of values."""
    return call.variant is PLAIN and (_on_cpu(call) or _on_gpu(call))


def _on_cpu(call: Call) -> bool:
    return cpu.native is not None and call.x.device.type == "cpu" and cpu.served_kind(call)


def _on_gpu(call: Call) -> bool:
    return call.x.device.type in triton.DEVICES and triton.ENGINE.has_kernel(call) and call.x.numel() > 0


def _tape_shapes(call: Call, N: Any) -> list[tuple[Any, ...]]:
    """Return the shapes of gates and c of each direction; with lengths, as if all were the longest.

    The engine on a GPU keeps both directions of each together.
    """
    if call.cell == "rnn":
        return []
    if not _on_cpu(call):
        rows = math.prod(call.x.shape[:-1])
        return [(call.D, rows, 4, call.H), (call.D, rows, call.H)]
    rows = tuple(call.x.shape[:-1])
    if call.ragged.lengths is not None:
        rows = (rows[0] * N,)
    return [*tensors.tape_shapes(call, rows, N)] * call.D


def _cell_dtype(call: Call) -> torch.dtype:
    return tensors.cell_dtype(call) if _on_cpu(call) else torch.float32


def _in_use(call: Call, tape: Sequence[Tensor]) -> list[Tensor]:
    """Return as many rows of the tape as the lengths fill."""
    if call.ragged.lengths is None:
        return list(tape)
    (rows,), N = call.rows_shape, call.N
    return [each[: N + rows if k % 2 else rows] for k, each in enumerate(tape)]


# ------------------------------------------------------------------------------ with numbers


def _layer(*given: Any) -> list[Tensor]:
    with torch.no_grad():
        y, *finals = _run(_read(given))
    return [y.contiguous(), *finals]


def _layer_with_tape(*given: Any) -> list[Tensor]:
    call = _read(given)
    if not _taped(call):
        return _layer(*given)
    if not _on_cpu(call):
        outputs, (_, *tape) = triton.ENGINE.forward(call)
        return [outputs[0].contiguous(), *outputs[1:], *tape]
    if call.ragged.lengths is not None:
        plain.check_lengths(call.ragged.lengths, call.x.shape[0])
    dtypes = (call.x.dtype, tensors.cell_dtype(call))
    shapes = _tape_shapes(call, call.N)
    tape = [tensors.empty(call.x, shape, dtypes[k % 2]) for k, shape in enumerate(shapes)]
    used = _in_use(call, tape)
    outputs, _ = cpu.ENGINE.forward(call, [tuple(used[2 * d : 2 * d + 2]) for d in range(call.D)])
    return [*outputs, *tape]


def _layer_backward(*given: Any) -> list[Tensor]:
    call, (y, tape, douts, wanted) = _read(given[:_WRITTEN]), given[_WRITTEN:]
    if _taped(call) and not _on_cpu(call):
        grads = triton.ENGINE.backward(call, (y, *tape), douts, wanted)
        return [g.contiguous() for g in grads if g is not None]
    if _taped(call):
        grads = cpu.ENGINE.backward(call, (y, *_in_use(call, tape)), douts, wanted)
        return [g for g in grads if g is not None]
    grads = again(_run, call, douts, wanted, materialize=True)
    # torch wants operators' results dense, and none in the memory of another
    return [g.clone(memory_format=torch.contiguous_format) for g in grads if g is not None]


def _traced_layer(cell: str, phi: str, there: list[Tensor], given: list[int], *rest: Any) -> list[Tensor]:
    following = iter(there)
    lengths, batch_sizes, order, *flat = (next(following) if one else None for one in given)
    found: list[Tensor] = torch.ops.undertow.layer(cell, phi, lengths, batch_sizes, order, flat, *rest)
    return found


def _run(call: Call) -> Outputs:
    with tensors.without_autocast(call.x):
        return engines.layer(call)


# --------------------------------------------------------------------------- of shapes alone


def _layer_shapes(*given: Any) -> list[Tensor]:
    call = _read(given)
    x, R, N = call.x, call.weights[0][1].shape[1], _symbolic_batch(call)
    sizes = (R, call.H) if call.cell == "lstm" else (R,)
    return [x.new_empty(*x.shape[:-1], call.D * R), *(x.new_empty(call.D, N, size) for size in sizes)]


def _layer_with_tape_shapes(*given: Any) -> list[Tensor]:
    call, outputs = _read(given), _layer_shapes(*given)
    if not _taped(call):
        return outputs
    dtypes, shapes = (call.x.dtype, _cell_dtype(call)), _tape_shapes(call, outputs[1].shape[1])
    return [*outputs, *(call.x.new_empty(s, dtype=dtypes[k % 2]) for k, s in enumerate(shapes))]


def _layer_backward_shapes(*given: Any) -> list[Tensor]:
    flat, wanted = _read(given[:_WRITTEN]).tensors, given[-1]
    return [t.new_empty(t.shape) for t, want in zip(flat, wanted, strict=True) if want]


def _symbolic_batch(call: Call) -> Any:
    """Return N; for a PackedSequence from its states or its order, else a number not known yet."""
    _, batch_sizes, order = call.ragged
    if batch_sizes is None:
        return call.x.shape[1]
    if call.h_0 is not None:
        return call.h_0.shape[1]
    return torch.library.get_ctx().new_dynamic_size() if order is None else order.shape[0]


# -------------------------------------------------------------------------------- gradients


class _Layer(torch.autograd.Function):
    """undertow::layer where gradients are asked for."""

    @staticmethod
    def forward(ctx: Any, call: Call, *given: Any) -> Outputs:
        call = call.filled(given[3:])._replace(ragged=Ragged(*given[:3]))
        found = torch.ops.undertow.layer_with_tape(*_written(call))
        states = len(call.states)
        outputs, tape = found[: 1 + states], found[1 + states :]
        ctx.save_for_backward(*given, outputs[0], *tape)
        ctx.call, ctx.count = call.emptied()._replace(ragged=Ragged()), len(given)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[4:]
        if all(dout is None for dout in douts):
            return (None,) * len(ctx.needs_input_grad)
        try:
            saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint asks
            given, kept = saved[: ctx.count], saved[ctx.count :]
        except RuntimeError as error:
            given, kept = given_to(ctx, error), None
        call = ctx.call.filled(given[3:])._replace(ragged=Ragged(*given[:3]))
        if torch.is_grad_enabled() or tensors.are_batched(douts):
            return *[None] * 4, *again(_run, call, douts, wanted, materialize=True)
        if kept is None:
            y, *found = torch.ops.undertow.layer_with_tape(*_written(call))
            kept = y, *found[len(call.states) :]
        y, *tape = kept
        rest = iter(torch.ops.undertow.layer_backward(*_written(call), y, tape, douts, wanted))
        return *[None] * 4, *(next(rest) if want else None for want in wanted)


def _layer_autograd(*given: Any) -> list[Tensor]:
    call = _read(given)
    flat = (*call.ragged, *call.tensors)
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in flat)
    # in forward mode too: a Function refuses it, and what lies below autograd would drop the derivative
    if wanted or forward_ad._current_level >= 0:
        blank = call.emptied()._replace(ragged=Ragged())
        return list(_Layer.apply(blank, *flat))  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        found: list[Tensor] = torch.ops.undertow.layer(*given)
        return found


# ------------------------------------------------------------------------------- operators

_BACK = f"{_CALL}, Tensor y, Tensor[] tape, Tensor?[] douts, bool[] wanted"
_library: Any = torch.library.Library("undertow", "DEF")  # type: ignore[no-untyped-call]
for _name, _arguments, _compute, _shapes in (
    ("layer", _CALL, _layer, _layer_shapes),
    ("layer_with_tape", _CALL, _layer_with_tape, _layer_with_tape_shapes),
    ("layer_backward", _BACK, _layer_backward, _layer_backward_shapes),
):
    _library.define(
        f"{_name}({_arguments}) -> Tensor[]",
        tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides),  # a tape's rows lie as those of x
    )
    _library.impl(_name, _compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"undertow::{_name}", _shapes, lib=_library)
_library.impl("layer", _layer_autograd, "Autograd")
_library.define(
    "traced_layer(str cell, str phi, Tensor[] tensors, int[] given, int directions, bool varied, "
    "bool coupled) -> Tensor[]"
)
_library.impl("traced_layer", _traced_layer, "CompositeImplicitAutograd")
