"""Known future: which columns are known over the horizon, and the rows after the end of each series.

Columns whose future is known are those that ``--known`` names, cycles of the calendar, and static columns,
which are constant in every series. The last rows of a series, whose targets are all empty, hold the future of
the named ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.table import encode
from undertow.app.data.times import moments
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns
from undertow.app.words import all_of, counted


def without_future(
    table: pl.DataFrame, path: Path, group: tuple[str, ...], config: DataConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a sorted table for a decoder: rows up to the last known target of each series, those after it."""
    if config.head == "direct":
        return table, table[:0]
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in config.target)
    later = known.cast(pl.Int64).reverse().cum_sum().reverse()  # known targets in this row and after it
    past = table.select((later.over(*group) if group else later) > 0).to_series()
    if not past.any():
        raise UserError(f"{path}: --target {config.target[0]}: no row has a value")
    return table.filter(past), table.filter(~past)


def static_columns(series: Series) -> list[str]:
    """The features that are constant in each of several series, and not the same in all."""
    names = [*series.columns.numeric, *series.columns.categories]
    if not series.group or len(series.spans) < 2 or not names:
        return []
    return [
        name for name in names if is_static(series.whole.select(*dict.fromkeys((*series.group, name))), name)
    ]


def is_static(table: pl.DataFrame, name: str) -> bool:
    """Whether a column is constant in each series, given by the other columns, and not the same in all."""
    if table[name].n_unique() < 2:
        return False
    group = [each for each in table.columns if each != name]
    return bool((table.group_by(group).agg(pl.col(name).n_unique())[name] == 1).all())


def check_known(columns: Columns, path: Path, config: DataConfig) -> None:
    """Raise UserError unless the columns of ``--known`` are features and no targets."""
    for name in config.known:
        if name in config.target:
            raise UserError(f"{path}: --known {name}: the future of a target is what is forecast")
        if name not in columns.numeric and name not in columns.categories:
            raise UserError(
                f"{path}: --known {name}: expected a column of numbers or of few words, which it is not"
            )


def known_part(columns: Columns, names: list[str]) -> Columns:
    """The features known over the horizon: the columns ``names``, and the cycles of the calendar."""
    numeric = [name for name in columns.numeric if name in names]
    categories = {name: words for name, words in columns.categories.items() if name in names}
    return Columns(numeric, categories, columns.calendar)


