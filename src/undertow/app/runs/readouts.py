"""What stands between the hidden states and the predictions, beside the linear head."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


class _Largest(torch.autograd.Function):
    """``amax`` over the steps; torch's own gradient of it takes several times as long."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        found = hidden.amax(dim=0)
        ctx.save_for_backward(hidden, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Share the gradient out among the steps that are the largest."""
        hidden, found = ctx.saved_tensors
        there: Tensor = (hidden - found).sign_().add_(1)  # 1 where a state is the largest, else 0
        return there.mul_(gradient / there.sum(dim=0))


def largest(hidden: Tensor) -> Tensor:
    """Return the largest of the states [T,N,D] over the steps, [N,D]."""
    return cast(Tensor, _Largest.apply(hidden))  # type: ignore[no-untyped-call]


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
        held = hidden  # a sequence's states, zero past the end
        beyond = None  # 0 in a sequence and -inf past its end, [T, N, 1]
        if lengths is not None:
            count = lengths.to(hidden.device)[:, None]
            within = (torch.arange(T, device=hidden.device)[:, None, None] < count).to(hidden)
            held, beyond = hidden * within, within.log()
        if self.kind == "attention":
            score = (hidden @ self.query / math.sqrt(D))[..., None]
            weights = (score if beyond is None else score + beyond).softmax(dim=0)
            return (weights * hidden).sum(dim=0)
        found = [] if self.kind == "max" else [held.sum(dim=0) / count]
        if self.kind != "mean":
            found.append(largest(hidden if beyond is None else hidden + beyond))
        return torch.cat(found, dim=-1) if len(found) > 1 else found[0]


def final(h_n: Tensor, directions: int) -> Tensor:
    """The last layer's hidden states after each sequence's last step, [N, directions * H], of h_n."""
    return h_n[-1] if directions == 1 else torch.cat(list(h_n[-directions:]), dim=-1)
