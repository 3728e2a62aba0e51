"""The lock of a run folder: one process at a time writes to it. The system frees it when its holder ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undertow.app.errors import UserError

LOCK = ".lock"  # in the run folder while a training writes there; it holds the number of the process


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder during the block.

    Args:
        folder: The folder.

    Raises:
        UserError: Another process holds it, or the folder is not writable.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: {_holder(path)} is training in this folder; wait until it ends") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot write into this folder: {error.strerror}") from None
    try:
        path.write_text(f"{os.getpid()}\n")
        yield
    finally:
        path.unlink(
            missing_ok=True
        )  # while locked, so that a process that waits for this very file starts over
        lock.release()


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):  # not written yet, or gone
        return "another process"