@dataclass(frozen=True)
class Future:
    """What is known of the ``horizon`` rows after the end of each span.

    Args:
        stops: [spans], the row after each span's last one.
        ends: [spans], whether the span ends its series.
        x: [spans * horizon, C], the features, which follow those of the table's rows; NaN where not known.
        known: [spans, horizon], whether all that must be known is, up to this row.
        lacks: [spans], whether a value is missing, by column of ``--known``.
    """

    stops: NDArray[np.int64]
    ends: NDArray[np.bool_]
    x: NDArray[np.float32]
    known: NDArray[np.bool_]
    lacks: dict[str, NDArray[np.bool_]]

    def _of(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> tuple[Any, Any]:
        """The span of each window, [windows, 1], and how far rows [windows, horizon] lie beyond its last."""
        span = np.searchsorted(self.stops, starts, side="right")[:, None]
        return span, rows - self.stops[span]

    def places(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the features of rows [windows, horizon] stand, those after the end of a span among ``x``."""
        span, beyond = self._of(rows, starts)
        after = self.stops[-1] + span * self.known.shape[1] + beyond
        return np.where(beyond < 0, rows, after)

    def sees(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether all is known that the forecasts of rows [windows, horizon] need."""
        span, beyond = self._of(rows, starts)
        return np.where(beyond < 0, True, self.known[span, np.maximum(beyond, 0)])

    def lacking(self, config: DataConfig) -> list[str]:
        """Lines that say which forecasts lack the known future, after the table's end and within it."""
        names, targets, horizon = ", ".join(config.known), ", ".join(config.target), config.horizon
        lines = []
        unknown = (~self.known[self.ends]).sum(axis=1)  # rows of each series
        if most := int(unknown.max()):
            some, every = int((unknown > 0).sum()), len(unknown)
            where = f", in {some:,} of {counted(every, 'series', 'series')}" if some < every else ""
            missing = ", ".join(name for name, lacks in self.lacks.items() if lacks[self.ends].any())
            lines = [
                f"no forecast for {all_of(horizon, 'row', most)} after the table{where}: the future of "
                f"{missing} is missing; expected rows with {names} and without {targets}"
            ]
        if inner := int((~self.known[~self.ends]).any(axis=1).sum()):
            lines.append(
                f"no forecast across {counted(inner, 'place')} where --gaps split left rows out: "
                f"the future of {names} is not read there"
            )
        return lines


def future_of(series: Series, path: Path, config: DataConfig, names: list[str]) -> Future:
    """Read the future of each span.

    Args:
        series: The series, with the rows after the last known targets.
        path: The file, for error messages.
        config: The options, with the columns of ``--known``.
        names: These columns and the static ones.
    """
    table = _rows_ahead(series, config, names)
    absent = {name: table[name].is_null().to_numpy() for name in names}
    x = np.full((len(table), series.columns.width), np.nan, np.float32)
    part = known_part(series.columns, names)
    if part.width:
        x[:, positions(series.columns, names)] = encode(table, path, part, series.time, absent)
    there = ~np.any([absent[name] for name in names], axis=0) if names else np.ones(len(table), bool)
    known = np.logical_and.accumulate(there.reshape(len(series.spans), config.horizon), axis=1)
    stops = np.array([stop for _, stop in series.spans])
    heads = [series.name(start) for start, _ in series.spans]
    ends = np.array([head != after for head, after in zip(heads, [*heads[1:], None], strict=True)])
    lacks = {name: np.any(absent[name].reshape(known.shape), axis=1) for name in config.known}
    return Future(stops, ends, x, known, lacks)


def positions(columns: Columns, names: list[str]) -> list[int]:
    """The places of the features known over the horizon among all features."""
    known = known_part(columns, names)
    return [columns.names.index(each) for each in known.names]


def _rows_ahead(series: Series, config: DataConfig, names: list[str]) -> pl.DataFrame:
    """The ``horizon`` rows after each span: time, static columns, and what the file has of the others."""
    last = np.array([stop - 1 for _, stop in series.spans])
    at, ahead = np.repeat(last, config.horizon), np.tile(np.arange(1, config.horizon + 1), len(last))
    statics = [name for name in names if name not in config.known]
    count = pl.Series("ahead of undertow", ahead)  # also keeps the rows where nothing else is selected
    rows = series.table[at].select(*series.group, *statics, *([series.time] if series.time else []), count)
    if series.time is not None:
        ticks = series.frequency.after(series.ticks[at], ahead)
        rows = rows.with_columns(moments.from_ticks(ticks, series.table[series.time]))
    if not config.known:
        return rows
    key = series.time or "ahead of undertow"
    given = series.future
    if series.time is None:
        number = pl.int_range(1, pl.len() + 1)
        given = given.with_columns((number.over(*series.group) if series.group else number).alias(key))
    by = [*series.group, key]
    return rows.join(given.select(*by, *config.known), on=by, how="left", maintain_order="left")


def known_lines(series: Series, config: DataConfig, names: list[str]) -> list[str]:
    """Lines that say what is known over the horizon; none without a decoder."""
    if config.head == "direct":
        return []
    cycles = [f"time of {cycle}" for cycle in series.columns.calendar]
    static = [name for name in names if name not in config.known]
    lines = [f"known over the horizon: {', '.join([*names, *cycles]) or 'nothing'}"]
    lines += [f"static, constant in every series: {', '.join(static)}"] if static else []
    later = counted(len(series.future), "last row")
    said = f"{later} without {', '.join(config.target)}: the future, not learnt from"
    return [*lines, said] if len(series.future) else lines
