"""The predictions for a table: a forecast after every window, or a label for every sequence."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.text import Text
from torch import Tensor

from undertow.app.data import calendars, moments
from undertow.app.data.forecast import columns_of, features, seasonal_forecast, window_starts, windows
from undertow.app.data.normalise import with_centre
from undertow.app.data.panel import Series
from undertow.app.data.sentinels import check_sentinels
from undertow.app.data.sequences import pad, read_sequences
from undertow.app.data.series import read_series
from undertow.app.data.table import numbers
from undertow.app.errors import UserError
from undertow.app.runs.folder import Run, fingerprint
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Objective
from undertow.app.terminal import marked
from undertow.app.words import cell, counted

BATCH = 512  # windows or sequences computed at once


@dataclass(frozen=True)
class Answers:
    """The predictions, and the lines that are printed about them."""

    table: pl.DataFrame
    lines: list[Text]
    newest_last: bool  # whether to show the last rows, not the first


def answer(run: Run, path: Path) -> Answers:
    """Predict a table with the model of a run.

    Args:
        run: A run whose task is to forecast or to classify.
        path: A table with the columns of the training.

    Returns:
        A prediction for every window or sequence, and the errors if the truth is known.

    Raises:
        UserError: The table is missing or does not fit the run.
    """
    run.data = replace(run.data, time=run.facts["time"])
    found = _forecasts(run, path) if run.data.task == "forecast" else _labels(run, path)
    if fingerprint(path)["sha256"] == run.source.get("sha256"):
        found.lines.append(
            Text("The model was trained on this table: most of these rows are no test.", style="dim")
        )
    return found


# -- forecasts ------------------------------------------------------------------------------------


def _forecasts(run: Run, path: Path) -> Answers:
    """Forecast the next ``horizon`` values of the target after each window of T rows."""
    series = read_series(path, run.data, run.facts)
    model = run.load_model()
    x = with_centre(
        torch.from_numpy(features(series, path, run.data)), model.get_buffer("centre")
    )  # [rows, C]
    steps, horizon = run.data.steps, run.data.horizon
    starts = window_starts(series.spans, steps)  # [windows]
    if not len(starts):
        longest = max(stop - start for start, stop in series.spans)
        raise UserError(f"{path}: the longest series has {counted(longest, 'row')}; expected {steps} or more")
    predicted = _run_model(model, x, torch.from_numpy(starts), steps)
    rows = starts[:, None] + steps + np.arange(horizon)  # [windows, horizon]
    stops = np.array([stop for _, stop in series.spans])
    stop = stops[np.searchsorted(stops, starts, side="right")][:, None]  # of the series of each window
    known, last = rows < stop, np.minimum(rows, stop - 1)
    target = numbers(series.table, path, str(run.data.target), with_gaps=True)  # [rows]
    truth = np.where(known & series.known(str(run.data.target))[last], target[last], np.nan)
    persistence = np.repeat(target[starts + steps - 1][:, None], horizon, axis=1)
    rivals = {"persistence": persistence} | _seasonal(run, series, last)
    table = pl.DataFrame(_names(run, series, rows, last)).with_columns(
        prediction=predicted.ravel().astype(np.float32), truth=pl.Series(truth.ravel()).fill_nan(None)
    )
    lines = [*read_as(series.said), *_error_lines(run, predicted, truth, rivals)]
    return Answers(table, lines, newest_last=True)


def read_as(said: list[str]) -> list[Text]:
    """What was found out about this table that the training does not know."""
    return [Text(f"data   {each}", style="dim") for each in said]


def _run_model(model: SequenceModel, x: Tensor, starts: Tensor, steps: int) -> NDArray[np.float64]:
    with torch.no_grad():
        parts = [model(windows(x, chosen, steps))[0] for chosen in torch.split(starts, BATCH)]
    return np.asarray(torch.cat(parts).double().numpy())  # [windows, horizon]


def _names(run: Run, series: Series, rows: NDArray[np.int64], last: NDArray[np.int64]) -> list[pl.Series]:
    """The columns with the series, the time and the number of rows ahead of each prediction."""
    beyond, at = (rows - last).ravel(), last.ravel()
    columns = [series.table[series.group][at]] if series.group else []
    if series.time is not None:
        ticks = series.frequency.after(series.ticks[at], beyond)
        columns.append(moments.from_ticks(ticks, series.table[series.time]))
    else:
        begins = np.repeat([a for a, _ in series.spans], [b - a for a, b in series.spans])
        columns.append(pl.Series("row", last.ravel() - begins[last.ravel()] + beyond + 1))
    if run.data.horizon > 1:
        columns.append(pl.Series("ahead", np.tile(np.arange(1, run.data.horizon + 1), len(rows))))
    return columns


def _seasonal(run: Run, series: Series, last: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The training part's seasonal mean at every known row; {} if the training had no seasons."""
    seasons = run.facts["seasons"]
    if not seasons or series.time is None or calendars.season(series.table[series.time], series.step) is None:
        return {}
    by_row = seasonal_forecast(series, seasons)  # [rows]
    return {calendars.season_name(series.step): by_row[last]}


