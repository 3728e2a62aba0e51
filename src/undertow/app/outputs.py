"""Files to write: checked before any work, and put in place in one step."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undertow import atomic
from undertow.app.errors import UserError
from undertow.atomic import BESIDE


def check_output(
    output: Path,
    endings: tuple[str, ...],
    may_replace: bool,
    option: str = "--output",
    sources: Sequence[Path] = (),
) -> None:
    """Check before any work that a file can be written.

    Args:
        output: The file.
        endings: The endings that its name may have, each with its dot.
        may_replace: Whether a file that exists may be replaced.
        option: The option that names it, for the error message.
        sources: The files and folders that are read, which may not be replaced in any case.

    Raises:
        UserError: The name has another ending, its folder is missing or not writable, or the file exists.
    """
    if output.suffix.lower() not in endings:
        raise UserError(f"{option} {output}: expected a name that ends in {' or '.join(endings)}")
    if output.is_dir():
        raise UserError(f"{option} {output}: expected a file, and it is a folder")
    if not output.parent.is_dir():
        raise UserError(f"{option} {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"{option} {output}: no permission to write into {output.parent}")
    if output.exists() and not may_replace:
        raise UserError(f"{option} {output}: exists already; --overwrite replaces it")
    if output.exists() and any(_is_of(output, each) for each in sources):
        raise UserError(f"{option} {output}: is read, and would be lost; expected another name")


def _is_of(path: Path, source: Path) -> bool:
    """Whether a file is a source, or one of the files in a folder that is the source."""
    return source.exists() and (path.samefile(source) or path.parent.samefile(source))


def check_page(output: Path | None, usual: Path, overwrite: bool) -> Path:
    """Check before any work that a page can be written.

    Args:
        output: The value of ``--output``; None if the option was left out.
        usual: Where the page goes without the option. A page there is replaced.
        overwrite: Whether a file in ``--output`` may be replaced.

    Returns:
        Where the page goes.

    Raises:
        UserError: ``check_output`` refuses the file.
    """
    page = usual if output is None else output
    check_output(page, (".html", ".htm"), overwrite or output is None)
    return page


def check_folder(out: Path, option: str) -> None:
    """Check before any work that a folder for results can be made, or written to if it is there.

    Args:
        out: The folder.
        option: The option that names it, for the error message.

    Raises:
        UserError: It is below a file, or there is no permission to write.
    """
    there = next(each for each in (out.absolute(), *out.absolute().parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"{option} {out}: cannot make this folder: {there.name} is a file")
    if not os.access(there, os.W_OK):
        raise UserError(f"{option} {out}: no permission to write into {there.name or there}")


def make_folder(out: Path, option: str) -> Path:
    """Make a folder for results before any work.

    Args:
        out: The folder; it may exist already.
        option: The option that names it, for the error message.

    Returns:
        ``out``.

    Raises:
        UserError: The folder cannot be made or not be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {out}: cannot make this folder: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise UserError(f"{option} {out}: no permission to write into this folder")
    return out


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a UserError that names the file, for example when the disk is full.

    Args:
        path: The file that the block writes.

    Raises:
        UserError: The block raised OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place, then move it there in one step.

    Args:
        path: The file. A file that exists stays as it is until the new one is complete and on disk.
        write: Called with the path of the file beside it, which it is to write.

    Raises:
        UserError: The file cannot be written.
    """
    with writing(path):
        atomic.write(path, write)


def is_leftover(name: str) -> bool:
    """Tell whether a killed process left a file behind while it wrote another.

    Args:
        name: The file's name.

    Returns:
        True for names that ``atomically`` uses, or safetensors in earlier versions.
    """
    return (name.startswith(BESIDE[0]) and name.endswith(BESIDE[1])) or name.startswith(".tmp")
