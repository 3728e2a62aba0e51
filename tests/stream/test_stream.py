"""A stream computes what the float64 reference computes, however its steps are cut into calls.

Outputs are float32. The runtime's tanh has an error of 3e-7 at most, which is the error of a state near 1.
Layer normalisation divides by the spread of its row, and errors with it. LSTMs of usual sizes: within 2e-7.
"""

import gc
import itertools
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference
from undertow.kernels import native
from undertow.networks import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Unsupported,
    read,
)
from undertow.stream import Stream, load

TOLERANCE, OF_NORMS, OF_LSTM = 4e-7, 2e-6, 2e-7


def uniform(rng: np.random.Generator, bound: float, *shape: int) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def layer(C: int, H: int, cell: str = "lstm", P: int = 0, seed: int = 0, **more: Any) -> Recurrent:
    rng, R = np.random.default_rng([seed, C, H]), P or H
    G, k = (4 if cell == "lstm" else 1), H**-0.5
    weights = uniform(rng, k, G * H, C), uniform(rng, k, G * H, R), uniform(rng, 2 * k, G * H)
    more |= {"weight_hr": uniform(rng, k, P, H)} if P else {}
    more |= {"c_0": uniform(rng, 1, H)} if cell == "lstm" else {}
    return Recurrent(cell, *weights, h_0=uniform(rng, 1, R), **more)  # type: ignore[arg-type]


