"""What all figures share: sizes, axes, and names at the ends of lines."""

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
POINTS = 8  # of labels; ticks are one smaller


def panels(rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None) -> tuple[Figure, Array]:
    """A figure and its empty panels, an array [rows, columns] of Axes, for functions that take ``ax``.

    ``size``: inches, wide and high; None: each panel a column wide and 2.3 inches high.
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
    """The axes given, with the figure they are in, or new ones."""
    if ax is not None:
        return ax.figure, ax
    figure, axes = panels(size=(width, height))
    return figure, axes[0, 0]


def points(ax: Axes) -> float:
    """The size of the axes' labels, which texts follow: that of POINTS, or of the reader's own style."""
    return float(ax.xaxis.label.get_fontsize())


def title(ax: Axes, text: str) -> None:
    """Left, no larger than the labels."""
    ax.set_title(text, loc="left", fontsize=points(ax), color=INK)


def note(ax: Axes, x: float, y: float, text: str, color: str = INK, **options: Any) -> None:
    """A small text in the data's coordinates."""
    style: dict[str, Any] = {"fontsize": points(ax) - 1, "color": color}
    ax.annotate(text, (x, y), **(style | options))


def guide(ax: Axes, y: float, text: str = "") -> None:
    """A dotted horizontal line, named above its right end."""
    ax.axhline(y, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=1)
    if text:
        place = {"xycoords": ax.get_yaxis_transform(), "xytext": (-1, 1.5), "textcoords": "offset points"}
        note(ax, 1, y, text, GREY, ha="right", **place)


def end_labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """A name right of each line's end, (x, y, name, colour), moved up or down as far as they would overlap.

    Call it when the limits of y are final.
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


def powers_of_ten(ax: Axes) -> None:
    """Of an axis that holds log10: ticks at whole powers, written so. Reaches further than floats do."""
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "1" if y == 0 else rf"$10^{{{y:.0f}}}$"))


def logarithmic(ax: Axes) -> None:
    """The axis of y: powers of ten, where there are few 2 and 5 too, in figures. Once limits are set."""
    low, high = ax.get_ylim()
    few = high / low < 1000
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if few:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def band(ax: Axes, x: Array, values: Array, color: str, lw: float = 1.4) -> Array:
    """The median over sequences of ``values`` [L,N] as a line, the quartiles as a band; the median [L].

    What is no finite number is left out.
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
    """The last point that a line has."""
    there = np.flatnonzero(np.isfinite(y))
    return (float(x[there[-1]]), float(y[there[-1]])) if len(there) else None


# ------------------------------------------------------------------------------ arguments


def check_index(name: str, index: int, count: int) -> None:
    if not -count <= index < count:
        raise ValueError(f"{name}: expected 0 to {count - 1}, got {index}")


def check_named(name: str, given: Any, kind: type[Result]) -> dict[str, Result]:
    """``given`` as a dict of ``kind`` by name; one alone has no name."""
    named = dict(given) if isinstance(given, Mapping) else {"": given}
    if not named:
        raise ValueError(f"{name}: expected at least one {kind.__name__}, got none")
    for found in named.values():
        if not isinstance(found, kind):
            wanted = f"a {kind.__name__}, or a dict of them by name"
            raise TypeError(f"{name}: expected {wanted}, got {type(found).__name__}")
    return named
