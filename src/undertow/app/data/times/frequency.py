"""How often rows come: every so many minutes or days, calendar months, business days; and what comes next."""

from collections import Counter
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

DAY = 86_400_000_000  # in microseconds
MONTH = 365.2425 / 12 * DAY  # on average
NAMES = {60e6: "by the minute", 3600e6: "hourly", DAY: "daily", 7 * DAY: "weekly"}
MONTHLY = {1: "monthly", 3: "quarterly", 12: "yearly"}
GAP = 1.5  # times the usual step: farther apart rows are missing
NEAR = 4  # first or last days of a month on which its first or last business day may fall
HOLIDAYS = 8  # most business days in a row that may be holidays
NEARLY_EVERYWHERE = ("01-01", "12-25")  # taken for a holiday when they were one once; others twice
FEW = 0.1  # largest share of business days that holidays take


class Frequency(msgspec.Struct, frozen=True, omit_defaults=True):
    """The usual distance between rows. Kept in config.json.

    Args:
        step: Microseconds for dates, else in the column's own unit; 0 without a time column.
        months: Calendar months between rows; 0 where rows come at a fixed distance.
        day: Day of the month, with ``months``; 31 stands for the month's end.
        weekdays: Business days, Monday 0; empty where all days are alike.
        holidays: Days of the year, MM-DD, on which no business day had a row.
    """

    step: Annotated[float, Meta(ge=0, le=1e18)] = 0.0
    months: Annotated[int, Meta(ge=0, le=1200)] = 0
    day: Annotated[int, Meta(ge=1, le=31)] = 1
    weekdays: list[Annotated[int, Meta(ge=0, le=6)]] = []
    holidays: list[Annotated[str, Meta(pattern=r"^[01]\d-[0-3]\d$")]] = []

    @property
    def words(self) -> str:
        """How it is said to people; empty for what has no name."""
        if self.weekdays:
            return "business days"
        return MONTHLY.get(self.months, "") if self.months else NAMES.get(self.step, "")

    def places(self, ticks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times [rows], in microseconds or the column's unit, counted in steps of this frequency."""
        if self.months:
            return np.asarray(months_of(ticks) / self.months, np.float64)
        if self.weekdays:
            return business_places(ticks, self.weekdays)
        return ticks / (self.step or 1.0)

    def after(self, ticks: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """The times that lie so many steps, 0 or more, after those given."""
        if self.months:
            moved = in_month(months_of(ticks) + steps * self.months, self.day, ticks)
            return np.where(steps > 0, moved, ticks)
        if self.weekdays:
            return self._business_days_after(ticks, steps)
        return np.asarray(ticks + steps * self.step, np.float64)

    def _business_days_after(
        self, ticks: NDArray[np.float64], steps: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        days = (ticks // DAY).astype("datetime64[D]")
        first, last = days.min(), days.max() + 3 * int(steps.max(initial=0)) + 30
        free = [day for day in np.arange(first, last) if str(day)[5:] in self.holidays]
        moved = np.busday_offset(
            days, steps, "forward", weekmask(self.weekdays), np.array(free, "datetime64[D]")
        )
        moved = np.where(steps > 0, moved, days)
        return np.asarray(moved.astype(np.int64) * DAY + ticks % DAY, np.float64)


def months_of(ticks: NDArray[np.float64]) -> NDArray[np.int64]:
    """Months since 1970."""
    return ticks.astype(np.int64).astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def in_month(months: NDArray[np.int64], day: int, like: NDArray[np.float64]) -> NDArray[np.float64]:
    """That day of each month, or its last one where it is shorter, at the time of day of ``like``."""
    first, following = (
        (months + k).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for k in (0, 1)
    )
    return np.asarray(np.minimum(first + day, following) - 1, np.float64) * DAY + like % DAY


def weekmask(weekdays: list[int]) -> list[bool]:
    """Return for each day of the week from Monday whether it is a business day."""
    return [day in weekdays for day in range(7)]


def business_places(ticks: NDArray[np.float64], weekdays: list[int]) -> NDArray[np.float64]:
    """Count the business days since 1970 before each time, [rows]."""
    days = (ticks // DAY).astype("datetime64[D]")
    return np.busday_count(np.datetime64("1970-01-01"), days, weekmask(weekdays)).astype(np.float64)


def recognise(times: list[NDArray[np.float64]], dates: bool) -> Frequency:
    """The frequency of series, each given by its times in order; by the calendar if they are dates."""
    ends = np.cumsum([0, *(max(0, len(each) - 1) for each in times)])
    if not ends[-1]:
        return Frequency()
    steps = np.empty(ends[-1])  # filled and then sorted in place: there may be many
    for each, begin, end in zip(times, ends, ends[1:], strict=False):
        steps[begin:end] = np.diff(each)
    step = float(np.median(steps, overwrite_input=True))
    del steps
    if not dates or step < DAY:
        return Frequency(step)
    every = np.unique(np.concatenate(times))
    return calendar_months(times, every, step) or business_days(every, step) or Frequency(step)


def calendar_months(
    times: list[NDArray[np.float64]], every: NDArray[np.float64], step: float
) -> Frequency | None:
    """Months, quarters or years, where rows stand on one day of the month, or near its start or end."""
    if step < 28 * DAY or len(np.unique(every % DAY)) > 1:
        return None
    months = months_of(every)
    start = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    day = (every // DAY).astype(np.int64) - start + 1
    apart = np.concatenate([np.diff(months_of(each)) for each in times])
    to_end = float((in_month(months, 31, every) - every).max())
    anchor = 31 if to_end == 0 else int(day.max())
    if not np.array_equal(in_month(months, anchor, every), every):
        starts = int(day.max()) <= NEAR
        if apart.min() <= 0 or not (starts or to_end < NEAR * DAY):
            return None
        anchor = 1 if starts else 31
    usual = Counter(apart[apart > 0].tolist()).most_common(1)
    return Frequency(usual[0][0] * MONTH, usual[0][0], anchor) if usual else None


def business_days(every: NDArray[np.float64], step: float) -> Frequency | None:
    """Five or six days a week, with what is missing on them short and rare enough to be holidays."""
    days = (every // DAY).astype("datetime64[D]")
    weekdays = sorted(set(((days.astype(np.int64) + 3) % 7).tolist()))
    if step != DAY or len(weekdays) not in (5, 6) or len(days) < 3 * len(weekdays):
        return None
    expected = np.arange(days[0], days[-1] + 1)
    expected = expected[np.is_busday(expected, weekmask(weekdays))]
    missing = ~np.isin(expected, days)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~missing, [True]]))) - 1
    if missing.mean() > FEW or runs.max() > HOLIDAYS:
        return None
    named = Counter(str(day)[5:] for day in expected[missing])
    open_on = {str(day)[5:] for day in expected[~missing]}
    yearly = sorted(
        name
        for name, often in named.items()
        if name not in open_on and (often > 1 or name in NEARLY_EVERYWHERE)
    )
    return Frequency(DAY, weekdays=weekdays, holidays=yearly)


def gaps(frequency: Frequency, ticks: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many rows are missing before each row but the first of an ordered series, [rows-1]."""
    apart = np.diff(frequency.places(ticks))
    if frequency.weekdays:  # short runs are holidays
        return np.where(apart > HOLIDAYS + 1, apart - 1, 0).astype(np.int64)
    if frequency.step == 0:
        return np.zeros(len(apart), np.int64)
    return np.where(apart > GAP, np.maximum(np.round(apart) - 1, 1), 0).astype(np.int64)
