"""Time: which column it is, the order it gives to rows, gaps in it, and the calendar it shows."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.errors import UserError

NAMES = ("time", "date", "datetime", "timestamp", "ds", "step", "t", "index")  # taken for time if unsaid
DAY = 86_400_000_000  # in microseconds
# a cycle is a feature where rows come often enough to show it and the table is long enough to learn it
CYCLES = {
    "year": (365.25 * DAY, 31 * DAY, 300 * DAY),
    "week": (7 * DAY, DAY, 21 * DAY),
    "day": (DAY, DAY / 2, 3 * DAY),
}


def find_time(table: pl.DataFrame, given: str | None) -> str | None:
    """The column that orders the rows: the one given, else a date, else one whose name says so."""
    if given is not None:
        return given
    for name, dtype in table.schema.items():
        if dtype in (pl.Date, pl.Datetime) or (dtype == pl.String and mostly_dates(table[name])):
            return name
    for name, dtype in table.schema.items():
        if name.lower() in NAMES and dtype.is_numeric():
            return name
    return None


def mostly_dates(values: pl.Series) -> bool:
    return 2 * (len(values) - parse_dates(values).null_count()) > len(values)


def parse_dates(values: pl.Series) -> pl.Series:
    """Text as dates and times, null where it is none."""
    parsed: pl.Series
    try:
        parsed = values.cast(pl.String).str.to_datetime(strict=False)
    except pl.exceptions.ComputeError:  # not even the first value is a date
        parsed = pl.Series(values.name, [None] * len(values), pl.Datetime)
    return parsed


def parse_time(table: pl.DataFrame, path: Path, time: str, row: str) -> pl.DataFrame:
    """The table with a time column that can be ordered; raises UserError at the first value that cannot."""
    if table[time].null_count():
        number = table.filter(pl.col(time).is_null())[row][0]
        raise UserError(f"{path}: column {time!r}, row {number}: the time is missing")
    dtype = table.schema[time]
    if dtype.is_numeric() or dtype in (pl.Date, pl.Datetime):
        return table
    parsed = parse_dates(table[time])
    if parsed.null_count():
        number, value = table.filter(parsed.is_null()).select(row, time).row(0)
        raise UserError(f"{path}: column {time!r}, row {number}: expected a date or time, got {value!r}")
    return table.with_columns(parsed.alias(time))


def ticks(values: pl.Series) -> NDArray[np.float64]:
    """A time column as numbers, [rows]: microseconds for dates, else the values themselves."""
    if values.dtype in (pl.Date, pl.Datetime):
        values = values.cast(pl.Datetime("us")).cast(pl.Int64)
    return np.asarray(values.cast(pl.Float64), np.float64)


def usual_step(times: list[NDArray[np.float64]]) -> float:
    """The median distance between neighbouring rows of all series."""
    steps = [np.diff(each) for each in times if len(each) > 1]
    return float(np.median(np.concatenate(steps))) if steps else 0.0


def calendar_cycles(times: NDArray[np.float64], step: float) -> list[str]:
    """Which cycles rows ``step`` microseconds apart can show."""
    span = float(times.max() - times.min())
    return [name for name, (_, widest, shortest) in CYCLES.items() if 0 < step <= widest and span >= shortest]


def calendar_features(values: pl.Series, cycles: list[str]) -> NDArray[np.float64]:
    """Sine and cosine of where in each cycle a row stands, [rows, 2 cycles]."""
    turns = [2 * np.pi * ticks(values) / CYCLES[name][0] for name in cycles]
    return np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)], axis=1)


def season(values: pl.Series, step: float) -> pl.Series | None:
    """The season of every row, a text, by which its mean over earlier years is taken; None without dates."""
    if values.dtype not in (pl.Date, pl.Datetime) or step <= 0:
        return None
    if step < DAY:
        return values.dt.strftime("%m %H:%M")  # month and time of day
    return values.dt.strftime("%m-%d" if step < 7 * DAY else "%V" if step < 28 * DAY else "%m")


def season_name(step: float) -> str:
    if step < DAY:
        return "seasonal (month and hour) mean"
    kind = "day-of-year" if step < 7 * DAY else "week-of-year" if step < 28 * DAY else "month-of-year"
    return f"seasonal ({kind}) mean"
