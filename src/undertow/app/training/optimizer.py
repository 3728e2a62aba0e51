"""torch's AdamW without torch.compile, which takes as long to import as the rest of torch."""

import inspect
from typing import Any

import torch

ADAMW: Any = torch.optim.AdamW


class AdamW(ADAMW):  # type: ignore[misc]
    """``torch.optim.AdamW``, with the same results.

    torch's decorators of these methods hide them from torch.compile, and import ``torch._dynamo`` to do so.
    Nothing is compiled here, and a training starts more than a second earlier without the decorators.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, fused=True, **options)  # all parameters in one call

    step = torch.no_grad()(inspect.unwrap(ADAMW.step))
    step.hooked = True  # torch's profiler is told of no step: half the time of a small network's
    add_param_group = inspect.unwrap(ADAMW.add_param_group)
    load_state_dict = inspect.unwrap(ADAMW.load_state_dict)
    state_dict = inspect.unwrap(ADAMW.state_dict)

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
