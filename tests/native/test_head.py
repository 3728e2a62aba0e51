"""What ``native.head`` refuses. test_by_hand in nn and in app/training compares results and gradients."""

import re

import numpy as np
import pytest

from undertow.kernels import native

T, N, D, OUT = 3, 4, 2, 6


def given(**changed):
    """A valid call on pooled states, its arguments by name."""
    arrays = {
        "hidden": np.ones((T, N, D)),
        "features": np.ones((N, 2 * D)),
        "kept": np.ones((N, 2 * D)),
        "weight": np.ones((OUT, 2 * D)),
        "bias": np.ones(OUT),
        "target": np.ones((N, OUT)),
        "unit": np.ones(OUT),
        "output": np.ones((N, OUT)),
        "dhidden": np.ones((T, N, D)),
        "dfeatures": np.ones((N, 2 * D)),
        "dweight": np.ones((OUT, 2 * D)),
        "dbias": np.ones(OUT),
    }
    return arrays | changed


def run(a):
    window = a.get("window")
    gradients = a["dhidden"], a["dfeatures"], a["dweight"], a["dbias"], a.get("dlinear")
    weights = a["weight"], a["bias"]
    return native.head(
        a["hidden"],
        a["features"],
        a["kept"],
        weights,
        window,
        a["target"],
        a["unit"],
        -100,
        a["output"],
        gradients,
    )


def forecast(**changed):
    """The same of a forecast."""
    window = {"last": np.ones((N, 2)), "size": np.ones((N, 2)), "moves": np.ones((T, N, 2))}
    window |= {"linear": np.ones((2, OUT // 2, T))}
    window |= {name: changed.pop(name) for name in window.keys() & changed.keys()}
    arrays = {"hidden": None, "window": tuple(window.values()), "dlinear": np.ones((2, OUT // 2, T))}
    return given(**arrays | changed)


def test_the_calls_that_the_others_spoil_are_valid():
    assert np.isfinite(run(given())[0])
    assert np.isfinite(run(forecast())[0])


@pytest.mark.parametrize("name", [name for name in given() if name not in ("kept", "target", "unit")])
@pytest.mark.parametrize("wrong", ["shape", "dtype", "none"])
def test_an_array_that_does_not_fit(name, wrong):
    array = given()[name]
    spoilt = {"shape": np.ones((*array.shape, 2)), "dtype": array.astype(np.int32), "none": None}[wrong]
    if (name, wrong) == ("hidden", "none"):
        return  # there may be none
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected"):
        run(given(**{name: spoilt}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"last": np.ones((N, 3))}, "last: expected shape [4, 2]"),
        ({"size": np.ones((N, 2), np.float32)}, "size: expected dtype float64"),
        ({"moves": np.ones((T, N, 4))}, "moves: expected shape [T, N, K], K a divisor of O"),
        ({"moves": np.ones((T, N + 1, 2))}, "moves: expected shape [3, 4, 2]"),
        ({"linear": np.ones((2, OUT // 2, T + 1))}, "linear: expected shape [2, 3, 3]"),
        ({"dlinear": None}, "dlinear: expected"),
        ({"hidden": np.ones((T, N, D))}, "window: expected None with hidden"),
    ],
)
def test_a_window_that_does_not_fit(changed, said):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(said)}"):
        run(forecast(**changed))


@pytest.mark.parametrize("target", [-1, OUT])
def test_a_class_that_does_not_exist(target):
    classes = np.array([0, -100, target, 1])
    with pytest.raises(
        ValueError, match=rf"target: expected classes from 0 to {OUT - 1}, got class {target}"
    ):
        run(given(target=classes, unit=None))


def test_numbers_without_a_unit():
    with pytest.raises(TypeError, match=r"^unit: expected an array"):
        run(given(unit=None))
