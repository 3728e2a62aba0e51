"""Series for forecasting: rows in the order of time, series by series, without gaps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data import order
from undertow.app.data.table import ROW, read_table, require
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

GAPS = ("error", "fill", "ignore")
GAP = 1.5  # times the usual step; months of 28 and 31 days pass


@dataclass(frozen=True)
class Series:
    """A table sorted by series and time; ``spans`` are the row ranges of the series in it."""

    table: pl.DataFrame
    spans: list[tuple[int, int]]
    time: str | None
    step: float  # usual distance in time, microseconds for dates; 0 without a time column

    @property
    def ticks(self) -> NDArray[np.float64]:
        """Time as numbers, [rows]; without a time column the place in the series."""
        if self.time is not None:
            return order.ticks(self.table[self.time])
        return np.concatenate([np.arange(stop - start, dtype=np.float64) for start, stop in self.spans])


def read_series(path: Path, config: DataConfig) -> Series:
    """Read and order the series of a table; raises UserError on anything that breaks the order."""
    if config.gaps not in GAPS:
        raise UserError(f"--gaps {config.gaps}: expected one of {', '.join(GAPS)}")
    table = read_table(path)
    for option in ("target", "time", "group"):
        require(table, path, [getattr(config, option)], f"--{option}")
    time = order.find_time(table, config.time)
    if time == config.target:
        time = None
    if time is not None:
        table = order.parse_time(table, path, time, ROW)
    by = [name for name in (config.group, time) if name is not None]
    table = table.sort(by, maintain_order=True) if by else table
    spans = spans_of(table, config.group)
    step = order.usual_step([order.ticks(table[time][a:b]) for a, b in spans]) if time is not None else 0.0
    series = Series(table, spans, time, step)
    check_order(series, path, config)
    return fill(series, config.group) if config.gaps == "fill" else series


def spans_of(table: pl.DataFrame, group: str | None) -> list[tuple[int, int]]:
    """The row range of each series, in a table sorted by group."""
    if group is None:
        return [(0, len(table))]
    lengths = table[group].rle().struct.field("len").to_list()
    stops = np.cumsum(lengths).tolist()
    return [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


def check_order(series: Series, path: Path, config: DataConfig) -> None:
    """Raises UserError where a time comes twice or, unless ``gaps`` allows it, where rows are missing."""
    if series.time is None:
        return
    for start, stop in series.spans:
        rows = series.table[start:stop]
        steps = np.diff(order.ticks(rows[series.time]))
        if (steps == 0).any():
            after = rows[int(np.argmax(steps == 0)) + 1]
            hint = "" if config.group else "; --group COLUMN tells several series apart"
            raise UserError(
                f"{path}: row {after[ROW][0]}: {series.time} {after[series.time][0]} comes twice{hint}"
            )
        if config.gaps == "error" and (steps > GAP * series.step).any():
            k = int(np.argmax(steps > GAP * series.step))
            before, after = rows[series.time][k], rows[series.time][k + 1]
            raise UserError(
                f"{path}: row {rows[ROW][k + 1]}: gap in {series.time!r} from {before} to {after}; "
                f"--gaps fill repeats the row before, --gaps ignore takes rows as they come"
            )


def fill(series: Series, group: str | None) -> Series:
    """Missing rows and values taken from the row before, in each series for itself."""
    table = series.table
    if series.time is not None:
        ahead = np.diff(series.ticks, append=0.0)
        ahead[[stop - 1 for _, stop in series.spans]] = series.step  # nothing follows the last row
        repeats = np.maximum(1, np.round(ahead / (series.step or 1.0))).astype(np.int64)
        source = np.repeat(np.arange(len(table)), repeats)
        offset = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        table = table[source].with_columns(
            shift(table[series.time][source], np.asarray(offset * series.step, np.float64))
        )
    values = pl.all().exclude([ROW] + [name for name in (group, series.time) if name])
    table = table.with_columns(pl.selectors.float().fill_nan(None))
    filled = values.forward_fill()
    table = table.with_columns(filled.over(group) if group else filled)
    return Series(table, spans_of(table, group), series.time, series.step)


def shift(values: pl.Series, by: NDArray[np.float64]) -> pl.Series:
    """A time column moved by so many microseconds, or so much of its own unit."""
    if values.dtype in (pl.Date, pl.Datetime):
        microseconds = order.ticks(values).astype(np.int64) + by.astype(np.int64)
        moved = pl.Series(values.name, microseconds).cast(pl.Datetime("us"))
    else:
        moved = pl.Series(values.name, order.ticks(values) + by)
    result: pl.Series = moved.cast(values.dtype)
    return result
