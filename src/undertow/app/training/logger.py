"""Where the metrics of a training go beside metrics.jsonl: ``--logger``."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from undertow.app.errors import UserError

if TYPE_CHECKING:  # the option is checked before torch is imported
    from undertow.app.loop import Hook
    from undertow.app.training.trainer import Trainer


def check(logger: str) -> None:
    """Raise UserError if the library of a logger is not installed."""
    if logger != "none" and find_spec(logger) is None:
        raise UserError(f"--logger {logger}: needs {logger}: pip install 'undertow[{logger}]'")


def hooks(trainer: "Trainer") -> "list[Hook]":
    """Make what writes the metrics of a training.

    Args:
        trainer: The training. Of several processes only the first one writes.

    Returns:
        One hook, or none if no logger is asked for.

    Raises:
        UserError: The library is not installed.
    """
    logger = trainer.run.training.logger
    if logger == "none" or not trainer.team.leads:
        return []
    check(logger)
    from undertow.app.training.events import Events

    return [Events(trainer)]
