"""What training says before it begins and after it ends."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from undertow.app.data import Task
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Objective
from undertow.app.terminal import clock
from undertow.app.training.progress import Progress

NEXT = {  # besides looking at it
    "text": ['undertow generate {run} --prompt "..."'],
    "forecast": ["undertow predict {run} TABLE"],
    "classify": ["undertow predict {run} TABLE"],
    "problem": [],
}
LOOK = ["undertow inspect {run}", "undertow doctor {run}"]


def introduce(console: Console, run: Run, task: Task, model: nn.Module) -> None:
    """The data, the model and the plan, a line each."""
    for line in task.facts.lines:
        console.print(f"  data   {escape(line)}", highlight=False, soft_wrap=True)
    console.print(f"  model  {run.describe(sum(p.numel() for p in model.parameters()))}", highlight=False)
    training = run.training
    budget = f" or {training.minutes:g} minutes" if training.minutes else ""
    console.print(
        f"  plan   {training.epochs} epochs of {task.steps_per_epoch()} steps{budget}, "
        f"batch size {training.batch_size}, lr {training.lr:g}, seed {training.seed}",
        highlight=False,
    )
    console.print(f"  run    {escape(str(run.folder))}", highlight=False)


def conclude(console: Console, run: Run, progress: Progress, done: bool) -> None:
    """How it ended, against the baselines, and what to type next."""
    at, show = progress.at, progress.objective.show
    name = escape(str(run.folder))
    if at.best:
        ended = at.finished or "interrupted"
        console.print(
            f"[bold]{show(at.best['validation'])}[/] on the validation part{of(run)} "
            f"(best, epoch {at.best['epoch']:g}; {ended}; {clock(at.seconds)})",
            highlight=False,
            soft_wrap=True,
        )
        against_baselines(console, run, progress.objective, at.best["validation"])
    if not done:
        console.print(
            f"Stopped by Ctrl-C at step {at.step}; everything is saved in {name}. Go on with:\n"
            f"  undertow train --resume {name}",
            highlight=False,
            soft_wrap=True,
        )
        return
    following = "".join(f"\n  {line.format(run=name)}" for line in NEXT[run.data.task] + LOOK)
    console.print(f"Saved in {name}. Next:{following}", highlight=False, soft_wrap=True)


def of(run: Run) -> str:
    return f", forecasting {escape(run.data.target)}" if run.data.target else ""


def against_baselines(console: Console, run: Run, objective: Objective, mine: float) -> None:
    """The model's error beside those of forecasts that need no learning, and who wins."""
    if not run.baselines:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    table.add_row(run.model.cell.upper(), f"[bold]{objective.show(mine)}[/]", "")
    for name, value in run.baselines.items():
        better, by = objective.compare(mine, value)
        verdict = f"[green]beaten {by}[/]" if better else f"[red]not beaten: it is better {by}[/]"
        table.add_row(escape(name), objective.show(value), verdict)
    console.print(table)
