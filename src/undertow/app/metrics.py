"""How good predictions are: formulas with their sources. NumPy alone.

Every function of numbers leaves out pairs in which the truth or the prediction is not known (NaN), and
returns NaN where its formula is not defined, for example without any pair.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

# -- numbers --------------------------------------------------------------------------------------


def pairs(truth: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Keep the pairs of which both numbers are known.

    Args:
        truth: Numbers of any shape; NaN is not known.
        predicted: Numbers of the same shape.

    Returns:
        The truths and the predictions, [n] each, float64.
    """
    y, f = np.asarray(truth, np.float64).ravel(), np.asarray(predicted, np.float64).ravel()
    known = np.isfinite(y) & np.isfinite(f)
    return y[known], f[known]


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def rmse(truth: Floats, predicted: Floats) -> float:
    """Compute the root mean squared error, sqrt(mean((f - y)²)), in the unit of ``truth``.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The error.
    """
    y, f = pairs(truth, predicted)
    return float(np.sqrt(_mean((f - y) ** 2)))


def mae(truth: Floats, predicted: Floats) -> float:
    """Compute the mean absolute error, mean(|f - y|), in the unit of ``truth``.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The error.
    """
    y, f = pairs(truth, predicted)
    return _mean(np.abs(f - y))


def bias(truth: Floats, predicted: Floats) -> float:
    """Compute the mean error, mean(f - y): above 0 where predictions are too high.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The mean error, in the unit of ``truth``.
    """
    y, f = pairs(truth, predicted)
    return _mean(f - y)


def naive_error(values: Floats, season: int = 1) -> float:
    """Compute the error of the (seasonal) naive forecast within a series, mean(|y_t - y_{t-m}|).

    It is the scale of MASE (Hyndman & Koehler 2006, equation for q_t).

    Args:
        values: [rows], a series in the order of time; NaN is not known.
        season: m, the rows of a season; 1 for the naive forecast.

    Returns:
        The error; NaN if no two known values are m rows apart.
    """
    values = np.asarray(values, np.float64)
    return mae(values[season:], values[:-season]) if len(values) > season else float("nan")


def mase(truth: Floats, predicted: Floats, scale: Floats | float) -> float:
    """Compute the mean absolute scaled error, mean(|f - y| / q) (Hyndman & Koehler 2006).

    Below 1 the forecast is better on average than the naive forecast was within the training part, one step
    ahead.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.
        scale: q, the ``naive_error`` of the training part: a number, or one for each truth, in a shape that
            broadcasts. Truths whose q is 0 or not known are left out.

    Returns:
        The error, without unit.
    """
    q = np.broadcast_to(np.asarray(scale, np.float64), np.shape(truth))
    q = np.where(q > 0, q, np.nan)
    return mae(np.asarray(truth) / q, np.asarray(predicted) / q)


def nse(truth: Floats, predicted: Floats) -> float:
    """Compute the efficiency 1 - Σ(f - y)² / Σ(y - mean(y))² (Nash & Sutcliffe 1970).

    It equals R², the coefficient of determination. 1 is perfect; 0 is as good as the mean of the truths.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The efficiency, at most 1; NaN if all truths are equal.
    """
    y, f = pairs(truth, predicted)
    if not y.size or np.ptp(y) == 0:
        return float("nan")
    return float(1 - np.sum((f - y) ** 2) / np.sum((y - y.mean()) ** 2))


def kge(truth: Floats, predicted: Floats) -> float:
    """Compute the efficiency 1 - sqrt((r - 1)² + (α - 1)² + (β - 1)²) (Gupta et al. 2009, equation 9).

    r is the linear correlation, α = σ_f / σ_y and β = μ_f / μ_y. 1 is perfect; the mean of the truths has
    1 - sqrt(2), about -0.41 (Knoben, Freer & Woods 2019).

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The efficiency, at most 1; NaN if all truths or all predictions are equal, or the truths' mean is 0.
    """
    y, f = pairs(truth, predicted)
    if not y.size or np.ptp(y) == 0 or np.ptp(f) == 0 or y.mean() == 0:
        return float("nan")
    r = np.mean((y - y.mean()) * (f - f.mean())) / (y.std() * f.std())
    return float(1 - np.sqrt((r - 1) ** 2 + (f.std() / y.std() - 1) ** 2 + (f.mean() / y.mean() - 1) ** 2))


