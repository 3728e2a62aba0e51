"""Tables of separated values: comments, heading and separator are found, every field stays a text."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl

from undertow.app.data.reading import Reading, sign
from undertow.app.errors import UserError

SEPARATORS = "\t;|,"  # where two fit equally well the first one does: decimal commas look like a second one
COMMENTS = ("#", "%", "//")
SNIFFED = 500  # lines from which the separator is found
EXCEL = re.compile(r"sep=.")  # a first line that tells Excel the separator
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T]\d.*)?")


def read_delimited(text: str, path: Path, reading: Reading, no_header: bool, kept: bool) -> pl.DataFrame:
    """All fields as texts, the names stripped. Fills in ``reading``, from which a kept one is taken."""
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
    rest = text.split("\n", start)[start] if text.count("\n") >= start else ""
    if reading.separator == " ":
        rest = re.sub(r"[ \t]+", " ", re.sub(r"(?m)^[ \t]+|[ \t]+$", "", rest))
    table = parse(rest, path, reading, named(names, width), start)
    return without_row_numbers(table, reading) if names and not names[0].strip() else table


def without_row_names(names: list[str], width: int, rows: list[tuple[int, str]], reading: Reading) -> bool:
    """Whether the heading has no name for a first column of row names, as R writes tables."""
    if len(names) != width - 1 or not rows:
        return False
    return any(fields(line, reading.separator)[width - 1 :] not in ([], [""]) for _, line in rows[:20])


def without_row_numbers(table: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Without a first column that has no name and counts the rows, as pandas writes tables."""
    numbers = table.to_series(0).cast(pl.Int64, strict=False)
    if numbers.null_count() or len(numbers) < 2 or not (numbers.diff().drop_nulls() == 1).all():
        return table
    reading.said.append("the row numbers in the first column left out")
    return table[:, 1:]


def say_repeated(names: list[str], reading: Reading) -> None:
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


def is_comment(line: str, reading: Reading) -> bool:
    return bool(reading.comment) and line.lstrip().startswith(reading.comment)


def fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])


def record(lines: list[str], separator: str) -> tuple[list[str], int]:
    """The first record and how many lines it takes: a quoted field may hold line breaks."""
    if separator == " ":
        return lines[0].split(), 1
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator)
    return next(reader), reader.line_num


def separator(lines: list[str]) -> str:
    """The one that cuts most lines into equally many fields; blanks where no other cuts any."""
    best, score = ",", 0.0
    for each in SEPARATORS:
        counts = Counter(len(fields(line, each)) for line in lines)
        width, often = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
        agrees = len(fields(lines[0], each)) == width
        if width > 1 and often / len(lines) + agrees > score:
            best, score = each, often / len(lines) + agrees
    if score == 0.0:
        counts = Counter(len(line.split()) for line in lines)
        width, often = counts.most_common(1)[0]
        if width > 1 and often >= 0.9 * len(lines) and len(lines) > 2:
            return " "
    return best


def shape(body: list[tuple[int, str]], reading: Reading) -> tuple[int, int]:
    """The number of columns, and how many lines come before the heading."""
    split = [fields(line, reading.separator) for _, line in body]
    widths = list(map(len, split))
    width = Counter(widths[len(widths) // 4 :]).most_common(1)[0][0]
    skipped = 0
    while skipped < len(widths) - 1 and widths[skipped] < width:
        names_follow = widths[skipped + 1] == width and not any(map(is_value, split[skipped + 1]))
        if widths[skipped] == max(2, width - 1) and not names_follow:
            break
        skipped += 1
    return max(width, widths[skipped]), skipped


def commented_heading(before: list[str], reading: Reading, width: int) -> list[str] | None:
    """The names in the last comment before the rows, where that is what it holds."""
    if not before or not reading.comment or not is_comment(before[-1], reading):
        return None
    found = fields(before[-1].lstrip().removeprefix(reading.comment).strip(), reading.separator)
    if len(found) != width or width < 2 or any(is_value(each) for each in found):
        return None
    return found


def is_value(text: str) -> bool:
    return bool(NUMBER.fullmatch(text.strip()) or DATE.fullmatch(text.strip()))


def looks_like_data(heading: list[str], rows: list[tuple[int, str]], reading: Reading) -> bool:
    """Whether the first line holds values, not names: numbers and dates, but no even steps."""
    there = [each.strip() for each in heading if each.strip()]
    whole = [int(each) for each in there if re.fullmatch(r"\d{1,9}", each)]
    if not there or (len(whole) == len(there) and len({b - a for a, b in pairwise(whole)}) <= 1):
        return False  # 0, 1, 2, ... or years
    if all(map(is_value, there)):
        return True
    if not rows:
        return False
    second = fields(rows[0][1], reading.separator)
    alike = [is_value(a) for a in heading] == [is_value(b) for b in second]
    return alike and any(is_value(each) and not each.strip().isdigit() for each in heading)


def named(names: list[str], width: int) -> list[str]:
    """Stripped names, one for each column, none twice."""
    found: list[str] = []
    for k in range(max(width, len(names))):
        name = names[k].strip().strip("\ufeff").strip() if k < len(names) else ""
        name = name or f"column_{k + 1}"
        number, single = 2, name
        while name in found:
            name, number = f"{single}_{number}", number + 1
        found.append(name)
    return found


def parse(body: str, path: Path, reading: Reading, names: list[str], start: int) -> pl.DataFrame:
    """The rows; raises UserError naming the first line with too many fields."""
    try:
        table = pl.read_csv(
            body.encode(),
            separator=reading.separator,
            has_header=False,
            raise_if_empty=False,
            schema={f"c{k}": pl.String for k in range(len(names))},
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
    for number, line in enumerate(body.splitlines(), 1):
        if not is_comment(line, reading) and (found := len(fields(line, reading.separator))) > width:
            yield number, found
