"""DataFrames of Polars and pandas in place of files, read by the code that reads files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from undertow.app.errors import UserError
from undertow.app.inputs import check_source

NAME = "table.parquet"


@contextmanager
def as_file(table: Any) -> Iterator[Path]:
    """Offer a table as a file.

    Args:
        table: A path, or a Polars or pandas DataFrame.

    Yields:
        The path, or that of a file with the rows of the DataFrame, which is removed afterwards.

    Raises:
        UserError: The path cannot be read, or the table is something else. Errors of the block call a
            DataFrame ``the table``.
    """
    if isinstance(table, str | Path):
        check_source(Path(table))
        yield Path(table)
        return
    frame = of_pandas(table) if is_pandas(table) else table
    if not isinstance(frame, pl.DataFrame):
        raise UserError(f"table: expected a path or a DataFrame, got {type(table).__name__}")
    with TemporaryDirectory(prefix="undertow-") as folder:
        path = Path(folder) / NAME
        frame.write_parquet(path)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the table")) from None


def like(table: Any, found: pl.DataFrame) -> Any:
    """Return a table as pandas DataFrame if another one is, else as it is."""
    return to_pandas(found) if is_pandas(table) else found


def is_pandas(table: Any) -> bool:
    """Tell whether a table is a pandas DataFrame, without importing pandas."""
    return type(table).__module__.split(".")[0] == "pandas" and type(table).__name__ == "DataFrame"


def of_pandas(table: Any) -> pl.DataFrame:
    """Convert a pandas DataFrame, without pyarrow; an index with a name becomes a column."""
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    return pl.DataFrame([_series(str(name), table[name]) for name in table.columns])


def _series(name: str, column: Any) -> pl.Series:
    """A column: numbers and times as they are, whatever else is a Python object as Polars reads it."""
    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        utc = pl.Series(name, column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
        return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufbM":
        return pl.Series(name, column.to_numpy(), nan_to_null=True)
    missing = column.isna()
    values = [None if gap else value for value, gap in zip(column.tolist(), missing, strict=True)]
    return pl.Series(name, values, strict=False)


def to_pandas(frame: pl.DataFrame) -> Any:
    """Convert a Polars DataFrame, without pyarrow."""
    import pandas

    return pandas.DataFrame({name: _values(frame[name]) for name in frame.columns})


def _values(column: pl.Series) -> Any:
    import pandas

    zone = getattr(column.dtype, "time_zone", None)
    if zone is not None:
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return pandas.Series(utc.to_numpy()).dt.tz_localize("UTC").dt.tz_convert(zone)
    return column.to_numpy() if column.dtype.is_numeric() or column.dtype.is_temporal() else column.to_list()
