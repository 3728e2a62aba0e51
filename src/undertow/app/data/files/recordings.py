"""Recordings: files of sound, read and written by libsndfile through the package soundfile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.app.errors import UserError
from undertow.app.outputs import atomically

if TYPE_CHECKING:
    from soundfile import SoundFile

BLOCK = 1 << 16  # samples read at once

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """The samples of a file.

    Attributes:
        samples: [n,channels] float32; whole numbers become -1 to 1.
        rate: Samples a second.
    """

    samples: Floats
    rate: int


def read(path: Path) -> Recording:
    """Read a recording.

    Args:
        path: A file that libsndfile reads: WAV, FLAC or AIFF of any sample format.

    Returns:
        All of its samples.

    Raises:
        UserError: The file is no such recording, holds no samples, or one that is not a number; or the
            package soundfile is not installed.
    """
    with _opened(path) as file:
        samples = file.read(dtype="float32", always_2d=True)
        _check(path, samples, 0, file.samplerate)
        if not len(samples):
            raise UserError(f"{path}: the recording is empty")
        return Recording(samples, file.samplerate)


def convert(path: Path, output: Path, begin: Callable[[int, int], Callable[[Floats], Floats]]) -> float:
    """Write a recording that is made of another, block by block, as 32-bit float.

    Args:
        path: The recording that is read.
        output: The WAV file that is written; it appears complete or not at all.
        begin: Is told the rate and the channels, and returns what maps a block [n,channels] to a new one.

    Returns:
        The largest absolute sample that was written.

    Raises:
        UserError: As of ``read``, or the file cannot be written.
    """
    peak = 0.0

    def write(beside: Path) -> None:
        import soundfile

        nonlocal peak
        with soundfile.SoundFile(beside, "w", file.samplerate, file.channels, "FLOAT", format="WAV") as made:
            for start, block in _blocks(file):
                _check(path, block, start, file.samplerate)
                y = through(block)
                peak = max(peak, float(np.abs(y).max()))
                made.write(y)

    with _opened(path) as file:
        through = begin(file.samplerate, file.channels)
        atomically(output, write)
    return peak


def _blocks(file: "SoundFile") -> Iterator[tuple[int, Floats]]:
    start = 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield start, block
        start += len(block)


@contextmanager
def _opened(path: Path) -> "Iterator[SoundFile]":
    try:
        import soundfile
    except ImportError:
        raise UserError(f"{path}: sound needs soundfile: pip install 'undertow[sound]'") from None
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: no recording that libsndfile reads: {error.error_string}") from None


def _check(path: Path, samples: Any, start: int, rate: int) -> None:
    """Raise UserError if a sample is infinite or not a number, as float files may hold."""
    finite = np.isfinite(samples).all(axis=1)
    if not finite.all():
        place = start + int(finite.argmin())
        raise UserError(
            f"{path}: sample {place:,} (at {place / rate:.3f} s) is {samples[place - start].max()}; "
            "expected finite numbers"
        )
