"""Opening a run, and finishing what a killed training left undone."""

import os
from contextlib import suppress
from pathlib import Path

from undertow.app.errors import UserError
from undertow.app.runs import claim, folder, lock, members
from undertow.app.terminal import Terminal


def open_run(path: Path) -> folder.Run:
    """Open a run, remove half-written files and draw a learning curve that is missing.

    Nothing is removed or drawn while a training goes on in the folder.

    Args:
        path: The run folder.

    Returns:
        The run.

    Raises:
        UserError: It is no run folder, or it is damaged.
    """
    run = folder.open_run(path)
    undone = claim.leftovers(path) or (path / lock.LOCK).exists() or _curve_is_old(run)
    if undone and os.access(path, os.W_OK):
        with suppress(UserError, OSError), lock.held(path):
            claim.remove_leftovers(path)
            if _curve_is_old(run):
                from undertow.app.training import curve

                curve.draw(run, run.read_metrics())
    return run


def open_network(path: Path) -> folder.Run:
    """Open a run as ``open_run`` does, for what shows a single network: of an ensemble the first member.

    Args:
        path: The run folder.

    Returns:
        The run, or the first member, which is said.

    Raises:
        UserError: It is no run folder, or it is damaged.
    """
    run = open_run(path)
    if members.is_ensemble(run):
        first = members.plan(run, 1).folder
        Terminal().print(
            f"{path} has {run.training.members} members; this is the first, {first}", soft_wrap=True
        )
    return members.first(run)


def _curve_is_old(run: folder.Run) -> bool:
    """Whether there are evaluations that the learning curve does not show."""
    metrics, curve = run.path("metrics.jsonl"), run.path("curve.png")
    if not metrics.exists() or not metrics.stat().st_size:
        return False
    return not curve.exists() or curve.stat().st_mtime_ns < metrics.stat().st_mtime_ns
