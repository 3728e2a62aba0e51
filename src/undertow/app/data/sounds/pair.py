"""A recording before a device and one after it, aligned: what the task sound learns from."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from undertow.app.data.files.recordings import Floats, read
from undertow.app.data.sounds.response import REACH, delay
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.words import counted

SILENT = 1e-5  # root mean square, -100 dB
CLIPPED = 4  # samples in a row at the largest value
MOST_CLIPPED = 1e-4  # share of samples in such rows from which it is said
DRIFT = 8  # samples between the delays of the first and the last third that are said
OFFSET = 0.1  # of the root mean square: a mean that is said


@dataclass(frozen=True)
class Pair:
    """Two recordings of equal length.

    Attributes:
        x: The input, [n] float32.
        y: The target, [n], shifted by the delay.
        rate: Samples a second.
        delay: Samples by which the target was later.
        said: What was found out, for people.
    """

    x: Floats
    y: Floats
    rate: int
    delay: int
    said: list[str] = field(default_factory=list)

    def held_back(self, fraction: float) -> int:
        """Return the sample from which on the pair validates."""
        return len(self.x) - round(fraction * len(self.x))


def read_pair(config: DataConfig) -> Pair:
    """Read the two recordings of a run and align them.

    Args:
        config: Names the recordings; its delay, if it has one, and its channel.

    Returns:
        The pair.

    Raises:
        UserError: A file is no recording, silent, or has several channels without ``--channel``; the rates
            differ; or the delay between the two is not clear.
    """
    paths = Path(config.source), Path(config.further[0])
    found = [read(path) for path in paths]
    if found[0].rate != found[1].rate:
        raise UserError(
            f"{paths[1]}: {found[1].rate:,} samples a second, and {paths[0].name} has {found[0].rate:,}; "
            "convert one of them"
        )
    x, y = (_mono(path, one.samples, config.channel) for path, one in zip(paths, found, strict=True))
    said = [line for path, one in zip(paths, (x, y), strict=True) for line in _oddities(path, one)]
    if len(x) != len(y):
        longer = paths[len(y) > len(x)].name
        said.append(f"{longer} is longer by {counted(abs(len(x) - len(y)), 'sample')}: cut to the shorter")
    n = min(len(x), len(y))
    late, about = _delay(paths, x[:n], y[:n], found[0].rate, config.delay)
    x, y = x[max(0, -late) :], y[max(0, late) :]
    n = min(len(x), len(y))
    return Pair(x[:n], y[:n], found[0].rate, late, [*said, *about])


def _mono(path: Path, samples: Floats, channel: int | None) -> Floats:
    """The channel asked for, or the only one that there is: [n] of [n,channels]."""
    count = samples.shape[1]
    if channel is not None and count > 1:
        if channel > count:
            raise UserError(f"--channel {channel}: {path} has {counted(count, 'channel')}")
        chosen = samples[:, channel - 1]
    else:
        chosen = samples[:, int(np.abs(samples).max(axis=0).argmax())]
        others = [one for one in samples.T if one.any() and not np.array_equal(one, chosen)]
        if others:
            raise UserError(
                f"{path}: {counted(count, 'channel')} that differ; --channel 1 reads the first of them"
            )
    if np.sqrt(np.mean(np.square(chosen, dtype=np.float64))) < SILENT:
        raise UserError(f"{path}: silent{f' in channel {channel}' if channel and count > 1 else ''}")
    return np.ascontiguousarray(chosen)


def _oddities(path: Path, samples: Floats) -> list[str]:
    """What may be wrong with a recording: clipping and a constant offset."""
    said, top = [], np.abs(samples).max()
    flat = (samples[1:] == samples[:-1]) & (np.abs(samples[1:]) == top)
    rows = np.convolve(flat, np.ones(CLIPPED - 1, np.int8), "valid") == CLIPPED - 1
    if (count := int(rows.sum())) > MOST_CLIPPED * len(samples):
        said.append(f"{path.name} looks clipped: {count:,} samples stay at the largest value, {top:.3g}")
    mean, size = float(samples.mean(dtype=np.float64)), float(samples.std(dtype=np.float64))
    if abs(mean) > OFFSET * size:
        said.append(f"{path.name} has an offset of {mean:.3g} (DC), which is learnt too")
    return said


def _delay(
    paths: tuple[Path, Path], x: Floats, y: Floats, rate: int, given: int | None
) -> tuple[int, list[str]]:
    """The samples by which y is later than x, and what is said of it."""
    if given is not None:
        if abs(given) >= len(x):
            raise UserError(f"--delay {given}: the recordings have {len(x):,} samples")
        return given, [_lag(paths[1], given, rate)]
    found = delay(x, y)
    if not found.clear:
        raise UserError(
            f"{paths[1]}: no clear delay from {paths[0].name} within {REACH / rate:.2f} s: are both of one "
            "sound, before and after the device? --delay N gives the samples, 0 where they are aligned"
        )
    said = [f"{_lag(paths[1], found.samples, rate)} (--delay overrides)"]
    if found.inverted:
        said.append(f"{paths[1].name} has the opposite polarity, which is learnt too")
    return found.samples, [*said, *_drift(paths[1], x, y)]


def _drift(path: Path, x: Floats, y: Floats) -> list[str]:
    """What is said where the delay changes, as it does between devices with clocks of their own."""
    third = len(x) // 3
    if third < REACH:
        return []
    first, last = (delay(x[part], y[part]) for part in (slice(third), slice(-third, None)))
    if not (first.clear and last.clear) or abs(last.samples - first.samples) <= DRIFT:
        return []
    between = f"its delay is {first.samples:,} samples in the first third and {last.samples:,} in the last"
    return [f"{path.name} drifts: {between}; a network cannot learn that: record both with one clock"]


def _lag(path: Path, late: int, rate: int) -> str:
    if not late:
        return f"{path.name} has no delay"
    by = f"{counted(abs(late), 'sample')} ({1000 * abs(late) / rate:.2f} ms): shifted"
    return f"{path.name} {'lags' if late > 0 else 'leads'} by {by}"
