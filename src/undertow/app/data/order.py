"""Time: which column it is, how it is written, the order it gives to rows, and the calendar it shows."""

import re
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data import times
from undertow.app.data.frequency import DAY, months_of
from undertow.app.data.reading import ColumnReading, Reading
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

NAMES = ("time", "date", "datetime", "timestamp", "ds", "step", "t", "index")  # taken for time if unsaid
DATES = (pl.Date, pl.Datetime)
# a cycle is a feature where rows come often enough to show it and the table is long enough to learn it
CYCLES = {
    "year": (365.25 * DAY, 31 * DAY, 300 * DAY),
    "week": (7 * DAY, DAY, 21 * DAY),
    "day": (DAY, DAY / 2, 3 * DAY),
}
CLEARER = 0.05  # by which share of the rows one order of day and month must be better than another
# shares of rows out of step, or out of order, with which an order of day and month may still be the right one
EVEN, ORDERED = 0.25, 0.02
ISO = re.compile(r"%Y-%m-%d([ T]%H:%M(:%S(\.%f)?)?)?")  # needs no saying


def find_time(table: pl.DataFrame, given: str | None) -> str | None:
    """The column that orders the rows: the one given, else a date, else one whose name says so."""
    if given is not None:
        return given
    for name, dtype in table.schema.items():
        if dtype in DATES or (dtype == pl.String and mostly_dates(table[name])):
            return name
    numeric = [name for name, dtype in table.schema.items() if dtype.is_numeric()]
    for name in numeric:
        if times.of_numbers(table[name], name) is not None:
            return name
    return next((name for name in numeric if name.lower() in NAMES), None)


def date_like(table: pl.DataFrame, names: list[str]) -> list[str]:
    """Those of ``names`` whose values are dates."""
    return [
        n
        for n in names
        if table.schema[n] in DATES or (table.schema[n] == pl.String and mostly_dates(table[n]))
    ]


