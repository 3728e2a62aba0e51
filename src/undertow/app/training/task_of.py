"""Which task a source stands for, and why."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from undertow import problems
from undertow.app.errors import UserError, must_be_unicode, one_of
from undertow.app.runs.config import check_meant


def task_of(source: str, given: dict[str, Any]) -> tuple[str, str]:
    """The task and the reason for it.

    Raises:
        UserError: Nothing fits, or an option was given that means nothing for the task.
    """
    task, why = _guess(source, given)
    check_meant(task, why, given)
    return task, why


def _guess(source: str, given: dict[str, Any]) -> tuple[str, str]:
    wanted = given.get("task")
    path = Path(source)
    if wanted == "problem" or (wanted is None and source in problems.names() and not path.is_file()):
        return "problem", f"{source} is a built-in problem"
    check_file(path)
    if wanted:
        return wanted, "--task says so"
    from undertow.app.data.content import is_table
    from undertow.app.data.files import in_folder

    tabular = is_table(in_folder(path)[0])
    if not tabular and not any(given.get(name) for name in ("target", "sequence", "label")):
        return "text", f"{path.name} is no table, so it is read as text"
    return _guess_table(path, given)


def _guess_table(path: Path, given: dict[str, Any]) -> tuple[str, str]:
    if given.get("target"):
        return "forecast", f"a table with --target {given['target']}"
    if given.get("sequence") or given.get("label"):
        return "classify", "a table with --sequence and --label"
    from undertow.app.data.table import column_names, read_table  # which need a second to import
    from undertow.app.runs.config import DataConfig

    own = {field.name for field in fields(DataConfig)}
    found: dict[str, Any] = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 1}
    found.update({name: value for name, value in given.items() if name in own})
    config = DataConfig(**found)
    raise UserError(
        f"{path}: a table needs --target COLUMN to forecast, or --sequence COLUMN --label COLUMN to "
        f"classify; columns: {one_of(column_names(read_table(path, config)[0]))}"
    )


def check_file(path: Path) -> None:
    """Raises UserError unless ``path`` is a file with something in it, or a folder of such files."""
    must_be_unicode(path)
    if not path.exists():
        known = ", ".join(problems.names())
        raise UserError(f"{path}: no such file, and no built-in problem ({known})")
    if path.is_dir():
        return
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if empty:
        raise UserError(f"{path}: the file is empty")
