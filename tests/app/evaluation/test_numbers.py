"""Evaluated numbers of sequences: the same errors computed from the file that predict writes."""

from pathlib import Path

import polars as pl
import pytest

from inputs import walk_table
from undertow.app.evaluation.evaluate import evaluate
from undertow.app.runs.folder import open_run


def test_metrics_are_those_of_the_written_predictions(undertow):
    table = walk_table(40).with_columns(end=pl.col("x").last().over("id").round(3)).drop("way")
    table.write_csv("ends.csv")
    options = ("--sequence", "id", "--label", "end", "--hidden-size", 8, "--epochs", 2, "--folder", "r")
    assert undertow("train", "ends.csv", *options).code == 0
    undertow("predict", "r", "ends.csv", "-o", "p.csv")
    written = pl.read_csv("p.csv")
    table.with_columns(more=1).write_csv("other.csv")
    mine, mean = evaluate(open_run(Path("r")), Path("other.csv")).of("all")
    error, truth = written["prediction"] - written["truth"], written["truth"]
    assert (mine["by"], mine["n"]) == ("LSTM", 40)
    assert mine["mae"] == pytest.approx(error.abs().mean(), rel=1e-4)
    assert mine["rmse"] == pytest.approx(float((error**2).mean()) ** 0.5, rel=1e-4)
    assert mine["r2"] == pytest.approx(1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum(), rel=1e-4)
    assert mean["r2"] < 0.1
    assert evaluate(open_run(Path("r")), None).of("all")[0]["n"] == 8
