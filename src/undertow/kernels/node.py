"""The one node by which a kernel stands in torch's graph, and what an engine with kernels must know."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import plain
from undertow.kernels.call import Call
from undertow.kernels.engine import Engine, Outputs
from undertow.kernels.tensors import are_batched, out_of_memory, transformed

Kept = tuple[Tensor, ...]  # what a forward pass leaves for the backward pass; y first if recorded
Gradients = list[Tensor | None]  # of call.tensors


class KernelEngine(Engine):
    """An engine whose backward pass is written by hand, and whose calls can be recorded."""

    def why_not(self, call: Call) -> str:
        """For people: why nothing is recorded of a call that this engine does not serve."""
        raise NotImplementedError

    def infer(self, call: Call) -> Outputs:
        """The outputs; nothing is kept."""
        raise NotImplementedError

    def forward(self, call: Call) -> tuple[Outputs, Kept]:
        """The outputs, and what ``backward`` needs of them."""
        raise NotImplementedError

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """Gradients of ``call.tensors``, None where not wanted.

        ``douts``: gradients of the outputs, None where there are none.
        """
        raise NotImplementedError

    def step_gradients(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], d: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradients of every step of direction d, in processing order: dgates, dh, and dc of the LSTM.

        They are laid out as native/lstm.h has the tape, dh and dc with dh_0 and dc_0 first.
        """
        raise NotImplementedError

    def layer(self, call: Call) -> Outputs:
        """See ``Engine.layer``."""
        if torch.is_grad_enabled():
            tensors = call.tensors
            for t in tensors:
                if t is not None and t.requires_grad:
                    return _apply(self, call, *tensors)  # type: ignore[no-any-return]
        if call.recording is None:
            return self.infer(call)
        outputs, kept = self.forward(call)
        call.recording.forward(self, call, kept, grad=False)
        return outputs


class _Layer(torch.autograd.Function):
    """A call on an engine, as one node of torch's graph."""

    @staticmethod
    def forward(ctx: Any, engine: KernelEngine, call: Call, *tensors: Any) -> Outputs:
        outputs, kept = engine.forward(call)
        ctx.save_for_backward(*tensors, *kept)
        ctx.engine, ctx.call, ctx.count = engine, call.emptied(), len(tensors)
        if call.recording is not None:
            call.recording.forward(engine, call, kept, grad=True)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        try:
            saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint asks
            tensors, kept = saved[: ctx.count], saved[ctx.count :]
        except RuntimeError as error:
            tensors, kept = given_to(ctx, error), None
        call, wanted = ctx.call.filled(tensors), ctx.needs_input_grad[2:]
        many = transformed() or are_batched(douts)
        if many or torch.is_grad_enabled():
            grads = again(plain.layer, call, douts, wanted)
        else:
            grads = _backward(ctx.engine, call, kept, douts, wanted)
        if call.recording is not None:
            call.recording.backward(douts, many)
        return None, None, *grads


def _backward(
    engine: KernelEngine,
    call: Call,
    kept: Kept | None,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> Gradients:
    if kept is None:
        _, kept = engine.forward(call)
    try:
        return engine.backward(call, kept, douts, wanted)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    return engine.backward(call, kept, douts, wanted)


def given_to(ctx: Any, error: RuntimeError) -> list[Any]:
    """The tensors that a node was given, where torch refuses all it saved: y may have been written to since.

    Then the forward pass makes y and the tape anew, to the same bits. To keep a copy of y would cost every
    call. Raises ``error`` where one of the tensors given was written to, the graph was freed, or torch is too
    old to tell.
    """
    try:
        return [saved.unpack() for saved in ctx._raw_saved_tensors[: ctx.count]]
    except (RuntimeError, AttributeError):
        raise error from None


# Function.apply itself, past a wrapper for functorch, whose transforms no kernel engine serves.
_apply: Any = super(torch.autograd.Function, _Layer).apply


def again(
    run: Callable[[Call], Outputs],
    call: Call,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
    materialize: bool = False,
) -> Gradients:
    """Gradients of ``call.tensors``, None where not wanted, by torch's differentiation of ``run(call)``.

    With gradients enabled they have a graph of their own, for double backward.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # views, because one argument may depend on another, and each gradient is along that one alone
        views: list[Any] = [None if t is None else t.view_as(t) for t in call.tensors]
        if not create_graph:
            views = [
                None if v is None else v.detach().requires_grad_(w)
                for v, w in zip(views, wanted, strict=True)
            ]
        outputs = run(call.filled(views)._replace(recording=None, checkpoint=None))
        heard = [(out, dout) for out, dout in zip(outputs, douts, strict=True) if dout is not None]
        outs, grad_outs = zip(*heard, strict=True)
        inputs = [view for view, want in zip(views, wanted, strict=True) if want]
        found = torch.autograd.grad(
            outs,
            inputs,
            grad_outs,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=materialize,
        )
    grads = iter(found)
    return [next(grads) if want else None for want in wanted]
