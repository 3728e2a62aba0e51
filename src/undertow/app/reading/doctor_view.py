"""What ``undertow doctor`` prints."""

from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from undertow.app.reading.watch import Watched
from undertow.app.terminal import marked
from undertow.app.words import counted
from undertow.doctor import Diagnosis, Finding

STYLES = {"problem": "bold red", "warning": "bold yellow"}
IN_ORDER = {  # said of a check that found nothing
    "not-finite": "All values are numbers",
    "learning-rate-low": "The weights have moved",
    "learning-rate-high": "The loss does not jump",
    "saturated-gates": "Gates move",
    "exploding": "Gradients do not explode",
    "clip": "Clipping leaves the gradient its size",
    "dead-units": "Units are alive",
    "runaway-cells": "Cells stay in range",
    "forget-bias": "Forget gates are not in the way",
    "memory-horizon": "Errors reach as far back as the task asks for",
    "forget-bias-twice": "The forget bias is set once",
    "forget-bias-uneven": "The forget bias is alike in all layers",
    "over-fitting": "Not learnt by heart",
    "not-learning": "Better than a guess",
}


@dataclass(frozen=True)
class Subject:
    """Who is examined.

    Attributes:
        name: Of the run folder or file.
        about: A line on the network and what it read.
        inspect: The command that shows every unit and step.
    """

    name: str
    about: str
    inspect: list[str]


def subject(watched: Watched) -> Subject:
    """Return who was watched, a run."""
    folder = watched.run.folder
    return Subject(folder.name, about(watched), ["undertow", "inspect", str(folder)])


def show(console: Console, subject: Subject, diagnosis: Diagnosis) -> None:
    """Print who was examined, what is wrong, and what was in order.

    Args:
        console: Where it is printed.
        subject: The network and what it read.
        diagnosis: The outcomes of the checks.
    """
    console.print(subject.about)
    console.print(marked("\n[bold]{verdict}[/]", verdict=verdict(diagnosis)))
    for finding in diagnosis.findings:
        console.print()
        _show_finding(console, finding)
    console.print()
    rest = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False, style="dim")
    rest.add_column(no_wrap=True)
    rest.add_column(overflow="fold")
    for outcome in diagnosis.in_order:
        rest.add_row("in order", IN_ORDER[outcome.name])
    for reason, names in unjudged(diagnosis).items():
        rest.add_row("not judged", Text(f"{', '.join(names)}: {reason}"))
    console.print(rest)


def _show_finding(console: Console, finding: Finding) -> None:
    """Print a finding: what is wrong, the evidence, what to try."""
    because = ", ".join(title(name).lower() for name in finding.because)
    console.print(
        marked(
            f"[{STYLES[finding.severity]}]{finding.severity}[/]  [bold]{title(finding.name)}[/]"
            + (f" [dim](follows from {because})[/]" if because else "")
        )
    )
    console.print(Padding(Text(finding.sentence), (0, 0, 0, 2)))
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False, style="dim")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for line in finding.evidence:
        table.add_row(Text(line.what), Text(line.amount), Text(line.where))
    console.print(Padding(table, (0, 0, 0, 4)))
    for remedy in () if because else finding.remedies:
        console.print(Padding(Text(f"→ {remedy.text}"), (0, 0, 0, 2)))
        if remedy.code:
            console.print(Padding(Text(remedy.code, style="cyan"), (0, 0, 0, 6)), soft_wrap=True)


def about(watched: Watched) -> str:
    """Say in a line what the run is, its network and what it read.

    Args:
        watched: The network and what it read.

    Returns:
        The line.
    """
    run, batch = watched.run, watched.reading.batch
    T, N = batch.x.shape[:2]
    uneven = batch.lengths is not None and bool((batch.lengths < T).any())
    ahead = run.model.ahead  # rows of the horizon, which a decoder reads after the window
    read = f"{counted(N, 'sequence')} of {'up to ' * uneven}{counted(T - ahead, 'step')}"
    read += f" and the {counted(ahead, 'row')} to forecast" if ahead else ""
    network = run.describe(sum(p.numel() for p in watched.model.parameters()))
    return f"{run.folder}: {network}; read {read} of {watched.reading.about}"


def verdict(diagnosis: Diagnosis) -> str:
    """Count in a line what is wrong.

    Args:
        diagnosis: The outcomes of the checks.

    Returns:
        The number of problems and warnings, and of those that follow from them.
    """
    causes, all_found = diagnosis.causes, diagnosis.findings
    if not all_found:
        return "Nothing is wrong as far as can be judged."
    problems = sum(finding.severity == "problem" for finding in causes)
    counts = ((problems, "problem"), (len(causes) - problems, "warning"))
    found = " and ".join(counted(n, word) for n, word in counts if n)
    follow = len(all_found) - len(causes)
    them = "them" if len(causes) > 1 else "it"
    return found + (f", and {follow} more that follow{'s' * (follow == 1)} from {them}" if follow else "")


def unjudged(diagnosis: Diagnosis) -> dict[str, list[str]]:
    """Collect the checks that were not made.

    Args:
        diagnosis: The outcomes of the checks.

    Returns:
        The titles of the checks, by the reason why they were not made.
    """
    found: dict[str, list[str]] = {}
    for missing in diagnosis.not_judged:
        found.setdefault(missing.reason, []).append(title(missing.name))
    return found


def title(name: str) -> str:
    """Make a heading of a check's name, such as ``Forget bias`` of ``forget-bias``."""
    return name.replace("-", " ").capitalize()
