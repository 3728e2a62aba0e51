"""The unit of each series' errors in the loss: large series do not drown small ones."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from undertow.app.data.tables.panel import Series

LEAST = 1e-6  # of the spread of all series: a series that never moves has no unit of its own

Floats = NDArray[np.float64]


def series_units(series: Series, y: Floats, early: NDArray[np.bool_], horizon: int, spread: Floats) -> Tensor:
    """Measure each series by the error of persistence over its training part.

    This is sqrt(mean((y_t - y_{t-horizon})²)).

    Args:
        series: The series.
        y: The targets, [rows,K]; NaN where not known.
        early: Whether a row belongs to the training part, [rows].
        horizon: Rows of a forecast.
        spread: The targets' spread over all series, [K]: the unit of a series that is too short to measure.

    Returns:
        The unit of each row's series, [rows,K]; at least LEAST of ``spread``.
    """
    y = np.where(early[:, None], y, np.nan)
    squares: dict[str, list[Floats]] = {}
    for start, stop in series.spans:
        part = y[start:stop]
        squares.setdefault(series.name(start), []).append(np.square(part[horizon:] - part[:-horizon]))
    found = {name: _root_mean(np.concatenate(parts), spread) for name, parts in squares.items()}
    units = np.empty_like(y)
    for start, stop in series.spans:
        units[start:stop] = np.maximum(found[series.name(start)], LEAST * spread)
    return from_numpy(units).float()


def _root_mean(squares: Floats, spread: Floats) -> Floats:
    """Over known rows [rows,K]; ``spread`` where no row is known."""
    count = np.isfinite(squares).sum(0)
    return np.where(count, np.sqrt(np.nansum(squares, 0) / np.maximum(count, 1)), spread)
