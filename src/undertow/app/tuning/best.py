"""The best run of a study, in a folder of its own."""

import os
import platform
import shutil
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from undertow.app.tuning.study import of_state

BEST, LOCK = "best", ".best.lock"


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial with the lowest cost; None before one is complete."""
    return study.best_trial if of_state(study, TrialState.COMPLETE) else None


def run_of(trial: FrozenTrial) -> Path | None:
    """Return the run folder of a trial; None if it lies on another machine, or is gone."""
    folder = Path(trial.user_attrs["folder"])
    return folder if trial.user_attrs["host"] == platform.node() and folder.is_dir() else None


def keep_best(study: optuna.Study, folder: Path) -> None:
    """Copy the run folder of the best trial to ``best`` in the folder of the study.

    Args:
        study: The study.
        folder: Its folder on this machine. Nothing happens if the best trial ran elsewhere.
    """
    with FileLock(folder / LOCK):
        best = best_trial(study)
        source = None if best is None else run_of(best)
        if best is None or source is None or _is_there(folder / BEST, source):
            return
        beside = folder / f".{BEST}-{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(source, beside)
        shutil.rmtree(folder / BEST, ignore_errors=True)
        beside.rename(folder / BEST)


def _is_there(kept: Path, source: Path) -> bool:
    """Whether a run has been copied already: its time and seed stand in config.json."""
    one, other = (each / "config.json" for each in (kept, source))
    if not one.exists() or one.read_bytes() != other.read_bytes():
        return False
    return (kept / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
