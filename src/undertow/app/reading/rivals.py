"""The baselines of a forecast that need no learning, for ``predict`` and ``evaluate``."""

import numpy as np

from undertow.app.data.tasks.seasons import seasonal_forecast
from undertow.app.data.times import calendars
from undertow.app.reading.predictions import Floats, Forecasts
from undertow.app.runs.folder import Run


def persistence(found: Forecasts) -> Floats:
    """Forecast the last value of the window.

    Args:
        found: The network's forecasts.

    Returns:
        [windows, horizon].
    """
    last = found.values[found.starts + found.steps - 1]
    return np.repeat(last[:, None], found.rows.shape[1], axis=1)


def training_mean(run: Run, found: Forecasts) -> Floats:
    """Forecast the mean of the training part.

    Args:
        run: The run.
        found: The network's forecasts.

    Returns:
        [windows, horizon].
    """
    return np.full(found.rows.shape, run.facts["means"][found.target])


def seasonal_mean(run: Run, found: Forecasts) -> Floats | None:
    """Forecast the mean of the training part in the same season, such as the same day of the year.

    Args:
        run: The run.
        found: The network's forecasts.

    Returns:
        [windows, horizon]; NaN for a series without a training part. None if the training had no seasons.
    """
    seasons, series = run.facts["seasons"].get(found.target, {}), found.series
    if not seasons or series.time is None or calendars.season(series.table[series.time], series.step) is None:
        return None
    return seasonal_forecast(series, seasons)[found.last]
