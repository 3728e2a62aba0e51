"""What a verb is asked to read, checked before torch and Polars are imported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.app.errors import UserError
from undertow.app.inputs import check_input
from undertow.app.outputs import check_page
from undertow.app.runs.config import DataConfig, check_gaps, check_given
from undertow.app.runs.config.kinds import TABLES
from undertow.app.runs.device import chosen
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


def is_sound(run: Run, gaps: str | None) -> bool:
    """Tell whether a run plays recordings. Raises UserError if ``--gaps``, an option of tables, is given."""
    if run.data.task == "sound" and gaps is not None:
        raise UserError(f"--gaps {gaps}: has no meaning for task sound")
    return run.data.task == "sound"


def device_of(run: Run, device: str) -> str:
    """Choose where the network of a run predicts: cpu or cuda.

    Args:
        run: The run.
        device: The value of ``--device``.

    Raises:
        UserError: There is no such device, or the run plays recordings, which the CPU does.
    """
    if run.data.task == "sound" and device == "cuda":
        raise UserError("--device cuda: has no meaning for task sound, whose network plays on the CPU")
    return chosen(device)


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


def page_of(
    run: Run,
    usual: Path,
    given: str | None,
    output: Path | None,
    overwrite: bool,
) -> Path:
    """Check the options of a page on a run.

    Args:
        run: The run.
        usual: Where the page goes without ``--output``.
        given: The value of ``--input``.
        output: The value of ``--output``.
        overwrite: Whether a file in ``--output`` may be replaced.

    Returns:
        Where the page goes.

    Raises:
        UserError: An option does not fit the run.
    """
    page = check_page(output, usual, overwrite)
    check_input(run.data.task, run.data.source, given)
    return page


def without_target(run: Run, given: str | None) -> bool:
    """Tell whether a run reads a recording alone, which has no target: as another program's network does."""
    return run.data.task == "sound" and given is not None
