"""AdamW whose parameters, gradients and moments lie one after another: a step is a few operations."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undertow.app.runs.near import Figure, is_near

ADAMW: Any = torch.optim.AdamW
MOMENTS = ("exp_avg", "exp_avg_sq")  # beside step, as torch calls them
TINY = 1e-6  # beside the norm by which gradients are divided, as in torch's clip_grad_norm_


@dataclass(frozen=True)
class _Vectors:
    """The parameters of a group and all that belongs to them, each in one vector."""

    values: Tensor
    gradients: Tensor
    moments: tuple[Tensor, ...]
    step: Tensor  # [], the steps done
    near: bool  # whether reading them takes no waiting


class AdamW(ADAMW):  # type: ignore[misc]
    """``torch.optim.AdamW``, with the same results, state and checkpoints.

    From the first ``zero_grad`` on, the parameters are views of one vector. Their gradients and moments are
    such views as well, so that a step, the norm of all gradients and their scaling are one operation each.
    A program may write into ``parameter.grad``, but must not replace it.

    torch's decorators of these methods hide them from torch.compile, and import ``torch._dynamo`` to do so.
    Nothing is compiled here, and a training starts more than a second earlier without the decorators.

    Args:
        parameters: Those of one network, of one dtype.
        first: Those that lie first in the vector on a GPU, in this order.
        **options: Those of torch's AdamW.
    """

    add_param_group = inspect.unwrap(ADAMW.add_param_group)
    _step_supports_amp_scaling = True  # torch's GradScaler then sets the next two around a step
    grad_scale: Tensor | None = None  # by which gradients are still to be divided
    found_inf: Tensor | None = None  # 1 if one of them is infinite, else 0

    def __init__(self, parameters: Any, first: Sequence[nn.Parameter] = (), **options: Any) -> None:
        self._vectors: list[_Vectors] = []  # of each group; none before the first zero_grad. Fabric shares it
        self._first = {id(each): k for k, each in enumerate(first)}
        super().__init__(parameters, foreach=False, **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of another optimiser, as of torch."""
        inspect.unwrap(ADAMW.load_state_dict)(self, state_dict)
        self._vectors.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as of torch, where each parameter has its own count of steps."""
        found: dict[str, Any] = inspect.unwrap(ADAMW.state_dict)(self)
        each = found["state"].items()
        return found | {"state": {k: state | {"step": state["step"].clone()} for k, state in each}}

    def join(self) -> None:
        """Let the parameters and their gradients be views of vectors; gradients start as zeros."""
        if not self._vectors:
            self._vectors.extend(self._joined(group["params"]) for group in self.param_groups)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.join()
        for vectors in self._vectors:
            vectors.gradients.zero_()

    def clip(self, max_norm: float) -> Figure:
        """Scale all gradients so that their L2 norm together is at most ``max_norm``.

        Args:
            max_norm: The largest norm.

        Returns:
            The norm before.
        """
        if not self._vectors[0].near:
            return self._clip_afar(max_norm)
        norm = math.hypot(*(float(torch.linalg.vector_norm(each.gradients)) for each in self._vectors))
        if norm + TINY > max_norm:
            for each in self._vectors:
                each.gradients.mul_(max_norm / (norm + TINY))
        return norm

    def _clip_afar(self, max_norm: float) -> Tensor:
        """``clip`` on a GPU, where the factor is 1 for gradients that are small enough: nothing waits."""
        norms = [torch.linalg.vector_norm(each.gradients) for each in self._vectors]
        norm: Tensor = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        if max_norm < math.inf:
            factor = (max_norm / (norm + TINY)).clamp(max=1.0)
            for each in self._vectors:
                each.gradients.mul_(factor)
        return norm

    def step(self) -> None:
        """Do one step; in 16-mixed none if a gradient is infinite, which nothing waits to know."""
        infinite = self.found_inf
        for group, each in zip(self.param_groups, self._vectors, strict=True):
            first, second = ([moment] for moment in each.moments)
            beta1, beta2 = group["betas"]
            torch._fused_adamw_(
                [each.values],
                [each.gradients],
                first,
                second,
                [],
                [each.step.add_(1 if infinite is None else 1 - infinite)],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=self.grad_scale,
                found_inf=infinite,
            )

    step.hooked = True  # type: ignore[attr-defined] # torch's profiler is told of no step

    @torch.no_grad()
    def _joined(self, parameters: Sequence[nn.Parameter]) -> _Vectors:
        """Make the parameters, their gradients and their moments views of vectors."""
        near = is_near(parameters[0])
        if not near:  # a sum over the vector may change with its order
            parameters = sorted(parameters, key=lambda each: self._first.get(id(each), len(self._first)))
        states = [self.state[parameter] for parameter in parameters]
        values = _vector(parameters)
        moments = [
            _vector(
                [state.get(name, torch.zeros_like(p)) for state, p in zip(states, parameters, strict=True)]
            )
            for name in MOMENTS
        ]
        step = values.new_tensor(float(states[0].get("step", 0.0)), dtype=torch.float32)
        found = _Vectors(values, torch.zeros_like(values), tuple(moments), step, near)
        start = 0
        for parameter, state in zip(parameters, states, strict=True):
            place = slice(start, start := start + parameter.numel())
            parameter.data = values[place].view_as(parameter)
            parameter.grad = found.gradients[place].view_as(parameter)
            state["step"] = step
            state |= {
                name: each[place].view_as(parameter) for name, each in zip(MOMENTS, moments, strict=True)
            }
        return found


def _vector(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().flatten() for each in tensors])
