"""The picture of an evaluation: forecasts over time and their errors, a confusion matrix, or numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from undertow.app.data.times import moments
from undertow.app.evaluation.forecasts import Scored
from undertow.app.evaluation.labels import Confusion
from undertow.app.evaluation.numbers import Pairs
from undertow.app.evaluation.result import Result
from undertow.app.evaluation.view import NAMES, value, worst_first
from undertow.app.outputs import atomically
from undertow.app.words import counted, literal
from undertow.palette import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY
from undertow.plots import style

MOST_TARGETS = 8  # drawn below each other
MOST_SERIES = 3  # of each, drawn over time
MOST_ROWS = 150  # of a series, the latest
MOST_DATES = 8  # below the axis
MOST_CLASSES = 30  # of a matrix whose cells hold numbers
RIVALS = (ORANGE, GREEN, PURPLE, SKY)
WIDTH = 2 * style.COLUMN  # inches


def draw(result: Result, metric: str, path: Path) -> None:
    """Draw an evaluation and write the picture as PNG.

    Args:
        result: The evaluation.
        metric: The metric of the errors that are drawn, and by which series are chosen.
        path: The file.
    """
    if isinstance(result.pictured, Confusion):
        figure = _matrix(result.pictured)
    elif isinstance(result.pictured, Pairs):
        figure = _numbers(result.pictured, result.of("all")[0])
    else:
        figure = _forecasts(result, metric)
    atomically(path, lambda beside: figure.savefig(beside, format="png"))


# -- forecasts ------------------------------------------------------------------------------------


def _forecasts(result: Result, metric: str) -> Figure:
    """For each target the worst, the middle and the best series over time, and the errors below them."""
    targets: list[Scored] = result.pictured[:MOST_TARGETS]
    if len(targets) < len(result.pictured):
        result.said.append(f"the picture shows the first {MOST_TARGETS} of {len(result.pictured)} targets")
    chosen = [_chosen(result, scored, metric) for scored in targets]
    height = sum(1.75 * len(names) + 2.3 for names in chosen)
    figure, axes = style.panels(sum(len(names) + 1 for names in chosen), 1, (WIDTH, height))
    places = iter(axes[:, 0])
    for scored, names in zip(targets, chosen, strict=True):
        for name, words in names.items():
            _over_time(ax := next(places), scored, name)
            style.title(ax, f"{literal(scored.found.target)}{words}")
        _errors(next(places), result, scored.found.target, metric)
    axes[0, 0].legend(frameon=False, fontsize=style.POINTS, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _errors(ax: Axes, result: Result, target: str, metric: str) -> None:
    """The errors of a target by the rows ahead, or of one row ahead those of each forecaster."""
    of = f" of {literal(target)}" * (len(result.pictured) > 1)
    if rows := result.of("ahead", target=target):
        _by_ahead(ax, rows, metric)
        style.title(ax, f"{NAMES[metric]}{of} by rows ahead")
    else:
        _bars(ax, result.of("all", target=target), metric)
        style.title(ax, f"{NAMES[metric]}{of}, each forecaster")


def _chosen(result: Result, scored: Scored, metric: str) -> dict[str, str]:
    """The series to draw, and what to say of each."""
    network = next(iter(scored.forecasts))
    rows = worst_first(result.of("series", target=scored.found.target, by=network), metric)
    if not rows:
        return {str(scored.names[np.isfinite(scored.truth).any(axis=1)][0]): ""}
    places = dict.fromkeys((0, len(rows) // 2, len(rows) - 1))
    words = ("worst", "middle", "best") if len(places) == MOST_SERIES else ("worst", "best")
    return {
        rows[k]["name"]: f" of {literal(rows[k]['name'])}: {NAMES[metric]} {value(metric, rows[k][metric])}, "
        f"the {word} of {len(rows)} series"
        for k, word in zip(places, words, strict=False)
    }


def _over_time(ax: Axes, scored: Scored, name: str) -> None:
    """The truth, and beside it every forecast that begins where the one before it ends."""
    found, horizon = scored.found, scored.truth.shape[1]
    known, own = np.isfinite(scored.truth), scored.names == name
    mine = np.flatnonzero(own & known.all(axis=1))
    if not len(mine):  # the series is too short for a whole forecast
        mine = np.flatnonzero(own & known.any(axis=1))
    mine = mine[::-horizon][::-1][-max(1, MOST_ROWS // horizon) :]  # windows side by side, up to the last
    rows = np.arange(found.rows[mine[0], 0], found.last[mine[-1], -1] + 1)
    ax.plot(_times(found, rows), found.values[rows], color=INK, lw=1, label="truth")
    segments = [np.flatnonzero(np.isfinite(scored.truth[window])) for window in mine]
    parts: list[tuple[Any, Any]] = [
        (window, ahead) for window, ahead in zip(mine, segments, strict=True) if len(ahead)
    ]
    if horizon == 1:
        parts = [(mine, np.zeros(len(mine), np.int64))]
    for k, (window, ahead) in enumerate(parts):
        times = _times(found, found.last[window, ahead])
        if found.lower is not None and found.upper is not None:
            low, high = found.lower[window, ahead], found.upper[window, ahead]
            ax.fill_between(times, low, high, color=BLUE, alpha=0.16, lw=0, label="" if k else "interval")
        alone = "o" if len(ahead) == 1 else None
        predicted = found.predicted[window, ahead]
        ax.plot(times, predicted, color=BLUE, lw=1.3, marker=alone, ms=2, label="" if k else "forecast")
    ax.margins(x=0.01)
    if np.issubdtype(_times(found, rows).dtype, np.datetime64):
        dates = AutoDateLocator(maxticks=MOST_DATES)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(dates)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]


def _times(found: Any, rows: Any) -> Any:
    """The times of rows, as matplotlib reads them; without a time column their numbers."""
    series = found.series
    if series.time is None:
        return rows
    values: pl.Series = series.table[series.time][rows]
    if values.dtype == pl.Datetime:
        values = values.dt.replace_time_zone(None)
    return values.to_numpy() if values.dtype in moments.DATES else moments.ticks(values)


def _by_ahead(ax: Axes, rows: list[dict[str, Any]], metric: str) -> None:
    """The metric of each forecaster by the rows ahead, the network's line thick."""
    by = list(dict.fromkeys(row["by"] for row in rows))
    colours = dict(zip(by, (BLUE, *RIVALS), strict=False))
    ends = []
    for name in reversed(by):
        mine = [row for row in rows if row["by"] == name]
        ahead, errors = [row["name"] for row in mine], [row[metric] for row in mine]
        width = 2.2 if name == by[0] else 1.2
        ax.plot(ahead, errors, color=colours[name], lw=width, marker="o", ms=2.5, solid_capstyle="round")
        if np.isfinite(errors[-1]):
            ends.append((float(ahead[-1]), float(errors[-1]), literal(name), colours[name]))
    ax.set(xlabel="rows ahead", xlim=(rows[0]["name"], rows[-1]["name"]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric in ("rmse", "mae", "mase"):
        ax.set_ylim(bottom=0)
    ax.grid(axis="y", color=PALE, lw=0.6)
    ax.figure.canvas.draw()  # the names need final limits
    style.end_labels(ax, ends)


def _bars(ax: Axes, rows: list[dict[str, Any]], metric: str) -> None:
    """The metric of each forecaster, the network on top."""
    rows = [row for row in rows if np.isfinite(row[metric])][::-1]
    network = rows[-1]["by"] if rows else ""
    colours = [BLUE if row["by"] == network else GREY for row in rows]
    ax.barh([literal(row["by"]) for row in rows], [row[metric] for row in rows], 0.62, color=colours)
    for k, row in enumerate(rows):
        beside: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
        style.note(ax, max(0.0, row[metric]), k, value(metric, row[metric]), **beside)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)


# -- labels ---------------------------------------------------------------------------------------


def _matrix(found: Confusion) -> Figure:
    """The share of each true class that was taken for each class, with the counts."""
    k = len(found.classes)
    size = min(9.0, max(style.COLUMN, 0.34 * k + 1.6))
    figure, axes = style.panels(size=(size, size))
    ax = axes[0, 0]
    shares = found.counts / np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    paint = LinearSegmentedColormap.from_list("share", ["white", BLUE])
    ax.imshow(shares, cmap=paint, vmin=0, vmax=1)
    names = [literal(name, 16) for name in found.classes]
    ax.set_xticks(range(k), names, rotation=0 if max(map(len, names)) * k < 9 * size else 90)
    ax.set_yticks(range(k), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for true, taken in np.argwhere(found.counts).tolist() if k <= MOST_CLASSES else ():
        colour = "white" if shares[true, taken] > 0.55 else INK
        style.note(ax, taken, true, f"{found.counts[true, taken]:,}", colour, ha="center", va="center")
    ax.set(xlabel="predicted", ylabel="true")
    right = np.trace(found.counts) / max(1, found.counts.sum())
    style.title(ax, f"{100 * right:.1f}% of {found.counts.sum():,} right")
    return figure


# -- numbers --------------------------------------------------------------------------------------


def _numbers(found: Pairs, row: dict[str, Any]) -> Figure:
    """Each predicted number beside the true one; on the diagonal they are equal."""
    figure, axes = style.panels(size=(1.5 * style.COLUMN, 1.5 * style.COLUMN))
    ax = axes[0, 0]
    ends = [float(np.min([found.truth, found.predicted])), float(np.max([found.truth, found.predicted]))]
    ax.plot(ends, ends, color=GREY, lw=0.8, zorder=0)
    faint = float(np.clip(30 / np.sqrt(len(found.truth)), 0.1, 0.8))
    ax.plot(found.truth, found.predicted, "o", color=BLUE, ms=3, alpha=faint, mew=0)
    ax.set(xlabel=f"true {literal(found.label)}", ylabel=f"predicted {literal(found.label)}", aspect="equal")
    words = f"RMSE {value('rmse', row['rmse'])}, R² {value('r2', row['r2'])}"
    style.title(ax, f"{counted(len(found.truth), found.what)}: {words}")
    return figure
