"""Makes the recordings of docs/sound.md: an invented guitar, and what an invented amplifier makes of it.

    python examples/amp.py [seconds]

Writes clean.wav and amp.wav, 48 kHz and 24 bits, and other.wav, which the amplifier has not played. Needs
NumPy and soundfile. The amplifier cuts the bass, sags where it is loud, distorts twice and cuts the treble.
Its recording begins 37 samples late, as an audio interface makes it.
"""

import sys

import numpy as np
import soundfile

RATE, LATE = 48_000, 37


def low_pass(x: np.ndarray, frequency: float) -> np.ndarray:
    """One pole, y_t = y_{t-1} + a (x_t - y_{t-1}), as a convolution."""
    a = 1 - np.exp(-2 * np.pi * frequency / RATE)
    kernel = a * (1 - a) ** np.arange(RATE // 4)
    size = 1 << (len(x) + len(kernel)).bit_length()
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(kernel, size), size)[: len(x)]


def pluck(rng: np.random.Generator, frequency: float, seconds: float) -> np.ndarray:
    """A string after Karplus & Strong (1983): noise that a loop smooths."""
    period = round(RATE / frequency)
    wave = np.convolve(np.tile(rng.uniform(-1, 1, period), 2), np.full(4, 0.25), "same")[:period]
    turns = []
    for _ in range(int(seconds * frequency)):
        turns.append(wave)
        wave = 0.499 * (wave + np.roll(wave, 1))
    y = np.concatenate(turns)
    return y * np.minimum(1, np.arange(len(y))[::-1] / 200)


def guitar(rng: np.random.Generator, seconds: int) -> np.ndarray:
    """Single notes and chords, soft and loud, with the noise of the cable."""
    x, t = 1e-5 * rng.normal(size=seconds * RATE), 0.1
    while t < seconds - 0.1:
        chord = rng.random() < 0.4
        root, loud = 82.4 * 2 ** (rng.integers(25) / 12), rng.uniform(0.05, 0.5 if chord else 0.8)
        for interval in (0, 7, 12, 16) if chord else (0,):
            y = loud * pluck(rng, root * 2 ** (interval / 12), rng.uniform(0.3, 2.5))
            begin = int(t * RATE) + int(rng.integers(400))
            x[begin : begin + len(y)] += y[: len(x) - begin]
        t += rng.choice([0.15, 0.3, 0.6, 1.2])
    x -= low_pass(x, 30)  # pickups have no constant part
    return 0.7 * x / np.abs(x).max()


def amplifier(x: np.ndarray) -> np.ndarray:
    x = x - low_pass(x, 120)
    driven = np.tanh(12 * x / (1 + 2 * low_pass(np.abs(x), 8)) + 0.2)
    driven -= low_pass(driven, 20)
    return 0.5 * low_pass(low_pass(np.tanh(1.5 * driven), 5000), 7000)


def main(seconds: int) -> None:
    rng = np.random.default_rng(0)
    clean = guitar(rng, seconds)
    amp = np.concatenate([np.zeros(LATE), amplifier(clean)])[: len(clean)]
    for name, samples in (("clean", clean), ("amp", amp), ("other", guitar(rng, min(10, seconds)))):
        soundfile.write(f"{name}.wav", samples, RATE, "PCM_24")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
