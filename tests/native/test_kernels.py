"""The kernels against undertow.equations: every output and every gradient.

Tolerances are relative to the largest magnitude in the array expected. float64: 1e-11. float32: 2e-5, which
is rounding and no more: the equations are fed the same float32 numbers and calculate in float64, so that
what differs is the kernel's own rounding, 6e-8 an operation, in sums of up to 4,000 terms over 60 steps.
"""

from itertools import product

import numpy as np
import pytest

from layer_case import LAYOUTS, Case, arguments, assert_close, assert_same_bits
from undertow.kernels import native

TOLERANCE = {"float64": 1e-11, "float32": 2e-5}
CELLS, DTYPES = ("lstm", "rnn"), tuple(TOLERANCE)
KINDS = [pytest.param(*kind, id="-".join(kind)) for kind in product(CELLS, DTYPES)]

SIZES = [  # T, N, C, H
    (1, 1, 1, 1),
    (1, 5, 3, 5),
    (5, 1, 1, 16),
    (7, 5, 70, 1),
    (3, 31, 2, 33),
    (9, 7, 16, 16),
    (4, 7, 5, 130),
    (2, 1, 70, 130),
    (60, 31, 3, 37),  # 1860 rows: several of the backward's blocks
    (13, 25, 8, 64),  # 325 rows
    (42, 25, 4100, 2),  # 1050 rows, and so many inputs that a block holds its most, 1024
    (6, 300, 2, 5),  # a single step is more than a block
    (3, 2, 0, 5),
]
EMPTY = [(0, 3, 4, 5), (3, 0, 4, 5), (0, 0, 0, 1)]


def check(case: Case, layout: str = "contiguous", threads: int = 1) -> None:
    """Forward with and without a tape, and backward, against the equations."""
    tolerance = TOLERANCE[case.dtype]
    outputs = case.forward(layout=layout, threads=threads)
    assert_close(outputs, case.expected_outputs, tolerance)
    without = case.forward(tape=False, layout=layout, threads=threads)
    assert_same_bits(without, {name: outputs[name] for name in without})
    gradients = case.backward(outputs, layout=layout, threads=threads)
    assert_close(gradients, case.expected_gradients(), tolerance)


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("reverse_ragged", [(False, False), (True, True)], ids=["whole", "reverse-ragged"])
def test_sizes(cell, dtype, size, reverse_ragged):
    T, N, C, H = size
    reverse, ragged = reverse_ragged
    check(Case(cell, T, N, C, H, dtype, reverse=reverse, ragged=ragged), threads=2)


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("size", EMPTY, ids=str)
def test_no_steps_or_no_sequences_pass_the_state_through(cell, dtype, size, ragged):
    case = Case(cell, *size, dtype, ragged=ragged)
    found = case.run(threads=2)
    passed = {"h_n": "h_0", "c_n": "c_0", "dh_0": "dh_n", "dc_0": "dc_n"}
    given = case.inputs | case.upstream
    assert_same_bits(
        {out: found[out] for out in passed if out in found},
        {a: given[b] for a, b in passed.items() if b in given},
    )
    for name in ("dweight_ih", "dweight_hh", "dbias"):
        assert not found[name].any()
    if cell == "lstm":
        assert np.array_equal(found["c"].reshape(-1, case.H)[: case.N], given["c_0"])


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_options(cell, dtype, layout, threads):
    for reverse, ragged, packed in product((False, True), repeat=3):
        case = Case(
            cell,
            T=12,
            N=13,
            C=9,
            H=70,
            dtype=dtype,
            reverse=reverse,
            ragged=ragged,
            packed=packed,
            bias=ragged,
        )
        check(case, layout, threads)


@pytest.mark.parametrize("missing", ["bias_ih", "bias_hh"])
def test_one_bias_alone(missing):
    case = Case()
    case.inputs[missing][...] = 0
    expected = case.run()
    assert_close(expected, case.expected_outputs | case.expected_gradients(), TOLERANCE["float64"])
    del case.inputs[missing]
    assert_same_bits(case.run(), expected)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_gradient_that_is_not_given_counts_as_zero(cell, ragged):
    case = Case(cell, ragged=ragged)
    outputs = case.forward()
    for kept in [(), ("dy",), ("dh_n",), ("dc_n",), ("dh_n", "dc_n")]:
        upstream = {name: a for name, a in case.upstream.items() if name in kept}
        expected = case.expected_gradients(upstream)
        assert_close(case.backward(outputs, upstream=upstream), expected, TOLERANCE["float64"])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_gradient_that_is_not_wanted_changes_no_other(cell, reverse):
    case = Case(cell, reverse=reverse, ragged=True)
    outputs = case.forward()
    everything = case.backward(outputs)
    names = everything.keys()
    for wanted in [(), *((name,) for name in names), *(tuple(names - {name}) for name in names)]:
        some = case.backward(outputs, wanted=wanted)
        assert_same_bits(some, {name: everything[name] for name in names if name in wanted})


