"""Parts of a file that are in the system's cache: right where they are said to be there."""

import os

import numpy as np
import pytest

from undertow.kernels import native

N, M = 23, 300


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "values"
    np.arange(5000, dtype=np.float32).tofile(path)
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def given(**changed):
    offsets = 4 * np.random.default_rng(0).integers(0, 5000 - M, N)
    parts, missing = np.full((N, M), np.nan, np.float32), np.zeros(N, bool)
    return {"offsets": offsets, "parts": parts, "missing": missing, "threads": 1} | changed


@pytest.mark.parametrize("threads", [1, 2, 3, 40])
def test_what_is_not_missing_is_right(file, threads):
    call = given(threads=threads)
    assert native.read_cached(file, **call) == call["missing"].sum()
    there = ~call["missing"]
    expected = call["offsets"][:, None] // 4 + np.arange(M)
    np.testing.assert_array_equal(call["parts"][there], expected[there])


def test_what_ends_beyond_the_file_is_missing(file):
    call = given(offsets=np.full(N, 4 * (5000 - M) + 4))
    assert native.read_cached(file, **call) == N
    assert call["missing"].all()


def test_all_is_missing_of_no_file():
    call = given()
    assert native.read_cached(-1, **call) == N
    assert call["missing"].all()


def test_no_parts(file):
    empty = {
        "offsets": np.empty(0, np.int64),
        "parts": np.empty((0, M), np.float32),
        "missing": np.empty(0, bool),
    }
    assert native.read_cached(file, **given(**empty)) == 0


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("offsets", np.zeros(N, np.int32), TypeError),
        ("offsets", np.zeros(N + 1, np.int64), ValueError),
        ("offsets", None, TypeError),
        ("parts", np.zeros((N, M)), TypeError),
        ("parts", np.zeros(N, np.float32), ValueError),
        ("parts", np.zeros((N, 2 * M), np.float32)[:, ::2], ValueError),
        ("missing", np.zeros(N, np.uint8), TypeError),
        ("missing", np.zeros(N - 1, bool), ValueError),
        ("threads", 0, ValueError),
    ],
)
def test_what_does_not_fit_is_refused_by_name(file, name, value, error):
    with pytest.raises(error, match=f"^{name}: expected"):
        native.read_cached(file, **given(**{name: value}))
