"""Series in the order of time, and the stretches of rows in which nothing is missing."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.reading import Reading
from undertow.app.data.tables.stored import Beside, Stored
from undertow.app.data.tables.table import Rows, repeats
from undertow.app.data.times import moments
from undertow.app.data.times.frequency import Frequency
from undertow.app.runs.facts import Columns

SEPARATOR = " / "  # between the keys of a series in its name


@dataclass(frozen=True)
class Series:
    """A table sorted by series and time; within its ``spans`` of rows nothing is missing any more."""

    table: pl.DataFrame
    spans: list[tuple[int, int]]
    time: str | None
    group: tuple[str, ...]  # the columns whose values together name a series
    frequency: Frequency
    columns: Columns
    reading: Reading
    absent: dict[str, NDArray[np.bool_]] = field(
        default_factory=dict
    )  # rows whose value was filled, by column
    said: list[str] = field(default_factory=list)
    future: pl.DataFrame = field(default_factory=pl.DataFrame)  # rows after the last known targets
    stored: Stored | None = None  # on disk, with the columns that ``table`` lacks

    @property
    def step(self) -> float:
        """Usual distance in time, microseconds for dates; 0 without a time column."""
        return self.frequency.step

    @property
    def ticks(self) -> NDArray[np.float64]:
        """Time as numbers, [rows]; without a time column the place in the series."""
        if self.time is not None:
            return moments.ticks(self.table[self.time])
        return np.concatenate([np.arange(stop - start, dtype=np.float64) for start, stop in self.spans])

    @cached_property
    def whole(self) -> Rows:
        """The table with all its columns, of which only some may be in memory."""
        return self.table if self.stored is None else Beside(self.stored, self.table)

    @property
    def count(self) -> int:
        """How many series there are: one may have several spans."""
        return len(self.distinct)

    @property
    def distinct(self) -> list[str]:
        """The names of the series, in order."""
        return list(dict.fromkeys(self.name(start) for start, _ in self.spans))

    def known(self, name: str) -> NDArray[np.bool_]:
        """Where the file has a value of a column, [rows]; what was filled is not known."""
        return ~self.absent.get(name, np.zeros(len(self.table), bool))

    def names(self) -> pl.Series:
        """The name of each row's series: the values of its keys, ``north`` or ``north / milk``."""
        if not self.group:
            return pl.Series(["all"] * len(self.table))
        keys = (pl.col(key).cast(pl.String) for key in self.group)
        return self.table.select(pl.concat_str(*keys, separator=SEPARATOR)).to_series()

    def name(self, row: int) -> str:
        """The name of the series of a row."""
        return SEPARATOR.join(str(self.table[key][row]) for key in self.group) or "all"

    def facts(self) -> dict[str, Any]:
        """For config.json: how to read further data the same way."""
        return {
            "columns": self.columns.to_dict(),
            "time": self.time,
            "group": list(self.group),
            "step": self.step,
            "frequency": msgspec.to_builtins(self.frequency),
            "reading": msgspec.to_builtins(self.reading),
        }


def spans_of(table: pl.DataFrame, group: tuple[str, ...]) -> list[tuple[int, int]]:
    """The row range of each series, in a table sorted by group."""
    if not group:
        return [(0, len(table))]
    starts = np.flatnonzero(~repeats(table, group)).tolist()
    return list(zip(starts, [*starts[1:], len(table)], strict=False))


def replaced(
    series: Series,
    table: pl.DataFrame,
    spans: list[tuple[int, int]],
    absent: dict[str, NDArray[np.bool_]] | None = None,
) -> Series:
    """Return the series with other rows, their spans and what is missing in them."""
    return replace(series, table=table, spans=spans, absent=absent or {})
