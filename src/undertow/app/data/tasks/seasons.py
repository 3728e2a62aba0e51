"""The seasonal mean: what a target is on average at each hour, weekday or month, in the training part."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.tables.panel import Series
from undertow.app.data.tasks.split import BLOCK
from undertow.app.data.times import calendars
from undertow.app.errors import one_of

Seasons = dict[str, dict[str, dict[str, float]]]  # means by target, series and season


def unseen(series: Series, seasons: Seasons) -> list[str]:
    """A line for each target: the series without a training part, of which a seasonal mean knows nothing."""
    lines = []
    for target, means in seasons.items():
        names = [name for name in series.distinct if name not in means]
        of = f" of {target}" if len(seasons) > 1 else ""
        if means and names:
            lines.append(f"no training part, so left out of the seasonal mean{of}: {one_of(names)}")
    return lines


def seasonal_means(series: Series, target: str, late: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Mean of the target by series and season, training part alone; season '' is the mean of all of them."""
    means: dict[str, dict[str, float]] = {}
    there = ~late & series.known(target)
    for start, stop in whole_series(series):
        part = replace(series, table=series.table[start:stop])
        if part.time is None or (season := calendars.season(part.table[part.time], series.step)) is None:
            return {}
        y = pl.col(target).cast(pl.Float64).alias("y")
        rows = part.table.select(y, season.alias("season"), part.names().alias("series"))
        rows = rows.filter(pl.Series(there[start:stop]))
        mean = pl.col("y").list.mean()  # of the rows in order: rounded alike, however they are grouped
        by_season = rows.group_by("series", "season").agg("y").with_columns(mean)
        for name, season_, value in by_season.iter_rows():
            means.setdefault(name, {})[season_] = value
        for name, value in rows.group_by("series").agg("y").with_columns(mean).iter_rows():
            means[name][""] = value
    return means


def whole_series(series: Series) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that hold whole series, and not many more than BLOCK rows each."""
    begin, names = 0, [series.name(start) for start, _ in series.spans]
    for (_, stop), name, following in zip(series.spans, names, [*names[1:], None], strict=True):
        if name != following and (stop - begin >= BLOCK or following is None):
            yield begin, stop
            begin = stop


def seasonal_forecast(
    series: Series, seasons: dict[str, dict[str, float]], rows: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The seasonal mean for rows in order, or all, [rows]; NaN for a series without a training part."""
    assert series.time is not None
    rows = np.arange(len(series.table)) if rows is None else rows
    season = calendars.season(series.table[series.time].gather(rows), series.step)
    assert season is not None
    found = np.full(len(rows), np.nan)
    for start, stop in series.spans:
        a, b = np.searchsorted(rows, (start, stop))
        if b > a and (means := seasons.get(series.name(start))):
            own = season[a:b].replace_strict(means, default=means[""], return_dtype=pl.Float64)
            found[a:b] = own.to_numpy()
    return found
