"""Lines of separated values: which separator, which line is the heading, what is a value. Needs no Polars."""

import csv
import re
from collections import Counter
from itertools import pairwise

from undertow.app.data.reading import Reading

SEPARATORS = "\t;|,"  # where two fit equally well the first one does: decimal commas look like a second one
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
csv.field_size_limit(2**31 - 1)  # a field over 128 KiB is csv.Error otherwise
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T]\d.*)?")


def is_comment(line: str, reading: Reading) -> bool:
    """Tell whether a line is a comment."""
    return bool(reading.comment) and line.lstrip().startswith(reading.comment)


def fields(line: str, separator: str) -> list[str]:
    """Split a line into its fields."""
    if separator == " ":
        return line.split()
    return next(csv.reader([_without_nul(line)], delimiter=separator), [])


def record(lines: list[str], separator: str) -> tuple[list[str], int]:
    """The first record and how many lines it takes: a quoted field may hold line breaks."""
    if separator == " ":
        return lines[0].split(), 1
    reader = csv.reader((_without_nul(line) + "\n" for line in lines), delimiter=separator)
    return next(reader), reader.line_num


def _without_nul(line: str) -> str:
    """Python 3.10 raises csv.Error at a NUL."""
    return line.replace("\0", "\ufffd")


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
    full = widths.index(width)
    narrow = all(each < width for each in widths[:full])
    if narrow and full < len(widths) - 1 and not any(map(is_value, split[full])):
        skipped = full  # names: what comes before them is a title
    else:
        skipped = next((k for k, each in enumerate(widths) if each >= max(2, width - 1)), 0)
    return max(width, widths[skipped]), skipped


def commented_heading(before: list[str], reading: Reading, width: int) -> list[str] | None:
    """The names in the last comment before the rows, where that is what it holds."""
    if not before or not reading.comment or not is_comment(before[-1], reading):
        return None
    found = fields(before[-1].lstrip().removeprefix(reading.comment).strip(), reading.separator)
    if len(found) != width or width < 2 or any(is_value(each) for each in found):
        return None
    return found


def without_row_names(names: list[str], width: int, rows: list[tuple[int, str]], reading: Reading) -> bool:
    """Whether the heading has no name for a first column of row names, as R writes tables."""
    if len(names) != width - 1 or not rows:
        return False
    return any(fields(line, reading.separator)[width - 1 :] not in ([], [""]) for _, line in rows[:20])


def is_value(text: str) -> bool:
    """Tell whether a field is a number or a date."""
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
