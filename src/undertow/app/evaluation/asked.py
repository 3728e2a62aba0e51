"""What ``evaluate`` is asked for, checked before torch and Polars are imported."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.app.errors import UserError
from undertow.app.inputs import check_source
from undertow.app.reading.asked import device_of
from undertow.app.runs.folder import Run


def check_data(run: Run, data: Sequence[Path]) -> Path | None:
    """Check the files that are scored in place of the training's own.

    Args:
        run: The run; of sound its ``data`` then names the two recordings.
        data: The files; none for those of the training.

    Returns:
        The first of them.

    Raises:
        UserError: One cannot be read, or there are more or fewer than the task needs.
    """
    wanted = 2 if run.data.task == "sound" else 1
    if data and len(data) != wanted:
        expected = "two recordings, INPUT.wav TARGET.wav" if wanted == 2 else "one file"
        raise UserError(f"{data[-1]}: task {run.data.task}: expected {expected}, got {len(data)}")
    for path in data:
        check_source(path)
    if len(data) == 2:
        source, target = (str(path.resolve()) for path in data)
        same = (source, target) == (run.data.source, *run.data.further)
        run.data = replace(run.data, source=source, further=(target,), delay=run.data.delay if same else None)
    return data[0].resolve() if len(data) == 2 else next(iter(data), None)


def check_asked(
    run: Run, backtest: int | None, retrain: bool, keep: Path | None, metric: str | None = None
) -> None:
    """Check that a run can be evaluated so.

    Args:
        run: The run.
        backtest: The number of periods. None: no backtest.
        retrain: Whether to train anew before each period.
        keep: Where the runs of these trainings stay. None: they do not.
        metric: The metric that orders the series. None: none is asked for.

    Raises:
        UserError: An option has no meaning for the task or beside another one.
    """
    task = run.data.task
    if task == "problem":
        raise UserError(
            f"{run.folder}: expected a run trained on a file, and {run.data.source} draws its own sequences; "
            f"undertow info {run.folder} has their score"
        )
    if backtest and task != "forecast":
        raise UserError(f"--backtest: has no meaning for task {task}: only forecasts have periods")
    if metric and task != "forecast":
        raise UserError(f"--metric: has no meaning for task {task}: it orders the series of forecasts")
    if retrain and not backtest:
        raise UserError("--retrain: expected together with --backtest K")
    if keep is not None and not retrain:
        raise UserError(f"--keep {keep}: expected together with --retrain")


def read_on(run: Run, device: str | None) -> None:
    """Let the network of a run read on a device, and be trained there anew.

    Args:
        run: The run.
        device: The value of ``--device``. None: the CPU, and trainings where that of the run was.

    Raises:
        UserError: As of ``reading.asked.device_of``.
    """
    if device is not None:
        run.device = device_of(run, device)
        anew: Any = {"device": device}
        run.training = replace(run.training, **anew)


def check_picture(task: str, backtest: int | None, picture: Path | None) -> None:
    """Raise UserError if an evaluation that has no picture is to be drawn."""
    if picture is not None and (backtest or task in ("text", "sound")):
        why = "--backtest" if backtest else f"task {task}"
        raise UserError(f"--picture {picture}: {why} has no picture; leave it out")
