"""The picture of a run: its errors on the training and validation parts over the epochs."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from undertow.app.outputs import atomically
from undertow.app.runs.folder import Run
from undertow.app.runs.selection import best_of
from undertow.app.words import literal
from undertow.palette import BLUE, GREY, INK

TRAIN, VALIDATION, BASELINE = GREY, BLUE, INK


def draw(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write ``curve.png`` into the run folder.

    Args:
        run: The run.
        rows: Its metrics, at least one row.
    """
    figure = _learning_curve(run, rows)
    atomically(run.path("curve.png"), lambda path: _save(figure, path))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=150)


def _learning_curve(run: Run, rows: list[dict[str, Any]]) -> Figure:
    """Train and validation error by epoch, the best marked, baselines dashed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 3 else None
    axes.plot(epochs, [row["train"] for row in rows], color=TRAIN, label="training", marker=marker)
    axes.plot(
        epochs, [row["validation"] for row in rows], color=VALIDATION, label="validation", lw=2, marker=marker
    )
    best = best_of(run.training.select, rows)
    axes.plot(best["epoch"], best["validation"], "o", color=VALIDATION, ms=8, mfc="white", mew=2)
    axes.annotate(
        f"best {best['validation']:.3g}",
        (best["epoch"], best["validation"]),
        xytext=(0, 12),
        textcoords="offset points",
        ha="right",
        color=VALIDATION,
    )
    for name, value in run.baselines.items():
        axes.axhline(value, color=BASELINE, lw=1, ls="--")
        axes.text(epochs[0], value, f" {literal(name)}", color=BASELINE, va="bottom", fontsize=9)
    axes.margins(y=0.15)  # room for the word at the best evaluation
    axes.set(
        xlabel="epoch",
        ylabel=f"{run.unit} of {literal(', '.join(run.data.target))}" if run.data.target else run.unit,
    )
    axes.set_title(_title(run), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    # above the curves: matplotlib is slow at finding the best place among them, and warns of it
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    return figure


def _title(run: Run) -> str:
    what = literal(Path(run.data.source).name)
    return f"{what}: {run.model.cell.upper()}, H={run.model.hidden_size}, {run.model.num_layers} layer" + (
        "s" if run.model.num_layers > 1 else ""
    )
