"""Files to read: checked before anything heavy is imported."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.app.errors import UserError, must_be_unicode, one_of

if TYPE_CHECKING:
    from undertow.networks import Network

Input = Annotated[  # the option of verbs that let a trained network read something
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="FILE|TEXT",
        help="File to read, or for a language model a text. "
        "(default: the part of its data held back to validate)",
    ),
]


Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="With another program's network: a column of the file that it reads, one option for each input. "
        "(default: all columns, in their order)",
    ),
]


def _check_file(path: Path) -> None:
    """Raise UserError unless ``path`` is a file with something in it."""
    must_be_unicode(path)
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise UserError(f"{path}: expected a file, and it is {kind}")
        with path.open("rb") as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if empty:
        raise UserError(f"{path}: the file is empty")


def check_source(path: Path) -> None:
    """Check that data can be read from a path.

    Args:
        path: A file or a folder.

    Raises:
        UserError: It is missing, an empty file, a device or a pipe.
    """
    must_be_unicode(path)
    if not path.is_dir():
        _check_file(path)


def check_input(task: str, source: str, given: str | None) -> None:
    """Check the value of ``--input``.

    Args:
        task: The run's task.
        source: What the run was trained on.
        given: The value, a path; for a language model also a text. None if the option was left out.

    Raises:
        UserError: The file cannot be read, or the task reads no file.
    """
    if given is None or task == "text":
        return
    if task == "problem":
        raise UserError(f"--input {given}: {source} draws its own sequences; leave it out")
    check_source(Path(given))


def refuse_columns(columns: list[str] | None) -> None:
    """Refuse ``--column`` with a run, which knows its columns. Raises UserError if it is given."""
    if columns:
        raise UserError(f"--column {columns[0]}: a run knows its columns; leave it out")


def check_needed(network: Path, given: str | None) -> Path:
    """Check the value of ``--input`` of another program's network, which holds no data of its own.

    Args:
        network: The network's file.
        given: The value, a path; None if the option was left out.

    Returns:
        The path of a file with something in it.

    Raises:
        UserError: It was left out, or the file cannot be read.
    """
    if given is None:
        raise UserError(f"{network}: the file holds no data; give them with --input FILE")
    _check_file(Path(given))
    return Path(given)


def no_column(path: Path, name: str, asked: str, names: list[str]) -> UserError:
    """Make the error for a column that a table lacks.

    Args:
        path: The table.
        name: The missing column.
        asked: The option that names it; empty if no option does.
        names: The columns of the table.

    Returns:
        The error, for the caller to raise.
    """
    asked = f" ({asked})" if asked else ""
    return UserError(f"{path}: no column {name!r}{asked}; columns: {one_of(names)}")


def read_network(path: Path) -> "Network":
    """Read the network of a file or a run folder; say on stderr what had to be assumed of it.

    Args:
        path: The file or folder.

    Returns:
        The network.

    Raises:
        ValueError: As ``undertow.networks.read``.
    """
    from undertow import networks

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", networks.Assumed)
        found = networks.read(path)
    for each in said:
        print(f"undertow: {each.message}", file=sys.stderr)
    return found
