"""The task of a source, and the reason for it."""

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from undertow.app.data.files import content
from undertow.app.data.files.lines import fields as fields_of
from undertow.app.data.files.lines import is_value, separator
from undertow.app.errors import UserError, one_of
from undertow.app.inputs import check_source, no_column
from undertow.app.runs.config import DataConfig, check_gaps, check_meant

UNSURE = {"no_header", "encoding", "decimal", "sheet"}  # options of tables that are not plain
FIRST = 20  # lines from which a plain heading is known
NAME = re.compile(r"[^\W\d]")  # a name begins with a letter
PAIR = "expected two recordings, before the device and after it: undertow train INPUT.wav TARGET.wav"
NEEDED = {"forecast": ("target",), "classify": ("sequence", "label"), "regress": ("sequence", "label")}
COLUMNS = ("target", "time", "group", "known", "sequence", "label")  # options whose values are columns


def task_of(source: str, given: dict[str, Any], further: Sequence[str] = ()) -> tuple[str, str]:
    """Choose the task of a source.

    Args:
        source: A file, a folder or the name of a built-in problem.
        given: Options of the command line, by name.
        further: More sources.

    Returns:
        The task, text, forecast, classify, regress, problem or sound, and the reason in words. It is classify
        where labels decide between that and regress, which needs the whole table.

    Raises:
        UserError: No task fits, a column is missing, or an option has no meaning for the task.
    """
    task, why = _guess(source, given)
    check_meant(task, why, given)
    check_gaps(task, given.get("gaps"))
    if task == "sound" and (len(further) != 1 or not content.is_recording(Path(further[0]))):
        raise UserError(f"{source}: {PAIR}")
    if task == "problem" and further:
        raise UserError(f"{further[0]}: has no meaning with the problem {source}, which makes its own data")
    if task in NEEDED:
        _check_columns(Path(source), task, given)
    return task, why


def _guess(source: str, given: dict[str, Any]) -> tuple[str, str]:
    wanted, path = given.get("task"), Path(source)
    if wanted != "problem" and path.is_file():
        check_source(path)
    elif _is_problem(source, wanted):
        return "problem", f"{source} is a built-in problem"
    if wanted:
        return wanted, "--task says so"
    if content.is_recording(content.in_folder(path)[0]):
        return "sound", f"{path.name} is a recording"
    named = any(given.get(name) for name in ("target", "sequence", "label"))
    if not named and not content.is_table(content.in_folder(path)[0]):
        return "text", f"{path.name} is no table, so it is read as text"
    if given.get("target"):
        return "forecast", "a table with " + " ".join(f"--target {name}" for name in given["target"])
    if given.get("sequence") or given.get("label"):
        return "classify", "a table with --sequence and --label"
    raise UserError(
        f"{path}: a table needs --target COLUMN to forecast, or --sequence COLUMN --label COLUMN to "
        f"learn a class or a number; columns: {one_of(_column_names(path, given))}"
    )


def _is_problem(source: str, wanted: str | None) -> bool:
    """Whether a built-in problem is meant; raises UserError if it is neither that nor anything to read."""
    from undertow import problems  # which imports NumPy

    known = source in problems.names()
    if wanted == "problem" and not known:
        raise UserError(f"{source}: no built-in problem (--task problem): {one_of(problems.names())}")
    if known and wanted in (None, "problem"):
        return True
    try:
        check_source(Path(source))
    except UserError as error:
        if not str(error).endswith("no such file"):
            raise
        hint = "; the built-in problem has --task problem" if known else ""
        hint = hint or f", and no built-in problem ({', '.join(problems.names())})"
        raise UserError(f"{error}{hint}") from None
    return False


def _check_columns(path: Path, task: str, given: dict[str, Any]) -> None:
    """Raise UserError if a column that the task needs is not named, or is not in the table."""
    for option in NEEDED[task]:
        if not given.get(option):
            found = one_of(_column_names(path, given))
            raise UserError(f"{path}: task {task} needs --{option} COLUMN; columns: {found}")
    asked = [(option, name) for option in COLUMNS for name in _names_in(given.get(option))]
    if {name for _, name in asked} <= set(_heading(path, given)):
        return
    names = _column_names(path, given)
    for option, name in asked:
        if name not in names:
            raise no_column(path, name, f"--{option}", names)


def _names_in(value: Any) -> tuple[str, ...]:
    """The columns that an option names; none if it was left out."""
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _column_names(path: Path, given: dict[str, Any]) -> list[str]:
    """The columns of a table. A plain table is read without Polars, which takes long to import."""
    if names := _heading(path, given):
        return names
    from undertow.app.data.files import batches, disk
    from undertow.app.data.tables import table

    own = {field.name for field in fields(DataConfig)}
    found: dict[str, Any] = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 1}
    found.update({name: value for name, value in given.items() if name in own})
    if disk.is_wanted(path, config := DataConfig(**found)):
        return batches.columns_of(path, config)
    return table.column_names(table.read_table(path, config)[0])


def _heading(path: Path, given: dict[str, Any]) -> list[str]:
    """The names in the first line of a file, if it is surely a heading; otherwise none."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv") or given.keys() & UNSURE:
        return []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line for _ in range(FIRST) if (line := file.readline(1_000_000).rstrip("\r\n"))]
    if len(lines) < 2:
        return []
    first, *rows = (fields_of(line, separator(lines)) for line in lines)
    plain = lines[0].replace("\t", " ").isprintable() and not {"\ufffd", '"'} & set(lines[0])
    names = [name.strip() for name in first]
    whole = {len(row) for row in rows} == {len(names)} != {1} and names == first
    valued = any(map(is_value, rows[0])) and len(set(names)) == len(names)
    return names if plain and whole and valued and all(map(NAME.match, names)) else []
