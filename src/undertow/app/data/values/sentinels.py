"""Numbers that stand for a missing value, such as -9999, by how they stand out."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from undertow.app.errors import UserError
from undertow.app.words import counted
from undertow.app.working import through

OFTEN = 3  # a constant must come so many times; one of nines, or a power of two less one, once
FAR = 2.0  # times the range of all other values must lie between it and them
DIFFERENT = 10  # other values must there be, for their range to mean something
FILLS = (2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 1e20, 1e30, 1e35, 1e36, 9.969209968386869e36)


def check_sentinels(table: Any, path: Path, names: list[str], kept: bool = False) -> None:
    """Raise UserError for a column with a constant far outside of everything else.

    A table read after the training, ``kept``, may have values far apart: only the usual markers count there.
    """
    for name in through(names, len(names), "looking for markers of missing values"):
        values = table[name].drop_nulls().cast(pl.Float64)
        for value in (values.min(), values.max()):
            if not isinstance(value, float) or (kept and not typical(value)):
                continue
            if (rest := apart(values, value)) is not None:
                often = int((values == value).sum())
                low, high = rest
                raise UserError(
                    f"{path}: column {name!r} holds {value:g} {counted(often, 'time')}, far from all other "
                    f"values ({low:g} to {high:g})",
                    f"--missing {value:g} reads it as missing",
                    "--missing none as a number",
                )


def apart(values: pl.Series, value: float) -> tuple[float, float] | None:
    """Least and largest of the other values, where ``value`` stands far outside of them."""
    if (values == value).sum() < (1 if typical(value) else OFTEN):
        return None
    rest = values.filter(values != value)
    if rest.n_unique() < DIFFERENT:
        return None
    array = rest.to_numpy()
    low, high = float(array.min()), float(array.max())
    distance = low - value if value < low else value - high
    return (low, high) if distance > FAR * (high - low) else None


def typical(value: float) -> bool:
    """Whether it looks like a usual marker: -99, 999, 9999.9, or the fill value of a file format."""
    digits = f"{abs(value):g}".replace(".", "")
    return (len(digits) >= 2 and set(digits) == {"9"}) or bool(np.isclose(value, FILLS, rtol=1e-6).any())
