"""Writes a file in one step: an older file stays until the new one is complete and on disk."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

BESIDE = (".", ".new")  # before and after a file's name while it is being written


def write(path: Path, fill: Callable[[Path], Any]) -> None:
    """Write a file beside ``path``, wait until it is on disk, and rename it to ``path``.

    Several processes may write the same file at once: the last one that is complete stays.

    Args:
        path: the file.
        fill: writes the content into the path that it is given.

    Raises:
        OSError: the file cannot be written. An older file stays as it was.
    """
    beside = path.with_name(f"{BESIDE[0]}{path.name}.{os.getpid()}{BESIDE[1]}")
    try:
        fill(beside)
        _sync(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every file system syncs a folder
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file is on disk, or the names of the files in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
