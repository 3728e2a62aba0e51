"""Forecasts in units of their own window, so that series of any size look alike to the network.

The values y of a window become (y - last) / size, where ``last`` is the value of its last row. With several
series ``size`` tells how much the window moves; with one it is the scale of the series. The network reads
asinh of these values; a linear part reads them as they are. A forecast is
``last + size * (linear part + output of the network)``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

LEVEL_SHARE = 1e-3  # of the mean |y|, in a window's size: a window that barely moves is no unit
LEAST_SIZE = 1e-6  # of the scale of all series, in a window's size: above 0 where all values are 0


class Window(NamedTuple):
    """Targets in units of their window.

    Args:
        last: [N,K], the values of the last row.
        size: [N,K], above 0.
        moves: [T,N,K], (y - last) / size.
    """

    last: Tensor
    size: Tensor
    moves: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> "Window":
        """Apply ``change`` to each tensor."""
        return Window(*map(change, self))

    def of(self, chosen: slice) -> "Window":
        """Choose windows."""
        return Window(self.last[chosen], self.size[chosen], self.moves[:, chosen])


class Autoregression(nn.Module):
    """The linear part of a forecast, as in LSTNet (Lai et al. 2018). Untrained, it forecasts the last value.

    Args:
        targets: K.
        horizon: Rows of a forecast.
        steps: Rows of a window.
    """

    def __init__(self, targets: int, horizon: int, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(targets, horizon, steps))

    def forward(self, moves: Tensor, other: Tensor) -> Tensor:
        """Sum the rows of each window, weighted, and add what the network says.

        Args:
            moves: [T,N,K]; of more than ``steps`` rows the last ones count, fewer stand for the last ones.
            other: [N,horizon,K].

        Returns:
            [N,horizon,K].
        """
        weight: Tensor = self.weight
        if excess := moves.shape[0] - weight.shape[-1]:
            moves, weight = moves[max(0, excess) :], weight[..., max(0, -excess) :]
        found = torch.baddbmm(other.permute(2, 0, 1), moves.permute(2, 1, 0), weight.mT)  # [K, N, horizon]
        return found.permute(1, 2, 0)


def window_of(y: Tensor, scale: Tensor, own: bool) -> Window:
    """Measure windows.

    Args:
        y: The targets' values, [T,N,K].
        scale: Their scale in the training part, [K].
        own: Whether each window has its own size; else it is ``scale``.

    Returns:
        The units of each window, and its values in them.
    """
    last = y[-1]
    apart = y - last
    if not own:
        return Window(last, scale.expand_as(last), apart / scale)
    moves = torch.linalg.vector_norm(apart, dim=0) / math.sqrt(len(y))
    level = torch.linalg.vector_norm(y, ord=1, dim=0) / len(y)
    size = moves + LEVEL_SHARE * level + LEAST_SIZE * scale
    return Window(last, size, apart / size)


def with_window(
    features: Tensor, columns: Tensor | list[int], window: Window, centre: Tensor, scale: Tensor
) -> Tensor:
    """Put the targets among the features in units of their windows, and tell these units.

    Args:
        features: Normalised features, [T+ahead,N,C]; the values that they hold of the targets are not read.
        columns: The K places of the targets among the features.
        window: The windows.
        centre: The targets' centre in the training part, [K].
        scale: Their scale, [K].

    Returns:
        [T+ahead,N,C+2K]: after the features come, the same in every row, asinh((last - centre) / scale) and
        log(size / scale) / 3.
    """
    level = torch.asinh((window.last - centre) / scale)
    told = torch.cat([level, torch.log(window.size / scale) / 3], dim=-1)
    found = torch.cat([features, told.expand(len(features), -1, -1)], dim=-1)
    found[: len(window.moves), :, columns] = torch.asinh(window.moves)
    return found
