"""Texts to numbers and categories: what each column of a table holds, decided over the whole column."""

from pathlib import Path

import polars as pl

from undertow.app.data.reading import ROW, ColumnReading, Reading
from undertow.app.data.values import affixes, numerals
from undertow.app.runs.config import DataConfig

TRUTH = ("true", "false")
NUMBER = ColumnReading("number")


def interpret(frame: pl.DataFrame, path: Path, config: DataConfig, reading: Reading) -> pl.DataFrame:
    """The table with its texts as what they stand for; notes in ``reading`` how each column was read.

    A column that ``reading`` knows already is read as it says. Texts among numbers stay: an error names them.
    """
    named = [*config.group, config.sequence, None if config.task == "regress" else config.label]
    frame = identifiers(frame, named)
    known = dict(reading.columns)
    plain = plain_numbers(frame, [*named, config.time], known)
    points = any(frame[each.name].str.contains(r"\d\.\d").any() for each in plain)
    reading.columns.update({each.name: ColumnReading("number") for each in plain})
    frame = without_missing(frame.with_columns(plain), config)
    open_, texts = [], [name for name, dtype in frame.schema.items() if dtype == pl.String]
    for name in texts:
        if name in known:
            frame = read_alike(frame, name, known[name])
            continue
        reading.columns[name] = ColumnReading()
        if name not in (*named, config.time):
            open_.append(name)
    around = {name: affixes.find(frame[name]) or ColumnReading("number") for name in open_}
    bare = {name: affixes.stripped(frame[name], around[name])[0] for name in open_}
    decimals = {name: found for name in open_ if (found := decimal_of(bare[name], config)) is not None}
    commas = any(decimal == "," for decimal, _ in decimals.values())
    table_decimal = config.decimal or ("," if commas else "." if points else None)
    for name in open_:
        how = decide(bare[name], decimals.get(name), table_decimal, reading)
        how.sign, how.scaled, how.brackets = around[name].sign, around[name].scaled, around[name].brackets
        frame = read_alike(frame, name, how)
        reading.columns[name] = how
    say(reading, open_)
    return without_numbers(frame, config)


def identifiers(frame: pl.DataFrame, names: list[str | None]) -> pl.DataFrame:
    """What tells series and sequences apart is text, whatever it looks like."""
    return frame.with_columns(pl.col(name).cast(pl.String) for name in names if name in frame.columns)


def plain_numbers(
    frame: pl.DataFrame, leave_out: list[str | None], known: dict[str, ColumnReading]
) -> list[pl.Series]:
    """The columns whose texts are all numbers with one reading: most columns of most tables."""
    found = []
    for name, dtype in frame.schema.items():
        if dtype != pl.String or name in leave_out or known.get(name, NUMBER) != NUMBER:
            continue
        values = frame[name]
        parsed = values.cast(pl.Float64, strict=False)
        if parsed.null_count() > values.null_count() or parsed.null_count() == len(values):
            continue
        if name not in known and (keeps_zeros(values) or numerals.in_doubt(values.drop_nulls(), ",")):
            continue
        found.append(whole(parsed.fill_nan(None)))
    return found


def whole(values: pl.Series) -> pl.Series:
    """Numbers as integers, where all of them are."""
    there = values.drop_nulls()
    whole = len(there) and bool(((there == there.round()) & (there.abs() < 2**53)).all())
    return values.cast(pl.Int64) if whole else values


