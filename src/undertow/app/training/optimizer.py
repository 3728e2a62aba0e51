"""AdamW of torch without torch.compile, which takes as long to import as the rest of torch."""

import inspect
from typing import Any

import torch

ADAMW: Any = torch.optim.AdamW


class AdamW(ADAMW):  # type: ignore[misc]
    """``torch.optim.AdamW``, the same results.

    Decorators around these methods import ``torch._dynamo``, to hide the methods from torch.compile. Here
    nothing is compiled, and a training starts more than a second earlier without them.
    """

    step = torch.no_grad()(inspect.unwrap(ADAMW.step))
    add_param_group = inspect.unwrap(ADAMW.add_param_group)
    load_state_dict = inspect.unwrap(ADAMW.load_state_dict)
    state_dict = inspect.unwrap(ADAMW.state_dict)
    zero_grad = inspect.unwrap(ADAMW.zero_grad)
