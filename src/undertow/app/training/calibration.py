"""What makes intervals right: the loss of quantiles, and conformal calibration.

Below, distances [N,O,2] lead from a forecast to its lower and upper bound; errors [N,O] are truth minus
forecast, NaN where the truth is unknown; and share is the share of the truths that are to lie inside.
"""

import math

import torch
from torch import Tensor

from undertow.app.runs.bounds import corrected


def pinball(distances: Tensor, errors: Tensor, share: float) -> Tensor:
    """Compute the pinball loss of both bounds (Koenker & Bassett 1978).

    At its minimum a share of (1 - share) / 2 of the truths lies below the lower bound, and as many above the
    upper one.

    Args:
        distances: [N,O,2].
        errors: [N,O].
        share: 0 to 1.

    Returns:
        A scalar: the sum over both bounds, a mean over the known truths.
    """
    tail, known = (1 - share) / 2, ~errors.isnan()
    outside = _outside(distances, torch.where(known, errors, 0.0))
    loss = torch.maximum((1 - tail) * outside, -tail * outside).sum(-1)  # [N, O]
    return (loss * known).sum() / known.sum().clamp(min=1)


def _outside(distances: Tensor, errors: Tensor) -> Tensor:
    """How far the truth lies beyond each bound, [N,O,2]; below 0 inside."""
    return torch.stack([-errors, errors], -1) - distances


def conformal(distances: Tensor, errors: Tensor, share: float) -> Tensor:
    """Find the correction that makes intervals valid (Romano, Patterson & Candès 2019, eq. 6 to 8).

    Args:
        distances: [N,O,2], of rows that the bounds were not fitted to.
        errors: [N,O].
        share: 0 to 1.

    Returns:
        [O], what is to be added to all distances of an output: the ceil((n + 1) share)-th smallest of how far
        the n known truths lie outside (negative: inside). The largest one if there are too few, 0 of none.
    """
    outside = _outside(distances, errors).amax(-1)  # [N, O]
    return torch.stack([_quantile(column[~column.isnan()], share) for column in outside.unbind(1)])


def _quantile(scores: Tensor, share: float) -> Tensor:
    n = len(scores)
    rank = math.ceil((n + 1) * share - 1e-9)  # (9 + 1) * 0.9 is 9, also where it is rounded up
    return scores.sort().values[min(n, rank) - 1] if n else torch.zeros(())


def coverage(distances: Tensor, errors: Tensor) -> float:
    """Compute the share of the known truths that lie inside.

    Args:
        distances: [N,O,2].
        errors: [N,O].

    Returns:
        The share, NaN if no truth is known.
    """
    known = ~errors.isnan()
    inside = (_outside(distances, errors) <= 0).all(-1)
    return float(inside[known].double().mean())


def cross_coverage(distances: Tensor, errors: Tensor, share: float) -> float | None:
    """Estimate the coverage on rows that the calibration has not seen.

    Args:
        distances: [N,O,2], before the calibration, in the order of time.
        errors: [N,O].
        share: 0 to 1.

    Returns:
        The share of the known truths inside, in each half with the correction from the other half; None if an
        output has too few truths in a half to be calibrated.
    """
    middle = (len(errors) + 1) // 2
    halves = [slice(None, middle), slice(middle, None)]
    if min(int((~errors[half].isnan()).sum(0).min()) for half in halves) < share / (1 - share) - 1e-9:
        return None
    found = [
        corrected(distances[there], conformal(distances[here], errors[here], share))
        for there, here in zip(halves, reversed(halves), strict=True)
    ]
    return coverage(torch.cat(found), errors)
