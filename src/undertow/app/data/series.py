"""Series for forecasting: rows in the order of time, series by series, and what is missing in them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data import order
from undertow.app.data.files import FILE
from undertow.app.data.frequency import DAY, Frequency, gaps, recognise
from undertow.app.data.reading import ROW, Reading
from undertow.app.data.sentinels import check_sentinels
from undertow.app.data.table import choose, column_names, read_table, require, unused
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, converted

MOST_MADE = 20  # times as many rows as there are that gaps may be filled with


@dataclass(frozen=True)
class Series:
    """A table sorted by series and time; within its ``spans`` of rows nothing is missing any more."""

    table: pl.DataFrame
    spans: list[tuple[int, int]]
    time: str | None
    group: str | None
    frequency: Frequency
    columns: Columns
    reading: Reading
    absent: dict[str, NDArray[np.bool_]] = field(
        default_factory=dict
    )  # rows whose value was filled, by column
    said: list[str] = field(default_factory=list)

    @property
    def step(self) -> float:
        """Usual distance in time, microseconds for dates; 0 without a time column."""
        return self.frequency.step

    @property
    def ticks(self) -> NDArray[np.float64]:
        """Time as numbers, [rows]; without a time column the place in the series."""
        if self.time is not None:
            return order.ticks(self.table[self.time])
        return np.concatenate([np.arange(stop - start, dtype=np.float64) for start, stop in self.spans])

    def known(self, name: str) -> NDArray[np.bool_]:
        """Where the file has a value of a column, [rows]; what was filled is not known."""
        return ~self.absent.get(name, np.zeros(len(self.table), bool))

    def names(self) -> pl.Series:
        """The name of each row's series."""
        return self.table[self.group] if self.group else pl.Series(["all"] * len(self.table))

    def facts(self) -> dict[str, Any]:
        """For config.json: how to read further data the same way."""
        return {
            "columns": self.columns.to_dict(),
            "time": self.time,
            "group": self.group,
            "step": self.step,
            "frequency": msgspec.to_builtins(self.frequency),
            "reading": msgspec.to_builtins(self.reading),
        }


def read_series(path: Path, config: DataConfig, facts: dict[str, Any] | None = None) -> Series:
    """Read and order the series of a table; raises UserError on anything that breaks the order.

    Args:
        path: A file or folder.
        config: The options.
        facts: What the training found out, for further data to be read the same way.
    """
    kept = converted(facts["reading"], Reading, "facts.reading") if facts else None
    table, reading = read_table(path, config, kept)
    for option in ("target", "time", "group"):
        require(table, path, [getattr(config, option)], f"--{option}")
    time = facts["time"] if facts else order.find_time(table.drop(without(config)), config.time)
    if time is not None:
        require(table, path, [time], "--time")
        table = order.parse_time(table, path, time, ROW, config, reading, kept is not None)
    group = (facts.get("group") if facts else None) or config.group or one_panel(table, time, reading)
    check_groups(table, path, group)
    by = [name for name in (group, time) if name is not None]
    if by and not (by == [time] and table[by[0]].is_sorted()):
        table = table.sort(by, maintain_order=True)
    table = without_duplicates(table, path, time, group, config, reading)
    ticks = [order.ticks(table[time][a:b]) for a, b in spans_of(table, group)] if time is not None else []
    frequency = recognise(ticks, time is not None and table.schema[time] in order.DATES)
    if facts:
        frequency = converted(facts["frequency"], Frequency, "facts.frequency")
        columns = Columns(**facts["columns"])
        require(table, path, [*columns.numeric, *columns.categories])
    else:
        columns = choose(table, path, [group, time], reading)
        check_sentinels_of(table, path, columns, config)
    series = Series(
        table, spans_of(table, group), time, group, frequency, columns, reading, said=reading.describe()
    )
    if not facts:
        series.said.extend(f"warning: {each}" for each in unused(table, columns))
    ready = complete(without_leading_gaps(series, path, config), path, config)
    if config.gaps == "flag" and not facts:
        columns.flags.extend(name for name in columns.numeric if name in ready.absent)
    return ready


def without(config: DataConfig) -> list[str]:
    """Columns in which no time is looked for."""
    return [name for name in (config.target, config.group) if name is not None and name != config.time]


def check_sentinels_of(table: pl.DataFrame, path: Path, columns: Columns, config: DataConfig) -> None:
    if config.missing is None:
        check_sentinels(table, path, [name for name in columns.numeric if table.schema[name].is_numeric()])


def one_panel(table: pl.DataFrame, time: str | None, reading: Reading) -> str | None:
    """The column of the files' names, where their times overlap; None where they are one series."""
    if FILE not in column_names(table) or table[FILE].n_unique() < 2 or time is None:
        return None
    parts = (
        table.group_by(FILE)
        .agg(pl.col(time).min().alias("from"), pl.col(time).max().alias("to"))
        .sort("from")
    )
    overlap = bool((parts["from"][1:] <= parts["to"][:-1].cum_max()).any())
    reading.said.append("a series for each file" if overlap else "one series over all files")
    return FILE if overlap else None


def check_groups(table: pl.DataFrame, path: Path, group: str | None) -> None:
    if group is not None and table[group].null_count():
        row = table.filter(pl.col(group).is_null())[ROW][0]
        raise UserError(f"{path}: column {group!r}, row {row}: the name of the series is missing")


