"""``undertow doctor``: what is wrong with a trained network, with the evidence and what to try."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.app.inputs import Column, Input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.app.reading.watch import Watched
    from undertow.app.runs.folder import Run
    from undertow.doctor import Training

SEQUENCES = 16  # enough for medians, and read in seconds


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Folder of a run, or a network's file.")],
    lag: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Steps between what must be remembered and the answer. (default: a problem's own lag)",
        ),
    ] = None,
    input: Input = None,
    column: Column = None,
    sequences: Annotated[int, typer.Option(min=1, max=1_000_000, help="Sequences to read.")] = SEQUENCES,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page. (default: RUN/doctor.html, or FILE.doctor.html)"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file in --output.")] = False,
) -> None:
    """Say what is wrong with a trained network, and what to try.

    The network reads some sequences, forward and backward. The checks judge its
    gates, cells and gradients, and how the training went. Each finding comes with
    its evidence, on the terminal and on a page. RUN/doctor.html is replaced each
    time; another file is replaced only with --overwrite.

    FILE is a network of another program: Keras, ONNX, a state dict, NAM and
    others. It reads --input, a table of numbers or a WAV file, in pieces. There
    are no labels, so the gradients are those of the outputs.

    The exit code is 0 whatever is found.
    """
    from undertow.app.inputs import refuse_columns
    from undertow.app.reading import asked
    from undertow.app.runs.device import chosen
    from undertow.app.runs.folder import DOCTOR
    from undertow.app.training.leftovers import open_network

    kind = chosen(device)
    if run.is_file():
        _examine_file(run, input, column or [], sequences, lag, kind, output, overwrite)
        return
    refuse_columns(column)
    opened = open_network(run)
    opened.device = kind
    page = asked.page_of(opened, run / DOCTOR, input, output, overwrite)
    if asked.without_target(opened, input):
        _examine_file(run, input, [], sequences, lag, kind, page, True)
        return
    _examine(opened, input, sequences, lag, page)


def _examine(run: "Run", given: str | None, sequences: int, lag: int | None, page: Path) -> None:
    """Let the run's model read, then print the diagnosis and write its page."""
    from undertow import diagnose
    from undertow.app.reading import doctor_page, doctor_view
    from undertow.app.reading.watch import watch
    from undertow.app.terminal import Terminal

    console = Terminal()
    with console.status("reading, forward and backward"):
        watched = watch(run, given, sequences=sequences)
        diagnosis = diagnose(
            watched.trace, watched.model, lag=lag or known_lag(watched), training=training_of(watched)
        )
    subject = doctor_view.subject(watched)
    doctor_view.show(console, subject, diagnosis)
    doctor_page.write(page, subject, diagnosis)
    console.print(f"\nWith pictures in {page}", soft_wrap=True)


def _examine_file(
    file: Path,
    given: str | None,
    columns: list[str],
    sequences: int,
    lag: int | None,
    device: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Let the network of another program read, then print the diagnosis and write its page."""
    from undertow.app.inputs import check_needed
    from undertow.app.outputs import check_page

    page = check_page(output, file.with_name(f"{file.name}.doctor.html"), overwrite)
    data = check_needed(file, given)
    from undertow import diagnose
    from undertow.app.reading import doctor_page, doctor_view, foreign
    from undertow.app.terminal import Terminal

    console = Terminal()
    with console.status("reading, forward and backward"):
        network = foreign.open_file(file)
        read = foreign.read(data, network, columns=columns, sequences=sequences)
        seen = foreign.observe(file, network, read, device)
        diagnosis = diagnose(seen.trace, seen.model, lag=lag)
    again = ["undertow", "inspect", str(file), "--input", str(data)]
    for name in columns:
        again += ["--column", name]
    subject = doctor_view.Subject(file.name, foreign.about(seen), again)
    doctor_view.show(console, subject, diagnosis)
    doctor_page.write(page, subject, diagnosis)
    console.print(f"\nWith pictures in {page}", soft_wrap=True)


def known_lag(watched: "Watched") -> int | None:
    """Find the lag that a task demands.

    Args:
        watched: The network and what it read.

    Returns:
        The lag in steps of a built-in problem with one answer, at the end; None for anything else.
    """
    run = watched.run
    return run.data.steps if run.data.task == "problem" and run.model.readout == "last" else None


def training_of(watched: "Watched") -> "Training":
    """Collect what the doctor is told of the training.

    Args:
        watched: The network and what it read.

    Returns:
        The metrics, the clipping norm, and the loss and name of the best baseline.
    """
    from undertow.doctor import Training

    run = watched.run
    loss, name = _guess(watched)
    return Training(run.read_metrics(), run.training.clip, loss, name)


def _guess(watched: "Watched") -> tuple[float | None, str]:
    """The loss of the best baseline that needs no learning, in the run's unit, and its name.

    The baseline of a text is the frequency of each symbol in what was read. That of a problem with targets at
    every step is the frequency of each class at that step, which takes a clock but no memory. That of a
    classification is the share of the commonest class; the others are taken as equally frequent, since the
    run holds no more. The loss is None if no baseline is known.
    """
    import numpy as np

    from undertow.app.data.tasks.problem import ProblemTask

    run, kind = watched.run, watched.objective.kind
    known = {name: value for name, value in run.baselines.items() if math.isfinite(value)}
    if run.data.task == "text":
        if run.facts["symbols"] in ("words", "bpe"):
            return None, ""  # what is read is too short to tell how frequent each of them is
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
    if kind == "esr":
        return known[name], called
    return (known[name] / watched.objective.size) ** 2, called


def _surprise(counts: "NDArray[np.int64]") -> float:
    """Mean cross-entropy, in nats, of the frequencies in each row of counts [rows,classes]."""
    import numpy as np

    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    log = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(-(counts * log).sum() / counts.sum())
