"""The forecasts of a trained network for windows of a table, with their intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.runs import bounds, members
from undertow.app.runs.device import placed
from undertow.app.runs.folder import Run
from undertow.app.runs.near import fits, moved
from undertow.app.runs.together import network_of
from undertow.app.working import through

BATCH = 512  # windows computed at once
# Bounds are rounded outwards. The calibration, in float32, puts them on truths, which then count as inside.
ROUNDING = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Forecast:
    """Forecasts and the bounds of their intervals.

    Args:
        prediction: [windows,O].
        lower: [windows,O], at most the prediction; None if the run has no intervals.
        upper: [windows,O], at least the prediction; None if the run has no intervals.
    """

    prediction: NDArray[np.float64]
    lower: NDArray[np.float64] | None = None
    upper: NDArray[np.float64] | None = None

    def by_target(self, count: int) -> list["Forecast"]:
        """Split the forecasts of ``count`` targets, which alternate in O: [windows,horizon] for each."""
        return [
            self._changed(lambda each, k=k: each.reshape(len(each), -1, count)[:, :, k]) for k in range(count)
        ]

    def where(self, known: NDArray[np.bool_]) -> "Forecast":
        """Replace forecasts and bounds by NaN except where ``known``, [windows,horizon]."""
        return self._changed(lambda each: np.where(known, each, np.nan))

    def _changed(self, change: Any) -> "Forecast":
        """The same change to the forecasts and their bounds."""
        bounds = [None if each is None else change(each) for each in (self.lower, self.upper)]
        return Forecast(change(self.prediction), *bounds)


def forecast(run: Run, x: Tensor, rows: Tensor) -> Forecast:
    """Forecast after windows of a table.

    Args:
        run: The run, or an ensemble: its forecasts and bounds are the means of its members'.
        x: Features, [rows,C].
        rows: The rows that the network reads for each window, [windows,T]; T counts those of a decoder too.

    Returns:
        The forecasts of each window.
    """
    parts = [_of_one(each, x, rows) for each in members.of(run)]
    prediction = torch.stack([predicted for predicted, _, _ in parts]).mean(0)
    distances = [each for _, each, _ in parts if each is not None]
    correction = bounds.read_correction(run.folder, prediction.shape[1])
    if correction is None or len(distances) < len(parts):
        return Forecast(_doubles(prediction))
    sizes = parts[0][2]  # members have one normaliser, so the same sizes
    widened = bounds.corrected(torch.stack(distances).mean(0), correction) * sizes[..., None]
    below, above = map(_doubles, widened.unbind(-1))
    middle = _doubles(prediction)
    lower, upper = (
        middle + sign * (side + ROUNDING * (np.abs(middle) + side))
        for sign, side in ((-1, below), (1, above))
    )
    return Forecast(middle, lower, upper)


def _of_one(run: Run, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Of one network: forecasts [windows,O], distances to the bounds before the calibration, window sizes."""
    model, device = network_of(run), placed(run.device)
    chosen = torch.split(rows, BATCH)
    x = moved(x, device) if fits(device, x) else x
    with torch.no_grad(), bounds.listening(model) as heard:
        windows = (moved(x[moved(each, x.device).T], device) for each in chosen)
        parts = [model(each)[0] for each in through(windows, len(chosen), "windows")]
        layer = bounds.read(run.folder, model)
        distances = None
        if layer is not None:
            distances = layer.to(device).distances(torch.cat(heard.features)).cpu()
    return torch.cat(parts).cpu(), distances, torch.cat(heard.sizes).cpu()


def _doubles(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.double().numpy())