def _error_lines(
    run: Run,
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    rivals: dict[str, NDArray[np.float64]],
) -> list[Text]:
    """RMSE and mean absolute error where the truth is known, and the rivals' on the same rows."""
    known = np.isfinite(truth)
    for rival in rivals.values():
        known &= np.isfinite(rival)
    if not known.any():
        return [Text("No errors: every forecast is for a row after the table's end.")]

    def errors(forecast: NDArray[np.float64]) -> tuple[float, float]:
        error = (forecast - truth)[known]
        return float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))

    objective, (mine, absolute) = Objective("rmse", "RMSE"), errors(predicted)
    lines = [
        marked(
            f"[bold]{objective.show(mine)}[/] of {{target}} over {counted(int(known.sum()), 'forecast')} "
            f"with known truth (mean absolute error {absolute:.4g})",
            target=cell(run.data.target),
        )
    ]
    for name, rival in rivals.items():
        better, by = objective.compare(mine, errors(rival)[0])
        verdict = f"[green]beaten {by}[/]" if better else f"[red]not beaten: it is better {by}[/]"
        lines.append(marked(f"  {{name}}: {objective.show(errors(rival)[0])}, {verdict}", name=name))
    return lines


# -- labels ---------------------------------------------------------------------------------------


def _labels(run: Run, path: Path) -> Answers:
    """The likeliest class of every sequence and its probability."""
    data = read_sequences(path, run.data, run.facts, labelled=False)
    columns = columns_of(run.facts)
    model, x = run.load_model(), data.encode(path, columns, run.data.gaps)
    if run.data.missing is None:
        check_sentinels(data.table, path, columns.numeric, kept=True)
    parts = data.split(with_centre(torch.from_numpy(x), model.get_buffer("centre")).numpy())
    chances = torch.cat(list(_class_chances(model, parts)))  # [sequences, classes]
    best = chances.max(-1)
    found = [run.facts["classes"][k] for k in best.indices.tolist()]
    table = pl.DataFrame(
        {str(run.data.sequence): data.names, "prediction": found, "probability": best.values.numpy()}
    )
    said = read_as(data.reading.describe())
    if data.labels is None:
        nothing = Text(f"No column {cell(run.data.label)!r}: the labels cannot be compared with the truth.")
        return Answers(table, [*said, nothing], newest_last=False)
    table = table.with_columns(truth=pl.Series(data.labels))
    return Answers(table, [*said, *_accuracy_lines(found, data.labels)], newest_last=False)


def _class_chances(model: SequenceModel, x: list[Tensor]) -> Iterator[Tensor]:
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            padded, lengths = pad(x[start : start + BATCH])  # [T, N, C], [N]
            yield model(padded, lengths=lengths)[0].softmax(-1)


def _accuracy_lines(found: list[str], truth: list[str]) -> list[Text]:
    right = [one == other for one, other in zip(found, truth, strict=True)]
    share = f"[bold]{100 * sum(right) / len(right):.1f}% right[/]"
    lines = [marked(f"{share}: {sum(right)} of {counted(len(right), 'sequence')}")]
    for name in sorted(set(truth)):
        of_class = [good for good, label in zip(right, truth, strict=True) if label == name]
        lines.append(Text(f"  {cell(name)}: {sum(of_class)} of {len(of_class)}"))
    return lines
