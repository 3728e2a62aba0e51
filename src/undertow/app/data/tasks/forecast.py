"""Forecasting: from a window of T rows to the next ``horizon`` values of K targets.

The split is by time: training targets all lie before the first validation target. Validation windows
may begin in the training part, since at that time its rows are known. The normaliser and the baselines
see the training part alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data import Baseline, Facts, Known, Shape
from undertow.app.data.files import disk
from undertow.app.data.tables.known import check_known, known_lines, positions, static_columns
from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import check_target
from undertow.app.data.tables.table import encode, numbers
from undertow.app.data.tasks.embedded import embedded_names, series_numbers
from undertow.app.data.tasks.inputs import Inputs, in_memory, on_disk, opened
from undertow.app.data.tasks.naive import naive_scales, season_rows
from undertow.app.data.tasks.normalise import ONE_DEVIATION, fit_normaliser
from undertow.app.data.tasks.seasons import Seasons, seasonal_forecast, seasonal_means, unseen
from undertow.app.data.tasks.split import dated, in_blocks, validation_rows, window_starts
from undertow.app.data.tasks.units import series_units
from undertow.app.data.tasks.window import window_rows
from undertow.app.data.tasks.windows import Windows
from undertow.app.data.times import calendars
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns
from undertow.app.runs.near import constant, fits, is_near, moved
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.shapes import UNITS
from undertow.app.runs.windows import window_of, with_window

MOST_WINDOWS = 50_000  # an epoch; of a longer table each epoch draws others
VALIDATION_BATCH = 512
MOST_VALIDATION = 200_000  # windows; of a longer table every so many-th one validates
MOST_SEASONS = 20_000  # kept in config.json for predict


@dataclass(frozen=True)
class _Table:
    """What windows are cut from, on a device."""

    inputs: Inputs
    y: Tensor
    units: Tensor | None


class ForecastTask:
    """Windows of one or many series of a table."""

    evaluations = 1
    _there: _Table | None = None

    def __init__(self, config: DataConfig, batch_size: int, seed: int, known: Known | None = None) -> None:
        path = Path(config.source)
        self.batch_size, self.seed = batch_size, seed
        with opened(path, config, known) as series:
            self._prepare(series, path, config, known)

    def _prepare(self, series: Series, path: Path, config: DataConfig, known: Known | None) -> None:
        self.chosen = 0 if config.steps else window_rows(series, config.horizon)
        self.config = config = replace(config, steps=config.steps or self.chosen)
        columns = series.columns
        if known is None:
            columns.calendar.extend(calendar(series))
        if not config.simulate:
            check_target(columns, path, config)
        if not columns.width:
            raise UserError(f"{path}: --simulate: no other column is a feature")
        self.columns = [columns.numeric.index(name) for name in config.target if not config.simulate]
        late = validation_rows(series, config.validation)
        y = np.stack([truth_of(series, path, name) for name in config.target], axis=1)
        self.y = torch.from_numpy(y).float()  # [rows, K]
        del y  # a table may be large
        early = torch.from_numpy(~late)
        self.mean = self.y[early].double().nanmean(0).float()  # [K]
        self.starts, self.validation = self._split(series, late, path)
        numbered = embedded_names(series, path, config) if known is None else known.facts["series"]
        number = series_numbers(series, numbered)
        if series.stored is not None:
            self.inputs = on_disk(series, path, ~late, self.columns, known, number)
        else:
            x = torch.from_numpy(features(series, path, config))  # [rows, C]
            self.inputs = in_memory(x, early, self.columns, known, number)
        self.spread = self.inputs.scale[self.columns]  # [K]
        if config.simulate:
            self.spread = fit_normaliser(self.y[early], ONE_DEVIATION)[1]
        self.units = None  # one series needs no unit beside the objective's
        if not config.simulate and series.count > 1:
            spread = self.spread.double().numpy()
            self.units = series_units(series, self.y.numpy(), ~late, config.horizon, spread)
        self.objective = objective_of(self.spread.tolist(), config.horizon)
        names = known_names(series, path, config) if known is None else known.facts["known"]
        self.shape = replace(shape_of(columns, config, names), series=len(numbered), longest=config.steps)
        if self.shape.residual:
            self.shape = replace(self.shape, panel=bool(series.group))
        seasons = {name: seasonal_means(series, name, late) for name in config.target}
        kept = sum(len(means) for each in seasons.values() for means in each.values()) <= MOST_SEASONS
        parts = [Windows(self._read, starts, self._expect) for starts in (self.starts, self.validation)]
        self._train, self._late = parts
        self.facts = Facts(
            lines=[
                *self._lines(series, late, names),
                *series.said,
                *unseen(series, seasons),
                *(disk.lines(config) if series.stored is not None else []),
            ],
            values=series.facts()
            | {"seasons": seasons if kept else {}, "known": names, "series": numbered}
            | {"means": dict(zip(config.target, self.mean.tolist(), strict=True))}
            | self._scales(series, late),
            baselines=self._baselines(series, seasons),
            settled={"steps": config.steps},
        )

    def _split(self, series: Series, late: NDArray[np.bool_], path: Path) -> tuple[Tensor, Tensor]:
        steps, horizon = self.config.steps, self.config.horizon
        starts = window_starts(series.spans, self.config.first + horizon)  # [windows]
        if not len(starts):
            longest = max(stop - start for start, stop in series.spans)
            raise UserError(
                f"{path}: the longest series has {longest} rows; --steps {steps} and --horizon {horizon} "
                f"need {self.config.first + horizon}"
            )
        train, validation = [], []
        narrow = torch.int32 if len(late) < 2**31 else torch.int64  # a table may be large
        for some in in_blocks(torch.from_numpy(starts)):
            first = some.numpy() + self.config.first  # of the horizon
            scored = self._targets(some).isfinite().any(dim=1).numpy()  # what is filled never counts
            train.append(some[~late[first + horizon - 1] & scored].to(narrow))
            validation.append(some[late[first] & scored])
        parts = torch.cat(train), torch.cat(validation)
        for name, part in zip(("train on", "validate on"), parts, strict=True):
            if not len(part):
                raise UserError(
                    f"{path}: with --steps {steps} there is no window to {name}; "
                    f"try a smaller --steps or another --validation"
                )
        every = -(-len(parts[1]) // MOST_VALIDATION)
        return parts[0], parts[1][::every].clone()

    def _lines(self, series: Series, late: NDArray[np.bool_], known: list[str]) -> list[str]:
        count, short = series.count, sum(b - a < self.config.steps + 1 for a, b in series.spans)
        several = f" in {count} series" if count > 1 else ""
        skipped = f", {short} too short for the window" if short else ""
        since = ""
        if series.time is not None:
            times = series.table[series.time]
            often = f", {series.frequency.words}" if series.frequency.words not in ("", "daily") else ""
            since = (
                f"{often}, ordered by {series.time}; validates from {times.filter(pl.Series(late)).min()!s}"
            )
            if count > 1 and not dated(series):
                since = f", ordered by {series.time}; validates on the end of each"
        return [
            f"{len(series.table):,} rows{several}{skipped}{since}",
            series.columns.describe(),
            *([f"each forecast reads {self.chosen} rows (--steps)"] if self.chosen else []),
            *known_lines(series, self.config, known),
        ]

    def _scales(self, series: Series, late: NDArray[np.bool_]) -> dict[str, Any]:
        """What ``undertow evaluate`` needs for MASE, by target and series."""
        season, scales = season_rows(series), {}
        for name, values in zip(self.config.target, self.y.numpy().T, strict=True):
            found = naive_scales(series, values, ~late, season)
            scales[name] = found if len(found) <= MOST_SEASONS else {}
        return {"season": season, "scales": scales}

    def _baselines(self, series: Series, seasons: Seasons) -> list[Baseline]:
        truth = self.y[self._ahead(self.validation)]  # [windows, horizon, K]
        spread = self.spread if len(self.spread) > 1 else torch.ones(1)  # [K]
        if self.config.simulate:  # nothing is known of the target
            found = [Baseline("training mean", rms((self.mean - truth) / spread))]
        else:
            last = self.inputs.last[self.validation + self.config.steps - 1, None]  # [windows, 1, K]
            found = [Baseline("persistence", rms((last - truth) / spread))]
        if any(seasons.values()):
            ahead = self._ahead(self.validation)
            rows, at = np.unique(ahead.numpy(), return_inverse=True)
            each = [seasonal_forecast(series, seasons[name], rows) for name in self.config.target]
            by_row = torch.from_numpy(np.stack(each, axis=1))  # [rows, K]
            if (error := by_row[torch.from_numpy(at).view_as(ahead)] - truth).isfinite().any():
                found.append(Baseline(calendars.season_name(series.step), rms(error / spread)))
        return found

    def _ahead(self, starts: Tensor) -> Tensor:
        """The rows of the horizon after each window, [N, horizon]."""
        ahead = torch.arange(self.config.horizon, device=starts.device)
        return starts[:, None] + self.config.first + ahead

    def _targets(self, starts: Tensor) -> Tensor:
        y = self.y if is_near(starts) or self._there is None else self._there.y
        return y[self._ahead(starts)].flatten(1)  # [N, horizon * K]

    def _units(self, starts: Tensor) -> Tensor | None:
        units = self.units if is_near(starts) or self._there is None else self._there.units
        if units is None:
            return None
        return units[starts].repeat(1, self.config.horizon)  # [N, horizon * K]

    def buffers(self) -> dict[str, Tensor]:
        """Return the normaliser of the features, [C] each, and the units of simulated targets, [K] each."""
        found = {"centre": self.inputs.centre, "scale": self.inputs.scale}
        if self.config.simulate:
            found |= dict(zip(UNITS, (self.mean, self.spread), strict=True))
        return found

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return -(-min(MOST_WINDOWS, len(self.starts)) // self.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        rng = np.random.default_rng([self.seed, epoch])
        count = len(self.starts)
        if count > MOST_WINDOWS:  # to shuffle them all may take a third of an epoch
            chosen = rng.choice(count, MOST_WINDOWS, replace=False)
        else:
            chosen = rng.permutation(count)
        yield from self._train.batches(self.batch_size, torch.from_numpy(chosen))

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        yield from self._late.batches(VALIDATION_BATCH)

    def to(self, device: torch.device | None) -> None:
        """Keep all windows on a device, or the table they are cut from, if it has room; None: none."""
        self._there = None
        many = [part for part in (self._train, self._late) if not part.to(device)]
        units = [] if self.units is None else [self.units]
        x = self.inputs.x
        if many and device is not None and isinstance(x, Tensor) and fits(device, x, self.y, *units):
            moved_units = None if self.units is None else moved(self.units, device)
            self._there = _Table(self.inputs.to(device), moved(self.y, device), moved_units)
            for part in many:
                part.device = device

    def _read(self, starts: Tensor) -> Batch:
        """The windows that begin at these rows, as the layers read them, where ``starts`` lies."""
        shape, steps, starts = self.shape, self.config.steps, starts.long()
        inputs = self.inputs if is_near(starts) or self._there is None else self._there.inputs
        x, window = inputs.windows(starts, steps + shape.ahead), None
        if shape.residual:
            targets = constant(shape.residual, torch.int64, starts.device)
            centre, scale = inputs.centre[targets], inputs.scale[targets]
            window = window_of(x[:steps, :, targets], scale, shape.panel)
            features = with_window(x[..., : shape.inputs], targets, window, centre, scale)
            x = torch.cat([features, x[..., shape.inputs :]], dim=-1) if shape.series else features
        return Batch(x, self._targets(starts), normalised=True, unit=self._units(starts), window=window)

    def _expect(self, starts: Tensor) -> None:
        """Say which windows are read next."""
        self.inputs.expect(starts.long(), self.config.steps + self.shape.ahead)


def calendar(series: Series) -> list[str]:
    """The calendar cycles that a table's time column shows; none without dates."""
    if not dated(series):
        return []
    return calendars.calendar_cycles(series.ticks, series.step)


