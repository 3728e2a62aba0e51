"""Tables: reading them, choosing the columns that are features, and turning rows into numbers."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.files.formats import FILE, load
from undertow.app.data.files.lines import is_value
from undertow.app.data.reading import ROW, ColumnReading, Reading
from undertow.app.data.times import calendars, order
from undertow.app.data.times.parts import joined
from undertow.app.data.values import affixes, numerals
from undertow.app.data.values.columns import interpret
from undertow.app.errors import UserError
from undertow.app.inputs import no_column
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns
from undertow.app.working import busy, through

BLOCK = 500_000  # rows that are compared at once
FOOTER = 5  # most lines of notes and totals below the rows
LARGEST = 1e38  # features are float32, and differences of two of them too
MOST_CATEGORIES = 20  # a text column with more different words is no feature


class Rows(Protocol):
    """A table, whose columns may be in memory or on disk."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The type of each column."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, name: str, /) -> pl.Series:
        """One column."""

    def select(self, *names: str) -> pl.DataFrame:
        """Some columns, in memory."""


def read_table(path: Path, config: DataConfig, kept: Reading | None = None) -> tuple[pl.DataFrame, Reading]:
    """A table with its texts as what they stand for, and how it was read.

    Args:
        path: A file or a folder.
        config: The options for reading.
        kept: How the table of the training was read; None stands for the training itself.

    Raises:
        UserError: It is unreadable or has no rows.
    """
    reading = (
        Reading() if kept is None else msgspec.structs.replace(kept, said=[], columns=dict(kept.columns))
    )
    with busy(f"reading {path.name}"):
        frame = _typed(path, config, reading, kept is not None)
    reading.said = [each for each in reading.said if kept is None or each not in kept.said]
    return frame, reading


def _typed(path: Path, config: DataConfig, reading: Reading, kept: bool) -> pl.DataFrame:
    """A table without what is no row of it, each column of the type that it holds."""
    frame = load(path, config, reading, kept)
    if frame.is_empty():
        raise UserError(f"{path}: the table has no rows")
    frame = without_footer(without_units(frame.with_row_index(ROW, offset=1), reading), reading)
    frame = joined(frame, reading, kept)
    frame = frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))  # blank lines
    return interpret(frame.select(ROW, pl.exclude(ROW)), path, config, reading)


