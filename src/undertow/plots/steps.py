"""Single steps and the long run: four terms, eigenvalues of the state's Jacobian, Lyapunov exponents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from undertow import flow
from undertow.palette import BLUE, GREEN, GREY, INK, LINES, ORANGE, PURPLE
from undertow.plots.style import (
    Array,
    check_index,
    check_named,
    counts,
    end_labels,
    guide,
    last,
    panel,
    points,
    title,
)
from undertow.tape import RNNTape, Tape

BLOCK = 1 << 22  # entries, 32 MiB, of the matrices of the steps that are computed at a time
TERMS = {"direct: f": BLUE, "through f": ORANGE, "through i": GREEN, "through g": PURPLE, "all four": INK}


def four_terms(
    tape: Tape, weight_hh: npt.ArrayLike, sequence: int = 0, *, ax: Axes | None = None
) -> tuple[Any, Axes]:
    """Draw the norms of the four terms of ∂c_t/∂c_{t−1}, o_{t−1} held fixed, at every step of one sequence.

    They are Frobenius norms over √H, so that the identity has 1, of ``flow.step_terms``. "direct" is diag(f);
    the others go through h_{t−1} and one of the gates. The sum is exact for one step. Its product over steps,
    the textbook chain, is not the derivative; ``departure`` draws the difference. Steps are in the order of
    processing.

    Args:
        tape: of an LSTM.
        weight_hh: [4H,H].
        sequence: its index in the batch.
        ax: where to draw; None: a figure of its own.

    Raises:
        TypeError: ``tape`` is not a tape.
        ValueError: an argument does not fit, or something was added to the tape's equations.
    """
    only = _only(tape, sequence)
    found: dict[str, list[Array]] = {name: [] for name in TERMS}
    for t, s in _blocks(only, only.h.shape[2] ** 2):
        terms = flow.step_terms(only, weight_hh, t, s)
        found["direct: f"].append(np.linalg.norm(terms.direct[:, 0], axis=-1))
        for name, term in zip(
            list(TERMS)[1:], (terms.through_f, terms.through_i, terms.through_g, terms.total), strict=True
        ):
            found[name].append(np.linalg.norm(term[:, 0], axis=(1, 2)))
    figure, ax = panel(ax)
    ends = []
    for name, color in TERMS.items():
        norm = np.concatenate(found[name]) / np.sqrt(only.h.shape[2])
        steps = np.arange(1, len(norm) + 1)
        ax.plot(
            steps,
            norm,
            color=color,
            lw=1.0 if name == "all four" else 1.4,
            ls=":" if name == "all four" else "-",
        )
        end = last(steps, norm)
        ends += [] if end is None else [(*end, name, color)]
    ax.set_xlim(1, max(2, len(only.h) - 1))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step t")
    counts(ax)
    ax.grid(axis="y", alpha=0.2, lw=0.5)
    ax.set_ylabel("norm / √H")
    title(ax, "∂c$_t$/∂c$_{t−1}$ of one step by its four terms")
    end_labels(ax, ends)
    return figure, ax


def eigenvalues(
    tape: Tape | RNNTape,
    weight_hh: npt.ArrayLike,
    sequence: int = 0,
    *,
    steps: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> tuple[Any, Axes]:
    """Draw eigenvalues of the full state Jacobian ∂(h_t,c_t)/∂(h_{t−1},c_{t−1}) and the unit circle.

    For a plain RNN the Jacobian is ∂h_t/∂h_{t−1}. If the step were repeated, a direction inside the circle
    would fade and one outside would grow; for products of different steps see ``lyapunov``. O(H³) for each
    step.

    Args:
        tape: of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        sequence: its index in the batch.
        steps: which steps, from 0, in the order of processing; None: eight, spread over the sequence to its
            last.
        ax: where to draw; None: a figure of its own.

    Raises:
        TypeError: ``tape`` is not a tape.
        ValueError: an argument does not fit, or something was added to the tape's equations.
    """
    only = _only(tape, sequence)
    T = len(only.h) - 1
    chosen = _chosen_steps(steps, T)
    found = np.stack(
        [np.linalg.eigvals(flow.state_jacobian(only, weight_hh, k, k + 1)[0, 0]) for k in chosen]
    )
    figure, ax = panel(ax, 2.9)
    turn = np.linspace(0, 2 * np.pi, 400)
    ax.plot(np.cos(turn), np.sin(turn), color=INK, lw=0.8)
    ax.axhline(0, color=GREY, lw=0.4)
    ax.axvline(0, color=GREY, lw=0.4)
    hue = np.repeat(chosen, found.shape[1])
    dots = ax.scatter(
        found.real, found.imag, c=hue, cmap="cividis", s=7, alpha=0.75, lw=0, vmin=0, vmax=max(T - 1, 1)
    )
    reach = 1.08 * max(1.0, float(np.abs(found).max()))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="real", ylabel="imaginary")
    _step_colours(figure, ax, dots)
    title(
        ax,
        "Eigenvalues of ∂h$_t$/∂h$_{t−1}$"
        if isinstance(tape, RNNTape)
        else "Eigenvalues of the full state Jacobian",
    )
    return figure, ax


def _chosen_steps(steps: Sequence[int] | None, T: int) -> list[int]:
    """Check the steps to draw; by default take eight, spread over the sequence."""
    if steps is None:
        return sorted(set(np.linspace(0, T - 1, 8).round().astype(int)))
    for k in steps:
        if not 0 <= k < T:
            raise ValueError(f"steps: expected 0 to {T - 1}, got {k}")
    return [int(k) for k in steps]


def _step_colours(figure: Any, ax: Axes, dots: Any) -> None:
    """Draw the colour bar that tells which colour is which step."""
    bar = figure.colorbar(dots, ax=ax, pad=0.02, aspect=30)
    bar.solids.set(alpha=1)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=points(ax) - 1, length=0, colors=INK)
    bar.set_label("step", fontsize=points(ax), color=INK)


def lyapunov(
    exponents: flow.Lyapunov | Mapping[str, flow.Lyapunov], *, ax: Axes | None = None
) -> tuple[Any, Axes]:
    """Draw the spectrum of Lyapunov exponents, per step, leading first.

    Dots are means over sequences, bars extend from the smallest to the largest. Below 0 small changes fade in
    the long run, above 0 they grow.

    Args:
        exponents: of ``flow.lyapunov``, of one network or several by name.
        ax: where to draw; None: a figure of its own.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is nothing to draw.
    """
    named = check_named("exponents", exponents, flow.Lyapunov)
    figure, ax = panel(ax)
    ends, most = [], max(found.exponents.shape[1] for found in named.values())
    for k, (name, found) in enumerate(named.items()):
        values = found.exponents[
            np.isfinite(found.exponents).all(axis=1)
        ]  # a sequence without steps has none
        if not len(values):
            continue
        mean, at = values.mean(axis=0), np.arange(1, values.shape[1] + 1)
        spread = np.abs(np.stack([values.min(axis=0), values.max(axis=0)]) - mean)
        color, marker = LINES[k % len(LINES)], "o" if most <= 40 else None
        ax.errorbar(at, mean, yerr=spread, color=color, lw=1.2, elinewidth=0.6, marker=marker, ms=3)
        ends += [(float(at[-1]), float(mean[-1]), name, color)] if name else []
    ax.margins(y=0.1)
    guide(ax, 0, "neither fades nor grows")
    ax.set_xlim(0.5, most + 0.5)
    ax.set_xlabel("exponent, leading first")
    title(ax, "Lyapunov exponents of the whole state, per step")
    end_labels(ax, ends)
    return figure, ax


def _only(tape: Tape | RNNTape, sequence: int) -> Any:
    """Return the tape of one sequence, without padding."""
    if not isinstance(tape, Tape | RNNTape):
        raise TypeError(f"tape: expected a Tape, as in trace[name].layers[0].tape, got {type(tape).__name__}")
    T, N = len(tape.h) - 1, tape.h.shape[1]
    check_index("sequence", sequence, N)
    n = T if tape.lengths is None else int(tape.lengths[sequence])
    if not n:
        raise ValueError(
            f"sequence: expected a sequence with at least 1 step, got {sequence}, which is empty"
        )
    first = T - n if tape.reverse else 0
    only = tape.of(np.array([sequence]))

    def states(a: Array) -> Array:
        return np.concatenate([a[:1], a[first + 1 : first + n + 1]])

    if isinstance(only, RNNTape):
        return replace(only, h=states(only.h), lengths=None)
    gates = only.gates[first : first + n]
    return replace(only, gates=gates, h=states(only.h), c=states(only.c), lengths=None)


def _blocks(tape: Tape, entries: int) -> Iterator[tuple[int, int]]:
    """Yield (t, s) from state 0 to the last, such that ``entries`` times s−t stays below BLOCK."""
    T, size = len(tape.h) - 1, max(1, BLOCK // max(1, entries))
    for t in range(0, T, size):
        yield t, min(t + size, T)
