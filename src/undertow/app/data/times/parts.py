"""Times that stand in several columns: a date beside a clock or an hour, or a year beside parts of it."""

import re

import polars as pl

from undertow.app.data.reading import Reading
from undertow.app.data.times import forms, moments, order

CLOCK = r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*([AaPp]\.?[Mm]\.?)?$"
POINTED = r"^([01]?\d|2[0-4])\.[0-5]\d(\.[0-5]\d)?$"  # a price too, unless the column's name says otherwise
CLOCKS = re.compile(r"time|clock|zeit|uhr|heure|hora", re.IGNORECASE)
NAMES = {  # as their columns are called
    "year": ("year", "yyyy", "yr", "jahr", "année", "año"),
    "month": ("month", "mm", "mo", "mnth", "monat", "mois", "mes"),
    "quarter": ("quarter", "qtr", "quartal", "trimestre"),
    "week": ("week", "isoweek", "kw", "woche", "semaine", "semana"),
    "day": ("day", "dd", "dy", "tag", "jour", "día"),
    "hour": ("hour", "hh", "hr", "stunde", "heure", "hora"),
}
VALUES = {  # what they hold
    "year": r"^\d{4}$", "month": r"^(\d{1,2}|[^\W\d_]{3,}\.?)$", "quarter": r"^[Qq]?[1-4]$",
    "week": r"^[Ww]?\d{1,2}$", "day": r"^\d{1,2}$", "hour": r"^\d{1,4}$",
}  # fmt: skip
BEFORE = {"year": "", "month": "-", "quarter": "-Q", "week": "-W", "day": "-", "hour": " "}
JOINED = "date"  # the name of a time made of a year and parts of it


def joined(frame: pl.DataFrame, reading: Reading, kept: bool) -> pl.DataFrame:
    """The table with such columns joined into one text, which takes the place of the first of them."""
    parts = reading.time_parts if kept else found(frame)
    if not parts or not set(parts) <= set(frame.columns):
        return frame
    reading.time_parts = parts
    texts = [forms.whole_text(frame[part]) for part in parts]
    if kind_of(parts[0]) == "year":
        name, value = JOINED, texts[0]
        for part, text in zip(parts[1:], texts[1:], strict=True):
            kind = kind_of(part)
            value = value + BEFORE[kind] + (text.str.strip_chars("QqWw") if BEFORE[kind][1:] else text)
    else:
        name, value = parts[0], texts[0] + " " + texts[1]
    reading.said.append(f"{name} from {', '.join(parts)}")
    return frame.drop(parts).insert_column(0, value.alias(name))


def kind_of(name: str) -> str:
    """Which part of a time a column is by its name; empty for none."""
    return next((kind for kind, known in NAMES.items() if name.lower() in known), "")


def found(frame: pl.DataFrame) -> list[str]:
    """The columns that make a time together; none where one column does."""
    by_kind: dict[str, str] = {}
    for name in frame.columns:
        by_kind.setdefault(kind_of(name), name)
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    if dates := order.date_like(frame, texts):
        return beside_a_date(frame, dates[0], texts, by_kind.get("hour"))
    if "year" not in by_kind or any(dtype in moments.DATES for dtype in frame.schema.values()):
        return []
    kinds = next((k for k in ("month", "quarter", "week") if k in by_kind), None)
    if kinds is None or JOINED in frame.columns:
        return []
    wanted = ["year", kinds, *(["day"] if kinds == "month" else [])]
    wanted = [kind for kind in wanted if kind in by_kind]
    wanted += ["hour"] if "day" in wanted and "hour" in by_kind else []
    fit = all(forms.whole_text(frame[by_kind[k]]).str.contains(VALUES[k]).all() for k in wanted)
    return [by_kind[kind] for kind in wanted] if fit else []


def beside_a_date(frame: pl.DataFrame, date: str, texts: list[str], hour: str | None) -> list[str]:
    """The date and the column with its clock or hour, unless the date tells rows apart by itself."""
    if any(":" in text for text in forms.sample(frame[date])) or frame[date].is_unique().all():
        return []
    clocks = [name for name in texts if name != date and is_clock(frame[name])]
    second = next(iter(clocks), hour)
    return [date, second] if second is not None and second != date else []


def is_clock(values: pl.Series) -> bool:
    """Tell whether all texts of a column are times of the day."""
    there = values.drop_nulls()
    pattern = f"{CLOCK}|{POINTED}" if CLOCKS.search(values.name) else CLOCK
    return all(bool(part.str.contains(pattern).all()) for part in (there.head(100), there)) and len(there) > 0
