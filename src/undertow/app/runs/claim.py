"""Claiming a run folder for a training, and removing what a killed process left in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from undertow.app.errors import UserError
from undertow.app.outputs import check_folder, is_leftover, make_folder
from undertow.app.runs import lock
from undertow.app.runs.folder import DOCTOR, FILES, LOGS, MAYBE, MEMBERS, REPORT

RUNS = Path("runs")  # holds the runs without --folder


@contextmanager
def claimed(folder: Path | None, stem: str, overwrite: bool) -> Iterator[Path]:
    """Make the folder of a new run, empty and locked.

    If the block fails before the training has saved anything, the folder is left as it was.

    Args:
        folder: The folder. None: ``runs/<stem>-<n>`` with the first n that is free.
        stem: The beginning of the name.
        overwrite: Whether a run in ``folder`` may be replaced.

    Yields:
        The folder.

    Raises:
        UserError: The folder is in use, holds something else or cannot be made.
    """
    refuse_existing(folder, overwrite)
    made = [path for path in (folder or RUNS, *(folder or RUNS).parents) if not path.exists()]
    if folder is None:
        folder = _next_folder(stem)
        made = [folder, *made]
    try:
        make_folder(folder, "--folder")
        with lock.held(folder):
            refuse_existing(folder, overwrite)
            _remove_files(folder)
            try:
                yield folder
            except Exception:
                if not _has_progress(folder):
                    _remove_files(folder)
                raise
    finally:
        with suppress(OSError):  # the first that holds something stays, and so do those above it
            for path in made:
                path.rmdir()


def _next_folder(stem: str) -> Path:
    """Make ``runs/<stem>-<n>`` with the first n that is free."""
    for n in count(1):
        folder = RUNS / f"{stem}-{n}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"{folder}: cannot make this folder: {error.strerror}; choose another --folder"
            ) from None
        return folder
    raise AssertionError


def _remove_files(folder: Path) -> None:
    """Remove the files of a run, and those that a killed process left."""
    if (folder / "config.json").exists():  # goes last: without it nobody knows whose folder this is
        shutil.rmtree(folder / MEMBERS, ignore_errors=True)
        shutil.rmtree(folder / LOGS, ignore_errors=True)
    for name in (*FILES, *MAYBE):
        (folder / name).unlink(missing_ok=True)
    remove_pages(folder)
    remove_leftovers(folder)


def leftovers(folder: Path) -> list[Path]:
    """List the files of ``folder`` that a killed process did not finish."""
    return [path for path in folder.iterdir() if is_leftover(path.name)]


def remove_leftovers(folder: Path) -> None:
    """Remove the files of ``folder`` that a killed process did not finish."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def _has_progress(folder: Path) -> bool:
    """Whether anything was saved after config.json, the last file of an untrained run."""
    config, last = folder / "config.json", folder / "last.safetensors"
    if (folder / "model.safetensors").exists() or (folder / MEMBERS).exists():
        return True
    return config.exists() and last.exists() and last.stat().st_mtime_ns > config.stat().st_mtime_ns


def remove_pages(folder: Path) -> list[str]:
    """Remove the pages of inspect and doctor, which show a model that is about to change.

    Args:
        folder: The run folder.

    Returns:
        The names of the pages that were there.
    """
    found = [name for name in (REPORT, DOCTOR) if (folder / name).exists()]
    for name in found:
        (folder / name).unlink()
    return found


def refuse_existing(folder: Path | None, overwrite: bool) -> None:
    """Check that a new run may use a folder.

    Args:
        folder: The folder; it need not exist. None: one in ``runs``.
        overwrite: Whether a run in it may be replaced.

    Raises:
        UserError: It is a file or below one, may not be written to, or holds a run or other files.
    """
    if folder is None:
        check_folder(RUNS, "--folder")
        return
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--folder {folder}: expected a folder, and it is a file")
        check_folder(folder, "--folder")
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise UserError(f"--folder {folder}: {error.strerror}") from None
    if "config.json" in names:
        if not overwrite:
            raise UserError(f"{folder}: holds a run already; --overwrite replaces it, --resume continues it")
    elif [name for name in names if name not in (*FILES, *MAYBE, lock.LOCK) and not is_leftover(name)]:
        raise UserError(f"{folder}: holds other files and no run; choose another --folder")
