"""Elements that all figures share: sizes, axes, names at the ends of lines, checks of arguments."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from undertow.palette import GREY, INK

Array = npt.NDArray[Any]
Result = TypeVar("Result")

COLUMN = 3.4  # inches: a column of a paper, 86 mm
POINTS = 8  # size of labels; those of ticks are one smaller


def panels(rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None) -> tuple[Figure, Array]:
    """Make a figure with empty panels, for functions that take ``ax``.

    Args:
        rows: number of rows.
        columns: number of columns.
        size: width and height in inches; None: each panel is 3.4 inches (86 mm) wide and 2.3 inches high.

    Returns:
        The figure, and an array [rows, columns] of Axes.
    """
    size = size or (COLUMN * columns, 2.3 * rows)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.tick_params(which="both", labelsize=POINTS - 1, colors=INK, width=0.6, length=2.5)
        ax.tick_params(which="minor", length=1.5)
        ax.spines[:].set(color=GREY, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set(size=POINTS, color=INK)
            axis.offsetText.set_size(POINTS - 1)
    return figure, axes


def panel(ax: Axes | None, height: float = 2.3, width: float = COLUMN) -> tuple[Any, Axes]:
    """Return the given axes with their figure, or make new ones.

    Args:
        ax: the axes; None: new ones.
        height: height of a new figure in inches.
        width: width of a new figure in inches.

    Returns:
        The figure and the axes.
    """
    if ax is not None:
        return ax.figure, ax
    figure, axes = panels(size=(width, height))
    return figure, axes[0, 0]


def points(ax: Axes) -> float:
    """Return the size of the axes' labels, which all texts follow.

    Args:
        ax: the axes; they may have the style of the caller.

    Returns:
        The size in points.
    """
    return float(ax.xaxis.label.get_fontsize())


def title(ax: Axes, text: str) -> None:
    """Write a title at the left, in the size of the labels.

    Args:
        ax: the axes.
        text: the title.
    """
    ax.set_title(text, loc="left", fontsize=points(ax), color=INK)


def note(ax: Axes, x: float, y: float, text: str, color: str = INK, **options: Any) -> None:
    """Write a small text.

    Args:
        ax: the axes.
        x: horizontal position in the coordinates of the data.
        y: vertical position in the coordinates of the data.
        text: the text.
        color: its colour.
        **options: further arguments of ``Axes.annotate``.
    """
    style: dict[str, Any] = {"fontsize": points(ax) - 1, "color": color}
    ax.annotate(text, (x, y), **(style | options))


def guide(ax: Axes, y: float, text: str = "") -> None:
    """Draw a dotted horizontal line.

    Args:
        ax: the axes.
        y: position of the line.
        text: its name, above its right end; "" for none.
    """
    ax.axhline(y, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=1)
    if text:
        place = {"xycoords": ax.get_yaxis_transform(), "xytext": (-1, 1.5), "textcoords": "offset points"}
        note(ax, 1, y, text, GREY, ha="right", **place)


def end_labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Write a name to the right of each line's end. Names that would overlap move up or down.

    Args:
        ax: the axes, whose limits of y are final.
        ends: for each line x and y of its end, its name and its colour.
    """
    found = sorted(ends, key=lambda end: end[1])
    if not found:
        return
    height = ax.get_window_extent().height * 72 / ax.figure.dpi  # in points
    to_points = ax.transScale.transform([(1, y) for _, y, *_ in found])[:, 1]
    low, high = ax.transScale.transform([(1, y) for y in ax.get_ylim()])[:, 1]
    wanted = (to_points - low) / (high - low) * height
    lines = np.array([1 + name.count("\n") for *_, name, _ in found])
    gap = 1.25 * points(ax) * (lines[:-1] + lines[1:]) / 2
    placed = wanted.copy()
    for _ in range(100):
        overlap = gap - np.diff(placed)
        if np.all(overlap <= 1e-9):
            break
        push = np.where(overlap > 0, overlap / 2, 0)
        placed[:-1] -= push
        placed[1:] += push
    right = max(end[0] for end in found)
    for (_, y, name, color), dy in zip(found, placed - wanted, strict=True):
        beside = {"xytext": (4, float(dy)), "textcoords": "offset points", "va": "center"}
        # a name is no formula, whatever dollars it holds
        note(
            ax, right, y, name, color, fontsize=points(ax), annotation_clip=False, parse_math=False, **beside
        )


def counts(ax: Axes) -> None:
    """Label the axis of x, which counts steps or lags, at whole numbers.

    Args:
        ax: the axes.
    """
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def powers_of_ten(ax: Axes) -> None:
    """Label the axis of y, which holds log10 of the data, with powers of ten.

    Such an axis also shows powers that a float cannot hold.

    Args:
        ax: the axes.
    """
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "1" if y == 0 else rf"$10^{{{y:.0f}}}$"))


def logarithmic(ax: Axes) -> None:
    """Label the logarithmic axis of y at powers of ten; within three powers, at 2 and 5 times these as well.

    Args:
        ax: the axes, whose limits are set.
    """
    low, high = ax.get_ylim()
    few = high / low < 1000
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if few:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def band(ax: Axes, x: Array, values: Array, color: str, lw: float = 1.4) -> Array:
    """Draw the median over sequences as a line and the quartiles as a band.

    Args:
        ax: the axes.
        x: [L], horizontal positions.
        values: [L,N]; numbers that are not finite are left out.
        color: the colour of line and band.
        lw: the width of the line in points.

    Returns:
        The median, [L]; NaN where no number is finite.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    some = np.isfinite(finite).any(axis=1)
    low, middle, high = np.full((3, len(finite)), np.nan)
    if some.any():
        low[some], middle[some], high[some] = np.nanquantile(finite[some], (0.25, 0.5, 0.75), axis=1)
    if values.shape[1] > 1:
        ax.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
    ax.plot(x, middle, color=color, lw=lw, solid_capstyle="round")
    return middle


def last(x: Array, y: Array) -> tuple[float, float] | None:
    """Find the last finite point of a line.

    Args:
        x: [L], horizontal positions.
        y: [L], vertical positions.

    Returns:
        The point; None if there is none.
    """
    there = np.flatnonzero(np.isfinite(y))
    return (float(x[there[-1]]), float(y[there[-1]])) if len(there) else None


# ------------------------------------------------------------------------------ arguments


def check_index(name: str, index: int, count: int) -> None:
    """Check an index; negative ones count from the end.

    Args:
        name: the name of the argument.
        index: its value.
        count: the number of entries.

    Raises:
        ValueError: there is no such entry.
    """
    if not -count <= index < count:
        raise ValueError(f"{name}: expected 0 to {count - 1}, got {index}")


def check_named(name: str, given: Any, kind: type[Result]) -> dict[str, Result]:
    """Check an argument that is one result or several by name.

    Args:
        name: the name of the argument.
        given: a result, or a dict of results by name.
        kind: the type of a result.

    Returns:
        A dict of results by name; a single result has the name "".

    Raises:
        TypeError: a result is of another type.
        ValueError: the dict is empty.
    """
    named = dict(given) if isinstance(given, Mapping) else {"": given}
    if not named:
        raise ValueError(f"{name}: expected at least one {kind.__name__}, got none")
    for found in named.values():
        if not isinstance(found, kind):
            wanted = f"a {kind.__name__}, or a dict of them by name"
            raise TypeError(f"{name}: expected {wanted}, got {type(found).__name__}")
    return named
