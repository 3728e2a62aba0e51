"""The autograd.Function of every engine with kernels, and the methods that such an engine must have."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import plain
from undertow.kernels.call import Call
from undertow.kernels.engine import Engine, Outputs
from undertow.kernels.tensors import are_batched, repeated, transformed, without_autocast

Kept = tuple[Tensor, ...]  # what a forward pass leaves for the backward pass; y first if recorded
Gradients = list[Tensor | None]  # of call.tensors


class KernelEngine(Engine):
    """An engine whose backward pass is written by hand, and whose calls can be recorded.

    Attributes:
        in_time: whether ``shown`` and ``step_gradients`` are in the order of time, in rows as those of y.
            Otherwise they are in the order of processing, in the layout of native/lstm.h.
    """

    in_time = False

    def why_not(self, call: Call) -> str:
        """Return in words why this engine does not serve a call, for the message of ``NotRecorded``.

        Args:
            call: a call that this engine does not serve.

        Returns:
            The reason.
        """
        raise NotImplementedError

    def infer(self, call: Call) -> Outputs:
        """Run the forward pass without a tape.

        Args:
            call: a call that this engine serves.

        Returns:
            y, h_n and for the LSTM c_n; ``Call`` gives the shapes.
        """
        raise NotImplementedError

    def forward(self, call: Call) -> tuple[Outputs, Kept]:
        """Run the forward pass and keep what the backward pass needs.

        Args:
            call: a call that this engine serves.

        Returns:
            The outputs as ``infer`` returns them, and the tensors to keep; y is the first of them.
        """
        raise NotImplementedError

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """Run the backward pass.

        Args:
            call: the call of the forward pass.
            kept: the tensors that ``forward`` kept.
            douts: gradients of the outputs, None where there is none.
            wanted: for each of ``call.tensors`` whether its gradient is wanted.

        Returns:
            Gradients of ``call.tensors``, None where not wanted.
        """
        raise NotImplementedError

    def shown(self, call: Call, kept: Kept) -> Kept:
        """Return what a recording refers to: y, then gates and, LSTM, c of each direction.

        Args:
            call: the call of the forward pass.
            kept: the tensors that ``forward`` kept.
        """
        return kept

    def step_gradients(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], d: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute the gradients at every step of one direction.

        Args:
            call: the call of the forward pass.
            kept: the tensors that ``shown`` returned.
            douts: gradients of the outputs, None where there is none.
            d: the direction, 0 or 1.

        Returns:
            dgates, dh and for the LSTM dc (for the RNN None), in the layout of the tape in native/lstm.h, or
            in the order of time; dh and dc start with the gradient of the initial state.
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
    """A call of an engine as one node of torch's graph."""

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
            saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint requires
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
    return repeated(partial(engine.backward, call, kept, douts, wanted))


def given_to(ctx: Any, error: RuntimeError) -> list[Any]:
    """Return the tensors that a node was given, after torch has refused to return all that it saved.

    The program may have written to y. Then a forward pass computes y and the tape again, to the same bits.
    A copy of y would cost time in every call.

    Args:
        ctx: the node's context.
        error: torch's exception.

    Returns:
        ``call.tensors`` of the node's call.

    Raises:
        RuntimeError: ``error`` itself, if the program has written to one of these tensors, if the graph was
            freed, or if torch is too old to tell.
    """
    try:
        return [saved.unpack() for saved in ctx._raw_saved_tensors[: ctx.count]]
    except (RuntimeError, AttributeError):
        raise error from None


# Function.apply without its wrapper for functorch: no kernel engine serves functorch's transforms.
_apply: Any = super(torch.autograd.Function, _Layer).apply


def again(
    run: Callable[[Call], Outputs],
    call: Call,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
    materialize: bool = False,
) -> Gradients:
    """Compute gradients by torch's differentiation of another forward pass.

    With gradients enabled the result has a graph, for double backward.

    Args:
        run: computes a call in torch operations.
        call: the call.
        douts: gradients of the outputs, None where there is none.
        wanted: for each of ``call.tensors`` whether its gradient is wanted.
        materialize: return zeros and not None where an output does not depend on a tensor.

    Returns:
        Gradients of ``call.tensors``, None where not wanted.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), without_autocast(call.x):
        # views: one argument may depend on another, but each gradient must be with respect to one alone
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
