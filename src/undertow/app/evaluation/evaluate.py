"""One evaluation, whatever the task: which data are scored, and by which of this room's files."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from undertow.app.evaluation.result import Result
from undertow.app.outputs import make_folder
from undertow.app.reading.predictions import is_training_table
from undertow.app.reading.watch import source
from undertow.app.runs.folder import Run

HELD_BACK = (
    "the part held back in the training is scored, and it chose the weights; other data are a stricter test"
)
KINDS = {  # by task: the file with its ``evaluate``
    "forecast": "undertow.app.evaluation.forecasts",
    "classify": "undertow.app.evaluation.labels",
    "regress": "undertow.app.evaluation.numbers",
    "text": "undertow.app.evaluation.texts",
    "sound": "undertow.app.evaluation.sounds",
}


def evaluate(run: Run, given: Path | None) -> Result:
    """Evaluate a run.

    Args:
        run: The run.
        given: The data to score. None: those of the training.

    Returns:
        Its metrics, beside those of baselines. Of the training's own data only the part that was held back
        there is scored.

    Raises:
        UserError: The data are missing or do not fit the run.
    """
    path, held_back = _source(run, given)
    module: Any = import_module(KINDS[run.data.task])
    result: Result = module.evaluate(run, path, held_back)
    if held_back:
        result.said.insert(0, f"{path.name}: {HELD_BACK}")
    return result


def _source(run: Run, given: Path | None) -> tuple[Path, bool]:
    """The file to score, and whether only the part held back in the training counts."""
    path = source(run, None if given is None else str(given))
    return path, given is None or is_training_table(run, path)


def backtest(
    run: Run, given: Path | None, periods: int, folder: Path | None, tell: Callable[[str], None]
) -> Result:
    """Score consecutive periods of a table.

    Args:
        run: A run whose task is to forecast.
        given: As of ``evaluate``.
        periods: K.
        folder: Takes the runs of K trainings, each on the rows before its period. None: no training.
        tell: Called with a line before each training.

    Returns:
        The metrics of each period, their mean and standard deviation.

    Raises:
        UserError: As of ``evaluate``, or the table is too short.
    """
    from undertow.app.evaluation import backtest as tests

    path, held_back = _source(run, given)
    if folder is not None:
        return tests.retrained(run, path, periods, folder, tell)
    result = tests.backtest(run, path, periods, held_back)
    if held_back:
        result.said.insert(0, f"{path.name}: {HELD_BACK}")
    return result


def answer(
    run: Run,
    given: Path | None,
    periods: int | None,
    retrain: bool,
    keep: Path | None,
    tell: Callable[[str], None],
) -> Result:
    """Evaluate as ``undertow evaluate`` is asked to.

    Args:
        run: The run.
        given: As of ``evaluate``.
        periods: K of a backtest. None: no backtest.
        retrain: Whether to train anew before each period.
        keep: Where the runs of these trainings stay. None: they do not.
        tell: Called with a line before each training.

    Returns:
        The metrics.

    Raises:
        UserError: As of ``evaluate`` and ``backtest``.
    """
    if periods is None:
        return evaluate(run, given)
    if not retrain:
        return backtest(run, given, periods, None, tell)
    if keep is not None:
        return backtest(run, given, periods, make_folder(keep, "--keep"), tell)
    with TemporaryDirectory(prefix="undertow-") as folder:
        return backtest(run, given, periods, Path(folder), tell)
