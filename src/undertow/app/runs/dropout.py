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
    zeros, count = min(round(p * STEPS), STEPS - 1), like.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device).random_(-(1 << 63), None)
    drawn = bits.view(torch.int16)[:count].view(like.shape)
    kept = torch.ge(
        drawn, zeros - STEPS // 2, out=torch.empty_like(like, memory_format=torch.contiguous_format)
    )
    return kept.mul_(STEPS / (STEPS - zeros))


def dropped(x: Tensor, p: float) -> Tensor:
    """Return ``x``, a share ``p`` of it zero and the rest larger, as torch's dropout."""
    return x * mask(x, p)


class Dropout(nn.Dropout):
    """torch's dropout with ``mask``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the features, some of them zero in training."""
        return dropped(input, self.p) if self.training and self.p else input
