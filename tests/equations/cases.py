"""One layer and direction: its arguments, its equations and finite differences, for several test files."""

from itertools import pairwise

import numpy as np
import pytest

from undertow import equations as eq

SIZES = [  # T, N, C, H
    pytest.param((6, 4, 3, 5), id="ordinary"),
    pytest.param((1, 4, 3, 5), id="T=1"),
    pytest.param((6, 1, 3, 5), id="N=1"),
    pytest.param((6, 4, 1, 5), id="C=1"),
    pytest.param((6, 4, 3, 1), id="H=1"),
    pytest.param((9, 5, 3, 37), id="H=37"),
    pytest.param((1, 1, 1, 1), id="all-1"),
]
N_GATES = {"lstm": 4, "rnn": 1}
both_cells = pytest.mark.parametrize("kind", ["lstm", "rnn"])
all_sizes = pytest.mark.parametrize("size", SIZES)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
any_lengths = pytest.mark.parametrize("how", ["full", "ragged", "zero"])


def relative_error(actual, expected):
    """Largest difference over the largest entry expected; where all should be zero, all must be."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float64
    scale = np.abs(expected).max(initial=0)
    return np.abs(actual - expected).max(initial=0) / (scale or np.finfo(float).tiny)


def make_lengths(how, T, N):
    """None; lengths from 1 to T; or the same with every other sequence empty."""
    if how == "full":
        return None
    lengths = np.random.default_rng(3).integers(1, T, size=N, endpoint=True)
    if how == "zero":
        lengths[::2] = 0
    return lengths


class Case:
    """Random input, states, weights and incoming gradients for one layer and direction."""

    def __init__(self, kind, size, how="full", reverse=False, bias=True, seed=0):
        T, N, C, H = size
        rng, rows = np.random.default_rng(seed), N_GATES[kind] * H
        self.kind, self.reverse, self.lengths = kind, reverse, make_lengths(how, T, N)
        self.given = {
            "x": rng.normal(size=(T, N, C)),
            **{f"{s}_0": rng.normal(size=(N, H)) for s in self.states},
            "weight_ih": rng.normal(size=(rows, C)) / np.sqrt(C),
            "weight_hh": rng.normal(size=(rows, H)) / np.sqrt(H),
            **({"bias": rng.normal(size=rows)} if bias else {}),
        }
        self.dy = rng.normal(size=(T, N, H))
        self.d_n = {f"d{s}_n": rng.normal(size=(N, H)) for s in self.states}

    @property
    def states(self):
        return "hc" if self.kind == "lstm" else "h"

    def forward(self, **changed):
        layer = getattr(eq, self.kind)
        return layer(**(self.given | changed), lengths=self.lengths, reverse=self.reverse)

    def backward(self):
        g, (_, tape) = self.given, self.forward()
        layer_backward = getattr(eq, f"{self.kind}_backward")
        return layer_backward(tape, g["x"], g["weight_ih"], g["weight_hh"], self.dy, **self.d_n)

    def error(self, **changed):
        """A scalar whose gradients are dy, dh_n and dc_n."""
        y, tape = self.forward(**changed)
        return (y * self.dy).sum() + sum(
            (getattr(tape, s)[-1] * self.d_n[f"d{s}_n"]).sum() for s in self.states
        )


def derivative(f, step=1e-2):
    """f'(0) by central differences at steps s, s/2, s/4, extrapolated twice (Richardson).

    The error left is of order s⁶ from the curve and 1e-16/s from rounding: far below 1e-8.
    """
    at = [(f(s) - f(-s)) / (2 * s) for s in (step, step / 2, step / 4)]
    once = [(4 * finer - coarse) / 3 for coarse, finer in pairwise(at)]
    return (16 * once[1] - once[0]) / 15


def numeric_gradient(error, array, rng, at_most=20, step=1e-2):
    """∂error/∂array at up to ``at_most`` entries drawn at random: their indices and derivatives."""
    entries = rng.permutation(array.size)[:at_most]
    shifted = [np.eye(1, array.size, k).reshape(array.shape) for k in entries]
    return entries, np.array([derivative(lambda s, e=e: error(array + s * e), step) for e in shifted])
