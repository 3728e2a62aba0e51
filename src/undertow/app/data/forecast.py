"""Forecasting: from a window of T rows to the next ``horizon`` values of the target.

The split is by time: training targets all lie before the first validation target. Validation windows
may begin in the training part, since at that time its rows are known. The normaliser and the baselines
see the training part alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data import Baseline, Facts, Shape, calendars
from undertow.app.data.naive import naive_scales, season_rows
from undertow.app.data.normalise import ONE_DEVIATION, fit_normaliser, with_centre
from undertow.app.data.panel import Series
from undertow.app.data.series import read_series
from undertow.app.data.table import encode
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns
from undertow.app.runs.model import normalise
from undertow.app.runs.objective import Batch, Objective

MOST_WINDOWS = 50_000  # an epoch; of a longer table each epoch draws others
VALIDATION_BATCH = 512
MOST_SEASONS = 20_000  # kept in config.json for predict


class ForecastTask:
    """Windows of one or many series of a table."""

    evaluations = 1

    def __init__(self, config: DataConfig, batch_size: int, seed: int) -> None:
        path = Path(config.source)
        self.config, self.batch_size, self.seed = config, batch_size, seed
        series = read_series(path, config)
        columns = series.columns
        columns.calendar.extend(calendar(series))
        check_target(columns, path, config)
        x = torch.from_numpy(features(series, path, config))  # [rows, C]
        self.column = columns.numeric.index(str(config.target))
        known = torch.from_numpy(series.known(str(config.target)))  # [rows]
        late = validation_rows(series, config.validation)
        self.y = torch.where(known, x[:, self.column], torch.nan)  # [rows]
        self.starts, self.validation = self._split(series, late, path)
        self.centre, self.scale = fit_normaliser(x[torch.from_numpy(~late)], ONE_DEVIATION)
        x = with_centre(x, self.centre)
        self.last = x[:, self.column]  # [rows]
        self.x = normalise(x, self.centre, self.scale)  # once, not in every batch
        self.objective = Objective("rmse", "RMSE", float(self.scale[self.column]))
        self.shape = Shape(config.horizon, readout="last", inputs=columns.width, residual=self.column)
        seasons = seasonal_means(series, config, late)
        self.facts = Facts(
            lines=[*self._lines(series, late, columns), *series.said, *unseen(series, seasons)],
            values=series.facts()
            | {"seasons": seasons if sum(map(len, seasons.values())) <= MOST_SEASONS else {}}
            | self._scales(series, late),
            baselines=self._baselines(series, seasons),
        )

    def _split(self, series: Series, late: NDArray[np.bool_], path: Path) -> tuple[Tensor, Tensor]:
        steps, horizon = self.config.steps, self.config.horizon
        starts = window_starts(series.spans, steps + horizon)  # [windows]
        if not len(starts):
            longest = max(stop - start for start, stop in series.spans)
            raise UserError(
                f"{path}: the longest series has {longest} rows; --steps {steps} and --horizon {horizon} "
                f"need {steps + horizon}"
            )
        scored = (
            self._targets(torch.from_numpy(starts)).isfinite().any(dim=1).numpy()
        )  # what is filled never counts
        train = starts[~late[starts + steps + horizon - 1] & scored]
        validation = starts[late[starts + steps] & scored]
        for name, part in (("train on", train), ("validate on", validation)):
            if not len(part):
                raise UserError(
                    f"{path}: no window of --steps {steps} is left to {name}; "
                    f"a smaller --steps or another --validation leaves some"
                )
        return torch.from_numpy(train), torch.from_numpy(validation)

    def _lines(self, series: Series, late: NDArray[np.bool_], columns: Columns) -> list[str]:
        count, short = series.names().n_unique(), sum(b - a < self.config.steps + 1 for a, b in series.spans)
        several = f" in {count} series" if count > 1 else ""
        skipped = f", {short} too short for the window" if short else ""
        since = ""
        if series.time is not None:
            times = series.table[series.time]
            often = f", {series.frequency.words}" if series.frequency.words not in ("", "daily") else ""
            since = (
                f"{often}, ordered by {series.time}; validates from {times.filter(pl.Series(late)).min()!s}"
            )
        return [f"{len(series.table):,} rows{several}{skipped}{since}", columns.describe()]

    def _scales(self, series: Series, late: NDArray[np.bool_]) -> dict[str, Any]:
        """What ``undertow evaluate`` needs for MASE, by target and series."""
        season = season_rows(series)
        scales = naive_scales(series, self.y.double().numpy(), ~late, season)
        kept = scales if len(scales) <= MOST_SEASONS else {}
        return {"season": season, "scales": {str(self.config.target): kept}}

    def _baselines(self, series: Series, seasons: dict[str, dict[str, float]]) -> list[Baseline]:
        truth = self._targets(self.validation)  # [windows, horizon]
        last = self.last[self.validation + self.config.steps - 1, None].expand_as(truth)
        found = [Baseline("persistence", rms(last - truth))]
        if seasons:
            by_row = torch.from_numpy(seasonal_forecast(series, seasons))  # [rows]
            rows = self.validation[:, None] + self.config.steps + torch.arange(self.config.horizon)
            if (error := by_row[rows] - truth).isfinite().any():
                found.append(Baseline(calendars.season_name(series.step), rms(error)))
        return found

    def _targets(self, starts: Tensor) -> Tensor:
        return self.y[starts[:, None] + self.config.steps + torch.arange(self.config.horizon)]  # [N, horizon]

    def buffers(self) -> dict[str, Tensor]:
        """Return the normaliser of the features, [C] each."""
        return {"centre": self.centre, "scale": self.scale}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return -(-min(MOST_WINDOWS, len(self.starts)) // self.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        rng = np.random.default_rng([self.seed, epoch])
        chosen = torch.from_numpy(rng.permutation(len(self.starts))[:MOST_WINDOWS])
        yield from self._batches(self.starts[chosen], self.batch_size)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        yield from self._batches(self.validation, VALIDATION_BATCH)

    def _batches(self, starts: Tensor, size: int) -> Iterator[Batch]:
        for chosen in torch.split(starts, size):
            x = windows(self.x, chosen, self.config.steps)
            yield Batch(x, self._targets(chosen), normalised=True)


def calendar(series: Series) -> list[str]:
    """The calendar cycles that a table's time column shows; none without dates."""
    if series.time is None or series.table.schema[series.time] not in (pl.Date, pl.Datetime):
        return []
    return calendars.calendar_cycles(series.ticks, series.step)