def without_missing(frame: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Texts stripped, and nulls for markers of missing values: the usual ones and those of ``--missing``."""
    for name, dtype in frame.schema.items():
        values = frame[name]
        if dtype == pl.String:
            values = values.str.strip_chars().replace([*numerals.ALWAYS_MISSING, *markers(config)], None)
            if values.str.contains("\u2212", literal=True).any():  # the minus sign of typesetters
                values = values.str.replace(r"^\u2212(\d)", "-${1}")
        elif dtype.is_float():
            values = values.fill_nan(None)
        frame = frame.with_columns(values.alias(name))
    return frame


def without_numbers(frame: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Nulls for the numbers that ``--missing`` declares, however they are written: -9999 and -9999,00."""
    declared = [float(each) for each in markers(config) if is_number(each)]
    for name, dtype in frame.schema.items():
        if declared and dtype.is_numeric() and name != ROW:
            there = ~pl.col(name).cast(pl.Float64).is_in(declared)
            frame = frame.with_columns(pl.when(there).then(pl.col(name)).alias(name))
    return frame


def markers(config: DataConfig) -> list[str]:
    """The texts that ``--missing`` declares."""
    asked = [each.strip() for each in (config.missing or "").split(",")]
    return [each for each in asked if each and each != "none"]


def is_number(text: str) -> bool:
    """Tell whether Python's float reads the text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def decimal_of(values: pl.Series, config: DataConfig) -> tuple[str, str] | None:
    """The decimal sign and that of thousands, where the column is of numbers and leaves no doubt."""
    there = values.drop_nulls()
    if not there.str.contains(r"[, '\u00a0\u202f\u2019]|\..*\.").any():
        return None
    patterns = [numerals.PLAIN, numerals.COMMA, *numerals.GROUPED.values()]
    numbers = numerals.share(there, "|".join(f"(?:{each})" for each in patterns))
    if numbers <= numerals.MOSTLY:
        return None
    if config.decimal:
        spaced = numerals.share(there, rf"\d{numerals.SPACES}\d{{3}}") > 0
        return config.decimal, " " if spaced else {",": ".", ".": ","}[config.decimal]
    return numerals.settled(there) or ("?", "")


def decide(
    values: pl.Series, found: tuple[str, str] | None, table_decimal: str | None, reading: Reading
) -> ColumnReading:
    """How to read a column of texts."""
    there = values.drop_nulls()
    if not len(there):
        return ColumnReading("number")
    if found is not None and found[0] == "?":
        how = ColumnReading("number", *settled_by_table(table_decimal, reading))
    elif found is not None:
        how = ColumnReading("number", *found)
    elif len(numbers := there.cast(pl.Float64, strict=False).drop_nulls()) > numerals.MOSTLY * len(there):
        if keeps_zeros(there):
            return ColumnReading("text")
        how = ColumnReading("number")
        if len(numbers) == len(there) and numerals.in_doubt(there, ","):
            how = ColumnReading("number", *points_by_table(there, table_decimal, reading))
    elif there.str.to_lowercase().is_in(TRUTH).all():
        return ColumnReading("truth")
    else:
        return ColumnReading("text")
    if how.decimal == "?":
        return how
    unread = values.filter(numerals.parse(values, how).is_null() & values.is_not_null()).unique().sort()
    if len(unread) and unread.is_in(numerals.MISSING_AMONG_NUMBERS).all():
        how.missing = unread.to_list()
    return how


def settled_by_table(table_decimal: str | None, reading: Reading) -> tuple[str, str]:
    """1,020 in every row: thousands in a file whose fields commas separate, or whose decimals are points."""
    if table_decimal == ",":
        return ",", ""
    if table_decimal == "." or reading.separator == "," or reading.format != "csv":
        return ".", ","
    return "?", ""


def points_by_table(values: pl.Series, table_decimal: str | None, reading: Reading) -> tuple[str, str]:
    """1.020 in every row: thousands where commas are decimals; in doubt where semicolons leave them free."""
    if table_decimal == ",":
        return ",", "."
    beside = numerals.share(values, r"^[+-]?\d{1,3}$") > 0  # 950 beside 1.020
    free = reading.format == "csv" and (reading.separator == ";" or (beside and reading.separator != ","))
    return ("?", "") if free and table_decimal is None else (".", "")


def keeps_zeros(values: pl.Series) -> bool:
    """Whether the digits are identifiers such as 01031500; hours and months from 00 to 59 are numbers."""
    zeros = values.filter(values.str.starts_with("0")).str.contains(numerals.ZEROS)
    return bool(zeros.any()) and not bool((values.str.len_chars() <= 2).all())


def read_alike(frame: pl.DataFrame, name: str, how: ColumnReading) -> pl.DataFrame:
    """One column of texts read as ``how`` says; where texts among the numbers remain it stays text."""
    values = frame[name]
    if values.dtype != pl.String or how.kind in ("text", "time") or "?" in (how.decimal, how.sign):
        return frame
    if how.kind == "truth":
        return frame.with_columns((values.str.to_lowercase() == "true").alias(name))
    values = values.replace(how.missing, None) if how.missing else values
    parsed = numerals.parse(values, how)
    if parsed.null_count() > values.null_count():
        return frame.with_columns(values.alias(name))
    return frame.with_columns(whole(parsed.fill_nan(None)).alias(name))


def say(reading: Reading, names: list[str]) -> None:
    """Note decimal commas, thousands and markers of missing values."""
    numbers = {name: reading.columns[name] for name in names if reading.columns[name].kind == "number"}
    commas = [name for name, how in numbers.items() if how.decimal == ","]
    if commas:
        reading.said.append(f"decimal comma in {listed(commas)}")
    for signs in sorted({how.thousands for how in numbers.values()} - {""}):
        used = [name for name, how in numbers.items() if how.thousands == signs]
        word = {",": "comma", ".": "point", " ": "blank or apostrophe"}[signs]
        reading.said.append(f"{word} for thousands in {listed(used)}")
    for name, how in numbers.items():
        reading.said.extend(affixes.words(name, how))
        if how.missing:
            reading.said.append(f"{', '.join(map(repr, how.missing))} as missing in {name}")


def listed(names: list[str]) -> str:
    """Join names for a sentence; of more than four, the first four."""
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
