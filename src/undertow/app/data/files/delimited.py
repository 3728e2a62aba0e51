"""Tables of separated values: comments, heading and separator are found, every field stays a text."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undertow.app.data.files.lines import (
    commented_heading,
    fields,
    is_comment,
    looks_like_data,
    named,
    record,
    separator,
    shape,
    without_row_names,
)
from undertow.app.data.reading import Reading, sign
from undertow.app.errors import UserError

COMMENTS = ("#", "%", "//")
SNIFFED = 500  # lines from which the separator is found
EXCEL = re.compile(r"sep=.")  # a first line that tells Excel the separator


@dataclass(frozen=True)
class Layout:
    """Where the rows of separated values begin, and their columns.

    Args:
        names: Of the columns.
        start: The first line of the rows.
        counted: Whether the first column has no name, and so may count the rows.
    """

    names: list[str]
    start: int
    counted: bool


def read_delimited(text: str, path: Path, reading: Reading, no_header: bool, kept: bool) -> pl.DataFrame:
    """All fields as texts, the names stripped. Fills in ``reading``, from which a kept one is taken."""
    found = layout(text, path, reading, no_header, kept)
    rest = text.split("\n", found.start)[found.start] if text.count("\n") >= found.start else ""
    if reading.separator == " ":
        rest = re.sub(r"[ \t]+", " ", re.sub(r"(?m)^[ \t]+|[ \t]+$", "", rest))
    table = parse(rest, path, reading, found.names, found.start)
    return without_row_numbers(table, reading) if table.width and found.counted else table


def layout(text: str, path: Path, reading: Reading, no_header: bool, kept: bool) -> Layout:
    """Find heading and separator in the first lines. Fills in ``reading``, from which a kept one is taken."""
    lines = text[:2_000_000].splitlines()[:SNIFFED]
    if lines and EXCEL.fullmatch(lines[0]):
        lines[0] = ""
    reading.comment = next((sign for sign in COMMENTS if lines and lines[0].lstrip().startswith(sign)), "")
    body = [(k, line) for k, line in enumerate(lines) if line.strip() and not is_comment(line, reading)]
    if not body:
        raise UserError(f"{path}: the table has no rows")
    usual = ","
    if not (kept and any(reading.separator in line for _, line in body)):
        reading.separator = separator([line for _, line in body])
        usual = "\t" if reading.separator == "\t" else ","
    width, skipped = shape(body, reading)
    first = body[skipped][0]
    heading, used = record(lines[first:], reading.separator)
    commented = commented_heading(lines[:first], reading, width)
    if not kept:
        reading.header = not no_header and (
            commented is not None or not looks_like_data(heading, body[skipped + 1 :], reading)
        )
    if reading.header and commented is None:
        names, start = heading, first + used
    else:
        names, start = commented or [], first
    if without_row_names(names, width, body[skipped + 1 :], reading):
        names = ["", *names]
    say(reading, usual, skipped, first, commented, no_header)
    say_repeated(names, reading)
    return Layout(named(names, width), start, bool(names) and not names[0].strip())


def without_row_numbers(table: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Without a first column that has no name and counts the rows, as pandas writes tables."""
    numbers = table.to_series(0).cast(pl.Int64, strict=False)
    if numbers.null_count() or len(numbers) < 2 or not (numbers.diff().drop_nulls() == 1).all():
        return table
    reading.said.append("the row numbers in the first column left out")
    return table[:, 1:]


def say_repeated(names: list[str], reading: Reading) -> None:
    """Say which headings stand above several columns, and what those columns are called."""
    for name, often in Counter(each.strip() for each in names).items():
        if name and often > 1:
            reading.said.append(f"{often} columns called {name}: {name}, {name}_2{', ...' * (often > 2)}")


def say(
    reading: Reading, usual: str, skipped: int, first: int, commented: list[str] | None, no_header: bool
) -> None:
    """Note what a plain file would not need."""
    if reading.separator != usual and reading.separator != "\t":
        reading.said.append(f"separator {sign(reading.separator)}")
    if skipped:
        reading.said.append(f"{first} lines before the heading skipped")
    elif first and reading.comment:
        reading.said.append(f"comments after {reading.comment!r} skipped")
    if commented is not None:
        reading.said.append(f"the names from the comment {', '.join(commented)}")
    if not reading.header and not no_header:
        reading.said.append("no heading: the columns are column_1, column_2, ...")


def parse(body: str, path: Path, reading: Reading, names: list[str], start: int) -> pl.DataFrame:
    """The rows; raises UserError naming the first line with too many fields."""
    heading = reading.separator.join(f"c{k}" for k in range(len(names)))
    try:
        table = pl.read_csv(
            f"{heading}\n{body}".encode(),
            separator=reading.separator,
            infer_schema=False,
            comment_prefix=reading.comment or None,
        )
    except pl.exceptions.PolarsError as error:
        for number, found in too_wide(body, reading, len(names)):
            raise UserError(
                f"{path}: line {start + number}: expected {len(names)} fields, found {found}"
            ) from None
        raise UserError(f"{path}: not a readable table: {str(error).splitlines()[0]}") from None
    table.columns = names
    empty = [name for k, name in enumerate(names) if name == f"column_{k + 1}" and not table[name].count()]
    return table.drop(empty)


def too_wide(body: str, reading: Reading, width: int) -> Iterator[tuple[int, int]]:
    """Yield number and width of each line with more than ``width`` fields; lines count from 1."""
    for number, line in enumerate(body.splitlines(), 1):
        if not is_comment(line, reading) and (found := len(fields(line, reading.separator))) > width:
            yield number, found
