"""Forecasts beside their baselines: the errors overall, of each series, and by the rows ahead."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertow.app import metrics
from undertow.app.data.tasks.naive import season_name, seasonal_naive
from undertow.app.data.tasks.split import validation_rows
from undertow.app.data.times import calendars
from undertow.app.errors import UserError
from undertow.app.evaluation import linear
from undertow.app.evaluation.result import Result
from undertow.app.reading.predictions import Floats, Forecasts, Places, forecasts
from undertow.app.reading.rivals import persistence, seasonal_mean, training_mean
from undertow.app.runs.folder import Run
from undertow.app.words import counted

METRICS = ("rmse", "mae", "mase", "nse", "kge", "bias")


@dataclass(frozen=True)
class Scored:
    """Forecasts of one target, and those of the baselines.

    Args:
        found: The network's forecasts.
        truth: [windows, horizon]; NaN where a forecast is not scored.
        forecasts: [windows, horizon] by the name of the forecaster, the network first.
        names: [windows], the series of each window.
        scale: [windows], the scale of MASE of its series; NaN for a series without one.
    """

    found: Forecasts
    truth: Floats
    forecasts: dict[str, Floats]
    names: Any
    scale: Floats


def evaluate(run: Run, path: Path, held_back: bool) -> Result:
    """Evaluate the forecasts for a table.

    Args:
        run: A run whose task is to forecast.
        path: The table.
        held_back: Whether to score only the part that was held back in the training, of the training's table.

    Returns:
        The metrics of the network and the baselines.

    Raises:
        UserError: The table does not fit the run, or holds no truth to compare with.
    """
    pictured: list[Scored] = []
    result = Result("forecast", str(path), pictured=pictured)
    for found in forecasts(run, path):
        scored = score(run, path, found, held_back, result)
        if not np.isfinite(scored.truth).any():
            raise UserError(
                f"{path}: no forecast of {found.target} has a known truth; "
                f"expected a series of {counted(run.data.first + 1, 'row')} or more that ends with truths"
            )
        result.said.extend(each for each in found.series.said if each not in result.said)
        if found.lower is not None and not pictured:
            result.said.append(f"intervals are to hold {100 * run.training.interval:g}% of the truths")
        result.rows.extend(_rows(scored))
        pictured.append(scored)
    return result


def score(run: Run, path: Path, found: Forecasts, held_back: bool, result: Result) -> Scored:
    """Compute the baselines beside forecasts.

    Args:
        run: The run; the linear model is fitted on its training part.
        path: The table.
        found: The network's forecasts for it.
        held_back: Whether to score only the part that was held back in the training.
        result: Takes a line if there is no linear model.

    Returns:
        All forecasts.
    """
    truth, ends = found.truth, found.starts + found.steps - 1
    if held_back:
        late = validation_rows(found.series, run.data.validation)[found.last[:, :1]]  # as in the training
        truth = np.where(late & (found.rows[:, :1] == found.last[:, :1]), truth, np.nan)
    names = np.asarray(found.series.names().to_numpy()[found.starts], dtype=str)
    scales, season = run.facts["scales"].get(found.target, {}), run.facts["season"]
    by = {run.model.cell.upper(): found.predicted}
    if run.data.simulate:  # nothing is known of the target
        by["training mean"] = training_mean(run, found)
    else:
        by["persistence"] = persistence(found)
    if season > 1 and not run.data.simulate:
        horizon = found.rows.shape[1]
        by[season_name(season)] = seasonal_naive(found.series, found.values, ends, horizon, season)
    means = seasonal_mean(run, found)
    if means is not None:
        by[calendars.season_name(found.series.step)] = means
    fitted = linear.forecast(run, path, found)
    if isinstance(fitted, str):
        said = f"no linear model: {fitted}"
        result.said.extend([said] if said not in result.said else [])
    else:
        by["linear"] = fitted
    return Scored(found, truth, by, names, np.array([scales.get(name, np.nan) for name in names]))


def _rows(scored: Scored) -> list[dict[str, Any]]:
    """Rows over all forecasts, for each series and for each row ahead."""
    rows = measured(scored, "all", "", np.s_[:])
    for name, chosen in _by_series(scored.names):
        rows += measured(scored, "series", name, chosen)
    horizon = scored.truth.shape[1]
    for ahead in range(horizon) if horizon > 1 else ():
        rows += measured(scored, "ahead", ahead + 1, np.s_[:, ahead : ahead + 1])
    return rows


def _by_series(names: Any) -> list[tuple[str, Places]]:
    """The windows of each series; nothing if there is one series only."""
    distinct, number = np.unique(names, return_inverse=True)
    if len(distinct) < 2:
        return []
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
    return [(str(name), chosen) for name, chosen in zip(distinct, parts, strict=True)]


def measured(scored: Scored, part: str, name: Any, chosen: Any) -> list[dict[str, Any]]:
    """Make a row for each forecaster.

    Args:
        scored: The forecasts.
        part: As in a row of a Result.
        name: Likewise.
        chosen: The index of the forecasts to score.

    Returns:
        The rows; none if no forecast is scored.
    """
    truth = scored.truth[chosen]
    scale = np.broadcast_to(scored.scale[:, None], scored.truth.shape)[chosen]
    rows = []
    network = scored.found.predicted[chosen]
    for by, forecast in scored.forecasts.items():
        about = {"target": scored.found.target, "part": part, "name": name, "by": by}
        row = about | measure(truth, forecast[chosen], scale)
        mine = forecast is scored.found.predicted
        row["skill"] = np.nan if mine else _skill(truth, network, forecast[chosen])
        rows.append(row | (_interval(scored.found, truth, chosen) if mine else {}))
    return rows if rows[0]["n"] else []


def _interval(found: Forecasts, truth: Floats, chosen: Any) -> dict[str, float]:
    """Which share of the truths the prediction intervals hold, and how wide they are on average."""
    if found.lower is None or found.upper is None:
        return {}
    low, high = found.lower[chosen], found.upper[chosen]
    known = np.isfinite(truth)
    return {"coverage": metrics.coverage(truth, low, high), "width": float(np.mean((high - low)[known]))}


def _skill(truth: Floats, network: Floats, forecast: Floats) -> float:
    """1 - RMSE of the network / RMSE of ``forecast``, over what both forecast."""
    truth = np.where(np.isfinite(forecast), truth, np.nan)
    theirs = metrics.rmse(truth, forecast)
    return 1 - metrics.rmse(truth, network) / theirs if theirs > 0 else np.nan


def measure(truth: Floats, forecast: Floats, scale: Floats) -> dict[str, Any]:
    """Compute the metrics of forecasts.

    Args:
        truth: Of any shape; NaN is not scored.
        forecast: Of the same shape; NaN is not scored.
        scale: Of the same shape, the scale of MASE.

    Returns:
        ``n``, the forecasts scored, and METRICS.
    """
    found: dict[str, Any] = {"n": len(metrics.pairs(truth, forecast)[0])}
    for name in METRICS:
        scaled = (scale,) if name == "mase" else ()
        found[name] = getattr(metrics, name)(truth, forecast, *scaled)
    return found
