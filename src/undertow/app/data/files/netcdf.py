"""NetCDF files as long tables: a row for each point of the dimensions that the variables have."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from undertow.app.errors import UserError

MOST_ROWS = 50_000_000


def read_netcdf(raw: bytes, path: Path) -> pl.DataFrame:
    """All variables over the widest dimensions, and the dimensions' own values as columns.

    Raises:
        UserError: The package netCDF4 is not installed, or the file holds no table.
    """
    try:
        from netCDF4 import Dataset
    except ImportError:
        raise UserError(f"{path}: NetCDF needs netCDF4: pip install 'undertow[netcdf]'") from None
    with Dataset(path.name, memory=raw) as file:
        found = {name: (dimensions(v), values(v)) for name, v in file.variables.items()}
    dims = max((d for d, _ in found.values()), key=len, default=())
    if not dims:
        raise UserError(f"{path}: no variable has a dimension")
    sizes = {d: n for d_, v in found.values() for d, n in zip(d_, v.shape, strict=True)}
    if (rows := int(np.prod([sizes[d] for d in dims]))) > MOST_ROWS:
        raise UserError(f"{path}: {rows:,} rows ({', '.join(dims)}); at most {MOST_ROWS:,} are read")
    columns = {}
    for name, (own, array) in found.items():
        if not set(own) <= set(dims) or not own:
            continue
        order = sorted(range(len(own)), key=lambda k: dims.index(own[k]))
        shape = [sizes[d] if d in own else 1 for d in dims]
        full = np.broadcast_to(array.transpose(order).reshape(shape), [sizes[d] for d in dims])
        columns[name] = pl.Series(name, full.ravel())
    for d in dims:
        if d not in columns:
            number = np.arange(sizes[d]).reshape([-1 if each == d else 1 for each in dims])
            columns[d] = pl.Series(d, np.broadcast_to(number, [sizes[e] for e in dims]).ravel())
    return pl.DataFrame(list(columns.values()))


def dimensions(variable: Any) -> tuple[str, ...]:
    """Without that of the characters of names."""
    own = tuple(variable.dimensions)
    return own[:-1] if variable.dtype == "S1" else own


def values(variable: Any) -> np.ndarray[Any, Any]:
    """Numbers with NaN where the file has none, times, or names."""
    import cftime
    from netCDF4 import chartostring

    array = variable[...]
    if variable.dtype == "S1":
        return np.char.strip(np.asarray(chartostring(np.ma.filled(array, b"")), str))
    if " since " in str(getattr(variable, "units", "")):
        calendar = getattr(variable, "calendar", "standard")
        dates = cftime.num2date(array, variable.units, calendar, only_use_cftime_datetimes=True)
        texts = [each.isoformat() for each in np.ravel(dates)]
        return np.array(texts, "datetime64[us]").reshape(np.shape(array))
    if array.dtype.kind in "iuf":
        return np.ma.filled(np.ma.asarray(array, float), np.nan)
    return np.asarray(np.ma.filled(array, ""), str)
