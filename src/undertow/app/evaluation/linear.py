"""A linear model on the windows that the network reads: what is left to a network beyond it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from undertow.app.data.tables.known import future_of
from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import read_series
from undertow.app.data.tables.table import numbers
from undertow.app.data.tasks.forecast import MOST_WINDOWS, features
from undertow.app.data.tasks.inputs import windows
from undertow.app.data.tasks.normalise import with_centre
from undertow.app.data.tasks.split import validation_rows, window_starts
from undertow.app.reading.predictions import Floats, Forecasts, Places, is_training_table
from undertow.app.runs import members
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel
from undertow.app.working import through

MOST_VALUES = 4096  # of a window: the normal equations of more take minutes and gigabytes
BATCH = 512  # windows at once
RIDGE = 1e-3  # beside the features' variance, which is about 1


class Windows:
    """The windows of a table as rows of numbers for a linear model: what the network reads of them.

    Args:
        run: The run.
        model: Its network, whose normaliser shifts and scales the features.
        series: The table.
        path: Its file, for error messages.
    """

    def __init__(self, run: Run, model: SequenceModel, series: Series, path: Path) -> None:
        self.steps, self.horizon, self.known = run.data.steps, run.data.horizon, list(run.model.known)
        self.x, self.future = torch.from_numpy(features(series, path, run.data)), None  # [rows, C]
        if run.model.ahead:
            self.future = future_of(series, path, run.data, run.facts["known"])
            self.x = torch.cat([self.x, torch.from_numpy(self.future.x)])
        centre, scale = model.get_buffer("centre"), model.get_buffer("scale")
        self.x = (with_centre(self.x, centre) - centre) / scale

    def __call__(self, starts: Places) -> Floats:
        """Make the rows of the windows that begin at ``starts``.

        Args:
            starts: [N].

        Returns:
            [N, T * C + horizon * K + 1]: the window, of a decoder the K features that are known of the
            horizon, and a one for the intercept.
        """
        found = windows(self.x, torch.from_numpy(starts), self.steps)  # [T, N, C]
        parts = [found.transpose(0, 1).flatten(1)]
        if self.future is not None:
            ahead = self.future.places(self._ahead(starts), starts)
            parts.append(self.x[torch.from_numpy(ahead)][:, :, self.known].flatten(1))
        flat = torch.cat(parts, dim=1).double().numpy()
        return np.concatenate([flat, np.ones((len(starts), 1))], axis=1)

    def known_of(self, starts: Places) -> NDArray[np.bool_]:
        """Whether all is known that the forecasts of these windows need, [N, horizon]."""
        every = np.ones((len(starts), self.horizon), bool)
        return every if self.future is None else self.future.sees(self._ahead(starts), starts)

    def _ahead(self, starts: Places) -> Places:
        return np.asarray(starts[:, None] + self.steps + np.arange(self.horizon))


def forecast(run: Run, path: Path, found: Forecasts) -> Floats | str:
    """Forecast with a ridge regression (Hoerl & Kennard 1970) fitted on the training part's windows.

    The regression predicts the change from the target's last value, so with few windows it stays near
    persistence. A simulated target has no last value; the mean of its training part stands in.

    Args:
        run: The run.
        path: The file that is evaluated.
        found: The network's forecasts for it.

    Returns:
        [windows, horizon], NaN where what must be known of the horizon is not; or why there is no linear
        model, in words.
    """
    source = Path(run.data.source)
    values = _width(run)
    if values > MOST_VALUES:
        return f"a window has {values:,} numbers, and the linear model takes {MOST_VALUES:,} at most"
    if not source.exists() or not is_training_table(run, source):
        return f"{source} is not there any more, or has changed, and the linear model is fitted on it"
    model = members.first(run).load_model()  # whose normaliser is that of all members
    weights = _fit(run, model, source, found)
    rows = Windows(run, model, found.series, path)
    parts = [rows(found.starts[k : k + BATCH]) @ weights for k in range(0, len(found.starts), BATCH)]
    forecasts = _base(run, found.values, found.starts, found.target) + np.concatenate(parts)
    return np.where(rows.known_of(found.starts), forecasts, np.nan)


def _width(run: Run) -> int:
    """The numbers of a window that the linear model reads."""
    return run.data.steps * run.model.inputs + run.model.ahead * len(run.model.known)


def _base(run: Run, values: Floats, starts: Places, target: str) -> Floats:
    """What the regression starts from, [windows, 1]: the last value, or the mean of a simulated target."""
    if run.data.simulate:
        return np.full((len(starts), 1), run.facts["means"][target])
    return np.asarray(values[starts + run.data.steps - 1][:, None])


def _fit(run: Run, model: SequenceModel, source: Path, found: Forecasts) -> Floats:
    """The weights, [numbers of a window, horizon], from normal equations summed up batch by batch."""
    series = read_series(source, run.data, run.facts)
    target = numbers(series.table, source, found.target, with_gaps=True)
    y = np.where(series.known(found.target), target, np.nan)  # [rows]
    rows, ahead = Windows(run, model, series, source), run.data.first + np.arange(run.data.horizon)
    starts = _training_starts(run, series, y, ahead)
    size = _width(run) + 1
    squares, products = np.zeros((size, size)), np.zeros((size, len(ahead)))
    batches = range(0, len(starts), BATCH)
    for k in through(batches, len(batches), "windows of the linear model"):
        chosen = starts[k : k + BATCH]
        x = rows(chosen)
        squares += x.T @ x
        products += x.T @ (y[chosen[:, None] + ahead] - _base(run, target, chosen, found.target))
    squares[np.diag_indices(size)] += RIDGE * max(1, len(starts)) * (np.arange(size) < size - 1) + 1e-9
    return np.asarray(np.linalg.solve(squares, products), np.float64)


def _training_starts(run: Run, series: Series, y: Floats, ahead: NDArray[np.int64]) -> Places:
    """The windows of the training part whose targets are all known; at most MOST_WINDOWS of them."""
    starts = window_starts(series.spans, int(ahead[-1]) + 1)
    late = validation_rows(series, run.data.validation)
    starts = starts[~late[starts + ahead[-1]] & np.isfinite(y[starts[:, None] + ahead]).all(axis=1)]
    return np.random.default_rng(run.training.seed).permutation(starts)[:MOST_WINDOWS]
