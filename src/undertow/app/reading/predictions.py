"""What a trained network predicts for a table, beside the truth: arrays for ``predict`` and ``evaluate``."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data.reading import ROW
from undertow.app.data.tables.known import future_of
from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import read_series
from undertow.app.data.tables.table import numbers
from undertow.app.data.tasks.embedded import strangers, with_series
from undertow.app.data.tasks.forecast import features, truth_of
from undertow.app.data.tasks.normalise import with_centre
from undertow.app.data.tasks.sequences import Sequences, pad, read_sequences
from undertow.app.data.tasks.split import window_starts
from undertow.app.data.times import moments
from undertow.app.data.values.sentinels import check_sentinels
from undertow.app.errors import UserError
from undertow.app.reading.forecaster import forecast
from undertow.app.runs import members
from undertow.app.runs.device import placed
from undertow.app.runs.facts import columns_of
from undertow.app.runs.folder import Run, fingerprint
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.near import moved
from undertow.app.runs.together import Together, network_of
from undertow.app.words import counted
from undertow.app.working import through

BATCH = 512  # sequences computed at once
AT_ONCE = 500_000  # ... and their steps, all together

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


# -- forecasts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecasts:
    """The forecasts of one target after every window of a table.

    Args:
        target: The column.
        series: The table, in order.
        steps: Rows of a window before its forecasts: T, or T - 1 where the last row is simulated.
        starts: [windows], the first row of each window.
        rows: [windows, horizon], the row of each forecast; rows after a series' end are counted on.
        last: [windows, horizon], the same row, or the last one of its series where it lies after its end.
        values: [rows], the target as read; NaN where it is missing.
        predicted: [windows, horizon]; NaN where what must be known of the horizon is not.
        truth: [windows, horizon]; NaN where the file does not hold it.
        lower: [windows, horizon], at most ``predicted``; None if the run has no intervals.
        upper: [windows, horizon], at least ``predicted``; None if the run has no intervals.
    """

    target: str
    series: Series
    steps: int
    starts: Places
    rows: Places
    last: Places
    values: Floats
    predicted: Floats
    truth: Floats
    lower: Floats | None = None
    upper: Floats | None = None

    def times(self) -> pl.Series | None:
        """The time of every forecast, [windows * horizon]; None if the table has no time."""
        series = self.series
        if series.time is None:
            return None
        ticks = series.frequency.after(series.ticks[self.last.ravel()], (self.rows - self.last).ravel())
        return moments.from_ticks(ticks, series.table[series.time])


def forecasts(run: Run, path: Path) -> list[Forecasts]:
    """Forecast the next ``horizon`` values of the targets after each window of T rows.

    Args:
        run: A run whose task is to forecast.
        path: A table with the columns of the training.

    Returns:
        The forecasts of each target.

    Raises:
        UserError: The table does not fit the run, or is too short for a window.
    """
    series = read_series(path, _as_trained(run).data, run.facts)
    centre = members.of(run)[0].load_model().get_buffer("centre")
    x = with_centre(torch.from_numpy(features(series, path, run.data)), centre)  # [rows, C]
    x = with_series(x, series, run.facts["series"])
    series.said.extend(strangers(series, run.facts["series"]))
    steps, horizon = run.data.steps, run.data.horizon
    starts = window_starts(series.spans, steps)  # [windows]
    if not len(starts):
        longest = max(stop - start for start, stop in series.spans)
        raise UserError(f"{path}: the longest series has {counted(longest, 'row')}; expected {steps} or more")
    rows = starts[:, None] + run.data.first + np.arange(horizon)  # [windows, horizon]
    stops = np.array([stop for _, stop in series.spans])
    stop = stops[np.searchsorted(stops, starts, side="right")][:, None]  # of the series of each window
    seen = starts[:, None] + np.arange(steps)  # [windows, T]
    if run.model.ahead:
        future = future_of(series, path, run.data, run.facts["known"])
        after = with_centre(torch.from_numpy(future.x), centre)
        own = x[future.stops - 1, run.model.inputs :].repeat_interleave(horizon, 0)  # number of the series
        x = torch.cat([x, torch.cat([after, own], dim=1)])
        seen = np.concatenate([seen, future.places(rows, starts)], axis=1)
    found = forecast(run, x, torch.from_numpy(seen)).by_target(len(run.data.target))
    if run.model.ahead:
        found = [each.where(future.sees(rows, starts)) for each in found]
        series.said.extend(future.lacking(run.data))
    known, last = rows < stop, np.minimum(rows, stop - 1)
    forecasts = []
    for k, target in enumerate(run.data.target):
        values = truth_of(series, path, target)  # [rows]
        truth = np.where(known, values[last], np.nan)
        read = numbers(series.table, path, target, with_gaps=True)
        each = found[k]
        forecasts.append(
            Forecasts(
                target,
                series,
                run.data.first,
                starts,
                rows,
                last,
                read,
                each.prediction,
                truth,
                each.lower,
                each.upper,
            )
        )
    return forecasts


def _as_trained(run: Run) -> Run:
    """The run, which reads further tables by the time column of its training."""
    run.data = replace(run.data, time=run.facts["time"])
    return run


# -- labels ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """The classes of labelled sequences, or at each of their steps.

    Args:
        places: [predictions], what each prediction is of: the sequence, and of a step its time or row.
        classes: The classes of the training.
        chances: [predictions, classes], the probability of each class.
        truth: [predictions], the labels, None where there is none; None if the table has no labels.
        said: What was found out about this table that the training does not know.
    """

    places: pl.DataFrame
    classes: list[str]
    chances: Floats
    truth: list[str | None] | None
    said: list[str]

    @property
    def likeliest(self) -> list[str]:
        """The likeliest class of each prediction."""
        return [self.classes[k] for k in self.chances.argmax(axis=1)]


def labels(run: Run, path: Path) -> Labels:
    """Compute the probability of each class for every sequence or step.

    Args:
        run: A run whose task is to classify.
        path: A table with the columns of the training; that of the labels may be absent.

    Returns:
        The labels.

    Raises:
        UserError: The table does not fit the run.
    """
    data, output = _read_and_run(run, path)
    chances = output.softmax(-1).double().numpy()  # [predictions, classes]
    truth = None if data.labels is None else data.labels.to_list()
    return Labels(_places(run, data), run.facts["classes"], chances, truth, data.reading.describe())


def _read_and_run(run: Run, path: Path) -> tuple[Sequences, Tensor]:
    """Labelled sequences, and what the network gives for each sequence or step, [predictions, outputs]."""
    data = read_sequences(path, _as_trained(run).data, run.facts, labelled=False)
    columns = columns_of(run.facts)
    model, x = network_of(run), data.encode(path, columns, run.data.gaps)
    centre = members.of(run)[0].load_model().get_buffer("centre")
    if run.data.missing is None:
        check_sentinels(data.table, path, columns.numeric, kept=True)
    parts = data.split(with_centre(torch.from_numpy(x), centre).numpy())
    return data, torch.cat(list(_outputs(model, placed(run.device), parts)))


def _outputs(model: SequenceModel | Together, device: torch.device, x: list[Tensor]) -> Iterator[Tensor]:
    every, size = model.config.readout == "every", max(1, min(BATCH, AT_ONCE // max(map(len, x))))
    with torch.no_grad():
        starts = range(0, len(x), size)
        for start in through(starts, len(starts), "sequences"):
            padded, lengths = pad(x[start : start + size])  # [T, N, C], [N]
            output = model(moved(padded, device), lengths=lengths)[0]  # [T, N, outputs] or [N, outputs]
            if every:
                output = torch.cat([output[:length, k] for k, length in enumerate(lengths.tolist())])
            yield output.cpu()


def _places(run: Run, data: Sequences) -> pl.DataFrame:
    """What each prediction is of: the sequence, and of a step its time or its row in the file."""
    sequence = str(run.data.sequence)
    if run.data.per != "step":
        return pl.DataFrame({sequence: data.names})
    return data.table.select(sequence, pl.col(ROW).alias("row") if data.time is None else data.time)


# -- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """The numbers of labelled sequences, or at each of their steps.

    Args:
        places: [predictions], as of Labels.
        predicted: [predictions].
        truth: [predictions], NaN where it is unknown; None if the table has no labels.
        mean: The mean of the training part.
        said: What was found out about this table that the training does not know.
    """

    places: pl.DataFrame
    predicted: Floats
    truth: Floats | None
    mean: float
    said: list[str]


def quantities(run: Run, path: Path) -> Numbers:
    """Compute the number of every sequence or step.

    Args:
        run: A run whose task is to regress.
        path: A table with the columns of the training; that of the labels may be absent.

    Returns:
        The numbers, in the unit of the labels.

    Raises:
        UserError: The table does not fit the run.
    """
    data, output = _read_and_run(run, path)
    mean = float(members.of(run)[0].load_model().get_buffer("units.centre"))
    truth = None if data.labels is None else data.labels.to_numpy().astype(float)
    return Numbers(_places(run, data), output[:, 0].double().numpy(), truth, mean, data.reading.describe())


# -- the table of the training --------------------------------------------------------------------


def is_training_table(run: Run, path: Path) -> bool:
    """Tell whether a table is the one that the run was trained on.

    Args:
        run: The run.
        path: The table.

    Returns:
        Whether its content is the same.
    """
    further = run.data.further if str(path) == run.data.source else ()
    return bool(fingerprint(path, *further)["sha256"] == run.source.get("sha256"))
