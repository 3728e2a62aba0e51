"""Which task a source stands for, and why."""

import csv
from pathlib import Path
from typing import Any

from undertow import problems
from undertow.app.errors import UserError, one_of
from undertow.app.inputs import TABLES, check_file, no_column, separator
from undertow.app.runs.config import check_gaps, check_meant

NEEDED = {"forecast": ("target",), "classify": ("sequence", "label")}


def task_of(source: str, given: dict[str, Any]) -> tuple[str, str]:
    """The task and the reason for it.

    Raises:
        UserError: Nothing fits, a column is missing, or an option was given that means nothing for the task.
    """
    task, why = _guess(source, given)
    check_meant(task, why, given)
    check_gaps(task, given.get("gaps"))
    if task in NEEDED:
        _check_columns(Path(source), task, given)
    return task, why


def _guess(source: str, given: dict[str, Any]) -> tuple[str, str]:
    wanted, path, known = given.get("task"), Path(source), source in problems.names()
    if wanted == "problem" and not known:
        raise UserError(f"{source}: no built-in problem (--task problem): {one_of(problems.names())}")
    if wanted in (None, "problem") and known and not (wanted is None and path.is_file()):
        return "problem", f"{source} is a built-in problem"
    _check_source(path, known)
    if wanted:
        return wanted, "--task says so"
    if path.suffix.lower() not in TABLES:
        return "text", f"{path.name} is no table, so it is read as text"
    if given.get("target"):
        return "forecast", f"a table with --target {given['target']}"
    if given.get("sequence") or given.get("label"):
        return "classify", "a table with --sequence and --label"
    raise UserError(
        f"{path}: a table needs --target COLUMN to forecast, or --sequence COLUMN --label COLUMN to "
        f"classify; columns: {one_of(column_names(path))}"
    )


def _check_source(path: Path, known: bool) -> None:
    try:
        check_file(path)
    except UserError as error:
        if not str(error).endswith("no such file"):
            raise
        hint = "; the built-in problem has --task problem" if known else ""
        hint = hint or f", and no built-in problem ({', '.join(problems.names())})"
        raise UserError(f"{error}{hint}") from None


def _check_columns(path: Path, task: str, given: dict[str, Any]) -> None:
    """Raises UserError where a column that the task needs is not named, or is not in the table."""
    names = column_names(path)
    for option in NEEDED[task]:
        if not given.get(option):
            raise UserError(f"{path}: task {task} needs --{option} COLUMN; columns: {one_of(names)}")
    for option in ("target", "time", "group", "sequence", "label"):
        if given.get(option) and given[option] not in names:
            raise no_column(path, given[option], f"--{option}", names)


def column_names(path: Path) -> list[str]:
    """The columns of a table; of a CSV without Polars, which takes a while to import."""
    if path.suffix.lower() != ".parquet":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            heading = file.readline(1_000_000).rstrip("\r\n")
        names = next(csv.reader([heading], delimiter=separator(heading)), [])
        if plain(heading) and len(set(names)) == len(names):
            return names
    from undertow.app.data import table

    return table.column_names(table.read_table(path))


def plain(heading: str) -> bool:
    """Whether a line is a heading as most tables have: readable text, no quotation marks."""
    return heading.replace("\t", " ").isprintable() and not {"\ufffd", '"'} & set(heading)
