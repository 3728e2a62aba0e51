"""How a column of times is written, decided over the whole of it."""

import re
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.times import codes, parsing
from undertow.app.data.times.frequency import months_of
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

CLEARER = 0.05  # by which share of the rows one order of day and month must be better than another
# shares of rows out of step, or out of order, with which an order of day and month may still be the right one
EVEN, ORDERED = 0.25, 0.02


def sample(values: pl.Series) -> list[str]:
    """Different texts from all over a column."""
    there = values.drop_nulls()
    there = there.gather_every(max(1, len(there) // (50 * parsing.SAMPLE)))
    different = there.cast(pl.String).unique(maintain_order=True)
    every = max(1, len(different) // parsing.SAMPLE)
    return different.gather_every(every).to_list()


def digits(values: pl.Series) -> pl.Series:
    """Numbers as texts, whole ones without a point."""
    numbers = values.cast(pl.Float64)
    if bool(((numbers == numbers.round()) & (numbers.abs() < 2.0**53)).all()):
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
        return parsing.of_numbers(values, time) or ""
    forms = parsing.forms_of(sample(values))
    if forms and forms[0][1] <= 0.5 and len(forms) > 1:
        raise written_in_several_ways(values, path, time, forms[0][0])
    if not forms or forms[0][1] <= 0.5:
        first = next(iter(values.drop_nulls()), None)
        raise UserError(
            f"{path}: column {time!r}: expected dates or times, got {first!r}",
            "--time-format says how they are written",
        )
    best = [form for form, share in forms if share == forms[0][1] and "[" not in form] or [forms[0][0]]
    texts = values.cast(pl.String)
    best = fewest_failures(texts, best)
    return best[0] if len(best) == 1 else clearest(texts, best, path, time)


def asked(form: str, values: pl.Series) -> str:
    """The form that ``--time-format`` names; raises UserError where it is none."""
    if form.lower() == "excel":
        return "excel times"
    if form.lower() in ("unix", "s", "unix seconds"):
        return parsing.of_numbers(values.cast(pl.Float64, strict=False), "unix") or "unix seconds"
    try:
        codes.pattern(form)
        if "%" not in form:
            raise ValueError(form)
        re.compile(codes.pattern(form))
    except (ValueError, re.error) as error:
        raise UserError(
            f"--time-format {form}: expected a form such as %d/%m/%Y %H:%M; {error} is unknown"
        ) from None
    return form


def written_in_several_ways(values: pl.Series, path: Path, time: str, form: str) -> UserError:
    """The error for a column of which no form fits more than a half."""
    texts = values.drop_nulls().cast(pl.String)
    fits = ~np.isnat(parsing.parsed(texts, form))
    one, other = texts[int(np.argmax(fits))], texts[int(np.argmin(fits))]
    return UserError(f"{path}: column {time!r} holds {one!r} and {other!r}; write all its times alike")


def fewest_failures(texts: pl.Series, forms: list[str]) -> list[str]:
    """The forms that fit most texts of the whole column."""
    if len(forms) == 1:
        return forms
    failures = [int(np.isnat(parsing.parsed(texts, form)).sum()) for form in forms]
    return [form for form, failed in zip(forms, failures, strict=True) if failed == min(failures)]


def clearest(texts: pl.Series, forms: list[str], path: Path, time: str) -> str:
    """Of forms that all fit, the one that makes rows clearly the most regular; raises UserError for none."""
    found = {form: parsing.parsed(texts, form) for form in forms}
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
        f"{path}: column {time!r}: {example!r} can be read in {len(different)} ways", f"{choices} settles it"
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
