"""The picture of a duel: error over training, and how much gradient is left by lag."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from undertow.app.demo.duel import ADDING, Array, Duel
from undertow.palette import GREY, INK, LSTM, RNN

ROUNDING = 2.0**-24  # float32: a smaller term than this share of a sum does not change the sum


def draw(duel: Duel, after: dict[str, Array], path: Path) -> None:
    """Draw the picture and write it as PNG.

    Args:
        duel: The networks and their evaluations.
        after: Their reach after training, as of ``Duel.reach``.
        path: The file; it is replaced, and its folder is made.
    """
    figure = Figure(figsize=(11.5, 4.8), dpi=160)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08, wspace=0.04)
    error, gradient = figure.subplots(1, 2)
    figure.suptitle(
        f"The adding problem: remember two numbers among {duel.lag}, then say their sum",
        x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK,
    )  # fmt: skip
    _draw_error(error, duel)
    _draw_gradient(gradient, duel, after)
    for axes in (error, gradient):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=INK, which="both", labelsize=9)
        axes.xaxis.label.set_color(INK)
        axes.grid(axis="y", alpha=0.18)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_error(axes: Axes, duel: Duel) -> None:
    """Mean square error on fresh sequences over training steps, both networks, and guessing."""
    axes.axhline(ADDING.baseline, color=INK, lw=1, ls=(0, (4, 3)), zorder=3)
    for kind, color in (("RNN", RNN), ("LSTM", LSTM)):
        axes.plot(duel.at, [v.error for v in duel.seen[kind]], color=color, lw=2.2)
    end, last = duel.at[-1], {kind: seen[-1].error for kind, seen in duel.seen.items()}
    axes.set(yscale="log", xlim=(0, max(end, 1)), xlabel="training steps (64 sequences each)")
    axes.set_title("Mean square error on sequences never trained on", loc="left", fontsize=11, color=INK)
    _label(axes, end, last["LSTM"], "LSTM", LSTM)
    _label(axes, end, last["RNN"], "plain RNN", RNN, dy=9)
    _label(axes, end, ADDING.baseline, "guessing\nthe mean: 1/6", INK, dy=-14, weight="normal")


def _draw_gradient(axes: Axes, duel: Duel, after: dict[str, Array]) -> None:
    """Gradient of each state by lag, trained (full) and before training (dotted)."""
    lags = range(duel.lag + 1)
    colors = {"LSTM c": LSTM, "LSTM h": LSTM, "RNN h": RNN}
    for state, color in colors.items():
        axes.plot(lags, after[state], color=color, lw=2.2 if state != "LSTM h" else 1.2)
        if state != "LSTM h":
            axes.plot(lags, duel.reach_before[state], color=color, lw=1.2, ls=":")
    axes.set(yscale="log", xlim=(0, duel.lag), xlabel="lag: steps back from the error")
    axes.set_title(
        "Size of the error's gradient by lag, relative to lag 0", loc="left", fontsize=11, color=INK
    )
    _label(axes, duel.lag, after["LSTM c"][-1], "LSTM, cell state", LSTM, dy=5)
    _label(axes, duel.lag, after["LSTM h"][-1], "LSTM, hidden state", LSTM, dy=-4, weight="normal")
    _label(axes, duel.lag, after["RNN h"][-1], "plain RNN,\nhidden state", RNN)
    bottom = axes.get_ylim()[0]
    if bottom < ROUNDING:
        axes.axhspan(bottom, ROUNDING, color=GREY, alpha=0.10, lw=0)
        axes.set_ylim(bottom=bottom)
        note = "lost in float32 rounding"
        axes.text(duel.lag * 0.98, ROUNDING / 3, note, color=GREY, fontsize=9, ha="right", va="top")
    axes.text(0.02, 0.03, "dotted: before training", color=INK, fontsize=9, transform=axes.transAxes)


def _label(
    axes: Axes, x: float, y: float, text: str, color: str, dy: float = 0, weight: str = "bold"
) -> None:
    """A name at the right end of a line, in the line's colour."""
    axes.annotate(
        text, (x, y), xytext=(7, dy), textcoords="offset points",
        color=color, fontsize=9.5, fontweight=weight, va="center", annotation_clip=False,
    )  # fmt: skip
