"""Sampling against the definitions of its papers, and stops that span several pieces."""

import numpy as np
import pytest

from undertow.app.errors import UserError
from undertow.app.reading.sampling import HOTTEST, Sampling, until

CASES = [
    {"temperature": 1.0},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_k": 5},
    {"top_p": 0.6},
    {"min_p": 0.25},
    {"temperature": 0.7, "top_k": 6, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.3},
    {"top_k": 1},
    {"top_p": 1e-9},
    {"min_p": 1.0},
    {"top_k": 1000},
]


def distribution(scores, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0):
    """The definitions one after another, each on the renormalised result of the one before."""
    chances = np.exp(scores / temperature)
    chances /= chances.sum()
    if top_k is not None and top_k < len(chances):  # Fan et al. 2018: the k largest
        chances[chances < np.sort(chances)[-top_k]] = 0
        chances /= chances.sum()
    if top_p < 1:  # Holtzman et al. 2020, equation 2: the smallest set whose sum is at least p
        kept: list = []
        while chances[kept].sum() < top_p:
            kept.append(max((k for k in range(len(chances)) if k not in kept), key=lambda k: chances[k]))
        chances = np.where(np.isin(np.arange(len(chances)), kept), chances, 0)
        chances /= chances.sum()
    chances[chances < min_p * chances.max()] = 0  # Nguyen et al. 2024, equation 2
    return chances / chances.sum()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_follow_the_definitions(case):
    rng = np.random.default_rng(0)
    scores = 1.5 * rng.normal(size=12)
    wanted = distribution(scores, **case)
    drawn = [Sampling(**case).draw(scores, rng) for _ in range(20_000)]
    shares = np.bincount(drawn, minlength=12) / len(drawn)
    assert (shares[wanted == 0] == 0).all()
    assert shares == pytest.approx(wanted, abs=0.015)
    assert (shares[wanted > 0.001] > 0).all()


def test_the_order_of_the_filters_is_temperature_top_k_top_p_min_p():
    scores = np.log([0.4, 0.3, 0.2, 0.1])
    kept = {
        number
        for seed in range(300)
        for number in [Sampling(top_k=2, top_p=0.5).draw(scores, np.random.default_rng(seed))]
    }
    assert kept == {0}  # 0.4/0.7 is more than a half; without top-k first, two would be kept
    hot = Sampling(temperature=100.0, min_p=0.9)
    assert {hot.draw(scores, np.random.default_rng(seed)) for seed in range(300)} == {0, 1, 2, 3}


def test_temperature_0_takes_the_likeliest_whatever_the_filters():
    scores, rng = np.array([0.1, 3.0, 2.9]), np.random.default_rng(0)
    for case in ({}, {"top_k": 2}, {"top_p": 0.9}, {"min_p": 0.1}):
        assert {Sampling(temperature=0, **case).draw(scores, rng) for _ in range(20)} == {1}
    assert {Sampling(temperature=5e-324).draw(scores, rng) for _ in range(20)} == {1}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"temperature": -0.1}, "--temperature -0.1: expected a number from 0 to 1,000,000"),
        ({"temperature": 2.0 * HOTTEST}, "--temperature 2000000.0: expected a number from 0"),
        ({"temperature": float("nan")}, "--temperature nan: expected a number from 0"),
        ({"top_k": 0}, "--top-k 0: expected a whole number from 1"),
        ({"top_p": 0.0}, "--top-p 0.0: expected a number above 0, to 1"),
        ({"top_p": 1.01}, "--top-p 1.01: expected a number above 0, to 1"),
        ({"min_p": -0.01}, "--min-p -0.01: expected a number from 0 to 1"),
        ({"min_p": float("nan")}, "--min-p nan: expected a number from 0 to 1"),
    ],
    ids=str,
)
def test_ranges(case, said):
    with pytest.raises(UserError) as error:
        Sampling(**case)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "stops", "wanted"),
    [
        ("one. two. three.", [". "], "one"),
        ("one two three", ["three", "tw"], "one "),
        ("aaab", ["aab"], "a"),
        ("abcabd", ["abd"], "abc"),
        ("ab", ["abc"], "ab"),
        ("abc", ["abc"], ""),
        ("abc", ["bc", "abc"], ""),  # both are there: the text ends before the first
        ("né—x", ["é—"], "n"),
        ("nothing", [], "nothing"),
        ("", ["a"], ""),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_the_text_ends_before_a_stop_however_it_is_cut(text, stops, wanted, size):
    pieces = [text[k : k + size] for k in range(0, len(text), size)]
    assert "".join(until(pieces, stops)) == wanted


def test_text_is_passed_on_as_soon_as_it_is_no_stop():
    def pieces():
        for piece in ("a", "b", "x", "a", "b", "c", "d"):
            asked.append(piece)
            yield piece

    asked: list = []
    stream = until(pieces(), ["abc"])
    assert [next(stream), len(asked)] == ["", 1]  # it may be a stop
    assert [next(stream), len(asked)] == ["", 2]
    assert [next(stream), len(asked)] == ["abx", 3]
    assert list(stream) == ["", "", ""]
    assert asked == ["a", "b", "x", "a", "b", "c"]  # what follows a stop is not asked for
