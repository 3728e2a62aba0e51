"""Backtests: the errors of consecutive periods, of one network or of one trained anew before each period."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertow.app.data.tasks.split import validation_rows
from undertow.app.data.times import moments
from undertow.app.errors import UserError
from undertow.app.evaluation.forecasts import METRICS, measured, score
from undertow.app.evaluation.result import Result
from undertow.app.reading.predictions import Floats, Forecasts, forecasts
from undertow.app.runs.folder import Run, open_run
from undertow.app.words import counted

Tell = Callable[[str], None]


def backtest(run: Run, path: Path, periods: int, late: bool) -> Result:
    """Score consecutive periods of a table with the weights of the run.

    Args:
        run: A run whose task is to forecast.
        path: The table.
        periods: K.
        late: Whether the periods lie in the last ``--validation`` of the table; else in all of it.

    Returns:
        Rows ``origin`` for each period, then the mean over the periods and their standard deviation.

    Raises:
        UserError: The table does not fit the run, or has fewer moments than periods.
    """
    result = Result("forecast", str(path))
    for found in forecasts(run, path):
        scored = score(run, path, found, late, result)
        for name, truth in _periods(found, scored.truth, periods, path).items():
            result.rows.extend(measured(replace(scored, truth=truth), "origin", name, np.s_[:]))
    result.rows.extend(_spread(result))
    return result


def retrained(run: Run, path: Path, periods: int, folder: Path, tell: Tell) -> Result:
    """Score consecutive periods, each with a network that was trained on the rows before it.

    Args:
        run: A run whose task is to forecast; its options are those of every training.
        path: The table.
        periods: K, over the last ``--validation`` of the table.
        folder: Takes a run folder for each training.
        tell: Called with a line before each training.

    Returns:
        Rows as of ``backtest``.

    Raises:
        UserError: As of ``backtest``, or too few rows lie before a period.
    """
    result, found = Result("forecast", str(path)), forecasts(run, path)[0]
    late = validation_rows(found.series, run.data.validation)[found.last[:, :1]]
    truth = np.where(late, found.truth, np.nan)
    for number, (name, own) in enumerate(_periods(found, truth, periods, path).items(), 1):
        first = found.rows[np.isfinite(own).any(axis=1), 0]
        origin = float(found.series.ticks[first].min())
        tell(f"training {number} of {periods}, on the rows before {name}")
        other = _train(run, path, origin, folder / f"before-{number}")
        whole = replace(other, data=replace(other.data, before=None))
        for again in forecasts(whole, path):
            scored = score(other, path, again, False, result)
            mine = np.where(np.isfinite(own), again.truth, np.nan)
            result.rows.extend(measured(replace(scored, truth=mine), "origin", name, np.s_[:]))
    result.rows.extend(_spread(result))
    return result


def _periods(found: Forecasts, truth: Floats, periods: int, path: Path) -> dict[str, Floats]:
    """The truth by the first moment of each period; no forecast reaches into the next period."""
    ticks = found.series.ticks
    begin, end = ticks[found.last[:, 0]], ticks[found.last[:, -1]]  # [windows]
    usable = np.isfinite(truth).any(axis=1)
    every = np.unique(begin[usable])
    if len(every) < periods:
        raise UserError(
            f"--backtest {periods}: {path} has {counted(len(every), 'moment')} to forecast from; "
            "ask for fewer"
        )
    parts = np.array_split(every, periods)
    made = {}
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        inside = usable & (begin >= part[0])
        if following is not None:
            inside &= end < following[0]
        if inside.any():
            made[_moment(found, part[0])] = np.where(inside[:, None], truth, np.nan)
    return made


def _moment(found: Forecasts, tick: float) -> str:
    """A moment as people write it; without a time column the number of the row in its series."""
    series = found.series
    if series.time is None:
        return f"row {tick + 1:g}"
    return str(moments.from_ticks(np.array([tick]), series.table[series.time])[0])


def _train(run: Run, path: Path, origin: float, folder: Path) -> Run:
    """A run with the same options, trained on the rows before ``origin``."""
    from undertow.app.training import session  # which imports Lightning Fabric

    source = str(path.resolve())
    further = run.data.further if source == run.data.source else ()
    data = replace(run.data, source=source, further=further, before=origin)
    code = session.again(run, data, folder)
    if code:
        raise SystemExit(code)
    return replace(open_run(folder), device=run.device)


def _spread(result: Result) -> list[dict[str, Any]]:
    """Mean and standard deviation over the periods, for each target and forecaster."""
    rows = result.of("origin")
    keys = dict.fromkeys((row["target"], row["by"]) for row in rows)
    made = []
    for name, over in (("mean", np.nanmean), ("standard deviation", np.nanstd)):
        for target, by in keys:
            mine = result.of("origin", target=target, by=by)
            about = {"target": target, "part": "origins", "name": name, "by": by}
            about["n"] = sum(row["n"] for row in mine)
            values = {metric: np.array([row[metric] for row in mine]) for metric in METRICS}
            made.append(
                about
                | {m: float(over(v)) if np.isfinite(v).any() else float("nan") for m, v in values.items()}
            )
    return made