def norms(H: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(H)
    return {
        "gain_x": 0.3 + uniform(rng, 0.2, 4 * H),
        "gain_h": 0.3 + uniform(rng, 0.2, 4 * H),
        "gain_c": 1 + uniform(rng, 0.3, H),
        "bias_c": uniform(rng, 0.2, H),
    }


def head(I: int, out: int, activation: str = "", bound: float = 1.0) -> Dense:  # noqa: E741
    rng = np.random.default_rng([I, out])
    return Dense(uniform(rng, bound / I**0.5, out, I), uniform(rng, 0.1, out), activation)  # type: ignore[arg-type]


def inputs(network: Network, T: int, N: int = 1, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if network.symbols:
        return rng.integers(0, network.symbols, (T, N, 1))
    return rng.standard_normal((T, N, network.input_size)).astype(np.float32)


PEEPHOLES = {"peepholes": uniform(np.random.default_rng(3), 0.5, 3, 9)}
SIZES = (1, 3, 8, 9, 16, 20, 31, 40, 64, 65, 88)
NETWORKS = {
    **{f"lstm-{C}-{H}": [layer(C, H)] for C, H in itertools.product((1, 3), SIZES)},
    **{f"rnn-{H}": [layer(2, H, "rnn")] for H in (1, 8, 31, 33, 70)},
    "relu": [layer(2, 9, "rnn", nonlinearity="relu")],
    "rnn zoneout": [layer(2, 9, "rnn", zoneout=(0.2, 0.0))],
    "head": [layer(1, 16), head(16, 1)],
    "wide head": [layer(1, 16), head(16, 70)],
    "two": [layer(3, 20), layer(20, 12, seed=1), head(12, 3)],
    "dense first": [head(3, 5, "tanh"), layer(5, 9), head(9, 2)],
    "projection": [layer(3, 20, P=7), layer(7, 5)],
    "peepholes": [layer(3, 9, **PEEPHOLES)],
    "coupled": [layer(3, 9, coupled=True)],
    "zoneout": [layer(3, 9, zoneout=(0.1, 0.3))],
    "everything": [layer(3, 9, P=4, coupled=True, zoneout=(0.1, 0.3), **PEEPHOLES, **norms(9))],
    **{f"norms-{H}": [layer(3, H, **norms(H))] for H in (2, 9, 16)},
    "text": [Embedding(uniform(np.random.default_rng(0), 1, 11, 6)), layer(6, 17), head(17, 11, "softmax")],
    "normalised": [
        Normalise([1.0, -2.0], [0.5, 3.0]),
        layer(2, 9),
        head(9, 2),
        Scale([2.0, 0.5], [0.1, 0.2]),
    ],
    "attention": [layer(2, 9), Pool("attention", 9, uniform(np.random.default_rng(4), 2, 9)), head(9, 3)],
    **{
        kind: [layer(2, 9), Pool(kind, 9), head(18 if kind == "mean-max" else 9, 3)]  # type: ignore[arg-type]
        for kind in ("mean", "max", "mean-max")
    },
    **{f"head {name}": [head(3, 20, name, bound=2)] for name in ("tanh", "sigmoid", "relu", "softmax")},
    **{f"small head {name}": [head(3, 2, name, bound=2)] for name in ("tanh", "sigmoid", "relu", "softmax")},
}


def made(name: str) -> Network:
    stages = tuple(NETWORKS[name])
    return Network(stages, skip=1 if name == "head" else 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_gives_what_the_reference_gives(name: str) -> None:
    network = made(name)
    T = 12 if any(isinstance(stage, Pool) for stage in network.stages) else 150
    x = inputs(network, T)
    expected = reference.run(network, x)[:, 0]
    y = load(network).process(x[:, 0])
    assert y.shape == expected.shape and y.dtype == np.float32
    tolerance = OF_NORMS if "norms" in name or name == "everything" else TOLERANCE
    assert np.abs(y - expected).max() <= tolerance * max(1, np.abs(expected).max())


@pytest.mark.parametrize("H", [8, 12, 16, 20, 32, 40, 64, 128])
def test_a_long_stream_of_an_lstm_stays_within_two_ten_millionths(H: int) -> None:
    network = Network((layer(1, H), head(H, 1)))
    x = inputs(network, 2000)
    error = np.abs(load(network).process(x[:, 0]) - reference.run(network, x)[:, 0])
    assert error.max() <= OF_LSTM


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_do_not_depend_on_how_steps_are_cut_or_on_other_streams(name: str) -> None:
    network = made(name)
    x = inputs(network, 150).astype(np.float32)[:, 0]
    stream = Stream(network)
    whole = stream.process(x)
    for size in (1, 7, 64, 65):
        stream.reset()
        parts = [stream.process(x[t : t + size]) for t in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    stream.reset()
    one, out = np.empty_like(x[0]), np.empty_like(whole[0])
    step = stream.bind(one, out)
    for x_t, y_t in zip(x, whole, strict=True):
        one[...] = x_t
        step()
        np.testing.assert_array_equal(out, y_t)
    many, others = stream.streams(8), inputs(network, 150, 8, seed=2).astype(np.float32)
    others[:, 5] = x
    np.testing.assert_array_equal(many.process(others)[:, 5], whole)


def test_a_state_that_was_kept_goes_on_where_it_was() -> None:
    for name in ("two", "attention", "mean-max", "projection"):
        network = made(name)
        x = inputs(network, 40).astype(np.float32)[:, 0]
        stream = Stream(network)
        stream.process(x[:20])
        kept = stream.state
        expected = stream.process(x[20:])
        other = Stream(network)
        other.state = kept
        np.testing.assert_array_equal(other.process(x[20:]), expected)
        stream.process(x)
        assert any((now != then).any() for now, then in zip(stream.state, kept, strict=True))


def test_the_state_is_h_and_c_of_each_layer() -> None:
    network = made("two")
    stream = Stream(network)
    first, second = network.recurrent()
    for part, initial in zip(stream.state, (first.h_0, first.c_0, second.h_0, second.c_0), strict=True):
        np.testing.assert_array_equal(part, initial)
    assert [part.shape for part in stream.streams(3).state] == [(3, 20), (3, 20), (3, 12), (3, 12)]
    alone = Stream(Network((layer(1, 5),)))
    y = alone.process(np.ones((4, 1), np.float32))
    np.testing.assert_array_equal(alone.state[0], y[-1])


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_nan_stays_until_reset(dtype: str) -> None:
    for name in NETWORKS:
        network = made(name)
        if network.symbols:
            continue
        x = inputs(network, 30).astype(np.float32)[:, 0]
        stream, damaged = Stream(network, dtype=dtype), x.copy()
        fresh = stream.state
        expected = stream.process(x)
        damaged[3] = np.nan
        stream.reset()
        y = stream.process(damaged)
        np.testing.assert_array_equal(y[:3], expected[:3])
        assert np.isnan(y[3]).any() and np.isnan(y[4:]).any() == bool(fresh), name
        stream.state = fresh
        np.testing.assert_array_equal(stream.process(x), expected)
        stream.reset()
        np.testing.assert_array_equal(stream.process(x), expected)


@pytest.mark.parametrize("H", [3, 8, 9, 33])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_nan_and_infinity_stay_in_their_own_stream(cell: str, H: int) -> None:
    network = Network((layer(2, H, cell), head(H, 9), head(9, 1)))
    x = inputs(network, 6, 3).astype(np.float32)
    expected = Stream(network, 3).process(x)
    damaged = x.copy()
    damaged[1, 1] = np.nan
    y = Stream(network, 3).process(damaged)
    np.testing.assert_array_equal(y[:, [0, 2]], expected[:, [0, 2]])
    damaged[1, 1] = [np.inf, 0]  # the gates are 0 or 1 then, and the next steps finite
    assert np.isfinite(Stream(network, 3).process(damaged)).all()


def test_a_symbol_that_is_unknown_is_refused() -> None:
    stream = Stream(made("text"))
    one, out = np.zeros(1, np.float32), np.zeros(11, np.float32)
    bound = stream.bind(one, out)
    for wrong in (11, -1, 0.5, np.nan):
        one[0] = wrong
        for use in (lambda: stream.process(one[None]), lambda: stream.step(one, out), bound):
            with pytest.raises(ValueError, match="x: expected whole numbers from 0 to 10"):
                use()
    assert not out.any()


def test_a_bound_array_that_was_resized_is_refused() -> None:
    stream = Stream(made("head"))
    x, out = np.zeros(1, np.float32), np.zeros(1, np.float32)
    step = stream.bind(x, out)
    step()
    x.resize(1 << 20, refcheck=False)
    with pytest.raises(RuntimeError, match="resized; bind it again"):
        step()
    with pytest.raises(TypeError, match=r"x: expected a numpy.ndarray to bind, got memoryview"):
        stream.bind(memoryview(np.zeros(1, np.float32)), out)


def test_a_stream_that_keeps_its_bound_step_is_collected() -> None:
    class Amplifier(Stream):
        def __init__(self, network: Network) -> None:
            super().__init__(network)
            self.quick = self.bind(np.zeros(1, np.float32), np.zeros(1, np.float32))

    amplifier = Amplifier(made("head"))
    amplifier.quick()
    gone = weakref.ref(amplifier.quick)
    del amplifier
    gc.collect()
    assert gone() is None


def test_probabilities_stay_within_0_and_1() -> None:
    x = np.linspace(-40, 40, 20_001)
    for kind, least in (("sigmoid", 0), ("tanh", -1)):
        y = Stream(Network((Dense([[1.0]], [0.0], kind),))).process(x)  # type: ignore[arg-type]
        assert y.min() >= least and y.max() <= 1


def test_a_mean_over_millions_of_steps_stays_a_mean() -> None:
    stream = Stream(Network((Pool("mean", 1),)))
    count = np.array([1 << 24], np.uint32).view(np.float32)
    stream.state = (count, np.ones(1, np.float32))
    y = stream.process(np.ones(1 << 16))
    np.testing.assert_allclose(y, 1)


def test_a_block_may_be_overwritten_by_its_output() -> None:
    network = Network((layer(1, 16), head(16, 1)), skip=1)
    x = inputs(network, 150)[:, 0]
    expected = Stream(network).process(x)
    assert Stream(network).process(x, x) is x
    np.testing.assert_array_equal(x, expected)


def test_shapes_without_the_last_dimension() -> None:
    stream = Stream(made("head"))
    x = inputs(stream.network, 9)[:, 0]
    y = stream.process(x)
    stream.reset()
    np.testing.assert_array_equal(stream.process(x[:, 0]), y[:, 0])
    many = stream.streams(2)
    assert many.process(np.zeros((4, 2), np.float32)).shape == (4, 2)
    assert many.process(np.zeros((4, 2, 1), np.float32)).shape == (4, 2, 1)
    assert stream.process(np.zeros((0, 1))).shape == (0, 1)


F = np.float32


@pytest.mark.parametrize(
    ("x", "out", "error", "words"),
    [
        (
            np.zeros((4, 2), F),
            np.zeros((4, 3), F),
            ValueError,
            r"x: expected shape \[T, 3\], got shape \[4, 2\]",
        ),
        (np.zeros((4, 3), F), np.zeros((4, 2), F), ValueError, r"out: expected shape \[T, 3\]"),
        (np.zeros((4, 3), F), np.zeros((5, 3), F), ValueError, "out: expected 4, got 5 steps"),
        (np.zeros((4, 3), F), np.zeros((4, 3)), TypeError, "out: expected dtype float32, got float64"),
        (np.zeros((4, 3), F), np.zeros((4, 6), F)[:, ::2], ValueError, "out: expected a contiguous array"),
        (np.zeros((4, 3), F), None, TypeError, "out: expected an array"),
        (None, np.zeros((4, 3), F), TypeError, "x: expected an array"),
    ],
)
def test_what_does_not_fit_is_refused(x: Any, out: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        Stream(made("two")).run(x, out)


@pytest.mark.parametrize("x", [None, [[1, 2, None]], "abc", np.zeros((4, 3), np.complex64)])
def test_what_is_no_number_is_refused(x: Any) -> None:
    stream = Stream(made("two"))
    with pytest.raises(TypeError, match="x: expected real numbers, got"):
        stream.process(x)
    before = stream.state
    with pytest.raises(TypeError, match=r"state\[3\]: expected real numbers, got"):
        stream.state = [*before[:3], x]
    assert all((one == other).all() for one, other in zip(before, stream.state, strict=True))


@pytest.mark.parametrize("given", [None, 3])
def test_a_state_that_is_no_sequence_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="state: expected a sequence of arrays, got"):
        Stream(made("two")).state = given


@pytest.mark.parametrize("count", [2.5, "3", True])
def test_a_count_that_is_no_whole_number_is_refused(count: Any) -> None:
    with pytest.raises(TypeError, match="count: expected a whole number, got"):
        Stream(made("two")).streams(count)


def test_memory_that_overlaps_or_may_not_be_written_is_refused() -> None:
    stream, memory = Stream(made("two")), np.zeros(60, F)
    with pytest.raises(ValueError, match="memory that overlaps x"):
        stream.run(memory[:30].reshape(10, 3), memory[6:36].reshape(10, 3))
    fixed = np.zeros((10, 3), F)
    fixed.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        stream.run(np.zeros((10, 3), F), fixed)
    with pytest.raises(ValueError, match=r"state\[1\]: expected shape \[20\], got \[3\]"):
        stream.state = [np.zeros(20), np.zeros(3), np.zeros(12), np.zeros(12)]
    with pytest.raises(ValueError, match="count: expected between 1 and 1,048,576, got 0"):
        stream.streams(0)
    with pytest.raises(ValueError, match=r"state\[0\]: expected h between -1 and 1"):
        load(stream.network, dtype="int16").state = [np.full(20, 2), np.zeros(20), np.zeros(12), np.zeros(12)]
    with pytest.raises(ValueError, match="dtype: expected float32 or int16, got int8"):
        load(stream.network, dtype="int8")


NARROW = ("lstm-1-3", "lstm-3-16", "lstm-1-40", "lstm-1-65", "lstm-3-88", "two", "text", "peepholes")


@pytest.mark.parametrize("name", NARROW)
def test_weights_in_16_bits_are_as_good_as_16_bits_are(name: str) -> None:
    network = made(name)
    x = inputs(network, 400)
    expected = reference.run(network, x)[:, 0]
    stream = load(network, dtype="int16")
    y = stream.process(x[:, 0])
    assert ((y - expected) ** 2).sum() <= 1e-6 * (expected**2).sum()  # the error-to-signal ratio
    options = any(layer.peepholes is not None for layer in network.recurrent())
    assert (y == load(network).process(x[:, 0])).all() == options  # layers with options stay as they are
    many = stream.streams(3)
    np.testing.assert_array_equal(many.process(np.repeat(x, 3, axis=1).astype(np.float32))[:, 2], y)


def test_sums_of_16_bits_do_not_overflow() -> None:
    H = 64  # all weights of a row and all of h are as large as they can be
    ones = np.ones((4 * H, H), np.float32)
    network = Network((Recurrent("lstm", np.zeros((4 * H, 1)), ones, np.zeros(4 * H), h_0=np.ones(H)),))
    x = np.zeros((3, 1, 1))
    y = load(network, dtype="int16").process(x[:, 0])
    np.testing.assert_allclose(y, reference.run(network, x)[:, 0], atol=1e-4)


WITH_AND_WITHOUT_VNNI = """
import sys
import numpy as np
from test_stream import inputs, made
from undertow.stream import load

for name in sys.argv[1:]:
    network = made(name)
    print(load(network, dtype="int16").process(inputs(network, 50)[:, 0]).tobytes().hex())
"""


@pytest.mark.skipif("avx512" not in native.isa_levels(), reason="a processor with AVX-512")
def test_processors_with_and_without_vnni_give_the_same_bits() -> None:
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    found = {
        subprocess.run(
            [sys.executable, "-c", WITH_AND_WITHOUT_VNNI, *NARROW],
            env={k: v for k, v in here.items() if k != "UNDERTOW_ISA"} | forced,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for forced in ({}, {"UNDERTOW_ISA": "avx512"})
    }
    assert len(found) == 1 and len(found.pop().splitlines()) == len(NARROW)


def test_an_amplifier_in_16_bits() -> None:
    path = Path(__file__).parents[3] / "shared/data/formats/lstm.nam"
    if not path.exists():
        pytest.skip("shared/data is not beside the checkout")
    network = read(path)
    t = np.arange(4800) / 48000
    x = (0.3 * np.sin(2 * np.pi * 110 * t) * np.exp(-3 * t))[:, None]
    expected = reference.run(network, x[:, None])[:, 0]
    power = (expected**2).sum()
    assert ((load(path).process(x) - expected) ** 2).sum() <= 1e-11 * power
    assert ((load(path, dtype="int16").process(x) - expected) ** 2).sum() <= 1e-4 * power


def test_a_layer_that_reads_backwards_is_refused() -> None:
    both = Bidirectional(layer(1, 3), layer(1, 3, reverse=True))
    with pytest.raises(Unsupported, match="bidirectional: a stream has no last step"):
        Stream(Network((both,)))
