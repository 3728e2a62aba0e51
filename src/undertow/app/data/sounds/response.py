"""The linear part of what lies between two recordings: its delay, and how far a filter alone gets.

Both follow from the cross-spectrum, summed over blocks so that long recordings take little memory.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 17  # samples of the input at once
REACH = 1 << 15  # samples: the longest delay that is found, either way
FLOOR = 1e-3  # of the mean power: where the input has less, the response is not known
ONSET = 0.15  # of the largest value: what belongs to the response
GAP = 6  # samples below that before which it begins
APART = 480  # samples from the largest value on which another one makes the delay unclear
RIVAL = 0.5  # of the largest value
TAPS = 512  # of the filter

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Delay:
    """How much later one recording is than the other.

    Attributes:
        samples: The delay; below 0 the target is earlier.
        clear: Whether no other delay fits nearly as well.
        inverted: Whether the target has the opposite sign.
    """

    samples: int
    clear: bool
    inverted: bool


def delay(x: Floats, y: Floats) -> Delay:
    """Estimate the delay of a recording, by deconvolution.

    The impulse response between the two is estimated as irfft(Sxy / (Sxx + ε)). The delay is where it begins,
    and not where it is largest: a target that is shifted too far would have to be known before its input.

    Args:
        x: The input, [n].
        y: The target, [n].

    Returns:
        The delay, at most ``REACH`` samples either way.
    """
    size = BLOCK + 2 * REACH  # so that the lags do not wrap around
    later = np.pad(y, (REACH, REACH + BLOCK))
    cross, power = np.zeros(size // 2 + 1, np.complex128), np.zeros(size // 2 + 1)
    for start in range(0, len(x), BLOCK):
        X = np.fft.rfft(x[start : start + BLOCK], size)
        cross += X.conj() * np.fft.rfft(later[start : start + size], size)
        power += np.abs(X) ** 2
    response = np.fft.irfft(cross / (power + FLOOR * power.mean()), size)[: 2 * REACH + 1]
    height = np.abs(response)
    top = int(height.argmax())
    begin = top
    for place in np.flatnonzero(height[:top] >= ONSET * height[top])[::-1].tolist():
        if begin - place > GAP:
            break
        begin = place
    aligned = -GAP <= begin - REACH <= 0 <= top - REACH  # it begins early because sound is band-limited
    others = np.concatenate([height[: max(0, top - APART)], height[top + APART :]])
    clear = bool(others.max() < RIVAL * height[top])
    return Delay(0 if aligned else begin - REACH, clear, bool(response[top] < 0))


def filtered(x: Floats, y: Floats, taps: int = TAPS) -> Floats:
    """Map the input to the target as well as a linear filter can.

    The filter is the least-squares one of these very recordings, from the normal equations of their
    correlations (Wiener's), so it is a bound for linear models of this length.

    Args:
        x: The input, [n] with at least ``taps`` samples.
        y: The target, [n].
        taps: The length of the filter; 1: a gain.

    Returns:
        The filter's output, [n].
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    size = 1 << (len(x) + taps).bit_length()
    X = np.fft.rfft(x, size)
    of_x = np.fft.irfft(np.abs(X) ** 2, size)[:taps]
    of_both = np.fft.irfft(X.conj() * np.fft.rfft(y, size), size)[:taps]
    lags = np.abs(np.arange(taps)[:, None] - np.arange(taps))
    matrix = of_x[lags] + 1e-9 * of_x[0] * np.eye(taps)  # sounds with little treble are nearly singular
    h = np.linalg.solve(matrix, of_both)
    return np.fft.irfft(X * np.fft.rfft(h, size), size)[: len(x)]
