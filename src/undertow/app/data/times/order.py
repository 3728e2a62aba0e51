"""Time: which column it is, and the order that it gives to rows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from undertow.app.data.reading import ColumnReading, Reading
from undertow.app.data.times import parsing
from undertow.app.data.times.forms import digits, form_of, sample
from undertow.app.data.times.moments import DATES, in_zone
from undertow.app.data.values.columns import whole
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

NAMES = ("time", "date", "datetime", "timestamp", "ds", "step", "t", "index")  # taken for time if unsaid
BLOCK = 1_000_000  # rows whose times are read at once
FALLS = 0.25  # of the rows may be earlier than the row before: a few where each series begins again
ISO = re.compile(r"%Y-%m-%d([ T]%H:%M(:%S(\.%f)?)?)?")  # needs no saying


def find_time(table: Any, given: str | None) -> str | None:
    """The column that orders the rows: the one given, else a date, else one whose name says so."""
    if given is not None:
        return given
    schema: dict[str, pl.DataType] = dict(table.schema)
    for name, dtype in schema.items():
        if dtype in DATES or (dtype == pl.String and mostly_dates(table[name])):
            return name
    numeric = [name for name, dtype in schema.items() if dtype.is_numeric()]
    for name in numeric:
        if parsing.of_numbers(table[name], name) is not None:
            return name
    return next((name for name in numeric if name.lower() in NAMES and advances(table[name])), None)


def advances(values: pl.Series) -> bool:
    """Whether numbers may be times by how they follow each other; ``t`` may be a temperature too."""
    return not values.dtype.is_float() or int(values.diff().lt(0).sum()) < FALLS * len(values)


def date_like(table: Any, names: list[str]) -> list[str]:
    """Those of ``names`` whose values are dates."""
    return [
        n
        for n in names
        if table.schema[n] in DATES or (table.schema[n] == pl.String and mostly_dates(table[n]))
    ]


def mostly_dates(values: pl.Series) -> bool:
    """Tell whether more than half of a sample of the texts have one form of dates."""
    texts = sample(values)
    forms = parsing.forms_of(texts) if any(map(str.isdigit, "".join(texts[:20]))) else []
    if len(forms) < 2 or forms[0][1] > 0.5:
        return bool(forms) and forms[0][1] > 0.5
    return float(np.any([~np.isnat(parsing.parsed(texts, form)) for form, _ in forms], axis=0).mean()) > 0.5


def parse_time(
    table: pl.DataFrame,
    path: Path,
    time: str,
    row: str,
    config: DataConfig,
    reading: Reading,
    kept: bool = False,
) -> pl.DataFrame:
    """The table with a time column that can be ordered; raises UserError at the first value that cannot."""
    table = without_timeless_end(table, time, reading)
    if table[time].null_count():
        number = table.filter(pl.col(time).is_null())[row][0]
        raise UserError(f"{path}: column {time!r}, row {number}: the time is missing")
    table = table.with_columns(counted(table[time], config))
    values, known = table[time], reading.columns.get(time) if kept else None
    if values.dtype not in DATES:
        form = known.format if known else form_of(values, path, time, config)
        texts = digits(values) if values.dtype.is_numeric() else values
        if known:  # in the training these may have been numbers: the year 1800.0
            texts = texts.str.replace(r"^(\d+)\.0+$", "${1}")
        since = known.since if known else parsing.first_year(texts, form)
        reading.columns[time] = ColumnReading("time" if form else "number", format=form, since=since)
        if not form:
            if values.dtype == pl.String:
                wanted = "numbers, as in the training"
                raise UserError(f"{path}: column {time!r}: expected {wanted}, got {values[0]!r}")
            return table
        moments = moments_of(texts, form, since)
        if moments.null_count():
            k = int(np.argmax(moments.is_null().to_numpy()))
            written = f" written as {form}" if config.time_format or known else ""
            raise UserError(
                f"{path}: column {time!r}, row {table[row][k]}: expected a date or time{written}, "
                f"got {values[k]!r}"
            )
        values = moments.alias(time)
        if not parsing.has_clock(form):
            values = values.cast(pl.Date)
        if "%z" in form or (form.startswith("unix") and config.time_zone):
            values = values.dt.replace_time_zone("UTC")
        if not known and not ISO.fullmatch(form):
            reading.said.append(f"{time} as {parsing.described(form, since)}")
    return table.with_columns(in_zone(values, table, path, row, config).alias(time))


def moments_of(texts: pl.Series, form: str, since: int) -> pl.Series:
    """The same as ``parsing.parsed``, some rows at a time, which takes less memory."""
    parts = (parsing.parsed(texts[k : k + BLOCK], form, since) for k in range(0, max(1, len(texts)), BLOCK))
    return pl.concat([pl.Series(part, dtype=pl.Datetime("us")) for part in parts], rechunk=False)


def counted(values: pl.Series, config: DataConfig) -> pl.Series:
    """Texts of a column that ``--time`` names as the numbers that they are, where no date is written so."""
    if values.dtype != pl.String or config.time_format is not None or parsing.forms_of(sample(values)):
        return values
    numbers = values.cast(pl.Float64, strict=False)
    return values if numbers.null_count() else whole(numbers)


def without_timeless_end(table: pl.DataFrame, time: str, reading: Reading) -> pl.DataFrame:
    """Without a last row that has no time, as a row of totals has none."""
    missing = table[time].is_null()
    if missing.sum() != 1 or not missing[-1] or len(table) < 3:
        return table
    reading.said.append("the last row, which has no time, left out")
    return table[:-1]
