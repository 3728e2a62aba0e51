"""What stands between the hidden states and the predictions, beside the linear head."""

from typing import cast

import torch
from torch import Tensor, nn


class Units(nn.Module):
    """Numbers from units of the training part's spread to the label's own unit.

    Args:
        outputs: The numbers of each prediction.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(outputs))  # [outputs]
        self.register_buffer("scale", torch.ones(outputs))  # [outputs]

    def forward(self, output: Tensor) -> Tensor:
        """Return ``centre + scale * output``, [..., outputs]."""
        return cast(Tensor, self.centre) + cast(Tensor, self.scale) * output
