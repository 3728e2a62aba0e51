"""One trial: a training with the options that were drawn, told to the study after each evaluation."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from undertow.app.errors import UserError
from undertow.app.loop import Hook, Loop
from undertow.app.runs.folder import Run, open_run
from undertow.app.runs.objective import Objective
from undertow.app.runs.selection import best_of
from undertow.app.terminal import Terminal
from undertow.app.training import begin, session
from undertow.app.training.trainer import HookMaker, Trainer
from undertow.app.tuning.study import Plan, is_counted

TRIALS = "trials"  # the folder with a run folder for each trial
UNJUDGED = 0.2  # share of its steps that each trial gets: the learning rate rises first


class Surplus(Exception):
    """Another worker began the last trial at the same time: this one is not needed."""


class Interrupted(Exception):
    """A signal asked the command to end.

    Args:
        code: The exit code of the command.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"interrupted, exit code {code}")
        self.code = code


class Report(Hook):
    """Tells the study of each evaluation, and ends a training that others surpass.

    Args:
        trial: The trial.
        trainer: Its training.
    """

    def __init__(self, trial: Trial, trainer: Trainer) -> None:
        self.trial, self.run = trial, trainer.run
        self.progress = trainer.progress

    def on_evaluate(self, loop: Loop, found: dict[str, Any]) -> None:
        """Report the error. Raises TrialPruned if it is worse than the median of the trials before."""
        progress = self.progress
        self.trial.report(cost(self.run, found), len(progress.rows))
        early = progress.at.step < UNJUDGED * progress.total_steps
        if not early and not progress.at.finished and self.trial.should_prune():
            self.trial.set_user_attr("epoch", found["epoch"])
            raise optuna.TrialPruned


def cost(run: Run, row: dict[str, Any]) -> float:
    """Compute what a study minimises from an evaluation.

    Args:
        run: The run.
        row: The metrics of the evaluation.

    Returns:
        The error in the unit of the data, which networks of all sizes and windows share; of classes the loss,
        which is finer than the share that is right; with ``--select`` the measure that it names.
    """
    in_loss = Objective.of_unit(run.unit).kind == "accuracy" or run.training.select not in ("loss", "last")
    return float(row["cost"] if in_loss else row["validation"])


def train(trial: Trial, plan: Plan, hooks: Sequence[HookMaker]) -> float:
    """Train the network of a trial.

    Args:
        trial: The trial; it keeps the worker, the run folder and the best error in words.
        plan: What all trials have in common.
        hooks: Told of the training too.

    Returns:
        The cost of the weights that are kept.

    Raises:
        TrialPruned: The training was worse than others and has ended early.
        Surplus: The study has enough trials.
        Interrupted: A signal came; the training is saved.
        UserError: The training failed, for example because it diverged.
    """
    before = [each for each in trial.study.get_trials(deepcopy=False) if each.number < trial.number]
    if sum(map(is_counted, before)) >= plan.trials:
        raise Surplus
    folder = plan.folder / TRIALS / str(trial.number)
    trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
    trial.set_user_attr("host", platform.node())
    trial.set_user_attr("folder", str(folder))
    drawn = {domain.name: domain.suggest(trial) for domain in plan.space}
    told: list[HookMaker] = [lambda trainer: Report(trial, trainer), *hooks]
    try:
        why, options, _ = begin.options_of(plan.sources, plan.given | drawn)
        ended = session.start(
            plan.sources[0],
            why,
            options,
            folder,
            overwrite=True,
            quiet=True,
            console=Terminal(quiet=True),
            hooks=told,
        )
    except UserError as error:
        trial.set_user_attr("error", str(error))
        raise
    finally:
        _describe(trial, folder)
    if ended.code:
        raise Interrupted(ended.code)
    run = open_run(folder)
    return cost(run, best_of(run.training.select, run.read_metrics()))


def _describe(trial: Trial, folder: Path) -> None:
    """Keep the best error in the unit of the data, in words, also where the training ended early."""
    if (folder / "metrics.jsonl").exists():
        run = open_run(folder)
        best = best_of(run.training.select, run.read_metrics())
        trial.set_user_attr("best", Objective.of_unit(run.unit).show(best["validation"]))
