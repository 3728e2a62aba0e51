"""Data kept on disk while they are in use: when, where, and arrays that are mapped from there.

What is made from files is kept in a folder whose name stands for the files and the options. It is written
beside that name and renamed when it is complete. What a killed process leaves is removed by the next one that
uses the cache.
"""

import ctypes
import errno
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from undertow import __version__
from undertow.app.data.files.ahead import SLOT, Ahead
from undertow.app.data.files.content import files_of
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, options
from undertow.app.runs.options import FILES, TEXTS
from undertow.kernels.native import read_cached

SPACE = 6  # times their size that files may take in memory while they are read and prepared
RESTS = 15  # batches for which the system's cache is not asked, after one that was mostly not there
LOCK, PART, ABOUT = ".lock", ".part", "about.json"
READ_BY = {"task", "group", *(each.name for each in options() if each.option.panel in (FILES, TEXTS))} - {
    "cache"
}


def memory() -> int:
    """The most memory that a process may have, in bytes; 2**63 if it is unknown."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63
    try:  # of a container
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return found


def is_wanted(path: Path, config: DataConfig, space: int = SPACE) -> bool:
    """Whether ``--cache`` asks for it, or the files may not fit into memory."""
    if config.cache is not None:
        return True
    return space * sum(file.stat().st_size for file in files_of(path, config)) > memory()


def check_fits(path: Path, config: DataConfig) -> None:
    """Raise UserError for files that are read as a whole and are larger than memory.

    Args:
        path: A file or folder.
        config: The options.
    """
    size, there = sum(file.stat().st_size for file in files_of(path, config)), memory()
    if size > there:
        raise UserError(
            f"{path}: {size / 2**30:,.1f} GiB are read into memory as a whole here, and this machine has "
            f"{there / 2**30:,.1f} GiB; give a part of it"
        )


def lines(config: DataConfig) -> list[str]:
    """Say that data are on disk, and until when."""
    if config.cache is not None:
        return [f"kept on disk in {config.cache}, for further runs too"]
    return ["kept on disk, since memory may be too small; --cache FOLDER keeps it for further runs"]


def stamp_of(files: list[Path]) -> list[list[Any]]:
    """What changes when files do: name, size and time of the last change of each."""
    found = [(file, file.stat()) for file in files]
    return [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in found]


@contextmanager
def kept(path: Path, config: DataConfig, fill: Callable[[Path], None], known: Any = None) -> Iterator[Path]:
    """A folder with what is made from files, made now unless ``--cache`` holds it.

    Args:
        path: The source.
        config: The options. Without ``--cache`` the folder is removed after the block.
        fill: Writes into the folder that it is given.
        known: What else decides what is written; JSON can hold it.

    Yields:
        The folder.

    Raises:
        UserError: It cannot be written, the disk is full, or a file changed while it was read.
    """
    files = files_of(path, config)
    stamp, read_by = stamp_of(files), {name: getattr(config, name) for name in sorted(READ_BY)}
    about = {"version": __version__, "files": stamp, "options": read_by, "known": known}
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    root = _root(config)
    place = root / name
    with _part(root, place if config.cache is not None else None) as part:
        if part is not None:
            with _written_to(root):
                fill(part)
                (part / ABOUT).write_text(json.dumps(about))
            if stamp_of(files) != stamp:
                raise UserError(f"{path}: changed while it was read; start again")
            if config.cache is None:
                yield part
                return
            _complete(part, place, stamp)
    yield place


def room(config: DataConfig) -> Path:
    """A folder in which there is room for files without a name."""
    return _root(config)


def _root(config: DataConfig) -> Path:
    """The folder of the cache: that of ``--cache``, or one for large files that are not kept."""
    if config.cache is not None:
        root = Path(config.cache)
    else:
        large = Path("/var/tmp")  # on a disk, where /tmp may be in memory
        base = os.environ.get("TMPDIR") or (large if large.is_dir() else tempfile.gettempdir())
        root = Path(base) / f"undertow-{getattr(os, 'getuid', lambda: 0)()}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o777 if config.cache else 0o700)
    except OSError as error:
        raise UserError(
            f"{root}: cannot keep data in this folder: {error.strerror}; --cache FOLDER"
        ) from None
    return root


@contextmanager
def _part(root: Path, place: Path | None) -> Iterator[Path | None]:
    """A new folder to write into, removed after the block unless it was renamed; None if ``place`` is there.

    Who needs the same place waits for whoever makes it.
    """
    from filelock import FileLock

    with FileLock(root / LOCK):
        _sweep(root)
        if place is None:
            part = Path(tempfile.mkdtemp(suffix=PART, dir=root))
            own = FileLock(part / LOCK)
            own.acquire()
    if place is None:
        try:
            yield part
        finally:
            own.release()
            shutil.rmtree(part, ignore_errors=True)
        return
    with FileLock(root / LOCK):
        if place.is_dir():
            yield None
            return
        part = place.with_name(place.name + PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what killed processes left: parts whose lock is free."""
    from filelock import FileLock, Timeout

    for part in root.glob(f"*{PART}"):
        with suppress(Timeout, OSError), FileLock(part / LOCK, blocking=False):
            shutil.rmtree(part, ignore_errors=True)


