"""Cycles of the calendar as features, and the seasons by which means are taken."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.times.frequency import DAY
from undertow.app.data.times.moments import DATES, ticks

# a cycle is a feature where rows come often enough to show it and the table is long enough to learn it
CYCLES = {
    "year": (365.25 * DAY, 31 * DAY, 300 * DAY),
    "week": (7 * DAY, DAY, 21 * DAY),
    "day": (DAY, DAY / 2, 3 * DAY),
}


def calendar_cycles(times: NDArray[np.float64], step: float) -> list[str]:
    """Which cycles rows ``step`` microseconds apart can show."""
    span = float(times.max() - times.min())
    return [name for name, (_, widest, shortest) in CYCLES.items() if 0 < step <= widest and span >= shortest]


def calendar_features(values: pl.Series, cycles: list[str]) -> NDArray[np.float64]:
    """Sine and cosine of where in each cycle a row stands, by local time, [rows, 2 cycles]."""
    if values.dtype == pl.Datetime:
        values = values.dt.replace_time_zone(None)
    turns = [2 * np.pi * ticks(values) / CYCLES[name][0] for name in cycles]
    return np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)], axis=1)


def season(values: pl.Series, step: float) -> pl.Series | None:
    """The season of every row, a text, by which its mean over earlier years is taken; None without dates."""
    if values.dtype not in DATES or not 0 < step < 300 * DAY:
        return None
    if step < DAY:
        return values.dt.strftime("%m %H:%M")  # month and time of day
    return values.dt.strftime("%m-%d" if step < 7 * DAY else "%V" if step < 28 * DAY else "%m")


def season_name(step: float) -> str:
    """Name the seasonal mean of rows that lie ``step`` seconds apart."""
    if step < DAY:
        return "seasonal (month and hour) mean"
    kind = "day-of-year" if step < 7 * DAY else "week-of-year" if step < 28 * DAY else "month-of-year"
    return f"seasonal ({kind}) mean"
