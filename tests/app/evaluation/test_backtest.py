"""Backtests: periods side by side, and nothing after a period's beginning reaches its training."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from inputs import FORECAST, wave_table
from undertow.app.errors import UserError
from undertow.app.evaluation.evaluate import backtest, evaluate
from undertow.app.runs.folder import open_run

OPTIONS = (*FORECAST, "--epochs", 1)


@pytest.fixture
def run(undertow, waves):
    assert undertow("train", waves, *OPTIONS, "--folder", "r").code == 0
    return open_run(Path("r"))


def quiet(_line: str) -> None:
    pass


def test_periods_share_out_the_part_held_back(run):
    found = backtest(run, None, 4, None, quiet)
    mine = found.of("origin", by="LSTM")
    assert [row["name"] for row in mine] == ["2020-05-08", "2020-05-16", "2020-05-24", "2020-06-01"]
    assert [row["n"] for row in mine] == [16] * 4  # eight days of two series
    (whole,) = evaluate(run, None).of("all", by="LSTM")
    assert np.mean([row["rmse"] ** 2 for row in mine]) == pytest.approx(whole["rmse"] ** 2)
    (mean,) = found.of("origins", by="LSTM", name="mean")
    (spread,) = found.of("origins", by="LSTM", name="standard deviation")
    assert mean["rmse"] == pytest.approx(np.mean([row["rmse"] for row in mine]))
    assert spread["mae"] == pytest.approx(np.std([row["mae"] for row in mine]))
    with pytest.raises(UserError, match=r"--backtest 40: .*waves\.csv has 32 moments to forecast from"):
        backtest(run, None, 40, None, quiet)


def test_no_forecast_reaches_into_the_next_period(undertow, waves):
    undertow("train", waves, *OPTIONS, "--horizon", 3, "--folder", "r3")
    mine = backtest(open_run(Path("r3")), None, 2, None, quiet).of("origin", by="LSTM")
    assert mine[0]["n"] == 2 * 3 * 14  # of 16 moments the last two would need rows of the next period


def test_a_training_sees_the_rows_before_its_period_only(run, waves):
    before = backtest(run, None, 2, Path("first"), quiet)
    assert [row["name"] for row in before.of("origin", by="LSTM")] == ["2020-05-08", "2020-05-24"]
    second = pl.col("day") >= date(2020, 5, 24)
    changed = wave_table(160).with_columns(
        level=pl.when(second).then(pl.col("level") * 3 + 7).otherwise("level"),
        sky=pl.when(second).then(pl.lit("a word of its own")).otherwise("sky"),
    )
    changed.write_csv("changed.csv")
    after = backtest(run, Path("changed.csv"), 2, Path("second"), quiet)
    for number in (1, 2):  # also the second training, which ends where the changes begin
        one, other = (load_file(f"{name}/before-{number}/model.safetensors") for name in ("first", "second"))
        assert all(np.array_equal(value, other[name]) for name, value in one.items())
    for by in ("LSTM", "persistence", "linear"):
        one, other = before.of("origin", by=by), after.of("origin", by=by)
        assert one[0]["rmse"] == pytest.approx(other[0]["rmse"], rel=1e-12)
        assert one[1]["rmse"] < other[1]["rmse"]
    assert open_run(Path("first/before-1")).training == run.training


def test_the_command_line(undertow, run):
    said = undertow("evaluate", "r", "--backtest", 2, "--retrain", "--keep", "runs", "-o", "b.csv")
    assert said.code == 0, said.err
    assert "training 2 of 2, on the rows before 2020-05-24" in said.out
    assert "standard deviation" in said.out
    assert Path("runs/before-2/model.safetensors").exists()
    assert set(pl.read_csv("b.csv")["part"]) == {"origin", "origins"}
    for options, message in (
        (("--retrain",), "--retrain: expected together with --backtest K"),
        (("--backtest", 2, "--keep", "f"), "--keep f: expected together with --retrain"),
        (("--backtest", 2, "--picture", "p.png"), "--picture p.png: --backtest has no picture; leave it out"),
    ):
        refused = undertow("evaluate", "r", *options)
        assert (refused.code, refused.err.strip()) == (2, f"undertow: {message}")
