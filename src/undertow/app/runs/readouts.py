"""What stands between the hidden states and the predictions, beside the linear head."""

import math
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


class Readout(nn.Module):
    """The hidden states of a sequence in one vector: of the last step, or pooled over its steps.

    Args:
        kind: ``last``; ``mean`` or ``max`` over the steps; ``mean-max``, both side by side; or ``attention``,
            the mean weighted by softmax(h · query / √D) with one learned query (Bahdanau et al. 2015 weigh
            states so, with a query that depends on the output).
        width: D, the width of the hidden states, of both directions together.
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = 2 * width if kind == "mean-max" else width  # of the vector
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(width))  # [D]; at the start the mean

    def forward(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Pool.

        Args:
            hidden: [T,N,D].
            lengths: [N] int64, the steps of each sequence. None: all T. Later steps do not count.

        Returns:
            [N,width].
        """
        T, N, D = hidden.shape
        lengths = torch.full((N,), T) if lengths is None else lengths
        lengths = lengths.to(hidden.device)
        beyond = (torch.arange(T, device=hidden.device)[:, None] >= lengths)[..., None]  # [T, N, 1]
        if self.kind == "attention":
            score = (hidden @ self.query / math.sqrt(D))[..., None].masked_fill(beyond, -torch.inf)
            return (score.softmax(dim=0) * hidden).sum(dim=0)
        mean = hidden.masked_fill(beyond, 0.0).sum(dim=0) / lengths[:, None]
        largest = hidden.masked_fill(beyond, -torch.inf).amax(dim=0)
        return {"mean": mean, "max": largest}.get(self.kind, torch.cat([mean, largest], dim=-1))


def final(h_n: Tensor, directions: int) -> Tensor:
    """The last layer's hidden states after each sequence's last step, [N, directions * H], of h_n."""
    return torch.cat(list(h_n[-directions:]), dim=-1)
