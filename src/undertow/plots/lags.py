"""Gradients by lag: how far an error reaches back, and where the textbook chain differs from the truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from undertow import flow
from undertow.palette import BLUE, GREEN, LINES, ORANGE
from undertow.plots.style import (
    Array,
    band,
    check_named,
    counts,
    end_labels,
    guide,
    last,
    logarithmic,
    panel,
    powers_of_ten,
    title,
)

Colors = Mapping[str, str]


def gradient_by_lag(
    gradients: flow.GradientByLag | Mapping[str, flow.GradientByLag],
    *,
    ax: Axes | None = None,
    colors: Colors | None = None,
) -> tuple[Any, Axes]:
    """Draw how much of an error's gradient is left k steps back, relative to its size at lag 0.

    It is the true gradient, along every path of the whole state: ‖∂E_s/∂c_{s−k}‖ of an LSTM, ‖∂E_s/∂h_{s−k}‖
    of a plain RNN. The line is the median over sequences, the quartiles are shaded; 1/e and 1 % are dotted.
    The axis is in powers of ten and shows values that float64 cannot hold, such as 10⁻⁵⁰⁰.

    Args:
        gradients: of ``flow.gradient_by_lag``, of one network or several by name.
        ax: where to draw; None: a figure of its own.
        colors: by name.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is nothing to draw.
    """
    named = check_named("gradients", gradients, flow.GradientByLag)
    figure, ax = panel(ax)
    drawn = {}
    for k, (name, by_lag) in enumerate(named.items()):
        log_norm = by_lag.log_dh_norm if by_lag.log_dc_norm is None else by_lag.log_dc_norm
        with np.errstate(invalid="ignore"):  # a gradient that is zero at lag 0
            relative = (log_norm - log_norm[0]) / np.log(10)
        drawn[name] = relative, _color(colors, name, k)
    ends = _lines(ax, drawn)
    states = {"∂E/∂h" if by_lag.log_dc_norm is None else "∂E/∂c" for by_lag in named.values()}
    title(ax, f"True gradient ‖{'‖ or ‖'.join(sorted(states))}‖ by lag")
    ax.set_ylabel("of lag 0's")
    low, high = ax.get_ylim()
    for fraction, text in ((1 / np.e, "1/e"), (0.01, "1 %")):
        guide(ax, np.log10(fraction), text if high - low < 12 or fraction == 0.01 else "")
    powers_of_ten(ax)
    end_labels(ax, ends)
    return figure, ax


def three_gradients(
    departure: flow.Departure, carousel: flow.Carousel, *, ax: Axes | None = None, log: bool = False
) -> tuple[Any, Axes]:
    """Draw the three gradients called ∂c_s/∂c_{s−k}, by lag k: Frobenius norms relative to the identity's.

    They are the truth, along every path (``flow.cell_product``); the textbook chain, which is not the
    derivative; and the carousel, along the cell alone. Lines are medians over sequences, quartiles are
    shaded.

    Args:
        departure: of ``flow.departure``.
        carousel: of ``flow.carousel``, of the same tape.
        ax: where to draw; None: a figure of its own.
        log: draw the axis in powers of ten.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the two are not of one tape.
    """
    check_named("departure", departure, flow.Departure)
    check_named("carousel", carousel, flow.Carousel)
    if carousel.f.shape[1] != len(departure.s):
        raise ValueError(f"carousel: expected {len(departure.s)} sequences, got {carousel.f.shape[1]}")
    norms = {
        "truth": (departure.log_true_norm, BLUE),
        "textbook chain,\nnot the derivative": (departure.log_chain_norm, ORANGE),
        "carousel": (_carousel_by_lag(departure, carousel), GREEN),
    }
    figure, ax = panel(ax)
    relative = {
        name: ((norm - norm[0]) / np.log(10) if log else np.exp(norm - norm[0]), color)
        for name, (norm, color) in norms.items()
    }
    ends = _lines(ax, relative)
    if log:
        powers_of_ten(ax)
    else:
        ax.set_ylim(bottom=0)
    title(ax, "‖∂c$_s$/∂c$_{s−k}$‖ by three formulas")
    ax.set_ylabel("of lag 0's")
    end_labels(ax, ends)
    return figure, ax


def departure(
    departures: flow.Departure | Mapping[str, flow.Departure],
    *,
    ax: Axes | None = None,
    colors: Colors | None = None,
) -> tuple[Any, Axes]:
    """Draw how far the textbook chain, which is not the derivative, is from the truth, by lag.

    It is ‖chain − truth‖/‖truth‖ from lag 2 on; at lag 1 the two are equal. The line is the median over
    sequences, quartiles are shaded. At the dotted 1 the error is as large as the truth.

    Args:
        departures: of ``flow.departure``, of one network or several by name.
        ax: where to draw; None: a figure of its own.
        colors: by name.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is nothing to draw.
    """
    named = check_named("departures", departures, flow.Departure)
    figure, ax = panel(ax)
    drawn = {}
    for k, (name, found) in enumerate(named.items()):
        error = np.where(found.relative_error > 0, found.relative_error, np.nan)
        error[:2] = np.nan
        drawn[name] = error, _color(colors, name, k)
    ax.set_yscale("log")
    ends = _lines(ax, drawn)
    guide(ax, 1)
    logarithmic(ax)
    title(ax, "Textbook chain, not the derivative")
    ax.set_ylabel("‖chain − truth‖ / ‖truth‖")
    end_labels(ax, ends)
    return figure, ax


def _lines(ax: Axes, named: Mapping[str, tuple[Array, str]]) -> list[tuple[float, float, str, str]]:
    """Draw a band for each [lag,N] over the lag; return where to write their names."""
    ends = []
    for name, (values, color) in named.items():
        lags = np.arange(len(values))
        end = last(lags, band(ax, lags, values, color))
        if end is not None and name:
            ends.append((*end, name, color))
    ax.set_xlim(0, max(len(values) - 1 for values, _ in named.values()))
    ax.set_xlabel("lag k: steps back")
    counts(ax)
    ax.grid(axis="y", alpha=0.2, lw=0.5)
    return ends


def _carousel_by_lag(departure: flow.Departure, carousel: flow.Carousel) -> Array:
    """Return log of the Frobenius norm of Π diag(f) by lag, [L+1,N]; NaN where the truth is."""
    found = np.full_like(departure.log_true_norm, np.nan)
    for n, s in enumerate(departure.s):
        logs = carousel.log_products_to(int(s))[::-1, n]  # [s+1,H], by lag
        norm = np.logaddexp.reduce(2 * logs, axis=-1) / 2
        there = np.isfinite(departure.log_true_norm[: len(norm), n])
        found[: len(there), n] = np.where(there, norm[: len(there)], np.nan)
    return found


def _color(colors: Colors | None, name: str, k: int) -> str:
    return (colors or {}).get(name, LINES[k % len(LINES)])
