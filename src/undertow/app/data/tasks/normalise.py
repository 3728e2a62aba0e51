"""The normaliser: asinh((x - centre) / scale), linear near the centre and logarithmic far from it."""

import numpy as np
import torch
from torch import Tensor

from undertow.app.data import Known

# How much of the training part lies within one scale of the centre.
ONE_DEVIATION = 0.683  # as within one standard deviation of a normal distribution
QUARTER = 0.25  # classes may differ fifty-fold in size, as rest and running do: the small ones must count too


def with_centre(x: Tensor, centre: Tensor) -> Tensor:
    """Features [rows, C] with the training part's centre [C] where there is no value."""
    return torch.where(x.isnan(), centre, x)


def normaliser(known: Known | None, x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Centre and scale [C]: those of the run whose weights are taken, or else as of ``fit_normaliser``."""
    if known is not None:
        return known.buffers["centre"], known.buffers["scale"]
    return fit_normaliser(x, share)


def fit_normaliser(x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Centre and scale [C] of features x [rows, C]: the median, and the distance that ``share`` keep to it.

    A few extreme rows barely move either. A feature that is mostly one value, such as rain or a word, has
    no such distance: its mean and standard deviation then, and scale 1 for a constant. NaN does not count.
    """
    found = [_centre_and_scale(column, share) for column in x.unbind(1)]
    centre, scale = np.array(found).T
    return torch.from_numpy(centre).float(), torch.from_numpy(scale).float()


def _centre_and_scale(column: Tensor, share: float) -> tuple[float, float]:
    """Those of one feature, [rows]; in place, since tables may be large."""
    unknown = column.isnan()
    known = column[~unknown] if unknown.any() else column
    if not len(known):
        return 0.0, 1.0
    values = known.double().numpy()
    centre = float(np.median(values, overwrite_input=True))
    np.abs(np.subtract(values, centre, out=values), out=values)
    scale = float(np.quantile(values, share, overwrite_input=True))
    if scale <= 1e-8:
        values = known.double().numpy()
        centre, scale = float(np.mean(values)), float(np.std(values))
    return centre, scale if scale > 1e-8 else 1.0