# ------------------------------------------------------------------------------------ the same bits


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("size", [(40, 13, 9, 70), (25, 24, 33, 37), (3, 2, 300, 200)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(cell, dtype, ragged, size):
    case = Case(cell, *size, dtype, ragged=ragged)
    alone = case.run(threads=1)
    for threads in (2, 3, 5):
        assert_same_bits(case.run(threads), alone)


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("T", "H"), [(20, 5), (20, 33), (20, 130), (1, 37)])
def test_a_sequence_gets_the_same_bits_in_any_company(cell, dtype, ragged, T, H):
    """A single step of a single sequence among them, for which the weights are not packed."""
    case = Case(cell, T=T, N=13, C=9, H=H, dtype=dtype, ragged=ragged, reverse=H == 33)
    together = case.run(threads=2)
    for n in range(case.N):
        one = case.alone(n)
        found = {
            name: a for name, a in one.run().items() if name not in {"dweight_ih", "dweight_hh", "dbias"}
        }
        expected = {name: own_part(case, name, together[name], n) for name in found}
        assert_same_bits(found, expected)


def own_part(case: Case, name: str, array: np.ndarray, n: int) -> np.ndarray:
    """What belongs to sequence n: its entry in [N,*], its steps in [T,N,*], its rows of the tape."""
    if name in {"h_n", "c_n", "dh_0", "dc_0"}:
        return array[n : n + 1]
    if name in {"y", "dx"}:
        return array[: case.T if case.lengths is None else int(case.lengths[n]), n : n + 1]
    if case.lengths is None:
        return array[:, n : n + 1]
    own = case.tape_rows[1] == n
    if name == "c":
        own = np.concatenate([case.order == n, own])
    return array[own][:, None]


def aligned(*shape: int) -> np.ndarray:
    buffer = np.full(int(np.prod(shape)) + 16, np.nan, np.float32)
    start = -buffer.ctypes.data // 4 % 16
    return buffer[start : start + int(np.prod(shape))].reshape(shape)


def test_a_tape_larger_than_the_caches_has_the_same_bits():
    """It is written in another way, in whole lines past the caches: here 72 MiB of it, and then 36."""
    T, N, C, H = 59, 1000, 2, 64
    case = Case("lstm", T, N, C, H, "float32")

    def run(part: slice) -> tuple[np.ndarray, np.ndarray]:
        some = case.inputs | {name: case.inputs[name][part].copy() for name in ("h_0", "c_0")}
        some["x"] = case.inputs["x"][:, part].copy()
        n = some["x"].shape[1]
        gates, c, y, ends = (
            aligned(T, n, 4, H),
            aligned(T + 1, n, H),
            aligned(T, n, H),
            np.empty((n, H), np.float32),
        )
        out = {"gates": gates, "c": c, "y": y, "h_n": ends, "c_n": ends.copy()}
        native.forward(*arguments("forward", "lstm", some | out, threads=2))
        return gates, c

    whole, halves = run(slice(None)), [run(slice(0, N // 2)), run(slice(N // 2, N))]
    for k in (0, 1):
        assert np.array_equal(whole[k], np.concatenate([half[k] for half in halves], axis=1))


def test_a_state_is_not_lost_by_a_sequence_without_steps():
    case = Case(ragged=True)
    n = int(np.argmin(case.lengths))
    assert case.lengths[n] == 0
    found = case.run()
    for out, given in (("h_n", case.inputs["h_0"]), ("c_n", case.inputs["c_0"])):
        assert np.array_equal(found[out][n], given[n])
    for out, given in (("dh_0", case.upstream["dh_n"]), ("dc_0", case.upstream["dc_n"])):
        assert np.array_equal(found[out][n], given[n])


def test_nan_stays_where_it_belongs():
    """A NaN in one sequence reaches its own outputs and no other sequence's."""
    case = Case(N=9)
    clean = case.forward()
    case.inputs["x"][3, 4] = np.nan
    found = case.forward()
    assert np.isnan(found["y"][3:, 4]).all()
    others = np.arange(9) != 4
    for name in ("y", "gates", "c"):
        assert np.array_equal(found[name][:, others], clean[name][:, others])
        assert np.array_equal(found[name][:3], clean[name][:3])
