"""The defaults of a task, and what the data decide."""

from dataclasses import MISSING
from typing import Any

from undertow.app.runs.config.declarations import options

POOLED = "mean-max"  # readout of labelled sequences
BUDGETS = {  # what a training reads in all, and its fewest and most epochs
    "text": (5_000_000, 1, 50),  # symbols
    "forecast": (600_000, 10, 60),  # windows
    "sound": (300_000_000, 20, 1000),  # samples
}


def with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of a task to the options given.

    Args:
        task: text, forecast, classify, regress, problem or sound.
        given: Values by option.

    Returns:
        A value for every option of the task; without epochs where the data decide (``BUDGETS``).
    """
    found = {option.name: option.option.default_of(task) for option in options()}
    found = {name: value for name, value in found.items() if value is not MISSING} | given | {"task": task}
    if found["known"] and "head" not in given:
        found["head"] = "decoder"
    sets_no_gates = found["cell"] == "rnn" or found["forget_bias"] is not None or found["steps"] <= 2
    if found["init"] == "chrono" and "init" not in given and sets_no_gates:
        found["init"] = "torch"
    return found


def epochs_of(task: str, epoch: int) -> int:
    """Choose the epochs where the data decide.

    Args:
        task: text, forecast or sound.
        epoch: What one epoch reads: symbols, windows or samples.

    Returns:
        Enough epochs to read about the budget of the task, within its fewest and most.
    """
    budget, fewest, most = BUDGETS[task]
    return min(most, max(fewest, round(budget / max(1, epoch))))