def objective_of(spreads: list[float], horizon: int) -> Objective:
    """The RMSE of one target; of several targets the error in units of each one's spread."""
    if len(spreads) == 1:
        return Objective("rmse", "RMSE", spreads[0])
    return Objective("rmse", "NRMSE", tuple(spreads) * horizon)


def shape_of(columns: Columns, config: DataConfig, known: list[str]) -> Shape:
    """What the data ask of the model: all forecasts at once, or those of one row from a decoder."""
    if config.simulate:
        return Shape(len(config.target), "last", inputs=columns.width, quantity=True)
    residual = tuple(columns.numeric.index(name) for name in config.target)
    if config.head == "direct":
        return Shape(config.horizon * len(residual), "last", inputs=columns.width, residual=residual)
    return Shape(
        len(residual),
        "last",
        inputs=columns.width,
        residual=residual,
        ahead=config.horizon,
        known=tuple(positions(columns, known)),
    )


def known_names(series: Series, path: Path, config: DataConfig) -> list[str]:
    """The columns whose future a decoder reads: those of ``--known``, and static ones; none without one."""
    if config.head == "direct":
        return []
    check_known(series.columns, path, config)
    static = static_columns(series)
    return [*config.known, *(name for name in static if name not in (*config.known, *config.target))]


def truth_of(series: Series, path: Path, target: str) -> NDArray[np.float64]:
    """A target as the file holds it, [rows]; NaN where it is missing."""
    return np.where(series.known(target), numbers(series.table, path, target, with_gaps=True), np.nan)


def rms(error: Tensor) -> float:
    """Over what is known; NaN stands for a target or forecast that is not."""
    return float(error.double().square().nanmean().sqrt())


def features(series: Series, path: Path, config: DataConfig) -> NDArray[np.float32]:
    """The inputs of every row, [rows, C]; NaN only where ``--gaps flag`` has no earlier value to repeat."""
    absent = series.absent if config.gaps == "flag" else None
    return encode(series.table, path, series.columns, series.time, absent)
