"""The delay between two recordings, and the best linear filter from one to the other."""

import numpy as np
import pytest

from sounds import delayed, driven, plucked
from undertow.app.data.sounds import response
from undertow.app.data.sounds.response import REACH, delay, filtered
from undertow.app.metrics import esr

EARLY = 8  # samples by which a delay may be found too early, which costs a network nothing
X = plucked(4)


@pytest.mark.parametrize("late", [37, -25, 130])
@pytest.mark.parametrize("device", ["none", "driven", "smooth", "clipped", "cabinet", "noisy"])
def test_the_delay_is_never_found_too_late(device, late):
    rng = np.random.default_rng(1)
    y = {
        "none": X,
        "driven": driven(X),
        "smooth": driven(X, 0.9),
        "clipped": np.clip(30 * X, -0.5, 0.5),
        "cabinet": np.convolve(driven(X), rng.normal(size=200) * np.exp(-np.arange(200) / 30))[: len(X)],
        "noisy": driven(X) + 0.01 * rng.normal(size=len(X)),
    }[device]
    found = delay(X, delayed(y, late))
    assert found.clear
    assert late - EARLY <= found.samples <= late + (2 if device == "cabinet" else 0)


def test_aligned_recordings_are_not_shifted():
    assert delay(X, driven(X)).samples == delay(X, X).samples == 0


def test_polarity():
    assert not delay(X, driven(X)).inverted
    assert delay(X, -driven(X)).inverted


@pytest.mark.parametrize("late", [REACH - 100, 100 - REACH])
def test_long_delays_over_several_blocks(late):
    x = np.random.default_rng(0).normal(size=300_000)
    y = np.zeros_like(x)
    y[max(0, late) : len(x) + min(0, late)] = x[max(0, -late) : len(x) - max(0, late)]
    assert (delay(x, y).samples, delay(x, y).clear) == (late, True)


def test_unrelated_sounds_are_unclear():
    assert not delay(X, plucked(4, seed=9)).clear


def test_the_filter_is_that_of_least_squares():
    x, y = plucked(0.5), driven(plucked(0.5))
    rows = np.stack([np.pad(x, (k, 0))[: len(x)] for k in range(8)], axis=1).astype(np.float64)
    best = rows @ np.linalg.lstsq(rows, y.astype(np.float64), rcond=None)[0]
    assert esr(y, filtered(x, y, 8)) == pytest.approx(esr(y, best), rel=0.01)


def test_the_filter_over_several_blocks(monkeypatch):
    whole = filtered(X, driven(X), 16)
    monkeypatch.setattr(response, "SIZE", 1 << 10)
    np.testing.assert_allclose(filtered(X, driven(X), 16), whole, atol=1e-5)


def test_the_filter_finds_a_linear_device():
    y = np.convolve(X, [0.5, -0.2, 0.1])[: len(X)]
    assert esr(y, filtered(X, y, 16)) < 1e-6 < 0.01 < esr(y, filtered(X, y, 1)) < 1
