"""sigmoid and tanh as the kernels compute them (native/vecmath.h): their error in units in the last place.

float32 is measured against float64 over patterns of every sign, exponent and mantissa stratum; with
UNDERTOW_EXHAUSTIVE=1 over all 2^32 of them. float64 is measured against numpy's long double.
"""

import os

import numpy as np
import pytest

from undertow.kernels import native

FUNCTIONS = {"sigmoid": native.sigmoid, "tanh": native.tanh}
# Largest errors allowed, in units in the last place of the true value. Measured over all of float32 with FMA:
# 2.481 and 2.606. Over the sample of float64: 2.258 and 2.525.
MOST_ULP = {
    ("sigmoid", np.float32): 3.0,
    ("tanh", np.float32): 3.0,
    ("sigmoid", np.float64): 3.0,
    ("tanh", np.float64): 3.0,
}
# Below -limit sigmoid stays at e^-limit: there it is held to this absolute error instead.
SIGMOID_LIMIT = {np.float32: (87.0, 1.7e-38), np.float64: (708.0, 3.4e-308)}
EVERY = 1 if os.environ.get("UNDERTOW_EXHAUSTIVE") == "1" else 1009  # a prime: all low bits occur
CHUNK = 1 << 14


def evaluate(name, x):
    y = np.full_like(x, np.nan)
    FUNCTIONS[name](x, y)
    return y


def true_value(name, x):
    """In the dtype of x, which is the next wider one."""
    with np.errstate(under="ignore", over="ignore"):
        return np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))


def largest_error_in_ulp(name, x, wider):
    """Over finite x; where sigmoid is clamped its absolute error is checked instead."""
    dtype = x.dtype.type
    y, true = evaluate(name, x), true_value(name, x.astype(wider))
    if name == "sigmoid":
        limit, absolute = SIGMOID_LIMIT[dtype]
        clamped = x < -limit
        assert np.all(np.abs(y[clamped] - true[clamped]) <= absolute)
        y, true = y[~clamped], true[~clamped]
    ulp = np.spacing(np.maximum(np.abs(true).astype(dtype), np.finfo(dtype).tiny))
    return float(np.max(np.abs(y - true) / ulp, initial=0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_error(name):
    worst = 0.0
    for start in range(0, 1 << 32, CHUNK * EVERY):
        bits = np.arange(start, min(start + CHUNK * EVERY, 1 << 32), EVERY, dtype=np.uint32)
        x = bits.view(np.float32)
        nan = np.isnan(x)
        assert np.isnan(evaluate(name, x)[nan]).all()
        worst = max(worst, largest_error_in_ulp(name, x[~nan], np.float64))
    print(f"{name} float32: {worst:.3f} ULP")
    assert worst <= MOST_ULP[name, np.float32]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_error(name):
    random = np.random.default_rng(0)
    uniform = [random.uniform(-reach, reach, 400_000) for reach in (1e-3, 0.4, 1, 5, 20, 40, 750)]
    bits = random.integers(0, 1 << 64, 400_000, dtype=np.uint64).view(np.float64)
    x = np.concatenate([*uniform, bits[np.isfinite(bits)], edges(np.float64)])
    worst = largest_error_in_ulp(name, x, np.longdouble)
    print(f"{name} float64: {worst:.3f} ULP")
    assert worst <= MOST_ULP[name, np.float64]


def edges(dtype):
    """Where the algorithm changes course, and the neighbours: k ln2 / 2, clamps, the ends of the range."""
    info = np.finfo(dtype)
    steps = np.arange(-60, 61) * (np.log(2) / 2)
    marks = [0, 9.2, 19.2, 87, 88, 104, 708, 709, 745, info.tiny, info.smallest_subnormal, info.eps, info.max]
    x = np.concatenate([steps, steps / 2, marks]).astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(1e30))])
    return np.concatenate([x, -x])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, dtype):
    top = {"sigmoid": (0, 0.5, 1), "tanh": (-1, 0, 1)}[name]
    limits = evaluate(name, np.array([-np.inf, -0.0, 0.0, np.inf], dtype))
    absolute = SIGMOID_LIMIT[dtype][1] if name == "sigmoid" else 0
    assert abs(limits[0] - top[0]) <= absolute
    assert limits[1:].tolist() == [top[1], top[1], top[2]]
    huge = np.array([30, 89, 1e5, np.finfo(dtype).max], dtype)
    assert np.array_equal(evaluate(name, huge[1:]), np.ones(3)), "saturates"
    assert np.all(np.abs(evaluate(name, -huge) - top[0]) <= (1e-12 if name == "sigmoid" else 0))
    assert np.isnan(evaluate(name, np.array([np.nan, -np.nan], dtype))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_of_a_small_number_is_that_number(dtype):
    info = np.finfo(dtype)
    x = np.array(
        [info.smallest_subnormal, 37 * info.smallest_subnormal, info.tiny, 1e-30, info.eps / 8], dtype
    )
    assert np.array_equal(evaluate("tanh", x), x)
    assert np.array_equal(evaluate("tanh", -x), -x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_never_out_of_range(name, dtype):
    """A gate is never below 0 or above 1, tanh never beyond ±1: 1 - o and 1 - g² must not change sign."""
    y = evaluate(name, np.concatenate([np.linspace(-100, 100, 1_000_003), edges(dtype)]).astype(dtype))
    assert y.min() >= (0 if name == "sigmoid" else -1)
    assert y.max() <= 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [0, 1, 3, 7, 15, 16, 17, 33])
def test_a_value_does_not_depend_on_its_place(name, n):
    """The last, partly filled vector gives the bits of a full one; nothing past the end is written."""
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    y = np.full(64, np.nan, np.float32)
    FUNCTIONS[name](x[:n], y[:n])
    assert np.array_equal(y[:n], evaluate(name, x)[:n])
    assert np.isnan(y[n:]).all()
