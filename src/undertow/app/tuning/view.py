"""What ``undertow tune`` prints: the study, a line for each trial, the best one and what mattered."""

import shlex
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from undertow.app import working
from undertow.app.terminal import marked
from undertow.app.tuning import picture
from undertow.app.tuning.best import BEST, best_trial
from undertow.app.tuning.study import Plan, counting
from undertow.app.words import counted, line


def introduce(
    console: Console, study: optuna.Study, plan: Plan, why: str, task: str, url: str | None
) -> None:
    """Print the task, the study and its space.

    Args:
        console: Where it is printed.
        study: The study.
        plan: What its trials have in common.
        why: The reason for the task.
        task: The task.
        url: Where the study is kept. None: in its folder.
    """
    done = len(counting(study))
    console.print(marked("[bold]{task}[/]: {why} [dim](--task overrides)[/]", task=task, why=line(why)))
    where = str(plan.folder) if url is None else f"{plan.folder}, kept in {url.split('@')[-1]}"
    begun = f", {done} begun before" if done else ""
    console.print(f"  study  {where}; {counted(plan.trials, 'trial')}{begun}", soft_wrap=True)
    for k, domain in enumerate(plan.space):
        scale = ", logarithmic" if domain.logarithmic else ""
        console.print(f"  {'space' if not k else '':<5}  {domain.name} {domain.text}{scale}")


def say(console: Console, study: optuna.Study, plan: Plan, trial: FrozenTrial) -> None:
    """Print a trial that has ended: its error, or why there is none, and its options."""
    best = best_trial(study)
    if trial.state == TrialState.COMPLETE:
        found = trial.user_attrs["best"] + "  best" * (best is not None and best.number == trial.number)
    elif trial.state == TrialState.PRUNED:
        found = f"{trial.user_attrs.get('best', '')} pruned in epoch {trial.user_attrs['epoch']:g}"
    else:
        found = f"failed: {trial.user_attrs['error']}"
    console.print(f"trial {trial.number + 1}  {found}  {options(trial)}")


def options(trial: FrozenTrial) -> str:
    """Show the options of a trial, as ``lr 0.003, num_layers 2``."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in trial.params.items())


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def conclude(console: Console, study: optuna.Study, plan: Plan, code: int) -> None:
    """Print the best trial, what mattered and the commands to type next; draw the picture.

    Args:
        console: Where it is printed.
        study: The study.
        plan: What its trials have in common.
        code: The exit code; unless it is 0, the study has not ended.
    """
    best = best_trial(study)
    if best is not None:
        count = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
        console.print(
            marked(
                "[bold]{found}[/] on the validation part (best of {trials}: trial {number})",
                found=best.user_attrs["best"], trials=counted(count, "trial"), number=best.number + 1,
            )
        )  # fmt: skip
        console.print(options(best))
        with working.busy("what mattered"):
            mattered = picture.importances(study)
            drawn = picture.draw(study, plan.space, mattered, plan.folder) if mattered else None
        if mattered:
            shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in mattered.items())
            console.print(f"what mattered: {shares}")
            console.print(f"  picture  {drawn}", soft_wrap=True)
    if code:
        console.print(f"Stopped; {len(counting(study))} trials are kept. The same command goes on.")
    elif best is not None:
        _following(console, plan, best)


def _following(console: Console, plan: Plan, best: FrozenTrial) -> None:
    kept = plan.folder / BEST
    if not kept.exists():
        console.print(f"The best run is on {best.user_attrs['host']}: {best.user_attrs['folder']}")
        return
    console.print(f"The best run is {kept}. Next:\n  undertow info {shlex.quote(str(kept))}", soft_wrap=True)
