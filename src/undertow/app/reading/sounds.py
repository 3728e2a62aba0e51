"""Recordings played through a trained network, as a plugin would play them: without torch, block by block."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.app.data.files import recordings
from undertow.app.errors import UserError
from undertow.app.metrics import decibels
from undertow.app.runs.folder import Run
from undertow.networks import read
from undertow.stream import Stream

Floats = NDArray[np.float32]


def player(run: Run, rate: int, path: Path, channels: int = 1) -> Stream:
    """Return the network of a run, ready to play.

    Args:
        run: A run whose task is sound.
        rate: Samples a second of what it is to play.
        path: The recording, for the error message.
        channels: How many are played side by side, each from the initial state.

    Returns:
        A stream for that number of channels.

    Raises:
        UserError: The run was trained at another rate, or is damaged.
    """
    wanted = run.facts["sample_rate"]
    if rate != wanted:
        raise UserError(
            f"{path}: {rate:,} samples a second, and {run.folder} was trained at {wanted:,}; convert it first"
        )
    try:
        return Stream(read(run.folder), channels)
    except ValueError as error:
        raise UserError(str(error)) from None


def play(run: Run, path: Path, output: Path) -> str:
    """Play a recording through the network of a run, each channel by itself, into a WAV file.

    Args:
        run: A run whose task is sound.
        path: The recording.
        output: The file, of 32-bit float: what is louder than full scale stays as it is.

    Returns:
        What was written, in words.

    Raises:
        UserError: The recording cannot be read, has another rate than that of the training, or the file
            cannot be written.
    """
    length = 0

    def begin(rate: int, channels: int) -> Any:
        stream = player(run, rate, path, channels)

        def through(block: Floats) -> Floats:
            nonlocal length
            length += len(block)
            return stream.process(block[..., None])[..., 0]

        return through

    peak = recordings.convert(path, output, begin)
    seconds = length / run.facts["sample_rate"]
    loud = "; lower it before converting to whole numbers" if peak > 1 else ""
    level = f"peak {peak:.3g} ({2 * decibels(peak):.1f} dB{loud})"
    return f"{seconds:.1f} s at {run.facts['sample_rate']:,} Hz, 32-bit float, {level}, written to {output}"


def played(run: Run, sound: Any) -> Floats:
    """Play a recording or samples through the network of a run.

    Args:
        run: A run whose task is sound.
        sound: A path, or samples at the rate of the training, [n] or [n,channels].

    Returns:
        The samples that come out, in the shape of those that went in; of a mono file [n].

    Raises:
        UserError: As of ``play``, or ``sound`` has another shape.
    """
    rate, path = run.facts["sample_rate"], Path("sound")
    if isinstance(sound, str | Path):
        path = Path(sound)
        found = recordings.read(path)
        rate = found.rate
        sound = found.samples[:, 0] if found.samples.shape[1] == 1 else found.samples
    try:
        x: Floats = np.asarray(sound, np.float32)
    except (TypeError, ValueError):
        x = np.empty(0, np.float32)
    if x.ndim not in (1, 2) or not x.size:
        raise UserError(
            f"sound: expected a path or samples [n] or [n,channels], got {type(sound).__name__}"
            + (f" of shape {list(x.shape)}" if x.ndim else "")
        )
    wide = x.reshape(len(x), -1)
    return player(run, rate, path, wide.shape[1]).process(wide[..., None])[..., 0].reshape(x.shape)
