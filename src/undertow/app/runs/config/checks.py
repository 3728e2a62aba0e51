"""Checks of options: their ranges, whether they mean something for a task, and whether they go together."""

from typing import Any

from undertow.app.errors import UserError
from undertow.app.runs.config.declarations import options
from undertow.app.runs.config.kinds import LABELLED
from undertow.app.runs.options import checked

ONE_PART = ("target", "group", "sequence", "label", "time")  # options that name different columns


def check_given(given: dict[str, Any]) -> None:
    """Check the values of options against their types and ranges, before anything is read.

    Args:
        given: Values by option.

    Raises:
        UserError: A value is out of range, whatever the task, or two options exclude each other.
    """
    for option in options():
        if option.name in given:
            checked(option, given[option.name])
    _check_columns(given)
    if given.get("select") == "last" and "patience" in given:
        raise UserError(
            f"--patience {given['patience']}: has no meaning with --select last, which trains all epochs"
        )


def _check_columns(given: dict[str, Any]) -> None:
    """Raise UserError if a column is named by two of the options that give a column its part."""
    named: dict[str, str] = {}
    for option in (each for each in options() if each.name in ONE_PART and each.name in given):
        for name in given[option.name] if option.repeats else (given[option.name],):
            if name in named:
                raise UserError(
                    f"{option.flag} {name}: expected another column; {named[name]} names it already"
                )
            named[name] = option.flag


def check_meant(task: str, why: str, given: dict[str, Any]) -> None:
    """Check that all options given mean something for the task.

    Args:
        task: text, forecast, classify, regress or problem.
        why: The reason for this task, for the error message.
        given: Values by option.

    Raises:
        UserError: An option belongs to other tasks only.
    """
    for option in options():
        if option.name in given and task not in option.option.tasks:
            raise UserError(
                f"{option.flag}: has no meaning for task {task} ({why}); --task names another task"
            )
    for name in ("horizon", "known", "head"):
        if given.get("simulate") and name in given:
            raise UserError(
                f"--{name}: has no meaning with --simulate, which computes the last row of a window"
            )


def check_gaps(task: str, gaps: str | None) -> None:
    """Check ``--gaps``, which cannot be ignore for labelled sequences.

    Args:
        task: text, forecast, classify, regress or problem.
        gaps: The value, if given.

    Raises:
        UserError: It is ignore, and the task has labelled sequences.
    """
    if task in LABELLED and gaps == "ignore":
        raise UserError(f"--gaps ignore: has no meaning for task {task}; expected error, fill, flag or split")


def check_together(found: dict[str, Any], where: str) -> None:
    """Check that options do not exclude each other.

    Args:
        found: Values by option, of the model at least.
        where: The file that holds them, for the error message; empty for the command line.

    Raises:
        UserError: Two options exclude each other.
    """
    chrono, flag = found["init"] == "chrono", "" if where else "--"
    if (n := found.get("vocabulary")) is not None:
        if found["symbols"] not in ("words", "bpe"):
            raise UserError(f"--vocabulary {n}: expected with --symbols words or bpe")
        if found["symbols"] == "bpe" and n < 257:
            raise UserError(f"--vocabulary {n}: expected 257 or more, since the 256 bytes are symbols of bpe")
    if found.get("known") and found.get("head") == "direct":
        name = found["known"][0]
        raise UserError(f"--head direct: reads nothing of the horizon; leave out --head or --known {name}")
    if found["cell"] == "rnn" and (found["forget_bias"] is not None or chrono):
        option = f"{flag}init chrono" if chrono else f"{flag}forget-bias"
        raise UserError(f"{where}{option}: sets gates, and {flag}cell rnn has none")
    if chrono and found["forget_bias"] is not None:
        raise UserError(f"{where}{flag}forget-bias: {flag}init chrono sets it already; leave out one of them")
