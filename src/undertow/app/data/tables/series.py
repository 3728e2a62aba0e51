"""Series for forecasting: a table read, put in the order of time, with what is missing dealt with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from undertow.app.data.files.formats import FILE
from undertow.app.data.reading import ROW, Reading
from undertow.app.data.tables.duplicates import without_duplicates
from undertow.app.data.tables.gaps import complete, without_leading_gaps
from undertow.app.data.tables.known import without_future
from undertow.app.data.tables.panel import SEPARATOR, Series, spans_of
from undertow.app.data.tables.table import choose, column_names, read_table, require, unused
from undertow.app.data.times import moments, order
from undertow.app.data.times.frequency import Frequency, recognise
from undertow.app.data.values.sentinels import check_sentinels
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, columns_of, converted


def read_series(path: Path, config: DataConfig, facts: dict[str, Any] | None = None) -> Series:
    """Read and order the series of a table; raises UserError on anything that breaks the order.

    Args:
        path: A file or folder.
        config: The options.
        facts: What the training found out, for further data to be read the same way.
    """
    kept = converted(facts["reading"], Reading, "facts.reading") if facts else None
    table, reading = read_table(path, config, kept)
    if kept is not None and config.simulate:  # what is computed need not be there
        absent = [name for name in config.target if name not in table.columns]
        table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in absent)
    require(table, path, config.target, "--target")
    require(table, path, [config.time], "--time")
    require(table, path, config.group, "--group")
    time = facts["time"] if facts else order.find_time(table.drop(without(config)), config.time)
    if time is not None:
        require(table, path, [time], "--time")
        table = order.parse_time(table, path, time, ROW, config, reading, kept is not None)
    group = tuple(facts["group"]) if facts else config.group
    group = group or one_panel(table, time, reading)
    check_groups(table, path, group)
    table = earlier(table, time, group, config.before)
    by = [*group, *([time] if time is not None else [])]
    if by and not (by == [time] and table[by[0]].is_sorted()):
        table = table.sort(by, maintain_order=True)
    table = without_duplicates(table, path, time, group, config, reading)
    future = table[:0]
    if config.head == "decoder":
        table, future = without_future(table, group, config.target)
        if table.is_empty():
            raise UserError(f"{path}: --target {config.target[0]}: no row has a value")
    ticks = [moments.ticks(table[time][a:b]) for a, b in spans_of(table, group)] if time is not None else []
    frequency = recognise(ticks, time is not None and table.schema[time] in moments.DATES)
    if facts:
        frequency = converted(facts["frequency"], Frequency, "facts.frequency")
        columns = columns_of(facts)
        require(table, path, [*columns.numeric, *columns.categories])
    else:
        columns = choose(table, path, by, reading)
    check_sentinels_of(table, path, columns, config, kept is not None)
    if config.simulate and kept is None:
        check_target(columns, path, config)
        columns = replace(columns, numeric=[name for name in columns.numeric if name not in config.target])
    series = Series(
        table,
        spans_of(table, group),
        time,
        group,
        frequency,
        columns,
        reading,
        said=reading.describe(),
        future=future,
    )
    if not facts:
        series.said.extend(f"warning: {each}" for each in unused(table, columns))
    ready = complete(without_leading_gaps(series, path, config), path, config)
    if config.gaps == "flag" and not facts:
        columns.flags.extend(name for name in columns.numeric if name in ready.absent)
    return ready


def check_target(columns: Columns, path: Path, config: DataConfig) -> None:
    """Raise UserError unless the targets are columns of numbers."""
    for name in config.target:
        if name not in columns.numeric:
            held = "none" if name in columns.ignored else "words"
            raise UserError(f"{path}: --target {name}: expected a column of numbers, and it holds {held}")


def earlier(
    table: pl.DataFrame, time: str | None, group: tuple[str, ...], before: float | None
) -> pl.DataFrame:
    """The rows before a moment, or all; without a time column, before so many rows of each series."""
    if before is None:
        return table
    if time is not None:
        return table.filter(pl.Series(moments.ticks(table[time]) < before))
    place = pl.int_range(pl.len()).over(group) if group else pl.int_range(pl.len())
    return table.filter(place < before)


def without(config: DataConfig) -> list[str]:
    """Columns in which no time is looked for."""
    return [name for name in (*config.target, *config.group) if name != config.time]


def check_sentinels_of(
    table: pl.DataFrame, path: Path, columns: Columns, config: DataConfig, kept: bool
) -> None:
    """Check the numeric features for sentinels, unless ``--missing`` is given."""
    if config.missing is None:
        numeric = [name for name in columns.numeric if table.schema[name].is_numeric()]
        check_sentinels(table, path, numeric, kept)


def one_panel(table: pl.DataFrame, time: str | None, reading: Reading) -> tuple[str, ...]:
    """The column of the files' names, where their times overlap; none where they are one series."""
    if FILE not in column_names(table) or table[FILE].n_unique() < 2 or time is None:
        return ()
    parts = (
        table.group_by(FILE)
        .agg(pl.col(time).min().alias("from"), pl.col(time).max().alias("to"))
        .sort("from")
    )
    overlap = bool((parts["from"][1:] <= parts["to"][:-1].cum_max()).any())
    reading.said.append("a series for each file" if overlap else "one series over all files")
    return (FILE,) if overlap else ()


def check_groups(table: pl.DataFrame, path: Path, group: tuple[str, ...]) -> None:
    """Raise UserError if a row does not name its series, or if two series have the same name."""
    for key in group:
        if table[key].null_count():
            row = table.filter(pl.col(key).is_null())[ROW][0]
            raise UserError(f"{path}: column {key!r}, row {row}: the name of the series is missing")
    if len(group) > 1:
        keys = table.select(group).unique()
        joined = keys.select(pl.concat_str(*group, separator=SEPARATOR)).to_series()
        if joined.is_duplicated().any():
            name = joined.filter(joined.is_duplicated())[0]
            raise UserError(
                f"{path}: --group {group[0]}: two series have the name {name!r}; "
                f"expected values without {SEPARATOR!r}"
            )
