"""A linear model on the windows that the network reads: what is left to a network beyond it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import read_series
from undertow.app.data.tables.table import numbers
from undertow.app.data.tasks.forecast import MOST_WINDOWS, features, validation_rows, window_starts, windows
from undertow.app.data.tasks.normalise import with_centre
from undertow.app.reading.predictions import Floats, Forecasts, Places, is_training_table
from undertow.app.runs import members
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel

MOST_VALUES = 4096  # of a window, T * C: the normal equations of more take minutes and gigabytes
BATCH = 512  # windows at once
RIDGE = 1e-3  # beside the features' variance, which is about 1


class Windows:
    """The windows of a table as rows of numbers for a linear model.

    Args:
        run: The run.
        model: Its network, whose normaliser shifts and scales the features.
        series: The table.
        path: Its file, for error messages.
    """

    def __init__(self, run: Run, model: SequenceModel, series: Series, path: Path) -> None:
        centre, scale = model.get_buffer("centre"), model.get_buffer("scale")
        x = with_centre(torch.from_numpy(features(series, path, run.data)), centre)
        self.x: Tensor = (x - centre) / scale  # [rows, C]
        self.steps = run.data.steps

    def __call__(self, starts: Places) -> Floats:
        """Return the windows that begin at ``starts`` [N], with a one for the intercept, [N, T * C + 1]."""
        found = windows(self.x, torch.from_numpy(starts), self.steps)  # [T, N, C]
        flat = found.transpose(0, 1).flatten(1).double().numpy()
        return np.concatenate([flat, np.ones((len(starts), 1))], axis=1)


def forecast(run: Run, path: Path, found: Forecasts) -> Floats | str:
    """Forecast with a ridge regression (Hoerl & Kennard 1970) fitted on the training part's windows.

    The regression predicts the change from the target's last value, so with few windows it stays near
    persistence.

    Args:
        run: The run.
        path: The file that is evaluated.
        found: The network's forecasts for it.

    Returns:
        [windows, horizon]; or why there is no linear model, in words.
    """
    if run.data.simulate:
        return "the target is simulated, and the linear model forecasts"
    source, values = Path(run.data.source), run.data.steps * run.model.inputs
    if run.data.simulate:
        return "the target is computed from the other columns of its own row, which this one does not read"
    if values > MOST_VALUES:
        return f"a window has {values:,} numbers, and the linear model takes {MOST_VALUES:,} at most"
    if not source.exists() or not is_training_table(run, source):
        return f"{source} is not there any more, or has changed, and the linear model is fitted on it"
    model = members.first(run).load_model()  # whose normaliser is that of all members
    weights = _fit(run, model, source, found)
    rows = Windows(run, model, found.series, path)
    parts = [rows(found.starts[k : k + BATCH]) @ weights for k in range(0, len(found.starts), BATCH)]
    last = found.values[found.starts + found.steps - 1][:, None]
    return np.asarray(last + np.concatenate(parts))


def _fit(run: Run, model: SequenceModel, source: Path, found: Forecasts) -> Floats:
    """The weights, [T * C + 1, horizon], from normal equations summed up batch by batch."""
    series = read_series(source, run.data, run.facts)
    target = numbers(series.table, source, found.target, with_gaps=True)
    y = np.where(series.known(found.target), target, np.nan)  # [rows]
    rows, ahead = Windows(run, model, series, source), run.data.steps + np.arange(run.data.horizon)
    starts = _training_starts(run, series, y, ahead)
    size = run.data.steps * rows.x.shape[1] + 1
    squares, products = np.zeros((size, size)), np.zeros((size, len(ahead)))
    for k in range(0, len(starts), BATCH):
        chosen = starts[k : k + BATCH]
        x = rows(chosen)
        squares += x.T @ x
        products += x.T @ (y[chosen[:, None] + ahead] - target[chosen + run.data.steps - 1][:, None])
    squares[np.diag_indices(size)] += RIDGE * max(1, len(starts)) * (np.arange(size) < size - 1) + 1e-9
    return np.asarray(np.linalg.solve(squares, products), np.float64)


def _training_starts(run: Run, series: Series, y: Floats, ahead: NDArray[np.int64]) -> Places:
    """The windows of the training part whose targets are all known; at most MOST_WINDOWS of them."""
    starts = window_starts(series.spans, run.data.steps + run.data.horizon)
    late = validation_rows(series, run.data.validation)
    starts = starts[~late[starts + ahead[-1]] & np.isfinite(y[starts[:, None] + ahead]).all(axis=1)]
    return np.random.default_rng(run.training.seed).permutation(starts)[:MOST_WINDOWS]
