"""Where results are written: checked before any work, and put in their place in one step."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undertow import atomic
from undertow.app.errors import UserError
from undertow.atomic import BESIDE


def check_output(output: Path, endings: tuple[str, ...], may_replace: bool) -> None:
    """Raise UserError, before any work, where the file of ``--output`` cannot or must not be written."""
    if output.suffix.lower() not in endings:
        raise UserError(f"--output {output}: expected a name that ends in {' or '.join(endings)}")
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; a file is needed")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"--output {output}: the folder {output.parent} cannot be written to")
    if output.exists() and not may_replace:
        raise UserError(f"--output {output}: exists already; --overwrite replaces it")


def make_folder(out: Path, option: str) -> Path:
    """Make the folder before a minute of training, not after; raises UserError naming ``option``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option}: cannot make the folder {out}: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise UserError(f"{option}: no permission to write into {out}")
    return out


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises UserError naming ``path`` where it cannot be written, say because the disk is full."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place in one step, on disk.

    Raises UserError where it cannot be written; what was there stays.
    """
    with writing(path):
        atomic.write(path, write)


def is_leftover(name: str) -> bool:
    """Whether a killed ``atomically`` left the file of this name, or safetensors did in earlier versions."""
    return (name.startswith(BESIDE[0]) and name.endswith(BESIDE[1])) or name.startswith(".tmp")
