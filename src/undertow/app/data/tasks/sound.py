"""Sound: what a device makes of it, sample by sample, learnt from a recording before it and one after it.

The training part is cut into N lanes that are read side by side, T samples at a time, with the state carried
from one window to the next (truncated back-propagation through time), as Wright, Damskägg & Välimäki (2019,
Real-time black-box modelling with recurrent neural networks, DAFx-19) train amplifiers. What is minimised is
the error-to-signal ratio, half of it after their pre-emphasis 1 - a z⁻¹, a first-order high-pass.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from undertow.app import metrics
from undertow.app.data import Baseline, Facts, Known, Shape
from undertow.app.data.files.recordings import Floats
from undertow.app.data.sounds.pair import SILENT, read_pair
from undertow.app.data.sounds.response import TAPS, filtered
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.near import fits, moved
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.shapes import BUFFERS

WARM_UP = 4096  # samples that a lane reads from a zero state before its error counts
VALIDATION_WINDOW = 8192  # T when measuring; the state is carried, so it changes nothing


class SoundTask:
    """A recording as the input, another one as the target, at every sample."""

    evaluations = 1

    def __init__(self, config: DataConfig, batch_size: int, seed: int, known: Known | None = None) -> None:
        if config.steps < 2:
            raise UserError(f"--steps {config.steps}: expected 2 or more: the pre-emphasis reads two samples")
        self.pair = pair = read_pair(config)
        self.steps, self.batch_size, self.seed, self.known = config.steps, batch_size, seed, known
        self.to(None)
        self.cut = pair.held_back(config.validation)
        self.lane = (self.cut - WARM_UP) // batch_size  # samples of each lane that count
        self._check_length(config)
        x, y, held_back = pair.x[: self.cut], pair.y[: self.cut], pair.y[self.cut :]
        source, target = config.source, config.further[0]
        for path, part, which in ((source, x, "first"), (target, y, "first"), (target, held_back, "last")):
            if rms(part) < SILENT:
                seconds = len(part) / pair.rate
                raise UserError(f"{path}: the {which} {seconds:.1f} s are silent; change --validation")
        self.levels = {"scale": rms(x), "units.scale": rms(y)}
        level = rms(metrics.emphasised(y, config.emphasis)) / rms(y)
        self.objective = Objective("esr", "ESR", rms(held_back), emphasis=config.emphasis, level=level)
        self.shape = Shape(outputs=1, readout="every", inputs=1, linear=True, quantity=True)
        rivals = linear(pair.x[self.cut :], held_back)
        seconds, last = len(pair.x) / pair.rate, len(held_back) / pair.rate
        self.facts = Facts(
            lines=[f"{seconds:.1f} s at {pair.rate:,} Hz; the last {last:.1f} s validate", *pair.said],
            values={"sample_rate": pair.rate},
            baselines=[Baseline(name, metrics.esr(held_back, each)) for name, each in rivals.items()],
            settled={"delay": pair.delay},
        )

    def _check_length(self, config: DataConfig) -> None:
        length, n, rate = len(self.pair.x), self.batch_size, self.pair.rate
        if self.lane < self.steps or length - self.cut < 2:
            needed = (WARM_UP + n * self.steps) / rate
            raise UserError(
                f"{config.source}: {length / rate:.2f} s in both recordings, too short: --batch-size {n} "
                f"lanes of --steps {self.steps} need {needed:.2f} s for training; lower one"
            )

    def buffers(self) -> dict[str, Tensor]:
        """Return the levels of the training part, or those of the run whose weights are taken over."""
        if self.known is not None:
            return {name: self.known.buffers[name] for name in BUFFERS}
        return {name: torch.tensor([value]) for name, value in self.levels.items()}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return self.lane // self.steps

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for.

        Windows are whole, so a few samples are left over in each lane: which ones differs by epoch.
        """
        over = self.lane % self.steps
        first = int(np.random.default_rng([self.seed, epoch]).integers(over + 1))
        starts = first + self.lane * np.arange(self.batch_size)
        unit = torch.full((self.batch_size, 1), self.levels["units.scale"], device=self._there[0].device)
        yield from lanes(self._there, starts, self.steps, self.lane - over, unit)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part in one lane, as a player would hear it."""
        warm = min(WARM_UP, self.cut)
        count = len(self.pair.x) - self.cut
        return lanes(self._there, np.array([self.cut - warm]), VALIDATION_WINDOW, count, warm=warm)

    def to(self, device: torch.device | None) -> None:
        """Keep the recordings on a device, if they have room there; None: on the CPU."""
        self._there = torch.from_numpy(self.pair.x), torch.from_numpy(self.pair.y)
        if device is not None and fits(device, *self._there):
            x, y = self._there
            self._there = moved(x, device), moved(y, device)


def lanes(
    pair: Sequence[Tensor],
    starts: np.ndarray,
    steps: int,
    count: int,
    unit: Tensor | None = None,
    warm: int = WARM_UP,
) -> Iterator[Batch]:
    """Windows of ``steps`` samples from lanes read side by side, state carried.

    Args:
        pair: The recordings, [n] float32 both; the windows are cut where they lie.
        starts: [N], the first sample of each lane.
        steps: T; the first window has ``warm`` samples more, the last one may be shorter.
        count: The samples of each lane whose error counts.
        unit: As of Batch.
        warm: How many samples before them are read and not scored.

    Yields:
        x and y [T,N,1].
    """
    start, stop = 0, min(warm + steps, warm + count)
    device = pair[0].device
    begins = moved(torch.from_numpy(starts), device)
    while start < stop:
        places = begins + torch.arange(start, stop, device=device)[:, None]
        x, y = (each[places][..., None] for each in pair)
        y[: max(0, warm - start)] = torch.nan
        yield Batch(x, y, carried=start > 0, unit=unit)
        start, stop = stop, min(stop + steps, warm + count)


def linear(x: Floats, y: Floats) -> dict[str, Floats]:
    """The input at the level that fits the target best, and through the linear filter that does, by name."""
    taps = max(1, min(TAPS, len(x) // 4))
    named = {"input, level matched": 1, f"linear filter, {taps} taps": taps}
    return {name: filtered(x, y, length) for name, length in named.items()}


def rms(samples: Floats) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
