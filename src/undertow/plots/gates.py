"""What a layer did: gates and cell over time, and how often gates were nearly closed or open."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from undertow.flow import GateSaturation
from undertow.palette import GATES, GREY, INK, PALE
from undertow.plots.style import (
    COLUMN,
    Array,
    check_index,
    check_named,
    counts,
    note,
    panel,
    panels,
    points,
    title,
)
from undertow.records.layer import Layer

NAMES = {
    "i": "input gate i",
    "f": "forget gate f: ∂c/∂c along the cell alone (carousel)",
    "g": "input modulation g",
    "o": "output gate o",
    "c": "cell c",
    "h": "hidden state h",
}


def gate_maps(layer: Layer, sequence: int = 0, *, units: Sequence[int] | None = None) -> tuple[Any, Array]:
    """Draw gates and cell of one sequence as heat maps, units × time: i, f, g, o and c below each other.

    For a plain RNN only h is drawn. Gates i, f and o are coloured from 0 to 1, g from −1 to 1, c and h
    symmetrically about 0. Padding is left out.

    Args:
        layer: of a trace.
        sequence: its index in the batch.
        units: which rows, in this order; None: all.

    Returns:
        The figure and an array of Axes, one for each panel.

    Raises:
        TypeError: ``layer`` is not a Layer.
        ValueError: there is no such sequence or unit, or the sequence is empty.
    """
    steps, chosen = _of(layer, sequence, units)
    names = [*"ifgoc"] if layer.cell == "lstm" else ["h"]
    height = min(0.25 + 0.022 * max(len(chosen), 16), 1.5) + 0.25
    figure, axes = panels(len(names), 1, (COLUMN, height * len(names) + 0.35))
    for name, ax in zip(names, axes[:, 0], strict=True):
        values = _values(layer, name, sequence)[:steps, chosen]
        reach = 1.0 if name in "ifgo" else float(np.abs(values).max(initial=0)) or 1.0
        scale = {"cmap": "cividis", "vmin": 0} if name in "ifo" else {"cmap": "RdBu_r", "vmin": -reach}
        image = ax.imshow(values.T, aspect="auto", interpolation="nearest", vmax=reach, **scale)
        ax.spines[:].set_visible(False)
        title(ax, NAMES[name])
        bar = figure.colorbar(
            image, ax=ax, pad=0.015, aspect=max(6, 22 * height), ticks=[image.norm.vmin, reach]
        )
        bar.ax.tick_params(labelsize=points(ax) - 1.5, length=0, colors=INK)
        bar.ax.set_yticklabels([f"{v:.2g}".replace("-", "−") for v in (image.norm.vmin, reach)])
        bar.outline.set_visible(False)
        ax.set_yticks(range(0, len(chosen), -(-len(chosen) // 4)))
        ax.set_yticklabels([str(chosen[k]) for k in ax.get_yticks().astype(int)])
        ax.set_ylabel("unit")
        ax.tick_params(labelbottom=ax is axes[-1, 0])
    axes[-1, 0].set_xlabel("step")
    counts(axes[-1, 0])
    return figure, axes[:, 0]


def gate_lines(layer: Layer, units: Sequence[int], sequence: int = 0) -> tuple[Any, Array]:
    """Draw gates, and below them cell and hidden state, of chosen units over one sequence, a column each.

    For a plain RNN only h is drawn. Padding is left out.

    Args:
        layer: of a trace.
        units: which units, in this order.
        sequence: its index in the batch.

    Returns:
        The figure and an array of Axes [2, units], of a plain RNN [1, units].

    Raises:
        TypeError: ``layer`` is not a Layer.
        ValueError: there is no such sequence or unit, or the sequence is empty.
    """
    steps, chosen = _of(layer, sequence, units)
    rows = ["ifgo", "ch"] if layer.cell == "lstm" else ["h"]
    width = COLUMN * (1 if len(chosen) == 1 else 0.62 * len(chosen))
    figure, axes = panels(len(rows), len(chosen), (width, 1.35 * len(rows) + 0.3))
    for column, unit in enumerate(chosen):
        for row, names in enumerate(rows):
            ax = axes[row, column]
            for k, name in enumerate(names):
                values = _values(layer, name, sequence)[:steps, unit]
                ax.plot(values, color=GATES[name], lw=1.1, ls="--" if name == "g" else "-", label=name)
                if column == len(chosen) - 1:
                    place = {"xycoords": "axes fraction", "annotation_clip": False, "va": "top"}
                    note(ax, 1.03, 1 - 0.17 * k, name, GATES[name], fontsize=points(ax), **place)
            ax.set_xlim(0, max(steps - 1, 1))
            if names == "ifgo":
                ax.set_ylim(-1.05, 1.05)
            ax.tick_params(labelbottom=row == len(rows) - 1)
        title(axes[0, column], f"unit {unit}")
        axes[-1, column].set_xlabel("step")
        counts(axes[-1, column])
    axes[0, 0].set_ylabel("gates" if layer.cell == "lstm" else "h")
    if layer.cell == "lstm":
        axes[1, 0].set_ylabel("state")
    return figure, axes


def saturation(saturated: GateSaturation) -> tuple[Any, Array]:
    """Draw how often each unit's gates are closed and open, as in Karpathy, Johnson & Fei-Fei 2015.

    Each unit is a circle. x is the fraction of steps at which the gate was below ``low`` (left-saturated), y
    the fraction above ``high`` (right-saturated). In the corners gates are switches; at the origin they never
    saturate.

    Args:
        saturated: of ``flow.gate_saturation``.

    Returns:
        The figure and an array of three Axes: i, f, o.

    Raises:
        TypeError: the argument is of another kind.
    """
    check_named("saturated", saturated, GateSaturation)
    figure, axes = panels(1, 3, (2 * COLUMN, 2.5))
    for name, ax in zip("ifo", axes[0], strict=True):
        closed, opened = getattr(saturated, f"{name}_closed"), getattr(saturated, f"{name}_open")
        ax.plot([0, 1], [1, 0], color=GREY, lw=0.6, zorder=1)
        ax.scatter(
            closed,
            opened,
            s=16,
            facecolor=GATES[name],
            alpha=0.45,
            edgecolor=GATES[name],
            lw=0.6,
            clip_on=False,
        )
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        ax.set_xlabel(f"fraction of steps {name} < {saturated.low:g}")
        title(ax, NAMES[name].split(":")[0])
    axes[0, 0].set_ylabel(f"fraction of steps > {saturated.high:g}")
    return figure, axes[0]


def saturation_bars(
    saturated: GateSaturation | Mapping[str, GateSaturation], *, ax: Axes | None = None
) -> tuple[Any, Axes]:
    """Draw how much of the time gates i, f and o are closed, between, and open: means over units, a bar each.

    Args:
        saturated: of ``flow.gate_saturation``, of one layer or of several by name.
        ax: where to draw; None: a figure of its own.

    Raises:
        TypeError: the argument is of another kind.
    """
    named = check_named("saturated", saturated, GateSaturation)
    rows = [(name, gate, found) for name, found in named.items() for gate in "ifo"]
    figure, ax = panel(ax, 0.75 + 0.2 * len(rows))
    for y, (_, gate, found) in enumerate(rows):
        closed, opened = (float(np.mean(getattr(found, f"{gate}_{state}"))) for state in ("closed", "open"))
        ax.barh(y, closed, color=GATES[gate], height=0.72, alpha=0.45)
        ax.barh(y, 1 - closed - opened, left=closed, color=PALE, height=0.72)
        ax.barh(y, opened, left=1 - opened, color=GATES[gate], height=0.72)
        _percent(ax, y, closed, 0.0, INK)
        _percent(ax, y, opened, 1 - opened, "white")
    low, high = rows[0][2].low, rows[0][2].high
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xticks=(0, 0.5, 1))
    ax.set_yticks(range(len(rows)), [f"{name}  {gate}".strip() for name, gate, _ in rows], parse_math=False)
    ax.set_xlabel(f"fraction: shut, < {low:g} (pale); open, > {high:g}")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure, ax


def _percent(ax: Axes, y: float, part: float, left: float, color: str) -> None:
    """Write a number into a bar that is wide enough for it."""
    if part >= 0.08:
        note(ax, left + part / 2, y, f"{part:.0%}", color, ha="center", va="center")


def _of(layer: Layer, sequence: int, units: Iterable[int] | None) -> tuple[int, list[int]]:
    """Return how many steps the sequence has, and the units, checked."""
    if not isinstance(layer, Layer):
        raise TypeError(
            f"layer: expected a Layer of a trace, as in trace[name].layers[0], got {type(layer).__name__}"
        )
    _, N, H = layer.h.shape
    check_index("sequence", sequence, N)
    chosen = list(range(H)) if units is None else [int(unit) for unit in units]
    if not chosen:
        raise ValueError("units: expected at least one, got none")
    for unit in chosen:
        check_index("units", unit, H)
    steps = int(layer.lengths[sequence])
    if not steps:
        raise ValueError(
            f"sequence: expected a sequence with at least 1 step, got {sequence}, which is empty"
        )
    return steps, chosen


def _values(layer: Layer, name: str, sequence: int) -> Array:
    """Return [T,H] in the order of time; of c and h the states after each step."""
    values: Array = getattr(layer, name)[:, sequence]
    return values[1:] if name in "ch" else values
