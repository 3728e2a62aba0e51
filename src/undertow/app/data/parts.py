"""Times that stand in several columns: a date beside a clock or an hour, or year, month, day and hour."""

import polars as pl

from undertow.app.data import order
from undertow.app.data.reading import Reading

CLOCK = r"^\d{1,2}[:.]\d{2}([:.]\d{2})?$"
NAMES = {  # as their columns are called
    "year": ("year", "yyyy", "yr", "jahr", "année", "año"),
    "month": ("month", "mm", "mo", "mnth", "monat", "mois", "mes"),
    "day": ("day", "dd", "dy", "tag", "jour", "día"),
    "hour": ("hour", "hh", "hr", "stunde", "heure", "hora"),
}
JOINED = "date"  # the name of a time made of year and month


def joined(frame: pl.DataFrame, reading: Reading, kept: bool) -> pl.DataFrame:
    """The table with such columns joined into one text, which takes the place of the first of them."""
    parts = reading.time_parts if kept else found(frame)
    if not parts or not set(parts) <= set(frame.columns):
        return frame
    reading.time_parts = parts
    name = parts[0] if len(parts) == 2 and order.date_like(frame, parts[:1]) else JOINED
    texts = [order.whole_text(frame[part]) for part in parts]
    dated = (
        texts[0] if name != JOINED else texts[0] + "-" + texts[1] + ("-" + texts[2] if len(texts) > 2 else "")
    )
    clock = texts[1:] if name != JOINED else texts[3:]
    value = dated + " " + clock[0] if clock else dated
    reading.said.append(f"{name} from {', '.join(parts)}")
    return frame.drop(parts).insert_column(0, value.alias(name))


def found(frame: pl.DataFrame) -> list[str]:
    """The columns that make a time together; none where one column does."""
    names = list(frame.columns)
    dates = order.date_like(frame, [name for name in names if frame.schema[name] == pl.String])
    by_kind = {kind: next((n for n in names if n.lower() in known), None) for kind, known in NAMES.items()}
    if dates:
        first = dates[0]
        if any(":" in text for text in order.sample(frame[first])) or frame[first].n_unique() == len(frame):
            return []
        clocks = [
            n
            for n in names
            if frame.schema[n] == pl.String and frame[n].drop_nulls().str.contains(CLOCK).all()
        ]
        hour = by_kind["hour"]
        second = next((n for n in clocks if n != first and frame[n].count()), hour)
        return [first, second] if second is not None and second != first else []
    year, month, day, hour = by_kind.values()
    if year is None or month is None or any(dtype in order.DATES for dtype in frame.schema.values()):
        return []
    parts = [year, month, *([day] if day else []), *([hour] if day and hour else [])]
    whole = all(order.whole_text(frame[part]).str.contains(r"^\d{1,4}$").all() for part in parts)
    return parts if whole and JOINED not in names else []
