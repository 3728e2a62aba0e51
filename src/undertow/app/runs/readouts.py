"""What stands between the hidden states and the predictions, beside the linear head."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from undertow.app.runs.near import moved


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


class _MeanAndLargest(torch.autograd.Function):
    """The mean and the largest state over the steps: torch's own gradients take several times as long."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, within: Tensor | None, count: Any) -> Tensor:
        held, reached = hidden, hidden
        if within is not None:  # states past the end are no part of the sum, and never the largest
            held, reached = hidden * within, hidden + within.log()
        found = reached.amax(dim=0)
        ctx.save_for_backward(reached, found, within)
        ctx.count = count
        return torch.cat([held.sum(dim=0) / count, found], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        reached, found, within = ctx.saved_tensors
        shared = share_out(gradient, reached, found, ctx.count)
        return shared if within is None else shared.mul_(within), None, None


def share_out(gradient: Tensor, hidden: Tensor, found: Tensor, count: Any) -> Tensor:
    """Compute the gradient of states from that of their mean and their largest over the steps.

    Args:
        gradient: [N,2*D].
        hidden: [T,N,D], the states; -inf past the end of a sequence.
        found: [N,D], the largest.
        count: The steps of each sequence: a number, or [N,1].

    Returns:
        [T,N,D]. Several steps that are the largest have equal shares.
    """
    of_mean, of_largest = gradient.chunk(2, dim=-1)
    there = torch.eq(hidden, found, out=torch.empty_like(hidden))  # 1 where a state is the largest
    return torch.addcmul(of_mean / count, there, of_largest / there.sum(dim=0))


def mean_and_largest(hidden: Tensor, within: Tensor | None = None, count: Any = None) -> Tensor:
    """Compute the mean and the largest of states over the steps, side by side.

    Args:
        hidden: [T,N,D].
        within: [T,N,1], 1 at the steps of a sequence and 0 past its end. None: all are its steps.
        count: [N,1], the steps of each sequence. None: all T.

    Returns:
        [N,2*D].
    """
    count = len(hidden) if count is None else count
    return cast(Tensor, _MeanAndLargest.apply(hidden, within, count))  # type: ignore[no-untyped-call]


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
        T, _, D = hidden.shape
        count: Any = T  # a sequence's steps; a number would be fixed by torch.export as a tensor
        within = None  # 1 in a sequence and 0 past its end, [T, N, 1]
        if lengths is not None:
            count = moved(lengths, hidden.device)[:, None]
            within = (torch.arange(T, device=hidden.device)[:, None, None] < count).to(hidden)
        if self.kind == "attention":
            score = (hidden @ self.query / math.sqrt(D))[..., None]
            weights = (score if within is None else score + within.log()).softmax(dim=0)
            return (weights * hidden).sum(dim=0)
        if self.kind == "mean":
            total: Tensor = (hidden if within is None else hidden * within).sum(dim=0)
            return cast(Tensor, total / count)
        found = mean_and_largest(hidden, within, count)
        return found if self.kind == "mean-max" else found[:, D:]


def final(h_n: Tensor, directions: int) -> Tensor:
    """The last layer's hidden states after each sequence's last step, [N, directions * H], of h_n."""
    if directions == 2:
        return torch.cat(list(h_n[-2:]), dim=-1)
    return h_n.squeeze(0) if len(h_n) == 1 else h_n[-1]  # the gradient of a choice is a copy
