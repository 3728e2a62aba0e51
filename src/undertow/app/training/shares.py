"""The part of a batch that each of several processes reads: the same number of sequences, or one less."""

from dataclasses import replace

import torch
from torch import Tensor

from undertow.app.runs.objective import Batch
from undertow.problems import UNSCORED


def places(n: int, rank: int, size: int) -> slice:
    """Choose the sequences of a process.

    Args:
        n: The sequences of the batch.
        rank: The number of the process, from 0.
        size: The number of processes.

    Returns:
        Their places, contiguous; there are none where ``n`` is smaller than ``size``.
    """
    return slice(n * rank // size, n * (rank + 1) // size)


def read_places(n: int, rank: int, size: int) -> slice:
    """Choose the sequences that a process reads: its own ones, or the first one, unscored, if it has none."""
    mine = places(n, rank, size)
    return mine if mine.stop > mine.start else slice(0, 1)


def part(batch: Batch, rank: int, size: int, every: bool) -> Batch:
    """Cut the part of a process out of a batch.

    A process without a sequence reads the first one without targets: its loss and gradients are 0, and it
    takes part in the sums as all others do.

    Args:
        batch: The batch, which all processes know.
        rank: The number of the process, from 0.
        size: The number of processes.
        every: Whether there is a target at every step.

    Returns:
        The part, as long as its longest sequence.
    """
    n = batch.x.shape[1]
    mine = read_places(n, rank, size)
    lengths = batch.lengths[mine] if batch.lengths is not None else None
    steps = int(lengths.max()) if lengths is not None else len(batch.x)
    y = batch.y[:steps, mine] if every else batch.y[mine]
    if mine != places(n, rank, size):
        y = _unscored(y)
    reset = batch.reset[:, mine].contiguous() if batch.reset is not None else None
    unit = batch.unit[mine] if batch.unit is not None else None
    window = batch.window.of(mine) if batch.window is not None else None
    x = batch.x[:steps, mine]
    return replace(batch, x=x, y=y, lengths=lengths, reset=reset, unit=unit, window=window)


def _unscored(y: Tensor) -> Tensor:
    return torch.full_like(y, torch.nan if y.dtype.is_floating_point else UNSCORED)
