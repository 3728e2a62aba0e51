"""What ``pip install undertow`` alone can do: stream networks, read files and traces, compute flow, diagnose.

Imports of torch fail here. ``make test-wheel`` also runs this file where torch is not installed.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import reference
import undertow
from undertow import equations, flow, networks, problems, stream
from undertow.records import trace_file
from undertow.records.layer import Layer, NotRecorded
from undertow.records.trace_file import Saved

T, N, C, H = 40, 3, 2, 7


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(-0.5, 0.5, shape)


def amplifier() -> networks.Network:
    narrow = (array.astype(np.float32) for array in (draw(4 * H, 1), draw(4 * H, H), draw(4 * H)))
    return networks.Network([networks.Recurrent("lstm", *narrow), networks.Dense(draw(1, H), draw(1))])


@pytest.fixture
def passed() -> tuple[np.ndarray, equations.Tape, equations.Gradients, np.ndarray, np.ndarray]:
    """A pass forward and, from an error at the last step alone, back: dh_n, tape, gradients, W, U."""
    x, W, U, zero, dh = draw(T, N, C), draw(4 * H, C), draw(4 * H, H), np.zeros((N, H)), draw(N, H, seed=1)
    _, tape = equations.lstm(x, zero, zero, W, U)
    return dh, tape, equations.lstm_backward(tape, x, W, U, np.zeros((T, N, H)), dh), W, U


@pytest.fixture
def trace(passed, tmp_path: Path) -> undertow.Trace:
    """That pass as a trace, written into a file and read again."""
    _, tape, gradients, W, U = passed
    saved = Saved("lstm", (W, U), tape, vars(gradients), "", "float64")
    trace_file.write(tmp_path / "t.safetensors", {"lstm": [[Layer.of([saved])]]}, None)
    return undertow.load_trace(tmp_path / "t.safetensors")


@pytest.mark.parametrize("name", ["a.nam", "a.json", "a.safetensors"])
def test_a_network_of_a_file_is_streamed(name: str, tmp_path: Path) -> None:
    networks.write(amplifier(), tmp_path / name)
    x = draw(200, 1).astype(np.float32)
    found = stream.load(tmp_path / name)
    y = np.concatenate([found.process(part) for part in np.split(x, [1, 70])])
    np.testing.assert_allclose(y, reference.run(amplifier(), x[:, None])[:, 0], rtol=0, atol=4e-7)


def test_a_trace_file_gives_the_arrays_of_its_pass(passed, trace: undertow.Trace) -> None:
    _, tape, gradients, _, U = passed
    layer = trace.layers[0]
    np.testing.assert_array_equal(layer.f, tape.gates[:, :, 1])
    np.testing.assert_array_equal(layer.h, tape.h)
    np.testing.assert_array_equal(layer.dc, gradients.dc)
    np.testing.assert_array_equal(layer.weight_hh, U)


def test_a_trace_file_without_gradients_says_why(passed, tmp_path: Path) -> None:
    _, tape, _, W, U = passed
    saved = Saved("lstm", (W, U), tape, {}, "backward has not come", "float64")
    trace_file.write(tmp_path / "t", {"": [[Layer.of([saved])]]}, None)
    with pytest.raises(NotRecorded, match="backward has not come"):
        undertow.load_trace(tmp_path / "t").layers[0].dc  # noqa: B018


def test_flow_of_a_trace_file_is_its_gradient(passed, trace: undertow.Trace) -> None:
    """One error at the end: what reaches back by lag is the whole gradient, which back-propagation gave."""
    dh, _, gradients, _, _ = passed
    layer = trace.layers[0]
    by_lag = flow.gradient_by_lag(layer.tape, layer.weight_hh, dh=dh)
    expected = np.log(np.linalg.norm(gradients.dc[::-1], axis=-1))
    np.testing.assert_allclose(by_lag.log_dc_norm, expected, rtol=0, atol=1e-9)


def test_a_trace_file_is_diagnosed(trace: undertow.Trace) -> None:
    found = undertow.diagnose(trace, lag=T - 5)
    assert "memory-horizon" in [finding.name for finding in found.findings]


def test_the_kernels_compute_a_problem() -> None:
    from undertow.kernels import native

    x, _ = problems.get("adding").sample(np.random.default_rng(0), N, T)
    x, W, U, zero = x.astype(np.float64), draw(4 * H, 2), draw(4 * H, H), np.zeros((N, H))
    y, h_n, c_n = (np.empty(shape) for shape in ((T, N, H), (N, H), (N, H)))
    native.forward("lstm", x, (zero, zero), (W, U, None, None), (y, h_n, c_n), None, None, None, False, 2)
    expected, tape = equations.lstm(x, zero, zero, W, U)
    for found, right in ((y, expected), (h_n, tape.h[-1]), (c_n, tape.c[-1])):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-12)