def sample(values: pl.Series) -> list[str]:
    """Different texts from all over a column."""
    there = values.drop_nulls()
    there = there.gather_every(max(1, len(there) // (50 * times.SAMPLE)))
    different = there.cast(pl.String).unique(maintain_order=True)
    every = max(1, len(different) // times.SAMPLE)
    return different.gather_every(every).to_list()


def mostly_dates(values: pl.Series) -> bool:
    texts = sample(values)
    forms = times.forms_of(texts) if any(map(str.isdigit, "".join(texts[:20]))) else []
    if len(forms) < 2 or forms[0][1] > 0.5:
        return bool(forms) and forms[0][1] > 0.5
    return float(np.any([~np.isnat(times.parsed(texts, form)) for form, _ in forms], axis=0).mean()) > 0.5


def parse_time(
    table: pl.DataFrame,
    path: Path,
    time: str,
    row: str,
    config: DataConfig,
    reading: Reading,
    kept: bool = False,
) -> pl.DataFrame:
    """The table with a time column that can be ordered; raises UserError at the first value that cannot."""
    table = without_timeless_end(table, time, reading)
    if table[time].null_count():
        number = table.filter(pl.col(time).is_null())[row][0]
        raise UserError(f"{path}: column {time!r}, row {number}: the time is missing")
    values, known = table[time], reading.columns.get(time) if kept else None
    if values.dtype not in DATES:
        form = known.format if known else form_of(values, path, time, config)
        texts = digits(values) if values.dtype.is_numeric() else values
        since = known.since if known else times.first_year(texts, form)
        reading.columns[time] = ColumnReading("time" if form else "number", format=form, since=since)
        if not form:
            return table
        moments = times.parsed(texts, form, since)
        if np.isnat(moments).any():
            k = int(np.argmax(np.isnat(moments)))
            written = f" written as {form}" if config.time_format or known else ""
            raise UserError(
                f"{path}: column {time!r}, row {table[row][k]}: expected a date or time{written}, "
                f"got {values[k]!r}"
            )
        values = pl.Series(time, moments).cast(pl.Datetime("us"))
        if not times.has_clock(form):
            values = values.cast(pl.Date)
        if "%z" in form or (form.startswith("unix") and config.time_zone):
            values = values.dt.replace_time_zone("UTC")
        if not known and not ISO.fullmatch(form):
            reading.said.append(f"{time} as {times.described(form, since)}")
    return table.with_columns(in_zone(values, table, path, row, config).alias(time))


def without_timeless_end(table: pl.DataFrame, time: str, reading: Reading) -> pl.DataFrame:
    """Without a last row that has no time, as a row of totals has none."""
    missing = table[time].is_null()
    if missing.sum() != 1 or not missing[-1] or len(table) < 3:
        return table
    reading.said.append("the last row, which has no time, left out")
    return table[:-1]


def digits(values: pl.Series) -> pl.Series:
    """Numbers as texts, whole ones without a point."""
    numbers = values.cast(pl.Float64)
    if bool((numbers == numbers.round()).all()):
        return numbers.cast(pl.Int64).cast(pl.String)
    return numbers.cast(pl.String)


def whole_text(values: pl.Series) -> pl.Series:
    """Texts as they are, and numbers as texts without a point."""
    return values if values.dtype == pl.String else digits(values)


def form_of(values: pl.Series, path: Path, time: str, config: DataConfig) -> str:
    """How a column of times is written; empty for numbers that only order the rows."""
    if config.time_format is not None:
        return asked(config.time_format, values)
    if values.dtype.is_numeric():
        return times.of_numbers(values, time) or ""
    forms = times.forms_of(sample(values))
    if forms and forms[0][1] <= 0.5 and len(forms) > 1:
        raise written_in_several_ways(values, path, time, forms[0][0])
    if not forms or forms[0][1] <= 0.5:
        first = next(iter(values.drop_nulls()), None)
        raise UserError(
            f"{path}: column {time!r}: expected dates or times, got {first!r}; "
            f"--time-format says how they are written"
        )
    best = [form for form, share in forms if share == forms[0][1] and "[" not in form] or [forms[0][0]]
    texts = values.cast(pl.String)
    best = fewest_failures(texts, best)
    return best[0] if len(best) == 1 else clearest(texts, best, path, time)


def written_in_several_ways(values: pl.Series, path: Path, time: str, form: str) -> UserError:
    """The error for a column of which no form fits more than a half."""
    texts = values.drop_nulls().cast(pl.String)
    fits = ~np.isnat(times.parsed(texts, form))
    one, other = texts[int(np.argmax(fits))], texts[int(np.argmin(fits))]
    return UserError(f"{path}: column {time!r} holds {one!r} and {other!r}; write all its times alike")


def asked(form: str, values: pl.Series) -> str:
    """The form that ``--time-format`` names; raises UserError where it is none."""
    if form.lower() == "excel":
        return "excel times"
    if form.lower() in ("unix", "s", "unix seconds"):
        return times.of_numbers(values.cast(pl.Float64, strict=False), "unix") or "unix seconds"
    try:
        times.pattern(form)
        if "%" not in form:
            raise ValueError(form)
        re.compile(times.pattern(form))
    except (ValueError, re.error) as error:
        raise UserError(
            f"--time-format {form}: expected a form such as %d/%m/%Y %H:%M; {error} is unknown"
        ) from None
    return form


def fewest_failures(texts: pl.Series, forms: list[str]) -> list[str]:
    """The forms that fit most texts of the whole column."""
    if len(forms) == 1:
        return forms
    failures = [int(np.isnat(times.parsed(texts, form)).sum()) for form in forms]
    return [form for form, failed in zip(forms, failures, strict=True) if failed == min(failures)]


def clearest(texts: pl.Series, forms: list[str], path: Path, time: str) -> str:
    """Of forms that all fit, the one that makes rows clearly the most regular; raises UserError for none."""
    found = {form: times.parsed(texts, form) for form in forms}
    different: list[str] = []
    for form in forms:
        if not any(np.array_equal(found[form], found[other], equal_nan=True) for other in different):
            different.append(form)
    for form in different:
        if all(clearer(found[form], found[other]) for other in different if other != form):
            return form
    one, other = sorted(different)[:2]
    example = next(t for k, t in enumerate(texts) if found[one][k] != found[other][k])
    choices = " or ".join(f"--time-format {form!r}" for form in sorted(different))
    raise UserError(
        f"{path}: column {time!r}: {example!r} can be read in {len(different)} ways; {choices} settles it"
    )


def clearer(one: NDArray[np.datetime64], other: NDArray[np.datetime64]) -> bool:
    """Whether ``one`` reading makes rows come at an even distance, or in order, and the other does not."""
    (uneven, back), (uneven_other, back_other) = disorder(one), disorder(other)
    ordered = back <= ORDERED and back_other - back >= CLEARER
    even = uneven <= EVEN and uneven_other - uneven >= CLEARER
    reverse = (back_other <= ORDERED and back - back_other >= CLEARER) or (
        uneven_other <= EVEN and uneven - uneven_other >= CLEARER
    )
    return (ordered or even) and not reverse


def disorder(moments: NDArray[np.datetime64]) -> tuple[float, float]:
    """Share of rows at another than the usual distance, and of rows earlier than the row before."""
    ticks = moments[~np.isnat(moments)].astype(np.int64)
    every = np.unique(ticks)
    if len(every) < 3:
        return 0.0, 0.0
    months = months_of(every.astype(np.float64))
    start = months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    steps = np.diff(months) if len(np.unique(every - start)) == 1 else np.diff(every)
    counts = np.unique(steps, return_counts=True)[1]
    back = float((np.diff(ticks) < 0).mean())
    return float(1 - counts.max() / len(steps)), min(back, 1 - back)  # the newest row may come first


# ------------------------------------------------------------------------------------------- zones


def in_zone(values: pl.Series, table: pl.DataFrame, path: Path, row: str, config: DataConfig) -> pl.Series:
    """Times with the zone of ``--time-zone``: local times get it, times with an offset are shown in it."""
    zone = config.time_zone
    if zone is None or values.dtype == pl.Date:
        return values
    try:
        if zone_of(values) is not None:
            shown: pl.Series = values.dt.convert_time_zone(zone)
            return shown
        within = table[config.group] if config.group in table.columns else pl.Series([0] * len(values))
        again = (
            pl.DataFrame({"g": within, "t": values}).select(pl.int_range(pl.len()).over("g", "t")).to_series()
        )
        hours = pl.DataFrame(
            {"t": values, "which": pl.Series(["earliest", "latest"]).gather(again.clip(0, 1))}
        )
        local = hours.select(
            pl.col("t").dt.replace_time_zone(zone, ambiguous=pl.col("which"), non_existent="null")
        ).to_series()
    except pl.exceptions.PolarsError:
        raise UserError(f"--time-zone {zone}: expected the name of a zone, as in Europe/London") from None
    if local.null_count():
        k = int(np.argmax(local.is_null().to_numpy()))
        raise UserError(
            f"{path}: row {table[row][k]}: {values[k]} was skipped by the clocks of --time-zone {zone}; "
            f"leave the option out where times are in UTC"
        )
    return local


def zone_of(values: pl.Series) -> str | None:
    return getattr(values.dtype, "time_zone", None)


def is_local(values: pl.Series) -> bool:
    """Whether these are times without a zone: clocks may go back or skip an hour."""
    return values.dtype == pl.Datetime and zone_of(values) is None


def ticks(values: pl.Series) -> NDArray[np.float64]:
    """A time column as numbers, [rows]: microseconds for dates (UTC with a zone), else its values."""
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if values.dtype == pl.Datetime:
        values = values.dt.cast_time_unit("us").to_physical()
    return np.asarray(values.cast(pl.Float64), np.float64)


def from_ticks(numbers: NDArray[np.float64], like: pl.Series) -> pl.Series:
    """The reverse of ``ticks``, in the type of ``like``."""
    if like.dtype in DATES:
        moved = pl.Series(like.name, np.round(numbers).astype(np.int64)).cast(pl.Datetime("us"))
        if (zone := zone_of(like)) is not None:
            moved = moved.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    else:
        moved = pl.Series(like.name, numbers)
    result: pl.Series = moved.cast(like.dtype)
    return result


# ---------------------------------------------------------------------------------------- calendar


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
    if step < DAY:
        return "seasonal (month and hour) mean"
    kind = "day-of-year" if step < 7 * DAY else "week-of-year" if step < 28 * DAY else "month-of-year"
    return f"seasonal ({kind}) mean"
