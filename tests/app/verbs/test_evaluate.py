"""``undertow evaluate`` at the command line: files, refusals."""

import json

import polars as pl
import pytest

from inputs import CLASSIFY, FORECAST, wave_table


@pytest.fixture
def run(undertow, waves):
    assert undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r").code == 0
    return "r"


def test_files_hold_all_rows(undertow, run, waves):
    said = undertow("evaluate", run, "-o", "m.json")
    assert said.code == 0
    assert "held back" in said.out and "RMSE" in said.out and "m.json" in said.out
    found = json.loads((waves.parent / "m.json").read_text())
    assert found["task"] == "forecast"
    assert undertow("evaluate", run, waves, "-o", "m.csv").code == 0
    table = pl.read_csv("m.csv")
    assert len(table) == len(found["rows"])
    assert table["rmse"].to_list() == pytest.approx([row["rmse"] for row in found["rows"]])
    assert undertow("evaluate", run, "-o", "m.csv").code == 2
    assert undertow("evaluate", run, "-o", "m.csv", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.csv",), "nothing.csv: no such file"),
        (("-o", "m.txt"), "--output m.txt: expected a name that ends in .json or .csv"),
    ],
)
def test_refusals(undertow, run, arguments, message):
    said = undertow("evaluate", run, *arguments)
    assert (said.code, said.err.strip()) == (2, f"undertow: {message}")


def test_a_file_without_truth(undertow, run, waves):
    pl.read_csv(waves).head(10).write_csv("short.csv")
    said = undertow("evaluate", run, "short.csv")
    assert said.code == 2
    assert "short.csv: no forecast of level has a known truth; expected a series of 11 rows" in said.err


def test_metric_orders_the_series(undertow, run):
    said = undertow("evaluate", run, "--metric", "nse")
    assert "by NSE of the LSTM" in said.out
    assert undertow("evaluate", run, "--metric", "wape").code == 2


def test_a_metric_of_forecasts_has_no_meaning_for_labels(undertow, walks):
    assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r").code == 0
    refused = undertow("evaluate", "r", "--metric", "nse")
    assert refused.code == 2
    assert "--metric: has no meaning for task classify: it orders the series of forecasts" in refused.err


def test_remedies_are_options_that_the_verb_has(undertow, run):
    """--gaps is an option of train and predict, --missing of train alone; evaluate has neither."""
    table, there = wave_table(60), pl.int_range(pl.len()) != 30
    words = pl.when(there).then(pl.col("level").cast(pl.String)).otherwise(pl.lit("high"))
    table.with_columns(level=pl.when(there).then("level")).write_csv("hole.csv")
    table.with_columns(level=words).write_csv("word.csv")
    said = {}
    for name in ("hole.csv", "word.csv"):
        for verb in ("train", "predict", "evaluate"):
            options = (name, *FORECAST, "--folder", "n") if verb == "train" else ("r", name)
            said[verb, name] = undertow(verb, *options).err
    gaps, missing = "--gaps fill repeats the one before, ", "--missing 'high' reads it as a missing value"
    train = "; correct the file, or train with an option: "
    assert [("; " + gaps in said[verb, "hole.csv"]) for verb in ("train", "predict")] == [True, True]
    assert train + gaps in said["evaluate", "hole.csv"]
    assert "; " + missing in said["train", "word.csv"]
    assert all(train + missing in said[verb, "word.csv"] for verb in ("predict", "evaluate"))