def coverage(truth: Floats, lower: Floats, upper: Floats) -> float:
    """Compute the share of truths from ``lower`` to ``upper``, both included.

    Args:
        truth: y, of any shape.
        lower: The lower bounds, of the same shape.
        upper: The upper bounds, of the same shape.

    Returns:
        The share, 0 to 1.
    """
    y, low, high = (np.asarray(each, np.float64) for each in (truth, lower, upper))
    known = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    return _mean(((low <= y) & (y <= high))[known])


# -- sound ----------------------------------------------------------------------------------------


def esr(truth: Floats, predicted: Floats) -> float:
    """Compute the error-to-signal ratio, Σ(f - y)² / Σy² (Damskägg et al. 2019, equation 6).

    0 is perfect; silence has 1.

    Args:
        truth: y, of any shape.
        predicted: f, of the same shape.

    Returns:
        The ratio; NaN if the truth is silent.
    """
    y, f = pairs(truth, predicted)
    energy = np.sum(y**2)
    return float(np.sum((f - y) ** 2) / energy) if energy else float("nan")


def emphasised(samples: Any, a: float) -> Any:
    """Filter sound with the pre-emphasis 1 - a z⁻¹, a first-order high-pass.

    Args:
        samples: [n,...] of NumPy or torch.
        a: The coefficient, 0 to 1.

    Returns:
        [n-1,...]: of every sample but the first; with a = 0 all samples as they are.
    """
    return samples[1:] - a * samples[:-1] if a else samples


def decibels(ratio: float) -> float:
    """Return a ratio of energies in decibels, 10 log10; minus infinity for 0."""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(ratio))


# -- classes --------------------------------------------------------------------------------------


def confusion(truth: Floats, predicted: Floats, classes: int) -> Floats:
    """Count how often each class was taken for each other.

    Args:
        truth: [n], classes numbered from 0.
        predicted: [n], likewise.
        classes: K.

    Returns:
        [K,K] int64: row true class, column predicted class.
    """
    cells = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def accuracy(counts: Floats) -> float:
    """Compute the share that is right.

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        The share, 0 to 1.
    """
    return float(_ratio(np.trace(counts), counts.sum()))


def recall(counts: Floats) -> Floats:
    """Compute for each class TP / (TP + FN), the share of its members that was found.

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        [K]; NaN for a class without members.
    """
    return _ratio(np.diagonal(counts), counts.sum(axis=1))


def precision(counts: Floats) -> Floats:
    """Compute for each class TP / (TP + FP), the share of what was taken for it that is.

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        [K]; NaN for a class that was never predicted.
    """
    return _ratio(np.diagonal(counts), counts.sum(axis=0))


def f1(counts: Floats) -> Floats:
    """Compute for each class 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        [K]; NaN for a class without members that was never predicted.
    """
    return _ratio(2 * np.diagonal(counts), counts.sum(axis=0) + counts.sum(axis=1))


def balanced_accuracy(counts: Floats) -> float:
    """Compute the mean ``recall`` of the classes that have members (Brodersen et al. 2010).

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        The mean, 0 to 1.
    """
    found = recall(counts)
    return _mean(found[np.isfinite(found)])


def macro_f1(counts: Floats) -> float:
    """Compute the mean ``f1`` of the classes for which it is defined (Opitz & Burst 2019, "F1 averaged").

    Args:
        counts: [K,K], as ``confusion`` returns it.

    Returns:
        The mean, 0 to 1.
    """
    found = f1(counts)
    return _mean(found[np.isfinite(found)])


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where ``below`` is 0."""
    a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0))
