"""What ``predict`` is asked for, checked before torch and Polars are imported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, check_gaps, check_given
from undertow.app.runs.config.kinds import TABLES
from undertow.app.runs.folder import Run


def check_run(run: Run) -> Run:
    """Return the run. Raises UserError unless it was trained on a table or on sound."""
    if run.data.task not in (*TABLES, "sound"):
        verb = "generate" if run.data.task == "text" else "info"
        raise UserError(
            f"{run.folder}: expected a run trained on a table, and its task is {run.data.task}; "
            f"try undertow {verb} {run.folder}"
        )
    return run


def check_sound(gaps: str | None, output: Path | None) -> Path:
    """Check the options of ``predict`` with a run of sound, and return the file to write.

    Raises:
        UserError: There is no such file, or an option is one of tables.
    """
    if gaps is not None:
        raise UserError(f"--gaps {gaps}: has no meaning for task sound")
    if output is None:
        raise UserError("--output: expected the WAV file to write, such as -o OUTPUT.wav")
    return output


def with_gaps(data: DataConfig, gaps: str) -> DataConfig:
    """Replace the gaps of the training.

    Args:
        data: The options of the training.
        gaps: The value of ``--gaps`` for this table.

    Returns:
        The options for this table.

    Raises:
        UserError: The value has no meaning for the run.
    """
    given: dict[str, Any] = {"gaps": gaps}
    check_given(given)
    check_gaps(data.task, gaps)
    if gaps != data.gaps and (gaps == "flag" or (gaps, data.gaps) == ("fill", "flag")):
        raise UserError(
            f"--gaps {gaps}: the run was trained with --gaps {data.gaps}, and flags are features of it; "
            f"leave the option out, or train a run with --gaps {gaps}"
        )
    return replace(data, **given)
