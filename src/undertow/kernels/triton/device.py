"""What a device can do."""

from functools import cache
from typing import Any

import torch

OLDEST = (8, 0)  # Ampere: tensor cores for tf32 and bfloat16


@cache
def shared_memory(device: torch.device) -> int:
    """Return the bytes of memory that a program may have for itself; on the CPU, in the interpreter, any."""
    if device.type == "cpu":
        return 1 << 30
    found: Any = torch.cuda.get_device_properties(device)
    return int(found.shared_memory_per_block_optin)


@cache
def is_capable(device: torch.device) -> bool:
    """Return whether the kernels run on a device; on the CPU the interpreter runs them."""
    return device.type == "cpu" or torch.cuda.get_device_capability(device) >= OLDEST
