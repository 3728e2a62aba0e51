"""The linear part of what lies between two recordings: its delay, and how far a filter alone gets.

Both follow from the cross-spectrum, summed over blocks so that long recordings take little memory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 1 << 18  # of a Fourier transform: of a block of the recordings, and what it reaches beside it
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
    cross, power = _spectra(x, y, REACH, REACH)
    response = np.fft.irfft(cross / (power + FLOOR * power.mean()), SIZE)[: 2 * REACH + 1]
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
    of_x, of_both = (np.fft.irfft(_spectra(x, each, 0, taps)[0], SIZE)[:taps] for each in (x, y))
    lags = np.abs(np.arange(taps)[:, None] - np.arange(taps))
    matrix = of_x[lags] + 1e-9 * of_x[0] * np.eye(taps)  # sounds with little treble are nearly singular
    H = _spectrum(np.linalg.solve(matrix, of_both))
    found, earlier = np.empty(len(x), np.float32), np.pad(x, (taps, 0))
    for start in range(0, len(x), SIZE - taps):
        block = np.fft.irfft(_spectrum(earlier[start : start + SIZE]) * H, SIZE)[taps:]
        found[start : start + SIZE - taps] = block[: len(x) - start]
    return found


def _spectra(x: Floats, y: Floats, before: int, after: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The cross-spectrum of two recordings and the power of the first, summed over blocks.

    Args:
        x: The first, [n].
        y: The second, [n].
        before: The lags below 0 that do not wrap around.
        after: The lags above 0.

    Returns:
        Spectra for np.fft.irfft with ``SIZE``; the first of the lags is -``before``.
    """
    block = SIZE - before - after
    reached = np.pad(y, (before, after + block))
    cross, power = np.zeros(SIZE // 2 + 1, np.complex128), np.zeros(SIZE // 2 + 1)
    for start in range(0, len(x), block):
        X = _spectrum(x[start : start + block])
        cross += X.conj() * _spectrum(reached[start : start + SIZE])
        power += np.abs(X) ** 2
    return cross, power


def _spectrum(samples: Floats) -> NDArray[Any]:
    return np.fft.rfft(samples.astype(np.float64), SIZE)
