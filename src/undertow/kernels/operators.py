"""The kernels as operators of torch, for programs that torch records: torch.compile and torch.export.

A recording knows shapes and no numbers, and takes torch's own LSTM apart into T steps. Here a layer is one
node, for any T and N:

undertow::layer            y, h_n and, LSTM, c_n
undertow::layer_with_tape  the same and the tape: what ``layer`` comes to where gradients are asked for
undertow::layer_backward   the gradients, from the tape

An eager call takes the shorter way through ``dispatch``, on which this module builds. What no kernel serves
(projections, relu, half precision, empty batches) is one node too, as are variants, but these leave no tape:
their gradients come of running the layer again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from undertow.kernels import dispatch, plain, varied
from undertow.kernels.call import PLAIN, Variant
from undertow.layout import N_GATES

_DIRECTION = 5  # weight_ih, weight_hh, bias_ih, bias_hh, weight_hr: what each direction adds to args
_ADDED = tuple(name for name in Variant._fields if name != "coupled")


def layer(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[dispatch.Weights],
    ragged: dispatch.Ragged = dispatch.EVEN,
    nonlinearity: str = "tanh",
    checkpoint: int | None = None,
    variant: Variant = PLAIN,
) -> tuple[Tensor, ...]:
    """``dispatch.layer`` as one node of the program that torch records. ``checkpoint`` is not heeded.

    Inside torch.func's transforms it is the plain path, step by step: an operator would be opaque to them.
    """
    if torch._C._are_functorch_transforms_active():
        return dispatch.layer(cell, x, states, weights, ragged, nonlinearity, variant=variant)
    if torch.is_autocast_enabled("cpu") and x.is_cpu:
        x, states, weights = dispatch._autocast(x, states, weights)
        variant = variant if variant is PLAIN else varied.autocast(variant)
    h_0, c_0 = (*states, None, None)[:2]
    args = [x, h_0, c_0, *(w for each in weights for w in each)]
    added = None if variant is PLAIN else [getattr(variant, name) for name in _ADDED]
    return tuple(torch.ops.undertow.layer(cell, nonlinearity, *ragged, args, added, variant.coupled))


def batch(batch_sizes: Tensor, states: Sequence[Any]) -> int:
    """N of a PackedSequence. A recording has it from the states alone, which the kernels will check."""
    if torch.compiler.is_compiling() and states and isinstance(states[0], Tensor) and states[0].dim() == 3:
        return states[0].shape[1]
    return int(batch_sizes[0])


class _Call(NamedTuple):
    """What all three operators are given."""

    cell: str
    phi: str
    lengths: Tensor | None
    batch_sizes: Tensor | None
    order: Tensor | None
    args: Sequence[Any]  # x, h_0, c_0, then _DIRECTION of each direction; None where absent
    added: Sequence[Any]  # _ADDED of a variant, or nothing, for which operators have None
    coupled: bool

    @property
    def given(self) -> tuple[Any, ...]:
        """As the operators take it."""
        return *self[:6], self.added or None, self.coupled

    @property
    def ragged(self) -> dispatch.Ragged:
        return dispatch.Ragged(self.lengths, self.batch_sizes, self.order)

    @property
    def taped(self) -> bool:
        """Whether a tape is kept: where the kernels serve, and without a variant. No matter of numbers."""
        x, projection = self.args[0], self.args[2 + _DIRECTION]
        served = dispatch.native is not None and x.device.type == "cpu" and x.dtype in dispatch._NATIVE_DTYPES
        return served and self.phi == "tanh" and projection is None and x.numel() > 0 and not self.added

    @property
    def variant(self) -> Variant:
        return (
            Variant(coupled=self.coupled, **dict(zip(_ADDED, self.added, strict=True)))
            if self.added
            else PLAIN
        )

    @property
    def D(self) -> int:
        return (len(self.args) - 3) // _DIRECTION

    def tape_shapes(self, N: Any) -> list[tuple[Any, ...]]:
        """gates and c of each direction; with lengths, as large as the longest would make them."""
        if self.cell == "rnn":
            return []
        rows, H = self.args[0].shape[:-1], self.args[4].shape[1]
        if self.lengths is not None:
            rows = (rows[0] * N,)
        c = (rows[0] + 1, N, H) if len(rows) == 2 else (N + rows[0], H)
        return [(*rows, 4, H), c] * self.D

    def tape_in_use(self, tape: Sequence[Tensor]) -> list[Tensor]:
        """As many rows of it as the lengths fill."""
        if self.lengths is None:
            return list(tape)
        rows, N = int(self.lengths.sum()), self.args[0].shape[1]
        return [each[: N + rows if k % 2 else rows] for k, each in enumerate(tape)]


def _read(given: Sequence[Any]) -> _Call:
    cell, phi, lengths, batch_sizes, order, args, added, coupled = given
    return _Call(cell, phi, lengths, batch_sizes, order, args, added or (), coupled)


def _without_hr(each: Sequence[Any]) -> list[Any]:
    """What goes with ``args`` without weight_hr, as ``dispatch`` has it."""
    return [a for k, a in enumerate(each) if k < 3 or (k - 2) % _DIRECTION]


# ------------------------------------------------------------------------------ with numbers


def _layer(*given: Any) -> list[Tensor]:
    with torch.no_grad():
        return _run(_read(given))


def _layer_with_tape(*given: Any) -> list[Tensor]:
    call = _read(given)
    if not call.taped:
        return _layer(*given)
    x = call.args[0]
    if call.lengths is not None:
        plain.check_lengths(call.lengths, x.shape[0])
    shapes = call.tape_shapes(dispatch._batch(x, call.ragged))
    tape = [dispatch._pooled(x, shape, cell=k % 2 == 1) for k, shape in enumerate(shapes)]
    used = call.tape_in_use(tape)
    tapes = [tuple(used[2 * d : 2 * d + 2]) for d in range(call.D)]
    return [*dispatch._forward(call.cell, call.ragged, _without_hr(call.args), tapes), *tape]


def _layer_backward(*given: Any) -> list[Tensor]:
    *first, y, tape, douts, wanted = given
    call = _read(first)
    if call.taped:
        args, used = _without_hr(call.args), call.tape_in_use(tape)
        grads = dispatch._native_backward(call.cell, call.ragged, args, y, used, douts, _without_hr(wanted))
        return [g for g in grads if g is not None]
    grads = _again(call, douts, wanted)
    # torch wants operators' results dense, and none in the memory of another
    return [g.clone(memory_format=torch.contiguous_format) for g in grads if g is not None]


def _run(call: _Call) -> list[Tensor]:
    args = call.args
    states = [s for s in args[1:3] if s is not None]
    weights = [args[k : k + _DIRECTION] for k in range(3, len(args), _DIRECTION)]
    with torch.autocast("cpu", enabled=False):
        found = dispatch.layer(
            call.cell, args[0], states, weights, call.ragged, call.phi, variant=call.variant
        )
    return list(found)


def _again(call: _Call, douts: Sequence[Any], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Gradients of args and added, None where not wanted, by running the layer once more under autograd."""
    create_graph, count = torch.is_grad_enabled(), len(call.args)

    def leaf(t: Tensor, want: bool) -> Tensor:
        # a view, because one argument may depend on another, and each gradient is along that one alone
        return t.view_as(t) if create_graph else t.detach().requires_grad_(want)

    with torch.enable_grad():
        given = zip((*call.args, *call.added), wanted, strict=True)
        leaves = [t if t is None else leaf(t, want) for t, want in given]
        outputs = _run(call._replace(args=leaves[:count], added=leaves[count:]))
        heard = [(out, dout) for out, dout in zip(outputs, douts, strict=True) if dout is not None]
        outs, grad_outs = zip(*heard, strict=True)
        inputs: list[Any] = [t for t, want in zip(leaves, wanted, strict=True) if want]
        found = torch.autograd.grad(
            outs, inputs, grad_outs, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    grads = iter(found)
    return [next(grads) if want else None for want in wanted]


# --------------------------------------------------------------------------- of shapes alone


def _layer_shapes(*given: Any) -> list[Tensor]:
    call = _read(given)
    x, (G, R) = call.args[0], call.args[4].shape
    N, H = _symbolic_batch(call), G // N_GATES[call.cell]
    sizes = (R, H) if call.cell == "lstm" else (R,)
    return [x.new_empty(*x.shape[:-1], call.D * R), *(x.new_empty(call.D, N, size) for size in sizes)]


def _layer_with_tape_shapes(*given: Any) -> list[Tensor]:
    call, outputs = _read(given), _layer_shapes(*given)
    if not call.taped:
        return outputs
    x = call.args[0]
    dtype_c = torch.float32 if x.dtype is torch.bfloat16 else x.dtype
    shapes = call.tape_shapes(outputs[1].shape[1])
    return [*outputs, *(x.new_empty(s, dtype=dtype_c if k % 2 else x.dtype) for k, s in enumerate(shapes))]


def _layer_backward_shapes(*given: Any) -> list[Tensor]:
    call, wanted = _read(given[:8]), given[-1]
    tensors = *call.args, *call.added
    return [t.new_empty(t.shape) for t, want in zip(tensors, wanted, strict=True) if want]


def _symbolic_batch(call: _Call) -> Any:
    """N; of a PackedSequence that of its states or its order, else a number not known yet."""
    if call.batch_sizes is None:
        return call.args[0].shape[1]
    if call.args[1] is not None:
        return call.args[1].shape[1]
    return torch.library.get_ctx().new_dynamic_size() if call.order is None else call.order.shape[0]


# -------------------------------------------------------------------------------- gradients


class _Layer(torch.autograd.Function):
    """undertow::layer where gradients are asked for."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Any) -> tuple[Tensor, ...]:
        found = torch.ops.undertow.layer_with_tape(*_filled(call, tensors).given)
        states = 2 if call.cell == "lstm" else 1
        outputs, tape = found[: 1 + states], found[1 + states :]
        ctx.save_for_backward(*tensors, outputs[0], *tape)
        ctx.call, ctx.count = _emptied(call), len(tensors)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[4:]
        if all(dout is None for dout in douts):
            return (None,) * len(ctx.needs_input_grad)
        tensors, (y, *tape) = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        call = _filled(ctx.call, tensors)
        if torch.is_grad_enabled() or any(map(dispatch._batched, douts)):
            return *[None] * 4, *_again(call, douts, wanted)
        # b_ih and b_hh have one gradient, and an operator may not give the same tensor twice
        same = [_b_hh(k, call) and want and wanted[k - 1] for k, want in enumerate(wanted)]
        once = [want and not other for want, other in zip(wanted, same, strict=True)]
        rest = iter(torch.ops.undertow.layer_backward(*call.given, y, tape, douts, once))
        grads = [next(rest) if want else None for want in once]
        return *[None] * 4, *(grads[k - 1] if same[k] else grad for k, grad in enumerate(grads))


def _tensors(call: _Call) -> tuple[Any, ...]:
    return *call.ragged, *call.args, *call.added


def _filled(call: _Call, tensors: Sequence[Any]) -> _Call:
    """``call`` with ``tensors`` in the places of its own."""
    ends = 3, 3 + len(call.args)
    args, added = tensors[ends[0] : ends[1]], tensors[ends[1] :]
    lengths, batch_sizes, order = tensors[:3]
    return _Call(call.cell, call.phi, lengths, batch_sizes, order, args, added, call.coupled)


def _emptied(call: _Call) -> _Call:
    """``call`` without its tensors, which autograd holds."""
    return _filled(call._replace(), [None] * len(_tensors(call)))


def _b_hh(k: int, call: _Call) -> bool:
    """Whether the k-th of args is a bias_hh."""
    return 3 <= k < len(call.args) and (k - 3) % _DIRECTION == 3


def _layer_autograd(*given: Any) -> list[Tensor]:
    call = _read(given)
    tensors = _tensors(call)
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    # in forward mode too: a Function refuses it, and what lies below autograd would drop the derivative
    if wanted or forward_ad._current_level >= 0:
        return list(_Layer.apply(_emptied(call), *tensors))  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        found: list[Tensor] = torch.ops.undertow.layer(*given)
        return found


# ------------------------------------------------------------------------------- operators

_GIVEN = (
    "str cell, str phi, Tensor? lengths, Tensor? batch_sizes, Tensor? order, Tensor?[] args, "
    "Tensor?[]? added, bool coupled"
)
_BACK = f"{_GIVEN}, Tensor y, Tensor[] tape, Tensor?[] douts, bool[] wanted"
_library: Any = torch.library.Library("undertow", "DEF")  # type: ignore[no-untyped-call]
for _name, _arguments, _compute, _shapes in (
    ("layer", _GIVEN, _layer, _layer_shapes),
    ("layer_with_tape", _GIVEN, _layer_with_tape, _layer_with_tape_shapes),
    ("layer_backward", _BACK, _layer_backward, _layer_backward_shapes),
):
    _library.define(f"{_name}({_arguments}) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(_name, _compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"undertow::{_name}", _shapes, lib=_library)
_library.impl("layer", _layer_autograd, "Autograd")
