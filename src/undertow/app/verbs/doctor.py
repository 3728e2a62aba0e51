"""``undertow doctor``: what is wrong with a trained network, with the evidence and what to try."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.app.reading.watch import Watched
    from undertow.doctor import Training

SEQUENCES = 16  # read by default: enough for medians, and seconds of work


def doctor(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    lag: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Steps between what must be remembered and the answer. (default: known of a problem only)",
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE|TEXT",
            help="What to read: a file, or for a language model a text. "
            "(default: what it was trained on, of that the part held back)",
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Sequences that the network reads.")
    ] = SEQUENCES,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page. (default: RUN/doctor.html)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file in --output.")] = False,
) -> None:
    """Say what is wrong with a trained network, and what to try.

    The network reads some sequences, forward and backward; every check is made
    on what its gates, cells and gradients did, and on how the training went. Each
    finding comes with its evidence, on the terminal and on a page of its own.
    RUN/doctor.html is written anew each time; another file only with
    --overwrite.

    The exit code is 0 whatever is found.
    """
    from undertow.app.inputs import check_input
    from undertow.app.outputs import check_output
    from undertow.app.runs.folder import DOCTOR
    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_run

    path = run / DOCTOR if output is None else output
    opened = open_run(run)
    check_output(path, (".html", ".htm"), overwrite or output is None)
    check_input(opened.data.task, opened.data.source, input)
    from undertow import diagnose
    from undertow.app.reading import doctor_page, doctor_view
    from undertow.app.reading.watch import watch

    console = Terminal()
    with console.status("reading, forward and backward"):
        watched = watch(opened, input, sequences=sequences)
        diagnosis = diagnose(
            watched.trace, watched.model, lag=lag or known_lag(watched), training=training_of(watched)
        )
    doctor_view.show(console, watched, diagnosis)
    doctor_page.write(path, watched, diagnosis)
    console.print(f"\nWith pictures in {path}", soft_wrap=True)


def known_lag(watched: "Watched") -> int | None:
    """The lag of a built-in problem that asks once, at the end; of anything else it is not known."""
    run = watched.run
    return run.data.steps if run.data.task == "problem" and run.model.readout == "last" else None


def training_of(watched: "Watched") -> "Training":
    """How the run's training went, and the loss of the best guess that needed no learning."""
    from undertow.doctor import Training

    run = watched.run
    loss, name = _guess(watched)
    return Training(run.read_metrics(), run.training.clip, loss, name)


def _guess(watched: "Watched") -> tuple[float | None, str]:
    """The loss, in the unit of the run's losses, of the best baseline that needs no learning, and its name.

    Of symbols their frequencies in what was read; of a problem that asks at every step those at that step,
    which takes a clock and no memory; of classes the share of the commonest, where the others are taken to be
    alike, which is what the run knows of them. None where nothing is known.
    """
    import numpy as np

    from undertow.app.data.problem import ProblemTask

    run, kind = watched.run, watched.objective.kind
    known = {name: value for name, value in run.baselines.items() if math.isfinite(value)}
    if run.data.task == "text":
        _, counts = np.unique(watched.reading.batch.y.numpy(), return_counts=True)
        return _surprise(counts[None]), "knowing how frequent each character is"
    if run.data.task == "problem" and run.model.readout == "every":
        by_step = ProblemTask(run.data, 1, run.training.seed).frequencies().numpy()
        return _surprise(by_step), "knowing how frequent each class is at each step"
    if not known:
        return None, ""
    if kind == "accuracy":
        p, others = max(known.values()), run.model.outputs - 1
        if not 0 < p < 1:
            return None, ""
        return -p * math.log(p) - (1 - p) * math.log((1 - p) / others), "knowing how frequent each class is"
    name = min(known, key=lambda name: known[name])
    called = name if name == "persistence" else f"the {name}"
    return (known[name] / watched.objective.scale) ** 2, called


def _surprise(counts: "NDArray[np.int64]") -> float:
    """Mean cross-entropy, in nats, of the frequencies in each row of counts [rows,classes]."""
    import numpy as np

    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    log = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(-(counts * log).sum() / counts.sum())
