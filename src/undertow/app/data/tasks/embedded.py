"""The series of a panel as numbers, of which a network learns an embedding (``--embed-group``)."""

from pathlib import Path

import torch
from torch import Tensor

from undertow.app.data.tables.panel import Series
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig


def embedded_names(series: Series, path: Path, config: DataConfig) -> list[str]:
    """The names of the series that are embedded, in order; none without ``--embed-group``."""
    if not config.embed_group:
        return []
    if not series.group:
        raise UserError(f"{path}: --embed-group: there is one series; --group COLUMN tells several apart")
    return series.distinct


def with_series(x: Tensor, series: Series, names: list[str]) -> Tensor:
    """Features x [rows,C] with the number of each row's series, [rows,C+1]; x if none are embedded."""
    found = series_numbers(series, names)
    return x if found is None else torch.cat([x, found[:, None]], dim=1)


def series_numbers(series: Series, names: list[str]) -> Tensor | None:
    """The number of each row's series, [rows] float32; None if no ``names`` are embedded.

    A series whose name is not among ``names``, which training did not hold, has the number -1.
    """
    if not names:
        return None
    numbers, found = {name: k for k, name in enumerate(names)}, torch.empty(len(series.table))
    for start, stop in series.spans:
        found[start:stop] = numbers.get(series.name(start), -1)
    return found


def strangers(series: Series, names: list[str]) -> list[str]:
    """A line that names the series that training did not hold, if series are embedded."""
    found = [name for name in series.distinct if name not in names]
    said = f"not in the training, so read with the mean of all embeddings: {one_of(found)}" if found else ""
    return [said] if names and said else []
