"""Missing rows and missing values: an error, filled, flagged or left out, as ``--gaps`` says."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.reading import ROW
from undertow.app.data.tables.panel import Series, replaced, spans_of
from undertow.app.data.tables.table import column_names
from undertow.app.data.times import moments
from undertow.app.data.times.frequency import DAY, gaps
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.words import counted

MOST_MADE = 20  # times as many rows as there are that gaps may be filled with


def missing_somewhere(series: Series) -> NDArray[np.bool_]:
    """Rows in which a column that is used has no value."""
    used = [*series.columns.numeric, *series.columns.categories]
    missing = np.zeros(len(series.table), bool)
    for name in used:
        missing |= series.whole[name].is_null().to_numpy()
    return missing


def without_leading_gaps(series: Series, path: Path, config: DataConfig) -> Series:
    """Every series from its first complete row on; a series without any is left out, and named."""
    missing = missing_somewhere(series)
    if config.gaps in ("flag", "split") or not missing.any():
        return series
    keep, dropped, gone = np.ones(len(missing), bool), 0, []
    for start, stop in series.spans:
        leading = stop - start if missing[start:stop].all() else int(np.argmin(missing[start:stop]))
        keep[start : start + leading] = False
        if leading == stop - start and series.group:
            gone.append(series.name(start))
        else:
            dropped += leading
    if keep.sum() <= len(keep) / 2:
        worst = max(series.columns.numeric, key=lambda name: series.whole[name].null_count())
        raise UserError(
            f"{path}: column {worst!r}: most rows come before its first value, or no row is complete",
            "--gaps flag takes them all the same",
        )
    if dropped:
        series.said.append(f"{counted(dropped, 'leading row')} without a value left out")
    if gone:
        series.said.append(f"left out, since no row is complete: {one_of(gone)}")
    table = series.table.filter(pl.Series(keep))
    return replaced(series, table, spans_of(table, series.group))


def complete(series: Series, path: Path, config: DataConfig) -> Series:
    """Deal with missing rows and values as ``--gaps`` says."""
    if config.gaps == "error":
        check_gaps(series, path)
    if config.gaps == "split":
        return split(series)
    return fill(series, path) if config.gaps in ("fill", "flag") else series


def gaps_of(series: Series) -> NDArray[np.int64]:
    """How many rows are missing before each row, [rows]; 0 before the first one of a series."""
    found = np.zeros(len(series.table), np.int64)
    if series.time is not None:
        ticks = series.ticks
        for start, stop in series.spans:
            found[start + 1 : stop] = gaps(series.frequency, ticks[start:stop])
    return found


def check_gaps(series: Series, path: Path) -> None:
    """Raises UserError where rows are missing."""
    before = gaps_of(series)
    if series.time is None or not before.any():
        return
    k = int(np.argmax(before > 0))
    times = series.table[series.time]
    local = []
    if before.max() * series.step <= DAY / 24 and moments.is_local(times):
        local = ["--time-zone ZONE reads local time, whose clocks skip an hour once a year"]
    raise UserError(
        f"{path}: row {series.table[ROW][k]}: gap in {series.time!r} from {times[k - 1]} to {times[k]}",
        *local,
        "--gaps fill repeats the row before",
        "--gaps split has no window across",
        "--gaps ignore takes rows as they come",
    )


def split(series: Series) -> Series:
    """Without rows that miss a value; a new span begins after these, and after missing rows."""
    missing, before = missing_somewhere(series), gaps_of(series) > 0
    piece = np.cumsum(before | np.concatenate([[False], missing[:-1]]))
    names = series.names().filter(pl.Series(~missing)).cast(pl.String)
    table = series.table.filter(pl.Series(~missing))
    runs = pl.DataFrame({"name": names, "piece": piece[~missing]}).to_struct("run").rle_id()
    lengths = runs.rle().struct.field("len").to_list()
    stops = np.cumsum(lengths).tolist()
    spans = [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    if len(spans) > len(series.spans):
        out = counted(int(missing.sum()), "incomplete row")
        series.said.append(f"{out} left out; {counted(len(spans), 'stretch', 'stretches')} without a gap")
    return replaced(series, table, spans)


def fill(series: Series, path: Path) -> Series:
    """Missing rows and values taken from the row before, in each series for itself; ``absent`` says where."""
    table, made = series.table, gaps_of(series)
    if made.sum() > MOST_MADE * len(table):
        raise UserError(
            f"{path}: --gaps fill would make {made.sum():,} rows of {len(table):,} by {series.time!r}",
            "--gaps split or ignore makes none",
        )
    follows = [name for name in column_names(table) if name not in (*series.group, series.time)]
    if made.any():
        table = with_rows_made(series, made, follows)
    absent = {name: table[name].is_null().to_numpy() for name in follows if table[name].null_count()}
    filled = pl.col(follows).forward_fill()
    table = table.with_columns(filled.over(*series.group) if series.group else filled)
    used = [name for name in (*series.columns.numeric, *series.columns.categories) if name in absent]
    if used:
        counts = ", ".join(f"{absent[name].sum():,} of {name}" for name in used)
        series.said.append(f"filled from the row before: {counts}; filled targets count in no score")
    return replaced(series, table, spans_of(table, series.group), absent)


def with_rows_made(series: Series, made: NDArray[np.int64], follows: list[str]) -> pl.DataFrame:
    """The table with rows, empty but for their time and series, where some are missing."""
    assert series.time is not None
    repeats = np.append(made[1:], 0) + 1  # each row, and those missing after it
    source = np.repeat(np.arange(len(made)), repeats)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    times = moments.from_ticks(
        series.frequency.after(series.ticks[source], offset), series.table[series.time]
    )
    original = pl.lit(pl.Series(offset == 0))
    return series.table[source].with_columns(
        times, *(pl.when(original).then(pl.col(name)).alias(name) for name in follows)
    )
