"""The split of a table by time, and where windows of rows begin."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data.tables.panel import Series

BLOCK = 500_000  # windows, or rows, for which something is computed at once


def dated(series: Series) -> bool:
    """Whether the rows have dates, which tell the same moment in all series."""
    return series.time is not None and series.table.schema[series.time] in (pl.Date, pl.Datetime)


def window_starts(spans: list[tuple[int, int]], length: int) -> NDArray[np.int64]:
    """Where windows of ``length`` rows begin, none of them across two series."""
    starts = [np.arange(start, stop - length + 1) for start, stop in spans if stop - start >= length]
    return np.concatenate(starts) if starts else np.empty(0, np.int64)


def in_blocks(starts: Tensor) -> tuple[Tensor, ...]:
    """Windows, some at a time: what is made of all of them might not fit into memory."""
    return torch.split(starts, BLOCK)


def validation_rows(series: Series, fraction: float) -> NDArray[np.bool_]:
    """Which rows belong to the last ``fraction`` in time, [rows].

    One date divides all series. Where rows are only numbered, each series is divided by itself.
    """
    if dated(series) or series.count == 1:
        ticks = series.ticks
        first = first_of(len(ticks), fraction)
        return np.asarray(ticks >= np.partition(ticks, first)[first])
    lengths = series.names().rle().struct.field("len").to_list()
    return np.concatenate([np.arange(length) >= first_of(length, fraction) for length in lengths])


def first_of(rows: int, fraction: float) -> int:
    """The first of the last ``fraction`` of some rows: at least one row."""
    return min(rows - 1, round(rows * (1 - fraction)))
