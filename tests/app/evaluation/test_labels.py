"""Evaluated classes: counts from predict's own output, and classes that the training never saw."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inputs import CLASSIFY, walk_table
from undertow.app.errors import UserError
from undertow.app.evaluation.evaluate import evaluate
from undertow.app.evaluation.labels import Confusion, rows
from undertow.app.runs.folder import open_run


@pytest.fixture
def run(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "r")
    return open_run(Path("r"))


def test_the_matrix_counts_what_predict_writes(undertow, run):
    walk_table(30, seed=1).write_csv("new.csv")
    undertow("predict", "r", "new.csv", "-o", "p.csv")
    table = pl.read_csv("p.csv")
    found = evaluate(run, Path("new.csv"))
    for row in found.of("confusion"):
        same = (pl.col("truth") == row["name"]) & (pl.col("prediction") == row["predicted"])
        assert row["n"] == len(table.filter(same))
    assert sum(row["n"] for row in found.of("confusion")) == 30
    mine, always = found.of("all")
    assert mine["accuracy"] == pytest.approx((table["truth"] == table["prediction"]).mean())
    assert (always["by"], always["accuracy"]) == ("always down", 0.5)
    assert [row["n"] for row in found.of("class")] == [15, 15]


def test_of_the_training_table_only_the_part_held_back_is_scored(run, walks):
    assert evaluate(run, walks).of("all")[0]["n"] == 8
    assert evaluate(run, None).of("all")[0]["n"] == 8


def test_a_class_that_the_training_did_not_have_is_always_wrong(run):
    table = walk_table(10).with_columns(
        way=pl.when(pl.col("id") == "w3").then(pl.lit("round")).otherwise("way")
    )
    table.write_csv("new.csv")
    found = evaluate(run, Path("new.csv"))
    assert [row["recall"] for row in found.of("class", name="round")] == [0.0]
    assert any("round" in line for line in found.said)


def test_without_labels_nothing_can_be_compared(run, walks):
    table = pl.read_csv(walks)
    table.drop("way").write_csv("bare.csv")
    table.with_columns(way=None).write_csv("empty.csv")
    for name in ("bare.csv", "empty.csv"):
        with pytest.raises(UserError, match=rf"{name}: no classes in 'way' \(--label\)"):
            evaluate(run, Path(name))


def test_rows_of_a_matrix():
    made = rows("LSTM", Confusion(["a", "b"], np.array([[3, 1], [0, 2]])))
    mine, always = (row for row in made if row["part"] == "all")
    assert (mine["accuracy"], mine["balanced_accuracy"]) == (5 / 6, (3 / 4 + 1) / 2)
    assert (always["by"], always["accuracy"], always["balanced_accuracy"]) == ("always a", 4 / 6, 0.5)
    a, b = (row for row in made if row["part"] == "class")
    assert (a["precision"], a["recall"], a["n"]) == (1, 3 / 4, 4)
    assert b["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    pairs = [(row["name"], row["predicted"], row["n"]) for row in made if row["part"] == "confusion"]
    assert pairs == [("a", "a", 3), ("a", "b", 1), ("b", "b", 2)]
