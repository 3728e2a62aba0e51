"""The kernels of variants against undertow.equations.variants: every output and every gradient.

Tolerances as in test_kernels.py: of the largest magnitude expected, float64 1e-11, float32 2e-5; with norms
ten times that, since LN divides by the spread of a row, which may be ten times less than its entries.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_case import Case, assert_close, assert_same_bits
from sampling import examples
from undertow.equations import variants
from variant_case import OPTIONS, VariantCase

DTYPES = ("float64", "float32")


def tolerance(case: VariantCase) -> float:
    return {"float64": 1e-11, "float32": 2e-5}[case.dtype] * (10 if case.norms else 1)


def check(case: VariantCase, threads: int = 1) -> None:
    outputs = case.forward(threads=threads)
    compared = {name: a for name, a in outputs.items() if name not in {"normed", "scale"}}
    assert_close(compared, case.expected_outputs, tolerance(case))
    without = case.forward(tape=False, threads=threads)
    assert_same_bits(without, {name: outputs[name] for name in without})
    assert_close(case.backward(outputs, threads=threads), case.expected_gradients(), tolerance(case))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_each_alone(option, dtype):
    options = ("reset", "reset_states") if option == "reset_states" else (option,)
    for reverse, ragged in ((False, False), (True, True)):
        check(VariantCase(dtype=dtype, options=options, reverse=reverse, ragged=ragged), threads=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", [*combinations(OPTIONS, 2)], ids="-".join)
def test_each_with_each_other(pair, dtype):
    check(
        VariantCase(
            T=9, N=5, C=3, H=21, dtype=dtype, options=pair, ragged=True, reverse=len(pair[0]) % 2 == 0
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size",
    [(1, 1, 1, 1), (1, 5, 3, 5), (5, 1, 1, 16), (7, 5, 70, 1), (60, 31, 3, 37), (3, 2, 300, 200)],
    ids=str,
)
def test_all_at_once(size, dtype):
    T, N, C, H = size
    for options in (OPTIONS, OPTIONS[:-1]):
        if "norms" in options and C == 1 and dtype == "float32":
            continue  # LN(W x) is then the same for any x > 0: dx is what is left of numbers that cancel
        check(VariantCase("lstm", T, N, C, H, dtype, options=options, ragged=True), threads=2)
        check(VariantCase("lstm", T, N, C, H, dtype, options=options, reverse=True), threads=2)


@settings(max_examples=examples(60))
@given(
    st.builds(
        VariantCase,
        T=st.integers(1, 9),
        N=st.integers(1, 9),
        C=st.integers(1, 9),
        H=st.integers(1, 40),
        reverse=st.booleans(),
        ragged=st.booleans(),
        bias=st.booleans(),
        seed=st.integers(0, 99),
        options=st.sets(st.sampled_from(OPTIONS)).map(lambda s: tuple(sorted(s))),
    )
)
def test_any(case):
    check(case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_added_gives_the_bits_of_the_lstm(dtype):
    plain, varied = Case(dtype=dtype, ragged=True), VariantCase(dtype=dtype, ragged=True)
    expected = plain.forward()
    assert_same_bits(varied.forward(), expected)
    # an option that changes nothing has the kernel of variants run
    varied.__dict__["variant"] = variants.Variant(mask=np.ones((varied.T, varied.N), bool))
    assert_same_bits(varied.forward(), expected)


@pytest.mark.parametrize("options", [OPTIONS, OPTIONS[:-1]], ids=["norms", "no-norms"])
@pytest.mark.parametrize("size", [(40, 13, 9, 70), (25, 24, 33, 37), (3, 2, 300, 200)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(options, size):
    case = VariantCase("lstm", *size, "float32", options=options, ragged=True)
    alone = case.run(threads=1)
    for threads in (2, 3, 5):
        assert_same_bits(case.run(threads), alone)


def test_packed_rows_take_all_that_has_no_steps_of_its_own():
    packed = VariantCase(options=("recurrent", "coupled", "peepholes"), ragged=True, packed=True)
    padded = replace(packed, packed=False)
    padded.__dict__["lengths"] = packed.lengths  # packed, none is zero
    assert_same_bits(packed.forward(tape=False), padded.forward(tape=False))
