"""Moments: time columns as numbers and back, and the zones of local times."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app.data.reading import ROW
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

DATES = (pl.Date, pl.Datetime)


def in_zone(values: pl.Series, table: pl.DataFrame, path: Path, row: str, config: DataConfig) -> pl.Series:
    """Times with the zone of ``--time-zone``: local times get it, times with an offset are shown in it."""
    zone = config.time_zone
    if zone is None or values.dtype == pl.Date:
        return values
    try:
        if zone_of(values) is not None:
            shown: pl.Series = values.dt.convert_time_zone(zone)
            return shown
        keys = [table[name] for name in config.group if name in table.columns]
        moments = pl.DataFrame([values.alias(ROW), *keys])
        again = moments.select(pl.int_range(pl.len()).over(pl.all())).to_series()
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
    """Return the time zone of times; None if they have none."""
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
