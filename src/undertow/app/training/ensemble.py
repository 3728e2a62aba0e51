"""The training of an ensemble: its members one after the other, then their common score and intervals."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from rich.console import Console

from undertow.app.data import Task
from undertow.app.outputs import make_folder
from undertow.app.runs import interval, lock, members, together
from undertow.app.runs.claim import remove_leftovers
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Objective, Score
from undertow.app.runs.selection import best_of
from undertow.app.terminal import marked
from undertow.app.training import checkpoint, intervals, summary, targets
from undertow.app.training.alone import ALONE, Alone
from undertow.app.training.fabric import device_of
from undertow.app.training.fitting import fit
from undertow.app.training.progress import Progress
from undertow.app.training.trainer import Trainer
from undertow.app.training.view import View

Viewer = Callable[[Progress], View]


@dataclass(frozen=True)
class Stopped:
    """Where a signal stopped a process.

    Args:
        member: The number of the member, from 1.
        step: Its steps.
        signal: The name of the signal.
        code: The exit code.
    """

    member: int
    step: int
    signal: str
    code: int


def train(run: Run, task: Task, console: Console, viewer: Viewer, quiet: bool, team: Alone = ALONE) -> int:
    """Train all members of an ensemble, or go on where a training of it stopped.

    Of several processes each trains members of its own, one after the other.

    Args:
        run: The ensemble, whose folder holds its config.json.
        task: Its data.
        console: Where progress and result are printed.
        viewer: Makes what shows the progress of a member.
        quiet: Whether to print the result only.
        team: The processes that share out the members.

    Returns:
        The exit code: 0, or 128 and the number of the signal that stopped the training.
    """
    stopped, apart = None, team.apart()
    with team.agreed():
        own = range(1 + team.rank, run.training.members + 1, team.size)
        for k in own:
            if not quiet:
                console.print(f"member {k} of {run.training.members}")
            trainer = train_member(run, task, k, viewer, apart)
            interrupt, at = trainer.loop.interrupt, trainer.progress.at
            if not at.finished or (interrupt.asked and k != own[-1]):
                stopped = Stopped(k, at.step, interrupt.name, interrupt.code)
                break
    stops = [each for each in team.gather(stopped) if each is not None]
    with team.agreed():
        if team.leads and stops:
            _say_stopped(console, run, stops[0])
        elif team.leads:
            conclude(console, run, score(run, task, apart), targets.errors(run, task))
    return stops[0].code if stops else 0


def train_member(run: Run, task: Task, k: int, viewer: Viewer, team: Alone = ALONE) -> Trainer:
    """Train one member to its end or to a signal, from where it stands.

    It reads and writes nothing but the folder of this member.

    Args:
        run: The ensemble.
        task: Its data.
        k: The number of the member, from 1.
        viewer: Makes what shows the progress.
        team: Is told that the training goes on.

    Returns:
        The training.
    """
    member = members.plan(run, k)
    make_folder(member.folder, "--folder")
    with lock.held(member.folder):
        remove_leftovers(member.folder)
        trainer = take_up(member, task, team)
        if not trainer.progress.at.finished or intervals.missing(member):
            fit(trainer, viewer(trainer.progress))
    return trainer


def take_up(member: Run, task: Task, team: Alone = ALONE) -> Trainer:
    """Bring the training of a member to where it stands; begin it if it has not begun.

    Args:
        member: The member, with the options that hold from now on.
        task: Its data.
        team: Is told that the training goes on.

    Returns:
        The training.

    Raises:
        UserError: The member is damaged.
    """
    begun = member.path("config.json").exists()
    if begun:
        checkpoint.check_weights(member)
    trainer = Trainer(member, task, team)
    if begun:
        checkpoint.check(member, task, trainer.plain)
        trainer.resume()
        if not trainer.progress.at.finished:
            member.path(interval.FILE).unlink(missing_ok=True)
    else:
        trainer.save()
    member.write_config()
    return trainer


def finished(run: Run, task: Task) -> str | None:
    """Say that all members are trained and nothing is left to do; None if something is."""
    if members.scores(run) is None:
        return None
    for k in range(1, run.training.members + 1):
        trainer = take_up(members.plan(run, k), task)
        if not trainer.progress.at.finished:
            return None
    return (
        f"{run.folder}: all {run.training.members} members are finished already; "
        "a larger --epochs, --patience or --minutes continues them"
    )


@torch.no_grad()
def score(run: Run, task: Task, team: Alone = ALONE) -> members.Scores:
    """Score an ensemble on the validation part, calibrate its intervals, and write both.

    Args:
        run: The ensemble, all of whose members are trained.
        task: Its data.
        team: Is told that the work goes on.

    Returns:
        The scores of the ensemble and of its members.
    """
    runs = [members.plan(run, k) for k in range(1, run.training.members + 1)]
    device = device_of(run.training)
    network = together.of(runs).to(device)
    total, state = Score(), None
    for batch in task.validation_batches():
        team.alive()
        batch = batch.to(device)
        output, state = batch.through(network, state)
        total.add(task.objective.loss(output, batch.y).item(), output, batch.y, task.objective.kind)
    if run.training.interval:
        intervals.add_common(run, runs, task, team.alive)
    best = [best_of(run.training.select, each.read_metrics()) for each in runs]
    found = members.Scores(total.value(task.objective), [row["validation"] for row in best])
    members.write_scores(run, found)
    return found


def conclude(console: Console, run: Run, scores: members.Scores, each: dict[str, float]) -> None:
    """Print the score of the ensemble beside those of its members and of the baselines.

    Args:
        console: Where it is printed.
        run: The ensemble.
        scores: Its scores.
        each: The error of each target, if there are several.
    """
    objective = Objective.of_unit(run.unit)
    console.print(
        marked(
            f"[bold]{objective.show(scores.ensemble)}[/] on the validation part{{of}} "
            f"(mean of {len(scores.members)} members)",
            of=summary.target_of(run),
        )
    )
    console.print(f"its members: {', '.join(map(objective.show, scores.members))}")
    summary.against_baselines(console, run, objective, scores.ensemble)
    summary.of_targets(console, each)
    summary.about_intervals(console, run)
    summary.following(console, run)


def _say_stopped(console: Console, run: Run, at: Stopped) -> None:
    with suppress(OSError):  # after SIGHUP nobody may be there to read
        console.print(
            f"Stopped by {at.signal} in member {at.member} of {run.training.members} at step "
            f"{at.step}; everything is saved in {run.folder}. Go on with:\n"
            f"  undertow train --resume {shlex.quote(str(run.folder))}",
            soft_wrap=True,
        )
