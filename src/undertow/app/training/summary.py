"""What ``undertow train`` prints before and after the training."""

import shlex

from rich.console import Console
from rich.table import Table
from torch import nn

from undertow.app.data import Task
from undertow.app.runs import interval
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Objective, perplexity
from undertow.app.runs.selection import words
from undertow.app.terminal import clock, coloured, marked
from undertow.app.training.progress import Progress
from undertow.app.words import cell, counted, line

NEXT = {  # besides looking at it
    "text": ['undertow generate {run} --prompt "..."'],
    "forecast": ["undertow predict {run} TABLE"],
    "classify": ["undertow predict {run} TABLE"],
    "regress": ["undertow predict {run} TABLE"],
    "problem": [],
    "sound": ["undertow predict {run} INPUT.wav -o OUTPUT.wav", "undertow export {run} --to {target}"],
}
LOOK = ["undertow inspect {run}", "undertow doctor {run}"]


def introduce(console: Console, run: Run, task: Task, model: nn.Module, processes: int = 1) -> None:
    """Print the data, the model, the plan and the run folder, a line each.

    Args:
        console: Where it is printed.
        run: The run.
        task: Its data.
        model: Its network.
        processes: How many share every batch.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7)
    grid.add_column(overflow="fold")
    for each in task.facts.lines:
        grid.add_row("  data", line(each))
    grid.add_row("  model", run.describe(sum(p.numel() for p in model.parameters())))
    training = run.training
    budget = f" or {counted(training.minutes, 'minute')}" if training.minutes else ""
    grid.add_row(
        "  plan",
        f"{counted(training.epochs, 'epoch')} of {counted(task.steps_per_epoch(), 'step')}{budget}, "
        f"batch size {training.batch_size}, lr {training.lr:g}, seed {training.seed}"
        + (f", {training.members} members" if training.members > 1 else "")
        + (f", {processes} processes" if processes > 1 else ""),
    )
    grid.add_row("  keeps", words(training.select))
    console.print(grid)
    console.print(f"  run    {run.folder}", soft_wrap=True)


def conclude(
    console: Console,
    run: Run,
    progress: Progress,
    done: bool,
    signal: str = "Ctrl-C",
    each: dict[str, float] | None = None,
) -> None:
    """Print the best error beside the baselines, and the commands to type next.

    Args:
        console: Where it is printed.
        run: The run that was trained.
        progress: Where its training stands.
        done: Whether the training ran to its end.
        signal: The name of the signal that stopped it, if it did not.
        each: The RMSE of each target, if there are several.
    """
    at, show = progress.at, progress.objective.show
    name = run.folder
    if at.best:
        ended = at.finished or "interrupted"
        console.print(
            marked(
                f"[bold]{show(at.best['validation'])}[/]{perplexity(at.best['validation_loss'], run.facts)} "
                f"on the validation part{{of}} "
                f"(best, epoch {at.best['epoch']:g}; {{ended}}; {clock(at.seconds)})",
                of=target_of(run),
                ended=ended,
            )
        )
        against_baselines(console, run, progress.objective, at.best["validation"])
        of_targets(console, each or {})
    about_intervals(console, run)
    if not done:
        console.print(
            f"Stopped by {signal} at step {at.step}; everything is saved in {name}. Go on with:\n"
            f"  undertow train --resume {shlex.quote(str(name))}",
            soft_wrap=True,
        )
        return
    following(console, run)


def of_targets(console: Console, each: dict[str, float]) -> None:
    """Print the error of each target, if there are several."""
    if each:
        errors = ", ".join(f"{value:.4g} RMSE of {cell(name)}" for name, value in each.items())
        console.print(marked("{errors}", errors=errors))


def about_intervals(console: Console, run: Run) -> None:
    """Print how wide the intervals of a run are, if it has any."""
    if (found := interval.about(run.folder)) is not None:
        console.print(found.describe(run.data.target))


def following(console: Console, run: Run) -> None:
    """Print where a run is saved, and the commands to type next."""
    # what holds the run: .nam has no place for the skip, and neither format for a plain RNN
    target = "c" if run.model.cell == "rnn" else "rtneural" if run.model.skip else "nam"
    given = {"run": shlex.quote(str(run.folder)), "target": target}
    commands = "".join(f"\n  {each.format(**given)}" for each in NEXT[run.data.task] + LOOK)
    console.print(f"Saved in {run.folder}. Next:{commands}", soft_wrap=True)


def target_of(run: Run) -> str:
    """Say what a run answers with, if that has a name."""
    if run.data.label:
        return f", {cell(run.data.label)} of each {run.data.per}"
    return f", forecasting {', '.join(map(cell, run.data.target))}" if run.data.target else ""


def against_baselines(console: Console, run: Run, objective: Objective, mine: float) -> None:
    """Print the model's error beside those of the baselines, and which is better."""
    if not run.baselines:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    table.add_row(run.model.cell.upper(), marked(f"[bold]{objective.show(mine)}[/]"), "")
    for name, value in run.baselines.items():
        table.add_row(name, objective.show(value), marked(coloured(objective.verdict(mine, value))))
    console.print(table)
