"""The picture of the classics: how many sequences each network needed, beside the published figures."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from undertow.app.classics.results import Results
from undertow.palette import GREY, INK, LSTM, RNN


def draw(results: Results, path: Path) -> None:
    """Draw the picture and write it as PNG.

    Args:
        results: The outcomes.
        path: The file; it is replaced.
    """
    settings = results.settings
    figure = Figure(figsize=(8.4, 1.3 + 0.34 * len(settings)), dpi=130, layout="constrained")
    axes = figure.subplots()
    place = {setting.row: k for k, setting in enumerate(settings)}
    for outcome in results.outcomes:
        if outcome.row not in place:
            continue
        is_lstm = outcome.cell == "LSTM"
        y = place[outcome.row] + (-0.14 if is_lstm else 0.17)
        color = LSTM if is_lstm else RNN
        if outcome.solved:
            axes.plot(outcome.sequences, y, "o", color=color, ms=6, alpha=0.75, mew=0)
        else:
            axes.plot(outcome.sequences, y, "x", color=color, ms=6, mew=1.6)
    for setting in settings:
        published = setting.posed.published.get(setting.steps)
        if published is not None:
            y = place[setting.row] - 0.14
            axes.plot(published, y, "D", mec=INK, mfc="white", ms=6, mew=1.3, zorder=1)
    axes.set(xscale="log", ylim=(len(settings) - 0.5, -0.5), xlabel="sequences trained on (log scale)")
    axes.set_yticks(range(len(settings)), [setting.row for setting in settings])
    axes.set_title("Until the paper's own criterion held", loc="left", fontsize=11, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.grid(axis="x", alpha=0.25)
    for k in range(len(settings)):
        axes.axhline(k, color=GREY, lw=0.5, alpha=0.3, zorder=0)
    figure.legend(handles=_key(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, format="png")


def _key() -> list[Line2D]:
    """What the marks mean."""
    marks = [
        ("o", LSTM, LSTM, "LSTM solved it"), ("D", INK, "white", "published, one sequence at a time"),
        ("o", RNN, RNN, "plain RNN solved it"), ("x", RNN, RNN, "not solved with so many"),
    ]  # fmt: skip
    return [
        Line2D([], [], ls="", marker=mark, mec=edge, mfc=face, ms=6, mew=1.4, label=label)
        for mark, edge, face, label in marks
    ]