def without_units(frame: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Without a first row of units or widths: words alone, above columns most of which hold values."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    first, rest = frame.row(0, named=True), frame[1:200]
    none = {None, *numerals.ALWAYS_MISSING, *numerals.MISSING_AMONG_NUMBERS}
    filled = [name for name in texts if first[name] not in none]
    if len(frame) < 3 or not filled or any(is_value(first[name]) for name in filled):
        return frame
    if len(filled) > 1 and all(re.fullmatch(r"\d+[snd]", first[name]) for name in filled):
        reading.said.append("the row of widths below the heading skipped")  # of the US Geological Survey
        return frame[1:]
    valued = [name for name in filled if rest[name].count() and all(map(is_value, rest[name].drop_nulls()))]
    if not valued or 2 * len(valued) < len(filled):
        return frame
    units = ", ".join(first[name] for name in filled[:3])
    reading.said.append(f"the row {units}, ... below the heading skipped")
    return frame[1:]


def without_footer(frame: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Without last rows that begin with a word, as in Total or Source: ..., below values."""
    name = frame.columns[1] if len(frame.columns) > 1 else ROW
    if frame.schema[name] != pl.String or len(frame) <= 2 * FOOTER:
        return frame
    if not all(map(is_value, frame[name][:50].drop_nulls())):
        return frame
    none = [*numerals.ALWAYS_MISSING, *numerals.MISSING_AMONG_NUMBERS]
    words = frame[name].fill_null("").str.contains(r"^\W*\p{L}{2}") & ~frame[name].fill_null("").is_in(none)
    if words[:-FOOTER].any():
        return frame
    last = frame.filter(words)
    if last.is_empty() or not words[-len(last) :].all():
        return frame
    reading.said.append(
        f"the last row, {last[name][0]!r}, left out" + (", and those after it" * (len(last) > 1))
    )
    return frame[: -len(last)]


def column_names(table: Rows) -> list[str]:
    """Return the names of the columns, without that of the row numbers."""
    return [name for name in table.columns if name != ROW]


def require(table: Rows, path: Path, columns: Iterable[str | None], option: str = "") -> None:
    """Raises UserError naming the first of ``columns`` that the table lacks."""
    for name in columns:
        if name is not None and name not in table.columns:
            raise no_column(path, name, option, column_names(table))


def neighbours(
    table: pl.DataFrame, names: Iterable[str]
) -> Iterator[tuple[dict[str, pl.Series], dict[str, pl.Series]]]:
    """Yield columns of all rows but the last, and of those after them; some at a time: they may be many."""
    columns = {name: table[name] for name in names}  # not as a table: its select may copy them all
    for begin in range(0, len(table) - 1, BLOCK):
        size = min(BLOCK, len(table) - 1 - begin)
        before, after = (
            {name: each.slice(start, size) for name, each in columns.items()} for start in (begin, begin + 1)
        )
        yield before, after


def repeats(table: pl.DataFrame, names: Iterable[str]) -> NDArray[np.bool_]:
    """Whether a row has the same values in some columns as the row before it, [rows]."""
    found, end = np.zeros(len(table), bool), 1
    for before, after in neighbours(table, names):
        same = [after[name].eq_missing(before[name]).to_numpy() for name in after]
        begin, end = end, end + len(same[0])
        found[begin:end] = np.all(same, axis=0)
    return found


def choose(table: Rows, path: Path, leave_out: Iterable[str | None], reading: Reading) -> Columns:
    """All columns but ``leave_out``: numbers as they are, few words one-hot, the rest ignored."""
    columns = Columns([])
    names = column_names(table)
    for name in through(names, len(names), "looking at columns"):
        dtype = table.schema[name]
        if name in leave_out or name == FILE:
            continue
        if not table[name].count():
            columns.ignored.append(name)
        elif dtype.is_numeric() or dtype == pl.Boolean:
            columns.numeric.append(name)
        elif dtype == pl.String:
            check_words(table, path, name, reading)
            words = table[name].drop_nulls().unique().sort().to_list()
            if 1 < len(words) <= MOST_CATEGORIES:
                columns.categories[name] = words
            else:
                columns.ignored.append(name)
        else:
            columns.ignored.append(name)
    return columns


def check_words(table: Rows, path: Path, name: str, reading: Reading) -> None:
    """Raises UserError for a text among the numbers of a column, and for numbers with two readings."""
    how = reading.columns.get(name, ColumnReading())
    if how.decimal == "?":
        example = table[name].drop_nulls().filter(table[name].drop_nulls().str.contains("[.,]"))[0]
        sign = "comma" if "," in example else "point"
        raise UserError(
            f"{path}: column {name!r}: {example!r} may have a decimal {sign} or one for thousands",
            "--decimal , or --decimal . settles it",
        )
    if how.sign == "?":
        raise mixed_signs(table[name], path, name)
    if how.kind == "number":
        raise not_a_number(table, path, name, how)


def mixed_signs(values: pl.Series, path: Path, name: str) -> UserError:
    """The error for percent beside plain numbers, or two currencies."""
    parts = affixes.groups(values.drop_nulls()).with_columns(text=values.drop_nulls())
    first = parts.filter(pl.col("digits").is_not_null()).group_by("sign", maintain_order=True).first()["text"]
    return UserError(
        f"{path}: column {name!r} holds {first[0]!r} and {first[1]!r}, which do not mean the same; "
        f"write all its numbers alike"
    )


def unused(table: Rows, columns: Columns) -> list[str]:
    """A warning for each column that looks like a time or tells groups apart and is not used."""
    dates = order.date_like(table, columns.ignored)
    found = [f"{name} holds dates and is not used; --time {name} orders the rows by it" for name in dates]
    for name in columns.ignored:
        if name not in dates and table.schema[name] == pl.String:
            different = table[name].n_unique()
            if 1 < different <= len(table) / 2:
                found.append(
                    f"{name} holds {different} names and is not used; --group {name} makes a series of each"
                )
    return found


def not_a_number(table: Rows, path: Path, name: str, how: ColumnReading | None = None) -> UserError:
    """The error for the first text in a column of numbers."""
    is_text = (
        table[name].is_not_null() & numerals.parse(table[name], how or ColumnReading("number")).is_null()
    )
    row, value = table.select(ROW, name).filter(is_text).row(0)
    return UserError(
        f"{path}: column {name!r}, row {row}: expected a number, got {value!r}",
        f"--missing {value!r} reads it as a missing value",
    )


def encode(
    table: Rows,
    path: Path,
    columns: Columns,
    time: str | None,
    absent: dict[str, NDArray[np.bool_]] | None = None,
) -> NDArray[np.float32]:
    """The features of every row, [rows, C]. A word that training never saw gets no place: all zeros.

    With ``absent``, which says where values are missing, these may be NaN; else a missing value is an error.
    """
    require(table, path, [*columns.numeric, *columns.categories])
    parts: list[NDArray[Any]] = [
        numbers(table, path, name, absent is not None)[:, None] for name in columns.numeric
    ]
    for name, words in columns.categories.items():
        if absent is None:
            check_present(table, path, name)
        found = table[name].cast(pl.String)
        parts.extend((found == word).fill_null(False).to_numpy()[:, None] for word in words)
    if columns.calendar and time is not None:
        parts.append(calendars.calendar_features(table[time], columns.calendar))
    for name in columns.flags:
        parts.append((absent or {}).get(name, np.zeros(len(table), bool))[:, None])
    return np.concatenate(parts, axis=1, dtype=np.float32)  # [rows, C]


def numbers(table: Rows, path: Path, name: str, with_gaps: bool = False) -> NDArray[np.float64]:
    """One column as numbers, [rows]; raises UserError at the first text and, unless ``with_gaps``, gap."""
    if table[name].cast(pl.Float64, strict=False).null_count() > table[name].null_count():
        raise not_a_number(table, path, name)
    if not with_gaps:
        check_present(table, path, name)
    values = np.asarray(table[name].cast(pl.Float64).fill_null(np.nan), np.float64)
    if np.isinf(values).any():
        row = table[ROW][int(np.argmax(np.isinf(values)))]
        raise UserError(f"{path}: column {name!r}, row {row}: the value is infinite")
    if (large := np.abs(values) > LARGEST).any():
        row, value = table[ROW][int(np.argmax(large))], values[np.argmax(large)]
        raise UserError(
            f"{path}: column {name!r}, row {row}: expected a number of at most {LARGEST:g} in size, "
            f"got {value:g}",
            f"--missing {value:g} reads it as a missing value",
        )
    return values


def check_present(table: Rows, path: Path, name: str) -> None:
    """Raises UserError at the first missing value of a column."""
    missing = table[name].is_null()
    if missing.any():
        row = table[ROW].filter(missing)[0]
        raise UserError(
            f"{path}: column {name!r}, row {row}: the value is missing ({missing.sum()} are)",
            "--gaps fill repeats the one before",
            "--gaps flag also marks it",
            "--gaps split leaves the row out",
        )
