"""How gradient flow changes over training, from the records of a FlowMonitor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from undertow.palette import GREY, INK, LINES
from undertow.plots.style import (
    COLUMN,
    Array,
    counts,
    end_labels,
    guide,
    last,
    logarithmic,
    note,
    panels,
    title,
)
from undertow.records.flow_record import FlowRecord, layer_name

Row = Mapping[str, Any]


def flow_over_training(records: Sequence[FlowRecord | Row], *, lag: int | None = None) -> tuple[Any, Array]:
    """Draw in four panels over training whether memory reaches back far enough, and whether it grows.

    Each layer has a colour. From the top:

    1. Memory horizon: the lag at which the true gradient, along every path, is down to 1 % (thin: to 1/e). A
       triangle stands at the longest measured lag where the gradient is not down yet.
    2. Forget gate f, ∂c_t/∂c_{t−1} along the cell alone (carousel): median, 10 % to 90 % shaded.
    3. One step by its four terms: ‖∂c_t/∂c_{t−1} − 1‖/√H, of a plain RNN ‖∂h_t/∂h_{t−1} − 1‖/√H. 0: the step
       keeps everything.
    4. Growth of the true gradient per step back, natural logarithm. 0: it neither fades nor grows.

    Args:
        records: ``FlowMonitor.records``, or rows of a table saved from them
            (``polars.read_csv(path).to_dicts()``).
        lag: how far back the task needs memory, drawn as a dashed line.

    Returns:
        The figure and an array of the four Axes.

    Raises:
        ValueError: there is no record.
    """
    if not len(records):
        raise ValueError("records: expected at least one, got none; FlowMonitor.missing may say why")
    named: dict[str, list[Row]] = {}
    for record in records:
        row = record.to_dict() if isinstance(record, FlowRecord) else record
        named.setdefault(layer_name(row["module"], row["layer"], row["reverse"]), []).append(row)
    figure, axes = panels(4, 1, (COLUMN + 0.5, 6.6))
    horizon, gate, step, growth = axes[:, 0]
    for k, rows in enumerate(named.values()):
        color = LINES[k % len(LINES)]
        at = _column(rows, "step")
        _horizon(horizon, at, rows, color)
        gate.plot(at, _column(rows, "f_median"), color=color, lw=1.4)
        gate.fill_between(at, _column(rows, "f_low"), _column(rows, "f_high"), color=color, alpha=0.15, lw=0)
        step.plot(at, _column(rows, "step_from_1"), color=color, lw=1.4)
        growth.plot(at, _column(rows, "growth"), color=color, lw=1.4)
    _finish(axes[:, 0], named, lag)
    return figure, axes[:, 0]


def _horizon(ax: Any, at: Array, rows: Sequence[Row], color: str) -> None:
    for name, lw in (("horizon_1pct", 1.4), ("horizon_e", 0.8)):
        lags = _column(rows, name)
        seen = np.where(np.isinf(lags), _column(rows, "lags"), lags)
        ax.plot(at, seen, color=color, lw=lw)
        beyond = np.isinf(lags)
        if beyond.any():  # the layout places a line without points in the figure's corner
            ax.plot(
                at[beyond], seen[beyond], "^", color=color, ms=3.5 if lw > 1 else 2.5, mew=0, clip_on=False
            )


def _finish(axes: Array, named: Mapping[str, Sequence[Row]], lag: int | None) -> None:
    """Set scales and titles, and write the names of the layers in the last panels."""
    horizon, gate, step, growth = axes
    horizon.set_yscale("log")
    if lag is not None:
        horizon.axhline(lag, color=INK, lw=0.8, ls="--")
        place = {"xycoords": horizon.get_yaxis_transform(), "xytext": (4, 0), "textcoords": "offset points"}
        note(horizon, 1, lag, "the task's\nlag", INK, va="center", **place)
    logarithmic(horizon)
    gate.set_ylim(0, 1.02)
    step.set_ylim(bottom=0)
    guide(growth, 0)
    cells = {row["cell"] for rows in named.values() for row in rows}
    short = "x" if len(cells) > 1 else "h" if cells == {"rnn"} else "c"
    title(horizon, "True gradient's horizon: lag to 1 % (thin: 1/e), ▲ beyond")
    title(gate, "Forget gate f = ∂c$_t$/∂c$_{t−1}$ along the cell alone (carousel)")
    title(step, f"One step: ‖∂{short}$_t$/∂{short}$_{{t−1}}$ − 1‖/√H" + ", four terms" * ("lstm" in cells))
    title(growth, "True gradient's growth per step back, log")
    for ax in axes:
        ax.grid(axis="y", alpha=0.2, lw=0.5)
        ax.tick_params(labelbottom=ax is growth)
        ax.sharex(horizon) if ax is not horizon else None
    if "lstm" not in cells:
        note(gate, 0.5, 0.5, "a plain RNN has none", GREY, xycoords="axes fraction", ha="center")
    growth.set_xlabel("training step")
    counts(growth)
    for ax, name in ((step, "step_from_1"), (growth, "growth")):
        if len(named) > 1:
            end_labels(ax, _ends(named, name))


def _ends(named: Mapping[str, Sequence[Row]], column: str) -> list[tuple[float, float, str, str]]:
    found = []
    for k, (name, rows) in enumerate(named.items()):
        end = last(_column(rows, "step"), _column(rows, column))
        found += [] if end is None else [(*end, name, LINES[k % len(LINES)])]
    return found


def _column(rows: Sequence[Row], name: str) -> Array:
    """Return a column as floats, NaN for None."""
    return np.array([np.nan if row[name] is None else float(row[name]) for row in rows])
