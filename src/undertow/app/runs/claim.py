"""A run folder before and after its training: who may use it, and what a killed process left in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from undertow.app.errors import UserError
from undertow.app.outputs import is_leftover, make_folder
from undertow.app.runs import lock
from undertow.app.runs.folder import DOCTOR, FILES, REPORT

RUNS = Path("runs")  # where runs go that are given no folder


@contextmanager
def claimed(folder: Path | None, stem: str, overwrite: bool) -> Iterator[Path]:
    """The folder of a new run, empty and locked; one of ``_next_folder`` where none is given.

    Where the training fails before it has saved anything, the folder is as it was before.
    """
    if folder is not None:
        refuse_existing(folder, overwrite)
    made = [path for path in (folder or RUNS, *(folder or RUNS).parents) if not path.exists()]
    if folder is None:
        folder = _next_folder(stem)
        made = [folder, *made]
    try:
        make_folder(folder, "--run")
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
        with suppress(OSError):  # from the first one that holds something
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
            raise UserError(f"{folder}: cannot be made: {error.strerror}; choose another --run") from None
        return folder
    raise AssertionError


def _remove_files(folder: Path) -> None:
    """Take away what a run consists of, and what a killed process left."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    remove_pages(folder)
    remove_leftovers(folder)


def leftovers(folder: Path) -> list[Path]:
    """Files that a killed process did not finish."""
    return [path for path in folder.iterdir() if is_leftover(path.name)]


def remove_leftovers(folder: Path) -> None:
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def _has_progress(folder: Path) -> bool:
    """Whether anything was saved after config.json, the last file of an untrained run."""
    config, last = folder / "config.json", folder / "last.safetensors"
    if (folder / "model.safetensors").exists():
        return True
    return config.exists() and last.exists() and last.stat().st_mtime_ns > config.stat().st_mtime_ns


def remove_pages(folder: Path) -> list[str]:
    """Take away the pages on a model that is no longer there; their names."""
    found = [name for name in (REPORT, DOCTOR) if (folder / name).exists()]
    for name in found:
        (folder / name).unlink()
    return found


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Raises UserError unless ``folder`` is free, or a run that may be overwritten."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--run {folder}: is a file, not a folder for a run")
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise UserError(f"--run {folder}: {error.strerror}") from None
    if "config.json" in names:
        if not overwrite:
            raise UserError(
                f"{folder}: a run is there already; --overwrite replaces it, --resume goes on with it"
            )
    elif [name for name in names if name not in (*FILES, lock.LOCK) and not is_leftover(name)]:
        raise UserError(f"{folder}: holds other files and no run; choose another --run")
