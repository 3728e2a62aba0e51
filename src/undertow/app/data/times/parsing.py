"""Dates and times written in any usual form: the form is found over a whole column and kept."""

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.times.codes import CLOCKS, COMPACT, DATES, ZONES, ending, pattern, prefix

MONTHS = {
    "jan": 1, "ene": 1, "feb": 2, "fév": 2, "fev": 2, "mar": 3, "mär": 3, "mrz": 3, "apr": 4, "avr": 4,
    "abr": 4, "may": 5, "mai": 5, "jun": 6, "juin": 6, "jul": 7, "juil": 7, "aug": 8, "aoû": 8, "ago": 8,
    "sep": 9, "set": 9, "oct": 10, "okt": 10, "nov": 11, "dec": 12, "dez": 12, "déc": 12, "dic": 12,
}  # fmt: skip
UNIX = {  # least and largest count, and microseconds in one
    "unix seconds": (1e8, 4e9, 1e6), "unix milliseconds": (1e11, 4e12, 1e3),
    "unix microseconds": (1e14, 4e15, 1), "unix nanoseconds": (1e17, 4e18, 1e-3),
}  # fmt: skip
EXCEL = {"excel days": 86_400e6, "excel times": 1e6}  # what counts of days are rounded to, in microseconds
EXCEL_EPOCH = 25569  # days from 30 December 1899 to 1970
CENTURY = 1969  # first of the hundred years that %y stands for, as POSIX has it
ISO = re.compile(r"%Y-%m-%d([ T]%H:%M(:%S)?)?")  # read by Polars, which is quicker
SAMPLE = 200  # different texts from which the forms are found


