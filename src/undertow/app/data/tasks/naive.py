"""The naive and the seasonal naive forecast: the last value, or the value one season ago."""

import numpy as np
from numpy.typing import NDArray

from undertow.app import metrics
from undertow.app.data.tables.panel import Series
from undertow.app.data.times.frequency import DAY
from undertow.app.data.times.moments import DATES

MOST = 100_000  # rows of a season: rows that come more than once a second have none

Floats = NDArray[np.float64]


def season_rows(series: Series) -> int:
    """Choose the season of a seasonal naive forecast from the distance between rows.

    Args:
        series: The series.

    Returns:
        m, its length in rows: a day of rows that come more often than daily, a week of daily rows and
        business days, a year of weeks, months and quarters; 1, no season, for all others.
    """
    frequency = series.frequency
    if series.time is None or series.table.schema[series.time] not in DATES or frequency.step <= 0:
        return 1
    if frequency.months:
        return 12 // frequency.months if 12 % frequency.months == 0 else 1
    if frequency.weekdays:
        return len(frequency.weekdays)
    if frequency.step < DAY:
        return (
            round(DAY / frequency.step) if DAY % frequency.step == 0 and DAY / frequency.step <= MOST else 1
        )
    return 7 if frequency.step == DAY else 52 if frequency.step == 7 * DAY else 1


def season_name(season: int) -> str:
    """Name the seasonal naive forecast.

    Args:
        season: m, its season in rows.

    Returns:
        Such as ``7 rows ago``.
    """
    return f"{season} rows ago"


def naive_scales(series: Series, values: Floats, early: NDArray[np.bool_], season: int) -> dict[str, float]:
    """Compute the scale of MASE for each series: the error of its naive forecast in the training part.

    Args:
        series: The series.
        values: [rows], the target; NaN where it is not known.
        early: [rows], whether a row belongs to the training part.
        season: m. A series without two known values m rows apart has the scale of m = 1.

    Returns:
        The scale by series; a series without any is left out.
    """
    stretches: dict[str, list[slice]] = {}
    for start, stop in series.spans:
        stretches.setdefault(series.name(start), []).append(slice(start, stop))

    def known(rows: slice) -> Floats:
        return np.where(early[rows], values[rows].astype(np.float64), np.nan)

    found = {name: _scale([known(rows) for rows in parts], season) for name, parts in stretches.items()}
    return {name: scale for name, scale in found.items() if np.isfinite(scale)}


def _scale(parts: list[Floats], season: int) -> float:
    """``metrics.naive_error`` over several stretches of one series, none of its differences across two."""
    for m in sorted({season, 1}, reverse=True):
        apart = [part[m:] - part[:-m] for part in parts if len(part) > m]
        joined = np.concatenate(apart) if apart else np.empty(0)
        scale = metrics.mae(np.zeros(len(joined)), joined)
        if np.isfinite(scale):
            return scale
    return float("nan")


def seasonal_naive(
    series: Series, values: Floats, ends: NDArray[np.int64], horizon: int, season: int
) -> Floats:
    """Forecast the value at the same place in the latest season that is known when the window ends.

    Args:
        series: The series.
        values: [rows], the target.
        ends: [windows], the last row of each window.
        horizon: The rows to forecast.
        season: m, in rows; 1 for the last value.

    Returns:
        [windows, horizon]; NaN where the series begins later than that.
    """
    begins = np.array([start for start, _ in series.spans])
    begin = begins[np.searchsorted(begins, ends, side="right") - 1]  # [windows]
    ahead = np.arange(1, horizon + 1)
    rows = ends[:, None] + ahead - season * -(-ahead // season)  # [windows, horizon]
    return np.where(rows >= begin[:, None], values[np.maximum(rows, 0)], np.nan)
