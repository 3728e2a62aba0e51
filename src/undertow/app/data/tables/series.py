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
from undertow.app.data.tables.stored import Stored
from undertow.app.data.tables.table import Rows, choose, column_names, neighbours, read_table, require, unused
from undertow.app.data.times import moments, order
from undertow.app.data.times.frequency import Frequency, recognise
from undertow.app.data.values.sentinels import check_sentinels
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, columns_of, converted


def read_series(
    path: Path, config: DataConfig, facts: dict[str, Any] | None = None, stored: Stored | None = None
) -> Series:
    """Read and order the series of a table; raises UserError on anything that breaks the order.

    Args:
        path: A file or folder.
        config: The options.
        facts: What the training found out, for further data to be read the same way.
        stored: The same table on disk. None: it is read into memory.
    """
    kept = converted(facts["reading"], Reading, "facts.reading") if facts else None
    if stored is None:
        table, reading = read_table(path, config, kept)
    else:
        check_storable(config)
        table, reading = stored.head, stored.reading
    require_named(table := with_simulated(table, config, kept), path, config)
    whole = table if stored is None else stored
    time = facts["time"] if facts else order.find_time(without(whole, config), config.time)
    if stored is not None:
        table = stored.select(*(name for name in stored.columns if name in (ROW, time)))
    table = in_time(table, time, path, config, reading, facts is not None)
    if stored is not None:  # beside times as they are written, these would need more memory
        others = narrow(stored.columns, config, table.columns)
        coded = (FILE, *config.group)
        table = table.with_columns(stored.select(*others, coded=coded).head(len(table)))
    group = tuple(facts["group"]) if facts else config.group
    group = group or one_panel(table, time, reading)
    check_groups(table, path, group)
    table = in_order(earlier(table, time, group, config.before), time, group)
    table = without_duplicates(table, path, time, group, config, reading)
    table, future = without_future(table, path, group, config)
    spans = spans_of(table, group)
    series = Series(
        table, spans, time, group, Frequency(), Columns([]), reading, future=future, stored=stored
    )
    columns = features_of(series.whole, path, (*group, time), config, reading, facts)
    said = reading.describe()
    if not facts:
        said.extend(f"warning: {each}" for each in unused(series.whole, columns))
    frequency = frequency_of(table, time, spans, facts)
    series = replace(series, frequency=frequency, columns=columns, said=said)
    ready = complete(without_leading_gaps(series, path, config), path, config)
    if not len(ready.table):
        raise UserError(f"{path}: no row has a value in every column that is used")
    if config.gaps == "flag" and not facts:
        columns.flags.extend(name for name in columns.numeric if name in ready.absent)
    return ready


def check_storable(config: DataConfig) -> None:
    """Raise UserError for options that need the whole table in memory."""
    for option, value, others in (
        ("gaps", config.gaps, "error, split or ignore"),
        ("duplicates", config.duplicates, "error, first or last"),
    ):
        if value in ("fill", "flag", "mean"):
            raise UserError(f"--{option} {value}: expected {others} for a table that is kept on disk")


def narrow(columns: list[str], config: DataConfig, there: list[str]) -> list[str]:
    """The columns of a table on disk that are held in memory beside those that are there."""
    wanted = {FILE, *config.group, *config.target, *config.known} - set(there)
    return [name for name in columns if name in wanted]


def with_simulated(table: pl.DataFrame, config: DataConfig, kept: Reading | None) -> pl.DataFrame:
    """The table of a run with ``--simulate``, whose targets are computed: further tables may lack them."""
    if kept is None or not config.simulate:
        return table
    absent = [name for name in config.target if name not in table.columns]
    return table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in absent)


def require_named(table: Rows, path: Path, config: DataConfig) -> None:
    """Raise UserError unless the columns that options name are there."""
    require(table, path, config.target, "--target")
    require(table, path, [config.time], "--time")
    require(table, path, config.group, "--group")


def in_time(
    table: pl.DataFrame, time: str | None, path: Path, config: DataConfig, reading: Reading, kept: bool
) -> pl.DataFrame:
    """The table with its times read, if it has a column of them."""
    if time is None:
        return table
    require(table, path, [time], "--time")
    return order.parse_time(table, path, time, ROW, config, reading, kept)


def in_order(table: pl.DataFrame, time: str | None, group: tuple[str, ...]) -> pl.DataFrame:
    """The table sorted by series and time; rows without either keep their order."""
    by = [*group, *([time] if time is not None else [])]
    if not by or is_ordered(table, by):  # sorting takes as much memory again
        return table
    return table.sort(by, maintain_order=True)


def is_ordered(table: pl.DataFrame, by: list[str]) -> bool:
    """Whether no row comes before its predecessor by some columns, the first of which counts most."""
    for before, after in neighbours(table, by):
        ordered = pl.Series([True]).new_from_index(0, len(after[by[0]]))
        for name in reversed(by):
            ordered = (before[name] < after[name]) | ((before[name] == after[name]) & ordered)
        if not ordered.fill_null(False).all():
            return False
    return True


def features_of(
    table: Rows,
    path: Path,
    leave_out: tuple[str | None, ...],
    config: DataConfig,
    reading: Reading,
    facts: dict[str, Any] | None,
) -> Columns:
    """The columns that are features: those of the training, or all that can be but simulated targets."""
    if facts:
        columns = columns_of(facts)
        require(table, path, [*columns.numeric, *columns.categories])
    else:
        columns = choose(table, path, leave_out, reading)
    check_sentinels_of(table, path, columns, config, facts is not None)
    if config.simulate and not facts:
        check_target(columns, path, config)
        columns = replace(columns, numeric=[name for name in columns.numeric if name not in config.target])
    return columns


def frequency_of(
    table: pl.DataFrame, time: str | None, spans: list[tuple[int, int]], facts: dict[str, Any] | None
) -> Frequency:
    """How often rows come: as in the training, or recognised from the times of each series."""
    if facts:
        found: Frequency = converted(facts["frequency"], Frequency, "facts.frequency")
        return found
    ticks = [moments.ticks(table[time][start:stop]) for start, stop in spans] if time is not None else []
    return recognise(ticks, time is not None and table.schema[time] in moments.DATES)


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


def without(table: pl.DataFrame | Stored, config: DataConfig) -> pl.DataFrame | Stored:
    """The columns in which a time is looked for: neither targets nor names of series."""
    names = [name for name in (*config.target, *config.group) if name != config.time]
    return table.without(names) if isinstance(table, Stored) else table.drop(names)


def check_sentinels_of(table: Rows, path: Path, columns: Columns, config: DataConfig, kept: bool) -> None:
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
        keys = table.select(group).unique().cast(pl.String)
        joined = keys.select(pl.concat_str(*group, separator=SEPARATOR)).to_series()
        if joined.is_duplicated().any():
            name = joined.filter(joined.is_duplicated())[0]
            raise UserError(
                f"{path}: --group {group[0]}: two series have the name {name!r}; "
                f"expected values without {SEPARATOR!r}"
            )