def _complete(part: Path, place: Path, stamp: list[list[Any]]) -> None:
    """Give what was written its name, and remove what was made of the same files before they changed."""
    for file in part.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    part.rename(place)
    names = [name for name, *_ in stamp]
    for other in place.parent.glob(f"*/{ABOUT}"):
        before = json.loads(other.read_text())["files"]
        if [name for name, *_ in before] == names and before != stamp:
            shutil.rmtree(other.parent, ignore_errors=True)


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Say in one line that the disk is full; Polars has errors of its own for that."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and "No space left" not in str(error):
            raise
        raise UserError(f"{folder}: the disk is full; --cache FOLDER keeps the data on another one") from None


def trim() -> None:
    """Give the system back what is free in the heap of glibc.

    Between two large arrays a small one often stays behind. Over the columns of a wide table the holes grow
    to hundreds of megabytes.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another system
        return


class Mapped:
    """An array in a file without a name, which goes when the process ends, however it ends.

    Args:
        folder: Where there is room for it.
        shape: Of the array.
        dtype: Of its values, which are 0 at first.

    Raises:
        UserError: The disk is full.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        size = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        with _written_to(folder), tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), size)
            self._map = mmap.mmap(file.fileno(), size)
        self.array: NDArray[Any] = np.frombuffer(self._map, dtype, int(np.prod(shape))).reshape(shape)

    def release(self) -> None:
        """Give back the memory that was used to read and write; the values stay."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class Rows:
    """Rows of numbers in a file without a name, which goes when the process ends, however it ends.

    The file is read and not mapped: what the system keeps of it is then no memory of the process, and a
    window is one read instead of a fault for every page. What the system has in its cache the threads that
    train read themselves; what it does not have another process reads meanwhile.

    Args:
        folder: Where there is room for it.
        shape: [rows,C].

    Raises:
        UserError: The disk is full.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.shape, self._folder = shape, folder
        self._row = shape[1] * np.dtype(np.float32).itemsize  # bytes
        with _written_to(folder), tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), max(1, shape[0] * self._row))
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._ahead = Ahead(self._file)
        self._expected: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []
        self._rests = 0  # batches for which the cache is not asked yet
        self._advise(0, 0, "POSIX_FADV_RANDOM")  # windows lie anywhere: what follows one is not read ahead

    def write(self, places: NDArray[np.integer[Any]], values: NDArray[np.float32]) -> None:
        """Write rows.

        Args:
            places: [n], where each row stands.
            values: [n,C].
        """
        values = np.ascontiguousarray(values)
        begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)  # of rows that lie side by side
        ends = np.flatnonzero(np.diff(places, append=-2) != 1) + 1
        with _written_to(self._folder):
            for begin, end in zip(begins, ends, strict=True):
                left, offset = values[begin:end].data.cast("B"), int(places[begin]) * self._row
                while left:  # one call writes 2 GiB at most
                    count = os.pwrite(self._file, left, offset)
                    left, offset = left[count:], offset + count

    def expect(self, starts: NDArray[np.int64], steps: int, threads: int = 1) -> None:
        """Have windows read meanwhile, which are wanted soon and in this order.

        Args:
            starts: Their first rows, [N].
            steps: Rows of a window.
            threads: How many threads read what is in the system's cache.
        """
        late, size = np.arange(len(starts)), steps * self._row
        if len(starts) * size <= SLOT:  # memory holds several of them
            found, late = self._begun(starts, steps, threads)
            self._expected.append((starts, found, late))
        offsets = starts[late] * self._row
        if len(late) and not self._ahead.expect(offsets, size):
            for offset in offsets.tolist():
                self._advise(offset, size, "POSIX_FADV_WILLNEED")

    def read(self, starts: NDArray[np.int64], steps: int, threads: int = 1) -> NDArray[np.float32]:
        """Read windows of rows. What was expected before them is dropped.

        Args:
            starts: Their first rows, [N].
            steps: Rows of a window.
            threads: As of ``expect``.

        Returns:
            [N,steps,C], an array that nothing else uses.
        """
        for k, (expected, windows, _) in enumerate(self._expected):
            if windows.shape[1] == steps and np.array_equal(expected, starts):
                _, found, late = self._expected[k]
                del self._expected[: k + 1]
                break
        else:
            found, late = self._begun(starts, steps, threads)
        if len(late):
            offsets = starts[late] * self._row
            windows = (
                found if len(late) == len(found) else np.empty((len(late), *found.shape[1:]), found.dtype)
            )
            if not self._ahead.take(offsets, windows):
                for offset, window in zip(offsets.tolist(), windows, strict=True):
                    if os.preadv(self._file, [window], offset) != window.nbytes:
                        raise OSError(errno.EIO, "the file of features ended early")
            if windows is not found:
                found[late] = windows
        return found

    def _begun(
        self, starts: NDArray[np.int64], steps: int, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Windows [N,steps,C] as far as the system has them in its cache, and which of them are not there."""
        found = np.empty((len(starts), steps, self.shape[1]), np.float32)
        missing = np.ones(len(starts), np.bool_)
        if self._rests:  # where little is in the cache, asking costs more than it gives
            self._rests -= 1
        elif 2 * read_cached(self._file, starts * self._row, _flat(found), missing, threads) > len(starts):
            self._rests = RESTS
        return found, np.flatnonzero(missing)

    def _advise(self, offset: int, size: int, advice: str) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, offset, size, getattr(os, advice))


def _flat(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N,steps,C] as [N,steps*C]; N may be 0."""
    return windows.reshape(len(windows), windows.shape[1] * windows.shape[2])


def _reserve(file: int, size: int) -> None:
    """Give a file its size. A full disk is an error here, and a signal or a late error otherwise."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)