def forms_of(texts: list[str]) -> list[tuple[str, float]]:
    """The forms that fit some of the texts, and which share of them; best first, then the shortest."""
    starts = [prefix(date) for date in DATES]
    found: dict[str, float] = {}
    for text in texts[:: max(1, len(texts) // 8)]:
        for date, start in zip(DATES, starts, strict=True):
            if not (match := start.match(text)):
                continue
            rest = text[match.end() :]
            clocks = CLOCKS + (COMPACT if date == "%Y%m%d" else [])
            for form in (
                "",
                *(clock + zone for clock in clocks for zone in ZONES if not zone or clock[0] != "["),
            ):
                if date + form not in found and ending(form).match(rest):
                    found[date + form] = 0.0
    for form in found:
        found[form] = 1.0 - float(np.isnat(parsed(texts, form)).mean())
    return sorted(found.items(), key=lambda pair: (-pair[1], len(pair[0])))


def parsed(texts: list[str] | pl.Series, form: str, since: int = 0) -> NDArray[np.datetime64]:
    """Times in microseconds, without zone (offsets are subtracted); NaT where a text has another form.

    ``since`` is the first of the hundred years that years of two digits stand for; 0 is that of POSIX.
    """
    values = pl.Series(texts, dtype=pl.String)
    if form in UNIX or form in EXCEL:
        counts = np.asarray(values.cast(pl.Float64, strict=False).fill_null(np.nan), np.float64)
        if form in UNIX:
            return unix(counts, UNIX[form][2])
        unit = EXCEL[form]
        return unix(np.round((counts - EXCEL_EPOCH) * 86_400e6 / unit), unit)
    if ISO.fullmatch(form) and (found := iso(values, form)) is not None:
        return found
    groups = values.str.extract_groups(pattern(form))
    names = [field.name for field in groups.dtype.fields] if isinstance(groups.dtype, pl.Struct) else []
    fields = {name: groups.struct.field(name) for name in names}
    matched = np.asarray(values.str.contains(pattern(form)).fill_null(False), bool)

    def number(name: str, otherwise: int) -> NDArray[np.int64]:
        if name not in fields:
            return np.full(len(values), otherwise, np.int64)
        return np.asarray(fields[name].cast(pl.Int64, strict=False).fill_null(otherwise), np.int64)

    if "s" in fields:
        seconds = np.asarray(fields["s"].cast(pl.Float64).fill_null(np.nan), np.float64)
        return unix(seconds, 1e6)
    year = number("Y", 1970)
    if "y" in fields:
        first = since or CENTURY
        year = first + (number("y", 70) - first) % 100
    month, day = number("m", 1), number("d", 1)
    if "q" in fields:
        month = 3 * number("q", 1) - 2
    if "b" in fields:
        month = np.asarray(fields["b"].map_elements(month_of, pl.Int64).fill_null(0), np.int64)
    if "G" in fields:
        days, valid = week_days(number("G", 1970), number("V", 1), number("u", 1))
    elif "j" in fields:
        days, valid = civil(year, np.ones_like(year), np.ones_like(year))
        length = civil(year + 1, np.ones_like(year), np.ones_like(year))[0] - days
        days, valid = days + number("j", 1) - 1, (number("j", 1) >= 1) & (number("j", 1) <= length)
    else:
        days, valid = civil(year, month, day)
    clock, valid_clock = time_of_day(number, fields)
    result = (days * 86_400_000_000 + clock).astype("datetime64[us]")
    result[~(valid & valid_clock & matched)] = np.datetime64("NaT")
    return result


def iso(values: pl.Series, form: str) -> NDArray[np.datetime64] | None:
    """The same by Polars, which is quicker; None where it cannot read all of them."""
    moments = values.str.to_datetime(form, time_unit="us", strict=False)
    if moments.null_count() > values.null_count():
        return None
    return moments.to_numpy().astype("datetime64[us]", copy=False)


def civil(
    year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Days since 1970, and where the date exists."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.int64) + day - 1
    same = days.astype("datetime64[D]").astype("datetime64[M]") == months
    return days, same & (day >= 1) & (month >= 1) & (month <= 12)


def week_days(
    year: NDArray[np.int64], week: NDArray[np.int64], weekday: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The days of ISO weeks: the week with 4 January is the first."""
    fourth = civil(year, np.ones_like(year), np.full_like(year, 4))[0]
    monday = fourth - (fourth + 3) % 7  # 1 January 1970 was a Thursday
    return monday + 7 * (week - 1) + weekday - 1, (week >= 1) & (week <= 53)


def time_of_day(number: object, fields: dict[str, pl.Series]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Microseconds since midnight, less the offset from UTC, and where they make sense; 24:00 ends a day."""
    assert callable(number)
    hour = number("H", 0)
    valid = (hour >= 0) & (hour <= 24)
    if "I" in fields:
        hour = number("I", 12)
        valid = (hour >= 1) & (hour <= 12)
        afternoon = np.asarray(fields["p"].str.to_lowercase().str.starts_with("p").fill_null(False), bool)
        hour = hour % 12 + 12 * afternoon
    minute, second = number("M", 0), number("S", 0)
    valid &= (minute < 60) & (second <= 60) & ((hour < 24) | (minute + second == 0))
    result = ((hour * 60 + minute) * 60 + second) * 1_000_000
    if "f" in fields:
        digits = fields["f"].fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
        result = result + np.asarray(digits, np.int64) // 1000
    if "z" in fields:
        result = result - np.asarray(fields["z"].map_elements(offset_of, pl.Int64).fill_null(0), np.int64)
    return result, valid


def month_of(name: str) -> int:
    """Return the number of a month by its name, 1 to 12; 0 if it is none."""
    lower = name.lower()
    return MONTHS.get(lower[:4], MONTHS.get(lower[:3], 0))


def offset_of(zone: str) -> int:
    """Microseconds east of UTC: +01:00, -0530, Z."""
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = 60 * int(digits[:2]) + int(digits[2:])
    return (-1 if zone[0] == "-" else 1) * minutes * 60_000_000


def unix(values: NDArray[np.float64], to_microseconds: float) -> NDArray[np.datetime64]:
    """Times from a count since 1970."""
    result = np.round(np.nan_to_num(values) * to_microseconds).astype(np.int64).astype("datetime64[us]")
    result[~np.isfinite(values)] = np.datetime64("NaT")
    return result


def has_clock(form: str) -> bool:
    """Tell whether a form of times has an hour."""
    return any(f"%{code}" in form for code in "HIsTRz") or form.startswith("unix") or form == "excel times"


def first_year(texts: pl.Series, form: str) -> int:
    """The first of the hundred years that the two digits of a column stand for; 0 is that of POSIX.

    The years of a column lie together: 30 to 89 are 1930 to 1989, where POSIX would have 2030 and 1989.
    """
    if "%y" not in form:
        return 0
    moments = parsed(texts, form)
    digits = np.unique((moments[~np.isnat(moments)].astype("datetime64[Y]").astype(np.int64) + 1970) % 100)
    if not len(digits):
        return 0
    apart = np.diff(np.append(digits, digits[0] + 100))
    widest = int(np.argmax(apart))
    last, first = int(digits[widest]), int(digits[(widest + 1) % len(digits)])
    end = CENTURY + (last - CENTURY) % 100
    start = end - (last - first) % 100
    return 0 if start >= CENTURY else start


def described(form: str, since: int) -> str:
    """Describe a form of times, with the first year of two-digit years."""
    return f"{form} from {since} on" if since else form


def of_numbers(values: pl.Series, name: str) -> str | None:
    """The form in which numbers stand for times, digits of a date or a Unix time; None for none."""
    numbers = np.asarray(values.drop_nulls().cast(pl.Float64), np.float64)
    if not len(numbers):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers == np.round(numbers)).all())
    hinted = re.search(
        r"date|time|stamp|day|month|year|period|epoch|unix|datum|jahr|monat|zeit|^ts$|^ds$", name.lower()
    )
    if whole and low >= 1e7 and high < 1e8 and low >= 1600e4 and high < 2200e4 and fits(numbers, "%Y%m%d"):
        return "%Y%m%d" if hinted or len(numbers) >= 10 else None
    if not hinted:
        return None
    if low >= 20_000 and high < 80_000 and re.search(r"date|datum|fecha", name.lower()):
        return "excel days" if whole else "excel times"
    if whole and low >= 160001 and high <= 220012 and fits(numbers, "%Y%m"):
        return "%Y%m"
    if whole and low >= 1000 and high <= 2999 and re.search(r"(year|date|jahr|period)$", name.lower()):
        return "%Y"
    if whole and low >= 1600e6 and high < 2200e6 and fits(numbers, "%Y%m%d%H"):
        return "%Y%m%d%H"
    if whole and low >= 1600e8 and high < 2200e8 and fits(numbers, "%Y%m%d%H%M"):
        return "%Y%m%d%H%M"
    if not re.search(r"date|time|stamp|epoch|unix|datum|zeit|^ts$|^ds$", name.lower()):
        return None  # a monthly revenue
    return next((form for form, (least, most, _) in UNIX.items() if least <= low and high <= most), None)


def fits(numbers: NDArray[np.float64], form: str) -> bool:
    """Tell whether all numbers are times in this form."""
    texts = pl.Series(numbers.astype(np.int64)).cast(pl.String)
    return not bool(np.isnat(parsed(texts, form)).any())
