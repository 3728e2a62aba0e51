"""What ``evaluate`` is asked for, checked before torch and Polars are imported."""

from pathlib import Path

from undertow.app.errors import UserError
from undertow.app.runs.folder import Run


def check_asked(run: Run, backtest: int | None, retrain: bool, keep: Path | None) -> None:
    """Check that a run can be evaluated so.

    Args:
        run: The run.
        backtest: The number of periods. None: no backtest.
        retrain: Whether to train anew before each period.
        keep: Where the runs of these trainings stay. None: they do not.

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
    if retrain and not backtest:
        raise UserError("--retrain: has a meaning with --backtest K only")
    if keep is not None and not retrain:
        raise UserError(f"--keep {keep}: has a meaning with --retrain only")


def check_picture(task: str, backtest: int | None, picture: Path | None) -> None:
    """Raise UserError if an evaluation that has no picture is to be drawn."""
    if picture is not None and (backtest or task == "text"):
        why = "--backtest" if backtest else f"task {task}"
        raise UserError(f"--picture {picture}: {why} has no picture; leave it out")
