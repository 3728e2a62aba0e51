"""The unit of each series' errors in the loss: large series do not drown small ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from undertow.app.data.tables.panel import Series

LEAST = 1e-6  # of the spread of all series: a series that never moves has no unit of its own

Floats = NDArray[np.float64]


def series_units(
    series: Series, y: NDArray[np.floating[Any]], early: NDArray[np.bool_], horizon: int, spread: Floats
) -> Tensor:
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
    places: dict[str, list[slice]] = {}
    for start, stop in series.spans:
        places.setdefault(series.name(start), []).append(slice(start, stop))
    units = np.empty(y.shape, np.float32)
    for parts in places.values():
        squares = [_squares(y[rows], early[rows], horizon) for rows in parts]
        unit = np.maximum(_root_mean(np.concatenate(squares), spread), LEAST * spread)
        for rows in parts:
            units[rows] = unit
    return from_numpy(units)


def _squares(y: NDArray[np.floating[Any]], early: NDArray[np.bool_], horizon: int) -> Floats:
    """The squared errors of persistence in one stretch of rows, [rows,K]."""
    y = np.where(early[:, None], y.astype(np.float64), np.nan)
    return np.square(y[horizon:] - y[:-horizon])


def _root_mean(squares: Floats, spread: Floats) -> Floats:
    """Over known rows [rows,K]; ``spread`` where no row is known."""
    count = np.isfinite(squares).sum(0)
    return np.where(count, np.sqrt(np.nansum(squares, 0) / np.maximum(count, 1)), spread)
