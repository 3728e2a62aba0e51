"""Rows of one series with the same time."""

from pathlib import Path

import polars as pl

from undertow.app.data.reading import ROW, Reading
from undertow.app.data.tables.table import column_names, repeats
from undertow.app.data.times import moments
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.words import counted


def without_duplicates(
    table: pl.DataFrame,
    path: Path,
    time: str | None,
    group: tuple[str, ...],
    config: DataConfig,
    reading: Reading,
) -> pl.DataFrame:
    """One row for each time of a series, as ``--duplicates`` says; raises UserError where it says nothing."""
    if time is None:
        return table
    by = [*group, time]
    again = pl.Series(repeats(table, by))  # the table is sorted
    if not again.any():
        return table
    if config.duplicates == "error":
        raise twice(table, path, time, group, again)
    others = [name for name in table.columns if name not in by]
    often = counted(int(again.sum()), "row")
    reading.said.append(f"{often} with a time that came before: {config.duplicates}")
    kept = [one_of_several(table, name, config.duplicates) for name in others]
    return table.group_by(by, maintain_order=True).agg(kept).select(table.columns)


def one_of_several(table: pl.DataFrame, name: str, how: str) -> pl.Expr:
    """What is taken of a column where a time comes several times; the mean of what is measured alone."""
    if how == "mean" and name != ROW and table.schema[name].is_numeric():
        return pl.col(name).mean()
    return pl.col(name).last() if how == "last" else pl.col(name).first()


def twice(table: pl.DataFrame, path: Path, time: str, group: tuple[str, ...], again: pl.Series) -> UserError:
    """The error for the first time that comes twice, and what may settle it."""
    rows = table.filter(again).sort(ROW)
    remedies = ["--duplicates mean, first or last keeps one row of each"]
    found = [
        name
        for name in column_names(table)
        if name not in (*group, time)
        and not table.schema[name].is_float()
        and not table.select(*group, name, time).is_duplicated().any()
    ]
    if found or not group:
        keys = " ".join(f"--group {name}" for name in (*group, found[0] if found else "COLUMN"))
        remedies.insert(0, f"{keys} tells several series apart")
    values = rows[time]
    if moments.is_local(values) and len(rows) < len(table) / 20:
        remedies.insert(
            0, "--time-zone ZONE, as in Europe/London, reads local time, whose clocks go back once a year"
        )
    return UserError(f"{path}: row {rows[ROW][0]}: {time} {values[0]} comes twice", *remedies)
