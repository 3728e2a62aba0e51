"""``undertow inspect``: a page on what a trained network did at every step, and where the error went."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from undertow.app.reading.watch import Watched
    from undertow.app.runs.folder import Run

TEXT_STEPS = 400  # of a text, where --steps does not say


def inspect(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
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
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Show another run beside it, such as one with --cell rnn."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Steps to show. (default: the run's own; {TEXT_STEPS} of a text)", min=2, max=1_000_000
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page. (default: RUN/report.html)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file in --output.")] = False,
) -> None:
    """Show what a trained network does, unit by unit and step by step.

    Writes one page that opens in any browser, from disk: the sequence and its
    error, every gate, cell and hidden state, the gradient flowing back from any
    step, and what each unit follows. RUN/report.html is written anew each time;
    another file only with --overwrite.
    """
    from undertow.app.errors import UserError
    from undertow.app.inputs import check_input
    from undertow.app.outputs import check_output
    from undertow.app.runs.folder import REPORT
    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_run

    page = run / REPORT if output is None else output
    opened = open_run(run)
    check_output(page, (".html", ".htm"), overwrite or output is None)
    check_input(opened.data.task, opened.data.source, input)
    others = [] if compare is None else [open_run(compare)]
    for other in others:
        check_alike(opened, other)
    if steps is not None and opened.data.task == "classify":
        raise UserError(f"--steps {steps}: a labelled sequence is shown whole; leave it out")
    from undertow.app.reading.watch import observe, read

    wanted = TEXT_STEPS if steps is None and opened.data.task == "text" else steps
    reading = read(opened, input, steps=wanted)
    write(page, [observe(each, reading) for each in (opened, *others)])
    Terminal().print(f"The report: {page}", soft_wrap=True)


def check_alike(run: "Run", other: "Run") -> None:
    """Raises UserError unless both can read the same sequences."""
    from undertow.app.errors import UserError

    for what, mine, theirs in (
        ("task", run.data.task, other.data.task),
        ("problem", problem_of(run), problem_of(other)),
        ("target", run.data.target, other.data.target),
        ("label", run.data.label, other.data.label),
        ("inputs", run.model.inputs, other.model.inputs),
        ("outputs", run.model.outputs, other.model.outputs),
        ("characters", run.facts.get("characters"), other.facts.get("characters")),
        ("columns", run.facts.get("columns"), other.facts.get("columns")),
        ("classes", run.facts.get("classes"), other.facts.get("classes")),
    ):
        if mine != theirs:
            said = "" if what in ("characters", "columns", "classes") else f": {theirs}, and not {mine}"
            raise UserError(
                f"--compare {other.folder}: cannot read what {run.folder} reads: other {what}{said}"
            )


def problem_of(run: "Run") -> str | None:
    return run.data.source if run.data.task == "problem" else None


def write(page: Path, seen: "list[Watched]") -> None:
    """The page on the first sequence; the first network leads."""
    from undertow.app.outputs import writing
    from undertow.problems import UNSCORED

    first = seen[0]
    reading, run, every = first.reading, first.run, first.run.model.readout == "every"
    names = names_of(seen)
    T = len(reading.steps[0])
    x = reading.batch.x[:T, 0]
    symbols, targets = spelt(first)
    for each in seen:
        if each.loss_per_step is not None:
            each.trace.loss_per_step = each.loss_per_step / LN2  # E_t in bits, as training shows it
    lead, *rest = zip(names, seen, strict=True)
    with writing(page):
        lead[1].trace.report(
            page,
            symbols=symbols,
            targets=targets,
            inputs=None if symbols else x.numpy(),
            input_names=None if symbols else reading.inputs,
            steps=None if reading.steps is reading.symbols else reading.steps[0],
            loss_weight=LN2 / int((reading.batch.y != UNSCORED).sum()) if every else None,
            loss_unit="bits" if every else "",
            title=title(seen, names),
            about=f"{reading.about}: {T:,} steps. {subject(run)}",
            name=lead[0],
            answer=answer(first),
            compare={name: each.trace for name, each in rest},
            answers=[answer(each) for _, each in rest],
        )


def spelt(seen: "Watched") -> tuple[list[str] | None, list[str] | None]:
    """The symbols that were read and those that were wanted, where it reads and answers in symbols."""
    reading = seen.reading
    if reading.symbols is None:
        return None, None
    read = reading.symbols[0]
    if seen.run.model.readout != "every":
        return read, None
    return read, [reading.inputs[k] for k in reading.batch.y[: len(read), 0].tolist()]


LN2 = 0.6931471805599453  # nats in a bit
CELLS = {"lstm": "LSTM", "rnn": "plain RNN"}


def names_of(seen: "list[Watched]") -> list[str]:
    """What to call them: by their cells, with their folders' names where those are the same."""
    cells = [CELLS[each.run.model.cell] for each in seen]
    if len(set(cells)) == len(cells):
        return cells
    return [f"{cell} {each.run.folder.name}" for cell, each in zip(cells, seen, strict=True)]


def title(seen: "list[Watched]", names: list[str]) -> str:
    """Which networks, on what: ``LSTM beside plain RNN, 64 units each, solving the adding problem``."""
    data, sizes = seen[0].run.data, [each.run.model.hidden_size for each in seen]
    units = [f"{size} units" for size in sizes]
    who = " beside ".join(f"{name} of {unit}" for name, unit in zip(names, units, strict=True))
    if len(seen) > 1 and len(set(sizes)) == 1:
        who = f"{' beside '.join(names)}, {units[0]} each,"
    doing = {
        "text": f"reading {Path(data.source).name}",
        "forecast": f"forecasting {data.target}",
        "classify": f"classifying by {data.label}",
        "problem": f"on the {data.source} problem",
    }
    return f"{who} {doing[data.task]}"


def subject(run: "Run") -> str:
    """What the loss is, in words."""
    if run.data.task == "text":
        return "The loss is the mean error of predicting the next symbol."
    if run.model.readout == "every":
        return "The loss is the mean of the errors at each step, −log₂ of the right class's probability."
    if run.unit == "right":
        return "The loss is the error of the class named after the last step, −log of its probability."
    return "The loss is the squared error of what is said after the last step."


def answer(seen: "Watched") -> str:
    """What the network said at the end, and the truth; nothing where it says something at every step."""
    batch, classes = seen.reading.batch, seen.reading.classes
    if seen.run.model.readout == "every":
        return ""
    if classes:
        said, truth = classes[int(seen.output[0].argmax())], classes[int(batch.y[0])]
        return f"says {said}" + (", rightly" if said == truth else f"; it was {truth}")
    return f"says {seen.output[0, 0]:.3g}; the truth is {float(batch.y.flatten()[0]):.3g}"
