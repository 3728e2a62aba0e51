"""Tables: reading them, choosing the columns that are features, and turning rows into numbers."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data import order
from undertow.app.errors import UserError, must_be_unicode
from undertow.app.inputs import no_column, separator
from undertow.app.runs.facts import Columns

MISSING = ["", "NA", "N/A", "NaN", "nan", "null"]
MOST_CATEGORIES = 20  # a text column with more different words is no feature
ROW = "undertow: row"  # number of a row in the file, from 1, the heading not counted; for error messages


def read_table(path: Path) -> pl.DataFrame:
    """A CSV, TSV or Parquet file as it stands; raises UserError where it is unreadable or has no rows."""
    must_be_unicode(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".parquet":
            table = pl.read_parquet(path, glob=False)
        else:
            table = pl.read_csv(
                path,
                glob=False,  # a name with brackets is a name
                separator=separator_of(path),
                try_parse_dates=True,
                infer_schema_length=None,
                null_values=MISSING,
            )
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable table: {str(error).splitlines()[0]}") from None
    if table.is_empty():
        raise UserError(f"{path}: the table has no rows")
    return table.with_row_index(ROW, offset=1)


def separator_of(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return separator(file.readline())


def column_names(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name != ROW]


def require(table: pl.DataFrame, path: Path, columns: Iterable[str | None], option: str = "") -> None:
    """Raises UserError naming the first of ``columns`` that the table lacks."""
    for name in columns:
        if name is not None and name not in table.columns:
            raise no_column(path, name, option, column_names(table))


def choose(table: pl.DataFrame, path: Path, leave_out: Iterable[str | None], calendar: list[str]) -> Columns:
    """All columns but ``leave_out``: numbers as they are, few words one-hot, the rest ignored."""
    columns = Columns([], calendar=calendar)
    for name in column_names(table):
        dtype = table.schema[name]
        if name in leave_out:
            continue
        if dtype.is_numeric() or dtype == pl.Boolean or are_numbers(table, path, name):
            columns.numeric.append(name)
        elif dtype == pl.String:
            words = table[name].drop_nulls().unique().sort().to_list()
            if 1 < len(words) <= MOST_CATEGORIES:
                columns.categories[name] = words
            else:
                columns.ignored.append(name)
        else:
            columns.ignored.append(name)
    return columns


def are_numbers(table: pl.DataFrame, path: Path, name: str) -> bool:
    """Whether a text column holds numbers; raises UserError for one with a word among its numbers."""
    if table.schema[name] != pl.String:
        return False
    there = len(table) - table[name].null_count()
    numbers = len(table) - table[name].cast(pl.Float64, strict=False).null_count()
    if there / 2 < numbers < there:
        raise not_a_number(table, path, name)
    return bool(0 < there == numbers)


def not_a_number(table: pl.DataFrame, path: Path, name: str) -> UserError:
    """The error for the first text in a column of numbers."""
    is_text = table[name].is_not_null() & table[name].cast(pl.Float64, strict=False).is_null()
    row, value = table.filter(is_text).select(ROW, name).row(0)
    return UserError(f"{path}: column {name!r}, row {row}: expected a number, got {value!r}")


def encode(table: pl.DataFrame, path: Path, columns: Columns, time: str | None) -> NDArray[np.float32]:
    """The features of every row, [rows, C]. A word that training never saw gets no place: all zeros."""
    require(table, path, [*columns.numeric, *columns.categories])
    parts = [numbers(table, path, name)[:, None] for name in columns.numeric]
    for name, words in columns.categories.items():
        check_present(table, path, name)
        parts.append(table[name].cast(pl.String).to_numpy()[:, None] == np.array(words, object))
    if columns.calendar and time is not None:
        parts.append(order.calendar_features(table[time], columns.calendar))
    return np.concatenate(parts, axis=1, dtype=np.float32)  # [rows, C]


def numbers(table: pl.DataFrame, path: Path, name: str) -> NDArray[np.float64]:
    """One column as numbers, [rows]; raises UserError at the first text or missing value."""
    if table[name].cast(pl.Float64, strict=False).null_count() > table[name].null_count():
        raise not_a_number(table, path, name)
    check_present(table, path, name)
    values = np.asarray(table[name].cast(pl.Float64), np.float64)
    if not np.isfinite(values).all():
        row = table[ROW][int(np.argmin(np.isfinite(values)))]
        raise UserError(f"{path}: column {name!r}, row {row}: the value is infinite")
    return values


def check_present(table: pl.DataFrame, path: Path, name: str) -> None:
    """Raises UserError at the first missing value (null or NaN) of a column."""
    missing = table[name].is_null()
    if table.schema[name].is_float():
        missing = missing | table[name].is_nan()
    if missing.any():
        row = table.filter(missing)[ROW][0]
        raise UserError(
            f"{path}: column {name!r}, row {row}: the value is missing; --gaps fill repeats the one before"
        )
