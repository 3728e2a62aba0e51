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
    values = x.double().numpy()  # a copy
    values[:, np.isnan(values).all(axis=0)] = 0.0
    centre = np.nanmedian(values, axis=0)  # [C]
    scale = np.nanquantile(np.abs(values - centre), share, axis=0)  # [C]
    deviation, flat = np.nanstd(values, axis=0), scale <= 1e-8
    centre, scale = np.where(flat, np.nanmean(values, axis=0), centre), np.where(flat, deviation, scale)
    scale = np.where(scale <= 1e-8, 1.0, scale)
    return torch.from_numpy(centre).float(), torch.from_numpy(scale).float()
