"""The defaults of a task, and what the data decide."""

from dataclasses import MISSING
from typing import Any

from undertow.app.runs.config.declarations import options

POOLED = "mean-max"  # readout of labelled sequences
TEXT_BUDGET = 5_000_000  # symbols: a text gets enough epochs to see about this many
TEXT_EPOCHS = (1, 50)  # ... but never fewer or more passes than this


def with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of a task to the options given.

    Args:
        task: text, forecast, classify, regress or problem.
        given: Values by option.

    Returns:
        A value for every option of the task; without epochs for a text, since the data decide.
    """
    found = {option.name: option.option.default_of(task) for option in options()}
    found = {name: value for name, value in found.items() if value is not MISSING} | given | {"task": task}
    if found["known"] and "head" not in given:
        found["head"] = "decoder"
    sets_no_gates = found["cell"] == "rnn" or found["forget_bias"] is not None or found["steps"] <= 2
    if found["init"] == "chrono" and "init" not in given and sets_no_gates:
        found["init"] = "torch"
    return found


def text_epochs(symbols: int) -> int:
    """Choose the epochs for a text.

    Args:
        symbols: Its training symbols.

    Returns:
        Enough epochs to read about TEXT_BUDGET symbols, within TEXT_EPOCHS.
    """
    fewest, most = TEXT_EPOCHS
    return min(most, max(fewest, round(TEXT_BUDGET / max(1, symbols))))
