"""What a command reads: checked before anything heavy is imported."""

from pathlib import Path

from undertow.app.errors import UserError, must_be_unicode, one_of


def check_file(path: Path) -> None:
    """Raises UserError unless ``path`` is a file with something in it."""
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
    """Raises UserError unless ``path`` is a folder, or a file with something in it."""
    must_be_unicode(path)
    if not path.is_dir():
        check_file(path)


def check_input(task: str, source: str, given: str | None) -> None:
    """Raises UserError where ``--input`` cannot be read; a language model also takes a text."""
    if given is None or task == "text":
        return
    if task == "problem":
        raise UserError(f"--input {given}: {source} draws its own sequences; leave it out")
    check_source(Path(given))


def no_column(path: Path, name: str, asked: str, names: list[str]) -> UserError:
    """The error for a column that a table lacks; ``asked`` is the option that names it, if any."""
    asked = f" ({asked})" if asked else ""
    return UserError(f"{path}: no column {name!r}{asked}; columns: {one_of(names)}")
