"""The features of a forecast, normalised once: in memory, or in a file for a table that is kept on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app import working
from undertow.app.data import Known
from undertow.app.data.files import disk
from undertow.app.data.files.disk import Rows
from undertow.app.data.reading import ROW, Reading
from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import read_series
from undertow.app.data.tables.stored import Stored, store
from undertow.app.data.tables.table import encode
from undertow.app.data.tasks.normalise import ONE_DEVIATION, fit_normaliser, normaliser, with_centre
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, converted
from undertow.app.runs.model import normalise
from undertow.app.runs.near import moved

BLOCK = 250_000  # rows for which features are computed at once


@contextmanager
def opened(path: Path, config: DataConfig, known: Known | None) -> Iterator[Series]:
    """Read the series of a table, into memory, or to disk where that is asked for or memory may be too small.

    Args:
        path: A file or folder.
        config: The options.
        known: What another training found out.

    Yields:
        The series. What they have on disk may go after the block.
    """
    facts = known.facts if known is not None else None
    if not disk.is_wanted(path, config):
        yield read_series(path, config, facts)
        return
    kept = converted(facts["reading"], Reading, "facts.reading") if facts is not None else None
    reading = facts["reading"] if facts is not None else None
    with disk.kept(path, config, partial(store, path, config, kept), reading) as folder:
        yield read_series(path, config, facts, Stored(folder))


@dataclass
class Inputs:
    """What the network reads of each row.

    Args:
        x: [rows,C], or [rows,C+1] with the number of the row's series; targets are as in the table. Rows in
            a file for a table that is kept on disk.
        last: [rows,K], the targets, with the centre where they are not known.
        centre: [C], of the normaliser.
        scale: [C], of the normaliser.
    """

    x: Tensor | Rows
    last: Tensor
    centre: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> "Inputs":
        """Return a copy on a device; rows in a file stay there."""
        x = self.x if isinstance(self.x, Rows) else moved(self.x, device)
        last, centre, scale = (moved(each, device) for each in (self.last, self.centre, self.scale))
        return Inputs(x, last, centre, scale)

    def windows(self, starts: Tensor, steps: int) -> Tensor:
        """Cut the windows that begin at ``starts`` [N].

        Args:
            starts: Their first rows.
            steps: T, their rows.

        Returns:
            [T,N,C].
        """
        if isinstance(self.x, Rows):
            found = self.x.read(starts.numpy(), steps, torch.get_num_threads())
            return torch.from_numpy(found).transpose(0, 1)
        return windows(self.x, starts, steps)

    def expect(self, starts: Tensor, steps: int) -> None:
        """Say which windows are wanted soon; those in a file are then read meanwhile."""
        if isinstance(self.x, Rows):
            self.x.expect(starts.numpy(), steps, torch.get_num_threads())


def windows(x: Tensor, starts: Tensor, steps: int) -> Tensor:
    """The windows of ``x`` [rows, C] that begin at ``starts`` [N]: [T, N, C]."""
    rows, C = x.shape
    every = x.as_strided((rows - steps + 1, steps, C), (C, C, 1))  # a view: windows overlap
    return every.index_select(0, starts).transpose(0, 1)


def in_memory(
    x: Tensor, early: Tensor, targets: list[int], known: Known | None, number: Tensor | None
) -> Inputs:
    """Normalise features.

    Args:
        x: [rows,C], NaN where there is no value.
        early: [rows], whether a row belongs to the training part.
        targets: The places of the targets among the features.
        known: What another training found out; its normaliser is taken.
        number: [rows], of the series, if series are embedded.

    Returns:
        The inputs.
    """
    centre, scale = normaliser(known, x[early], ONE_DEVIATION)
    x = with_centre(x, centre)
    last = x[:, targets]
    return Inputs(_ready(x, last, centre, scale, targets, number), last, centre, scale)


def _ready(
    x: Tensor, last: Tensor, centre: Tensor, scale: Tensor, targets: list[int], number: Tensor | None
) -> Tensor:
    found = normalise(x, centre, scale)  # once, not in every batch
    found[:, targets] = last  # these the model reads in units of their window
    return found if number is None else torch.cat([found, number[:, None]], dim=1)


def on_disk(
    series: Series,
    path: Path,
    early: NDArray[np.bool_],
    targets: list[int],
    known: Known | None,
    number: Tensor | None,
) -> Inputs:
    """Normalise the features of a table that is kept on disk into a file, some rows at a time.

    Args:
        series: The series.
        path: The source, for error messages.
        early: [rows], whether a row belongs to the training part.
        targets: The places of the targets among the features.
        known: As of ``in_memory``.
        number: As of ``in_memory``.

    Returns:
        The inputs, equal to those in memory.
    """
    assert series.stored is not None
    rows, columns, stored = len(series.table), series.columns, series.stored
    if known is not None:
        centre, scale = known.buffers["centre"], known.buffers["scale"]
    else:
        single = list(_single(columns))
        shown = working.through(single, len(single), "measuring columns")
        parts = [_column_normaliser(series, path, part, early) for part in shown]
        centre, scale = (torch.cat(each) for each in zip(*parts, strict=True))
    place = np.full(len(stored), -1, np.int32)  # of each stored row in the order of time
    place[stored.places(series.table[ROW])] = np.arange(rows, dtype=np.int32)
    file = Rows(stored.folder, (rows, columns.width + (number is not None)))
    last, begin = torch.empty(rows, len(targets)), 0
    for frame in stored.batches():
        at = place[begin : begin + len(frame)]
        begin += len(frame)
        there = at >= 0
        at = at[there]
        frame = frame.filter(pl.Series(there))
        if series.time is not None:
            frame = frame.with_columns(series.table[series.time].gather(at))
        x = with_centre(torch.from_numpy(encode(frame, path, columns, series.time)), centre)
        last[at] = x[:, targets]
        numbers = number[at] if number is not None else None
        file.write(at, _ready(x, x[:, targets], centre, scale, targets, numbers).numpy())
        disk.trim()
    return Inputs(file, last, centre, scale)


def _single(columns: Columns) -> Iterator[Columns]:
    """The features one by one, or as few together as come of one column."""
    for name in columns.numeric:
        yield Columns([name])
    for name, words in columns.categories.items():
        for word in words:
            yield Columns([], {name: [word]})
    for cycle in columns.calendar:
        yield Columns([], calendar=[cycle])


def _column_normaliser(
    series: Series, path: Path, part: Columns, early: NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    names = [*part.numeric, *part.categories, *([series.time] if part.calendar and series.time else [])]
    frame = series.whole.select(ROW, *names)
    x, end = np.empty((int(early.sum()), part.width), np.float32), 0
    for k in range(0, len(frame), BLOCK):
        some = encode(frame[k : k + BLOCK], path, part, series.time)[early[k : k + BLOCK]]
        begin, end = end, end + len(some)
        x[begin:end] = some
    del frame  # a table may be large
    found = fit_normaliser(torch.from_numpy(x), ONE_DEVIATION)
    disk.trim()
    return found