def spans_of(table: pl.DataFrame, group: str | None) -> list[tuple[int, int]]:
    """The row range of each series, in a table sorted by group."""
    if group is None:
        return [(0, len(table))]
    lengths = table[group].rle().struct.field("len").to_list()
    stops = np.cumsum(lengths).tolist()
    return [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


# ------------------------------------------------------------------------------------- duplicates


def without_duplicates(
    table: pl.DataFrame, path: Path, time: str | None, group: str | None, config: DataConfig, reading: Reading
) -> pl.DataFrame:
    """One row for each time of a series, as ``--duplicates`` says; raises UserError where it says nothing."""
    if time is None:
        return table
    by = [name for name in (group, time) if name is not None]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in by)
    again = table.select(same & (pl.int_range(pl.len()) > 0)).to_series()  # the table is sorted
    if not again.any():
        return table
    if config.duplicates == "error":
        raise twice(table, path, time, group, again)
    others = [name for name in table.columns if name not in by]
    reading.said.append(f"{again.sum()} rows with a time that came before: {config.duplicates}")
    kept = [one_of_several(table, name, config.duplicates) for name in others]
    return table.group_by(by, maintain_order=True).agg(kept).select(table.columns)


def one_of_several(table: pl.DataFrame, name: str, how: str) -> pl.Expr:
    """What is taken of a column where a time comes several times; the mean of what is measured alone."""
    if how == "mean" and name != ROW and table.schema[name].is_numeric():
        return pl.col(name).mean()
    return pl.col(name).last() if how == "last" else pl.col(name).first()


def twice(table: pl.DataFrame, path: Path, time: str, group: str | None, again: pl.Series) -> UserError:
    """The error for the first time that comes twice, and what may settle it."""
    rows = table.filter(again).sort(ROW)
    hints = ["--duplicates mean, first or last keeps one row of each"]
    if group is None:
        found = [
            name
            for name in column_names(table)
            if name != time
            and not table.schema[name].is_float()
            and not table.select(name, time).is_duplicated().any()
        ]
        hints.insert(0, f"--group {found[0] if found else 'COLUMN'} tells several series apart")
    values = rows[time]
    if order.is_local(values) and len(rows) < len(table) / 20:
        hints.insert(
            0, "--time-zone ZONE, as in Europe/London, reads local time, whose clocks go back once a year"
        )
    return UserError(f"{path}: row {rows[ROW][0]}: {time} {values[0]} comes twice; {'; '.join(hints)}")


# ------------------------------------------------------------------------------------------- gaps


def missing_somewhere(series: Series) -> NDArray[np.bool_]:
    """Rows in which a column that is used has no value."""
    used = [*series.columns.numeric, *series.columns.categories]
    masks = [series.table[name].is_null().to_numpy() for name in used]
    return np.any(masks, axis=0) if masks else np.zeros(len(series.table), bool)


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
            gone.append(str(series.table[series.group][start]))
        else:
            dropped += leading
    if keep.sum() <= len(keep) / 2:
        worst = max(series.columns.numeric, key=lambda name: series.table[name].null_count())
        raise UserError(
            f"{path}: column {worst!r}: most rows come before its first value, or no row is complete; "
            f"--gaps flag takes them all the same"
        )
    if dropped:
        series.said.append(f"{dropped} leading rows without a value are dropped")
    if gone:
        series.said.append(f"left out, since no row is complete: {one_of(gone)}")
    table = series.table.filter(pl.Series(keep))
    return replaced(series, table, spans_of(table, series.group))


def replaced(
    series: Series,
    table: pl.DataFrame,
    spans: list[tuple[int, int]],
    absent: dict[str, NDArray[np.bool_]] | None = None,
) -> Series:
    return replace(series, table=table, spans=spans, absent=absent or {})


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
    local = ""
    if before.max() * series.step <= DAY / 24 and order.is_local(times):
        local = "--time-zone ZONE reads local time, whose clocks skip an hour once a year; "
    raise UserError(
        f"{path}: row {series.table[ROW][k]}: gap in {series.time!r} from {times[k - 1]} to "
        f"{times[k]}; {local}--gaps fill repeats the row before, --gaps split has no window across, "
        f"--gaps ignore takes rows as they come"
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
        series.said.append(f"{missing.sum()} incomplete rows left out; {len(spans)} stretches without a gap")
    return replaced(series, table, spans)


def fill(series: Series, path: Path) -> Series:
    """Missing rows and values taken from the row before, in each series for itself; ``absent`` says where."""
    table, made = series.table, gaps_of(series)
    if made.sum() > MOST_MADE * len(table):
        raise UserError(
            f"{path}: --gaps fill would make {made.sum():,} rows of {len(table):,} by {series.time!r}; "
            f"--gaps split or ignore makes none"
        )
    follows = [name for name in column_names(table) if name not in (series.group, series.time)]
    if made.any():
        table = with_rows_made(series, made, follows)
    absent = {name: table[name].is_null().to_numpy() for name in follows if table[name].null_count()}
    filled = pl.col(follows).forward_fill()
    table = table.with_columns(filled.over(series.group) if series.group else filled)
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
    times = order.from_ticks(series.frequency.after(series.ticks[source], offset), series.table[series.time])
    original = pl.lit(pl.Series(offset == 0))
    return series.table[source].with_columns(
        times, *(pl.when(original).then(pl.col(name)).alias(name) for name in follows)
    )
