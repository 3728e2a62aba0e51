"""``undertow inspect``: a page on what a trained network did at every step, and how its error flowed back."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.app.inputs import Column, Input

if TYPE_CHECKING:
    from torch import Tensor

    from undertow.app.reading.watch import Watched
    from undertow.app.runs.folder import Run

TEXT_STEPS = 400  # of a text, without --steps


def inspect(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Folder of a run, or a network's file.")],
    input: Input = None,
    column: Column = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run to show beside it, such as one with --cell rnn."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Steps to show. (default: the run's own; {TEXT_STEPS} of a text, a sound or with FILE)",
            min=2,
            max=1_000_000,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page. (default: RUN/report.html, or FILE.report.html)"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file in --output.")] = False,
) -> None:
    """Show what a trained network does, unit by unit and step by step.

    The page opens in any browser, from disk. It shows the sequence and its error,
    every gate, cell and hidden state, the gradient that flows back from any step,
    and what each unit follows. RUN/report.html is replaced each time; another
    file is replaced only with --overwrite.

    FILE is a network of another program: Keras, ONNX, a state dict, NAM and
    others. It reads --input, a table of numbers or a WAV file. There are no
    labels, so the outputs take the place of an error.
    """
    from undertow.app.errors import UserError
    from undertow.app.inputs import refuse_columns
    from undertow.app.reading import asked
    from undertow.app.runs.device import chosen
    from undertow.app.runs.folder import REPORT
    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_network

    kind = chosen(device)
    if run.is_file():
        _show_files(run, input, column or [], compare, steps, kind, output, overwrite)
        return
    refuse_columns(column)
    opened = open_network(run)
    page = asked.page_of(opened, run / REPORT, input, output, overwrite)
    if asked.without_target(opened, input):
        _show_files(run, input, [], compare, steps, kind, page, True)
        return
    runs = [opened] if compare is None else [opened, _comparable(opened, compare)]
    if steps is not None and opened.data.task in ("classify", "regress"):
        raise UserError(f"--steps {steps}: a labelled sequence is shown whole; leave it out")
    from undertow.app.reading.watch import observe, read

    wanted = TEXT_STEPS if steps is None and opened.data.task in ("text", "sound") else steps
    reading = read(opened, input, steps=wanted)
    _write(page, [observe(replace(each, device=kind), reading) for each in runs])
    Terminal().print(f"The report: {page}", soft_wrap=True)


def _show_files(
    file: Path,
    given: str | None,
    columns: list[str],
    compare: Path | None,
    steps: int | None,
    device: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Write the page on networks of other programs."""
    from undertow.app.errors import UserError
    from undertow.app.inputs import check_needed
    from undertow.app.outputs import check_page, writing
    from undertow.app.terminal import Terminal

    page = check_page(output, file.with_name(f"{file.name}.report.html"), overwrite)
    data = check_needed(file, given)
    from undertow.app.reading import foreign

    networks = [foreign.open_file(each) for each in (file, compare) if each is not None]
    sizes = [(each.input_size, each.symbols, each.once) for each in networks]
    if len(set(sizes)) > 1:
        raise UserError(f"--compare {compare}: cannot read what {file} reads, or answers at other steps")
    read = foreign.read(data, networks[0], columns=columns, steps=steps)
    files = [file, compare or file]
    seen = [foreign.observe(path, each, read, device) for path, each in zip(files, networks, strict=False)]
    first, symbols = seen[0], networks[0].symbols > 0
    T = len(read.x)
    about = foreign.about(first)
    if len(first.modules) > 1:
        about += f" Shown is {first.modules[0]} of {', '.join(first.modules)}."
    with writing(page):
        first.trace.report(
            page,
            module=first.modules[0],
            symbols=[read.names[k] for k in read.x[:, 0]] if symbols else None,
            inputs=None if symbols else read.x[:, 0],
            input_names=None if symbols else read.names,
            steps=read.steps,
            loss_weight=None if first.once else 1 / T,
            title=f"{' beside '.join(each.path.name for each in seen)} reading {data.name}",
            about=about,
            name=file.name,
            answer=foreign.answer(first),
            compare={each.path.name: each.trace for each in seen[1:]},
            answers=[foreign.answer(each) for each in seen[1:]],
        )
    Terminal().print(f"The report: {page}", soft_wrap=True)


def _comparable(run: "Run", folder: Path) -> "Run":
    """Open the other run. Raises UserError unless both can read the same sequences."""
    from undertow.app.errors import UserError
    from undertow.app.training.leftovers import open_network

    other = open_network(folder)
    for what, mine, theirs in (
        ("task", run.data.task, other.data.task),
        ("problem", _problem_of(run), _problem_of(other)),
        ("target", ", ".join(run.data.target), ", ".join(other.data.target)),
        ("label", run.data.label, other.data.label),
        ("inputs", run.model.inputs, other.model.inputs),
        ("outputs", run.model.outputs, other.model.outputs),
        ("symbols", run.facts.get("vocabulary"), other.facts.get("vocabulary")),
        ("columns", run.facts.get("columns"), other.facts.get("columns")),
        ("classes", run.facts.get("classes"), other.facts.get("classes")),
    ):
        if mine != theirs:
            said = "" if what in ("symbols", "columns", "classes") else f": {theirs}, and not {mine}"
            raise UserError(
                f"--compare {other.folder}: cannot read what {run.folder} reads: other {what}{said}"
            )
    return other


