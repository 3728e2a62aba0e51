"""Small recordings with a known device between them: a plucked string, and what plays it."""

from pathlib import Path

import numpy as np
import soundfile

from undertow import networks, stream

RATE = 8000
SOUND = ("--hidden-size", 8, "--batch-size", 8, "--steps", 64)


def plucked(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Decaying harmonic tones of changing loudness, [n] float32 within -0.8 and 0.8."""
    rng, n = np.random.default_rng(seed), round(seconds * rate)
    x, t = 1e-4 * rng.normal(size=n), np.arange(n) / rate
    for begin in np.arange(0, seconds, 0.15):
        since, f = t - begin, rng.uniform(80, 600)
        tone = sum(np.sin(2 * np.pi * k * f * since + k) / k for k in range(1, 6) if k * f < rate / 2)
        x += rng.uniform(0.1, 1) * (since >= 0) * np.exp(-6 * since.clip(0)) * tone
    return (0.8 * x / np.abs(x).max()).astype(np.float32)


def driven(x: np.ndarray, smooth: float = 0.6) -> np.ndarray:
    """A waveshaper and a one-pole low-pass."""
    y, state = np.empty(len(x)), 0.0
    for k, value in enumerate(np.tanh(4 * x)):
        state += (1 - smooth) * (float(value) - state)
        y[k] = state
    return (0.7 * y).astype(np.float32)


def known() -> networks.Network:
    """A small LSTM whose output is about as loud as its input."""
    draw = np.random.default_rng(5).uniform
    layer = networks.Recurrent("lstm", draw(-2, 2, (16, 1)), draw(-0.6, 0.6, (16, 4)), draw(-0.3, 0.3, 16))
    return networks.Network((layer, networks.Dense(draw(-1, 1, (1, 4)), [0.0])))


def played(x: np.ndarray) -> np.ndarray:
    y = stream.load(known()).process(x)
    return (y - y.mean()).astype(np.float32)


def delayed(y: np.ndarray, late: int) -> np.ndarray:
    """The same, ``late`` samples later; earlier if it is below 0."""
    return np.roll(np.pad(y, 200), late)[200 : 200 + len(y)]


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype)
    return path
