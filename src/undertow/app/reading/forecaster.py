"""The forecasts of a trained network for windows of a table, with their intervals."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data.forecast import windows
from undertow.app.runs import bounds
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel

BATCH = 512  # windows computed at once


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
        whole = self.prediction, self.lower, self.upper
        parts = [None if each is None else each.reshape(len(each), -1, count) for each in whole]
        return [Forecast(*(None if each is None else each[:, :, k] for each in parts)) for k in range(count)]


def forecast(run: Run, model: SequenceModel, x: Tensor, starts: Tensor) -> Forecast:
    """Forecast after windows of a table.

    Args:
        run: The run.
        model: Its network.
        x: The features of the table's rows, [rows,C].
        starts: The first row of each window, [windows].

    Returns:
        The forecasts of each window.
    """
    with torch.no_grad(), bounds.features_of(model) as features:
        parts = [model(windows(x, chosen, run.data.steps))[0] for chosen in torch.split(starts, BATCH)]
    prediction = torch.cat(parts)
    layer = bounds.read(run.folder, model)
    if layer is None:
        return Forecast(_doubles(prediction))
    below, above = layer(torch.cat(features)).unbind(-1)
    return Forecast(*map(_doubles, (prediction, prediction - below, prediction + above)))


def _doubles(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.double().numpy())