def check_target(columns: Columns, path: Path, config: DataConfig) -> None:
    """Raise UserError unless the target is a column of numbers."""
    if config.target in columns.ignored and config.target:
        raise UserError(f"{path}: --target {config.target}: expected a column of numbers, and it holds none")
    if config.target not in columns.numeric:
        raise UserError(f"{path}: --target {config.target}: expected a column of numbers, and it holds words")


def window_starts(spans: list[tuple[int, int]], length: int) -> NDArray[np.int64]:
    """Where windows of ``length`` rows begin, none of them across two series."""
    starts = [np.arange(start, stop - length + 1) for start, stop in spans if stop - start >= length]
    return np.concatenate(starts) if starts else np.empty(0, np.int64)


def windows(x: Tensor, starts: Tensor, steps: int) -> Tensor:
    """The windows of ``x`` [rows, C] that begin at ``starts`` [N]: [T, N, C]."""
    rows, C = x.shape
    every = x.as_strided((rows - steps + 1, steps, C), (C, C, 1))  # a view: windows overlap
    return every.index_select(0, starts).transpose(0, 1)


def validation_rows(series: Series, fraction: float) -> NDArray[np.bool_]:
    """Which rows belong to the last ``fraction`` in time, [rows]; one moment for all series."""
    ticks = series.ticks
    first = min(len(ticks) - 1, round(len(ticks) * (1 - fraction)))  # of a row or two, the last
    return np.asarray(ticks >= np.sort(ticks)[first])


def rms(error: Tensor) -> float:
    """Over what is known; NaN stands for a target or forecast that is not."""
    return float(error.double().square().nanmean().sqrt())


def features(series: Series, path: Path, config: DataConfig) -> NDArray[np.float32]:
    """The inputs of every row, [rows, C]; NaN only where ``--gaps flag`` has no earlier value to repeat."""
    absent = series.absent if config.gaps == "flag" else None
    return encode(series.table, path, series.columns, series.time, absent)


def unseen(series: Series, seasons: dict[str, dict[str, float]]) -> list[str]:
    """A line that names the series without a training part, of which a seasonal mean knows nothing."""
    names = [name for name in series.names().unique(maintain_order=True) if name not in seasons]
    return (
        [f"no training part, so left out of the seasonal mean: {one_of(names)}"] if seasons and names else []
    )


def seasonal_means(
    series: Series, config: DataConfig, late: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Mean of the target by series and season, training part alone; season '' is the mean of all of them."""
    if series.time is None or (season := calendars.season(series.table[series.time], series.step)) is None:
        return {}
    rows = series.table.select(
        pl.col(str(config.target)).cast(pl.Float64).alias("y"),
        season.alias("season"),
        series.names().alias("series"),
    ).filter(pl.Series(~late & series.known(str(config.target))))
    means: dict[str, dict[str, float]] = {}
    for name, season_, value in rows.group_by("series", "season").agg(pl.col("y").mean()).iter_rows():
        means.setdefault(name, {})[season_] = value
    for name, value in rows.group_by("series").agg(pl.col("y").mean()).iter_rows():
        means[name][""] = value
    return means


def seasonal_forecast(series: Series, seasons: dict[str, dict[str, float]]) -> NDArray[np.float64]:
    """The seasonal mean for every row, [rows]; NaN for a series that the training part did not hold."""
    assert series.time is not None
    season = calendars.season(series.table[series.time], series.step)
    assert season is not None
    found = [
        means.get(key, means[""]) if (means := seasons.get(name)) else np.nan
        for name, key in zip(series.names(), season, strict=True)
    ]
    return np.array(found, np.float64)


def columns_of(facts: dict[str, Any]) -> Columns:
    """The columns that a run's config.json keeps."""
    return Columns(**facts["columns"])
