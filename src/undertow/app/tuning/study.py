"""A study: its name, what all its trials have in common, and which of its trials count."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from undertow.app.errors import UserError
from undertow.app.tuning.sampler import Sampler
from undertow.app.tuning.space import Domain

RECORD = "undertow"  # the entry of a study that says what its trials have in common
UNPRUNED = 5  # trials that end before any is pruned


@dataclass(frozen=True)
class Plan:
    """What all workers of a study do.

    Args:
        sources: The data, as ``undertow train`` takes them.
        given: The options that are the same in all trials.
        space: The options that vary.
        trials: The number of trials.
        folder: The folder of the study on this machine.
        digest: What tells the data from others: their SHA-256, or the name of a problem.
    """

    sources: list[str]
    given: dict[str, Any]
    space: list[Domain]
    trials: int
    folder: Path
    digest: str

    def record(self) -> dict[str, Any]:
        """Return what may not differ between the workers, as JSON holds it."""
        options = {name: list(v) if isinstance(v, tuple) else v for name, v in sorted(self.given.items())}
        return {"data": self.digest, "options": options, "space": {d.name: d.text for d in self.space}}


def take_part(plan: Plan, storage: BaseStorage) -> optuna.Study:
    """Create the study, or join it where it exists.

    Args:
        plan: What its trials do; the name of its folder is the name of the study.
        storage: Where it is kept.

    Returns:
        The study.

    Raises:
        UserError: A study of this name has other data, options or another space.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=plan.folder.name,
        load_if_exists=True,
        direction="minimize",
        sampler=Sampler(plan.given.get("seed", 0)),
        pruner=MedianPruner(n_startup_trials=UNPRUNED),
    )
    mine, kept = plan.record(), study.user_attrs.get(RECORD)
    if kept is None:
        study.set_user_attr(RECORD, mine)
    elif other := [name for name in mine if kept.get(name) != mine[name]]:
        raise UserError(
            f"study {plan.folder.name}: has other {' and '.join(other)} than this command; "
            "another --folder begins another study"
        )
    return study


def counting(study: optuna.Study) -> list[FrozenTrial]:
    """List the trials that count: those that ended, and those that are under way.

    A trial whose worker died or was interrupted does not count; it is tried again.
    """
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if is_counted(trial)]


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts; one that failed does if the training itself did, as by divergence."""
    if trial.state == TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state != TrialState.WAITING


def of_state(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """List the trials in one of ``states``."""
    return study.get_trials(deepcopy=False, states=states)
