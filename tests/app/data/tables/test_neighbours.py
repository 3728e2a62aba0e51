"""Rows compared with the row before them, some at a time: the same as at once."""

import polars as pl
import pytest

from undertow.app.data.tables import table as tables
from undertow.app.data.tables.panel import spans_of
from undertow.app.data.tables.series import is_ordered
from undertow.app.data.tables.table import neighbours, repeats

sizes = pytest.mark.parametrize("block", [1, 2, 3, 8, 9, 500_000])


@pytest.fixture
def rows():
    """In chunks that differ from column to column."""
    sites = pl.concat(
        [pl.Series(["Zoë", "Zoë", "a", None]), pl.Series([None, "b", "b", "b", "é"])], rechunk=False
    )
    times = pl.concat(
        [pl.Series([1.0, 1.0]), pl.Series([0.0, float("nan"), float("nan"), 2, 2, 3, 3])], rechunk=False
    )
    return pl.DataFrame({"site": sites, "time": times})


@sizes
@pytest.mark.parametrize("by", [("site",), ("time",), ("site", "time")])
def test_repeated_values(rows, monkeypatch, block, by):
    monkeypatch.setattr(tables, "BLOCK", block)
    expected = [k > 0 and rows.select(by).row(k) == rows.select(by).row(k - 1) for k in range(len(rows))]
    if "time" in by:
        expected[4] = True  # a number that is none
    assert repeats(rows, by).tolist() == expected
    assert repeats(rows[:1], by).tolist() == [False]
    assert repeats(rows[:0], by).tolist() == []


@sizes
def test_the_spans_of_a_column(rows, monkeypatch, block):
    monkeypatch.setattr(tables, "BLOCK", block)
    assert spans_of(rows, ("site",)) == [(0, 2), (2, 3), (3, 5), (5, 8), (8, 9)]
    assert spans_of(rows[:1], ("site",)) == [(0, 1)]
    assert spans_of(rows[:0], ("site",)) == []


@sizes
@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_order_is_seen_wherever_it_breaks(monkeypatch, block, kind):
    monkeypatch.setattr(tables, "BLOCK", block)
    site, time = ["B", "B", "a", "a", "a", "c", "c", "c", "é", "é"], [1, 2, 0, 1, 1, 0, 0, 2, 1, 3]
    table = pl.DataFrame({"site": pl.Series(site).cast(kind), "time": time})
    assert is_ordered(table, ["site", "time"])
    for k in range(len(table) - 1):
        if table.row(k) != table.row(k + 1):
            swapped = [*range(k), k + 1, k, *range(k + 2, len(table))]
            assert not is_ordered(table[swapped], ["site", "time"])
    assert not is_ordered(table, ["time"])
    assert is_ordered(table[:1], ["site"])
    assert is_ordered(table[:0], ["site"])


def test_every_pair_comes_once(rows, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 3)
    pairs = [
        pair
        for before, after in neighbours(rows, ["site"])
        for pair in zip(before["site"], after["site"], strict=True)
    ]
    assert pairs == list(zip(rows["site"][:-1], rows["site"][1:], strict=True))