def _problem_of(run: "Run") -> str | None:
    return run.data.source if run.data.task == "problem" else None


def _write(page: Path, seen: "list[Watched]") -> None:
    """Write the page on the first sequence, with the first network on top."""
    from undertow.app.outputs import writing

    first = seen[0]
    reading, run, every = first.reading, first.run, first.run.model.readout == "every"
    names = _names_of(seen)
    T = len(reading.steps[0])
    x = reading.batch.x[:T, 0]
    symbols, targets = _spelt(first)
    bits = every and not first.objective.numbers
    for each in seen:
        if bits and each.loss_per_step is not None:
            each.trace.loss_per_step = each.loss_per_step / LN2  # E_t in bits, as training shows it
    lead, *rest = zip(names, seen, strict=True)
    with writing(page):
        lead[1].trace.report(
            page,
            module="rnn",
            symbols=symbols,
            targets=targets,
            inputs=None if symbols else x.numpy(),
            input_names=None if symbols else reading.inputs,
            steps=None if reading.steps is reading.symbols else reading.steps[0],
            loss_weight=(LN2 if bits else 1.0) / _scored(reading.batch.y) if every else None,
            loss_unit="bits" if bits else "",
            title=_title(seen, names),
            about=f"{reading.about}: {T:,} steps. {_subject(run)}",
            name=lead[0],
            answer=_answer(first),
            compare={name: each.trace for name, each in rest},
            answers=[_answer(each) for _, each in rest],
        )


def _scored(y: "Tensor") -> int:
    """The number of targets that count."""
    from undertow.problems import UNSCORED

    return int(((y != UNSCORED) & (y == y)).sum())


def _spelt(seen: "Watched") -> tuple[list[str] | None, list[str] | None]:
    """The symbols that were read and those of the targets, each None if they are no symbols."""
    reading = seen.reading
    if reading.symbols is None:
        return None, None
    read = reading.symbols[0]
    if seen.run.model.readout != "every":
        return read, None
    return read, [reading.inputs[k] for k in reading.batch.y[: len(read), 0].tolist()]


LN2 = 0.6931471805599453  # nats in a bit
CELLS = {"lstm": "LSTM", "rnn": "plain RNN"}


def _names_of(seen: "list[Watched]") -> list[str]:
    """The networks' names: their cells, with the names of their folders if two cells are the same."""
    cells = [CELLS[each.run.model.cell] for each in seen]
    if len(set(cells)) == len(cells):
        return cells
    return [f"{cell} {each.run.folder.name}" for cell, each in zip(cells, seen, strict=True)]


def _title(seen: "list[Watched]", names: list[str]) -> str:
    """The title, such as ``LSTM beside plain RNN, 64 units each, on the adding problem``."""
    from undertow.app.words import counted

    data, sizes = seen[0].run.data, [each.run.model.hidden_size for each in seen]
    units = [counted(size, "unit") for size in sizes]
    who = " beside ".join(f"{name} of {unit}" for name, unit in zip(names, units, strict=True))
    if len(seen) > 1 and len(set(sizes)) == 1:
        who = f"{' beside '.join(names)}, {units[0]} each,"
    doing = {
        "text": f"reading {Path(data.source).name}",
        "forecast": f"forecasting {', '.join(data.target)}",
        "classify": f"classifying by {data.label}",
        "regress": f"estimating {data.label}",
        "problem": f"on the {data.source} problem",
        "sound": f"making {' from '.join(Path(each).name for each in (*data.further, data.source))}",
    }
    return f"{who} {doing[data.task]}"


def _subject(run: "Run") -> str:
    """What the loss is, in words."""
    if run.data.task == "text":
        return "The loss is the mean error of predicting the next symbol."
    if run.unit == "ESR":
        return "The loss is the mean of the squared errors at each step, over the target's mean square."
    if run.model.readout == "every" and run.unit == "RMSE":
        return "The loss is the mean of the squared errors at each step, in units of the labels' spread."
    if run.model.readout == "every":
        return "The loss is the mean of the errors at each step, −log₂ of the right class's probability."
    if run.unit == "right":
        return "The loss is −log of the right class's probability after the last step."
    return "The loss is the squared error of the answer after the last step."


def _answer(seen: "Watched") -> str:
    """The network's answer at the end, and the truth; empty if it answers at every step."""
    batch, classes = seen.reading.batch, seen.reading.classes
    if seen.run.model.readout == "every":
        return ""
    if classes:
        said, truth = classes[int(seen.output[0].argmax())], classes[int(batch.y[0])]
        return f"says {said}" + (", rightly" if said == truth else f"; it was {truth}")
    targets = seen.run.data.target or ("",)
    answers = []
    for k, name in enumerate(targets):
        value, wanted = seen.output[0, k], float(batch.y.flatten()[k])  # of the first row of the horizon
        of = f" of {name}" if len(targets) > 1 else ""
        answers.append(f"says {value:.3g}{of}; the truth is {wanted:.3g}")
    return "; ".join(answers)
