"""Dropout between layers and before the head. Drawing its random numbers takes torch longer than the head."""

import torch
from torch import Tensor, nn

STEPS = 1 << 16  # of a random number of 16 bits


def mask(like: Tensor, p: float) -> Tensor:
    """Draw what dropout multiplies by.

    Four numbers of 16 bits come from one of 64: torch draws one of 64 for each.

    Args:
        like: The features.
        p: The share that is zero, 0 to below 1, rounded to 1/65536.

    Returns:
        0 or 1/(1-p), as ``like``.
    """
    zeros, count, (*rows, width) = min(round(p * STEPS), STEPS - 1), like.numel(), like.shape
    shape = [-(-count // 4)] if width % 4 else [*rows, width // 4]
    bits = torch.empty(shape, dtype=torch.int64, device=like.device).random_(-(1 << 63), None)
    drawn = bits.view(torch.int16)
    if width % 4:
        drawn = drawn[:count].view(like.shape)
    least, larger = zeros - STEPS // 2, STEPS / (STEPS - zeros)
    if like.dtype is torch.bfloat16:  # as integers of the same size, which torch compares at once
        return drawn.ge_(least).mul_(_as_integer(larger)).view(torch.bfloat16)
    kept = torch.ge(drawn, least, out=torch.empty_like(like, memory_format=torch.contiguous_format))
    return kept.mul_(larger)


def _as_integer(value: float) -> int:
    """The 16 bits of a number in bfloat16."""
    return int(torch.tensor(value, dtype=torch.bfloat16).view(torch.int16))


def dropped(x: Tensor, p: float) -> Tensor:
    """Return ``x``, a share ``p`` of it zero and the rest larger, as torch's dropout."""
    return x * mask(x, p)


class Dropout(nn.Dropout):
    """torch's dropout with ``mask``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the features, some of them zero in training."""
        return dropped(input, self.p) if self.training and self.p else input
