"""The predictions for a table as ``predict`` prints and writes them, with errors where the truth is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.text import Text

from undertow.app import metrics
from undertow.app.data.times import calendars
from undertow.app.reading.predictions import (
    Floats,
    Forecasts,
    Labels,
    Numbers,
    forecasts,
    is_training_table,
    labels,
    quantities,
)
from undertow.app.reading.rivals import persistence, seasonal_mean, training_mean
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Objective
from undertow.app.terminal import coloured, marked
from undertow.app.words import cell, counted


@dataclass(frozen=True)
class Answers:
    """The predictions, and the lines that are printed about them."""

    table: pl.DataFrame
    lines: list[Text]
    newest_last: bool  # whether to show the last rows, not the first


def answer(run: Run, path: Path) -> Answers:
    """Predict a table with the model of a run.

    Args:
        run: A run that was trained on a table.
        path: A table with the columns of the training.

    Returns:
        A prediction for every window or sequence, and the errors if the truth is known.

    Raises:
        UserError: The table is missing or does not fit the run.
    """
    if run.data.task == "forecast":
        found = _forecasts(run, forecasts(run, path))
    elif run.data.task == "regress":
        found = _numbers(run, quantities(run, path))
    else:
        found = _labels(run, labels(run, path))
    if is_training_table(run, path):
        found.lines.append(
            Text("The model was trained on this table: most of these rows are no test.", style="dim")
        )
    return found


def read_as(said: list[str]) -> list[Text]:
    """What was found out about this table that the training does not know."""
    return [Text(f"data   {each}", style="dim") for each in said]


# -- forecasts ------------------------------------------------------------------------------------


def _forecasts(run: Run, found: list[Forecasts]) -> Answers:
    """A row for each forecast; of several targets those of the same row of the horizon follow each other."""
    tables, lines = [], read_as(found[0].series.said)
    for each in found:
        table, errors = _of_target(run, each, len(found) > 1)
        tables.append(table.with_row_index("order"))
        lines += errors
    table = pl.concat(tables).sort("order", maintain_order=True).drop("order")
    table = table.filter(pl.col("prediction").is_not_nan())
    return Answers(table, lines, newest_last=True)


def _of_target(run: Run, found: Forecasts, named: bool) -> tuple[pl.DataFrame, list[Text]]:
    simulated = run.data.simulate  # nothing is known of the target then
    rivals = (
        {"training mean": training_mean(run, found)} if simulated else {"persistence": persistence(found)}
    )
    means = seasonal_mean(run, found)
    if means is not None:
        rivals[calendars.season_name(found.series.step)] = means
    table = pl.DataFrame(_names(found)).with_columns(
        *[pl.lit(found.target).alias("target")][: int(named)],
        prediction=found.predicted.ravel().astype(np.float32),
        **_bounds(found),
        truth=pl.Series(found.truth.ravel()).fill_nan(None),
    )
    return table, [*_error_lines(found, rivals), *_interval_lines(run, found)]


def _names(found: Forecasts) -> list[pl.Series]:
    """The columns with the series, the time and the number of rows ahead of each prediction."""
    series, at = found.series, found.last.ravel()
    columns = [series.table[key][at] for key in series.group]
    times = found.times()
    if times is not None:
        columns.append(times)
    else:
        begins = np.repeat([a for a, _ in series.spans], [b - a for a, b in series.spans])
        columns.append(pl.Series("row", found.rows.ravel() - begins[at] + 1))
    windows, horizon = found.rows.shape
    if horizon > 1:
        columns.append(pl.Series("ahead", np.tile(np.arange(1, horizon + 1), windows)))
    return columns


def _error_lines(found: Forecasts, rivals: dict[str, Floats]) -> list[Text]:
    """RMSE and mean absolute error where the truth is known; each rival on those of the forecasts it has."""
    known = np.isfinite(found.truth) & np.isfinite(found.predicted)
    if not known.any():
        return [Text(f"No errors: no forecast of {cell(found.target)} has a known truth.")]

    def errors(forecast: Floats, chosen: NDArray[np.bool_]) -> tuple[float, float]:
        error = (forecast - found.truth)[chosen]
        return float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))

    objective, (mine, absolute) = Objective("rmse", "RMSE"), errors(found.predicted, known)
    lines = [
        marked(
            f"[bold]{objective.show(mine)}[/] of {{target}} over {counted(int(known.sum()), 'forecast')} "
            f"with known truth (mean absolute error {absolute:.4g})",
            target=cell(found.target),
        )
    ]
    for name, rival in rivals.items():
        both = known & np.isfinite(rival)
        if not both.any():
            continue
        theirs = errors(rival, both)[0]
        verdict = coloured(objective.verdict(errors(found.predicted, both)[0], theirs))
        part = "" if both.sum() == known.sum() else f" ({both.sum():,} of {known.sum():,} forecasts)"
        lines.append(marked(f"  {{name}}: {objective.show(theirs)}, {verdict}{part}", name=name))
    return lines


def _bounds(found: Forecasts) -> dict[str, NDArray[np.float32]]:
    """The columns of the intervals; none if the run has no intervals."""
    if found.lower is None or found.upper is None:
        return {}
    return {
        name: each.ravel().astype(np.float32)
        for name, each in (("lower", found.lower), ("upper", found.upper))
    }


def _interval_lines(run: Run, found: Forecasts) -> list[Text]:
    """How many of the known truths lie inside the intervals, and how wide these are."""
    if found.lower is None or found.upper is None:
        return []
    widths = found.upper - found.lower
    if not (forecast := np.isfinite(widths)).any():
        return []
    width = float(widths[forecast].mean())
    known = int((np.isfinite(found.truth) & np.isfinite(found.lower)).sum())
    held = ""
    if known:
        share = metrics.coverage(found.truth, found.lower, found.upper)
        held = f"{100 * share:.1f}% of the known truths inside ({round(share * known):,} of {known:,}), "
    return [Text(f"{100 * run.training.interval:g}% intervals: {held}{width:.4g} wide on average")]


# -- labels ---------------------------------------------------------------------------------------


def _labels(run: Run, found: Labels) -> Answers:
    """The likeliest class of every sequence or step and its probability."""
    table = found.places.with_columns(
        prediction=pl.Series(found.likeliest),
        probability=pl.Series(found.chances.max(axis=1).astype(np.float32)),
    )
    said = read_as(found.said)
    if found.truth is None:
        return Answers(table, [*said, _no_truth(run)], newest_last=False)
    table = table.with_columns(truth=pl.Series(found.truth))
    return Answers(table, [*said, *_accuracy_lines(run, found.likeliest, found.truth)], newest_last=False)


def _accuracy_lines(run: Run, found: list[str], truth: list[str | None]) -> list[Text]:
    pairs = [(one, other) for one, other in zip(found, truth, strict=True) if other is not None]
    if not pairs:
        return [Text(f"No share that is right: {cell(run.data.label)} is empty.")]
    right = [one == other for one, other in pairs]
    share = f"[bold]{100 * sum(right) / len(right):.1f}% right[/]"
    lines = [marked(f"{share}: {sum(right):,} of {counted(len(right), str(run.data.per))}")]
    recalls = []
    for name in sorted({label for _, label in pairs}):
        of_class = [good for good, (_, label) in zip(right, pairs, strict=True) if label == name]
        lines.append(Text(f"  {cell(name)}: {sum(of_class):,} of {len(of_class):,}"))
        recalls.append(sum(of_class) / len(of_class))
    mean = 100 * sum(recalls) / len(recalls)
    return [*lines, Text(f"mean recall over the classes (balanced accuracy): {mean:.1f}%")]


def _no_truth(run: Run) -> Text:
    return Text(f"No column {cell(run.data.label)!r}: the labels cannot be compared with the truth.")


# -- numbers --------------------------------------------------------------------------------------


def _numbers(run: Run, found: Numbers) -> Answers:
    """The number of every sequence; its errors beside those of the training part's mean."""
    table = found.places.with_columns(prediction=pl.Series(found.predicted.astype(np.float32)))
    said = read_as(found.said)
    if found.truth is None:
        return Answers(table, [*said, _no_truth(run)], newest_last=False)
    table = table.with_columns(truth=pl.Series(found.truth).fill_nan(None))
    lines = _number_lines(found.predicted, found.truth, found.mean, run)
    return Answers(table, [*said, *lines], newest_last=False)


def _number_lines(predicted: Floats, truth: Floats, mean: float, run: Run) -> list[Text]:
    known, label = np.isfinite(truth), cell(run.data.label)
    if not known.any():
        return [Text(f"No errors: {label} is empty.")]
    objective = Objective("rmse", "RMSE")
    error, rival = (predicted - truth)[known], (mean - truth)[known]
    mine, theirs = (float(np.sqrt(np.mean(each**2))) for each in (error, rival))
    verdict = coloured(objective.verdict(mine, theirs))
    over = counted(int(known.sum()), str(run.data.per))
    return [
        marked(
            f"[bold]{objective.show(mine)}[/] of {{label}} over {over} "
            f"with known truth (mean absolute error {np.abs(error).mean():.4g})",
            label=label,
        ),
        marked(f"  training mean: {objective.show(theirs)}, {verdict}"),
    ]
