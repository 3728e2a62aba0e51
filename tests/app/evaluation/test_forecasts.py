"""Evaluated forecasts: the same errors computed from the file that predict writes, and a linear model."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inputs import FORECAST, wave_table
from undertow.app.evaluation import linear
from undertow.app.evaluation.evaluate import evaluate
from undertow.app.evaluation.forecasts import measure
from undertow.app.reading.predictions import forecasts
from undertow.app.runs.folder import open_run


@pytest.fixture
def run(undertow, waves):
    undertow("train", waves, *FORECAST, "--horizon", 3, "--epochs", 2, "--folder", "r")
    return Path("r")


def test_metrics_are_those_of_the_written_predictions(undertow, run):
    wave_table(200).write_csv("new.csv")
    undertow("predict", run, "new.csv", "-o", "p.csv")
    found = evaluate(open_run(run), Path("new.csv"))
    table = pl.read_csv("p.csv").drop_nulls("truth")
    error = table["prediction"] - table["truth"]
    (row,) = found.of("all", by="LSTM")
    assert row["n"] == len(table) == 2 * (188 * 3 + 2 + 1)
    assert row["rmse"] == pytest.approx(float((error**2).mean()) ** 0.5, rel=1e-5)
    assert row["mae"] == pytest.approx(error.abs().mean(), rel=1e-5)
    assert row["bias"] == pytest.approx(error.mean(), abs=1e-5)
    for place in ("north", "south"):
        (row,) = found.of("series", by="LSTM", name=place)
        own = table.filter(pl.col("place") == place)
        assert row["mae"] == pytest.approx((own["prediction"] - own["truth"]).abs().mean(), rel=1e-5)
    for ahead in (1, 2, 3):
        (row,) = found.of("ahead", by="LSTM", name=ahead)
        own = table.filter(pl.col("ahead") == ahead)
        assert row["n"] == len(own)
        assert row["mae"] == pytest.approx((own["prediction"] - own["truth"]).abs().mean(), rel=1e-5)


def test_intervals_hold_the_truths_that_calibrated_them(undertow):
    """The calibration puts a bound on a truth of the validation part: rounding must not leave it outside."""
    shifted = (pl.col("level") * 0.37 + 100).round(3)
    wave_table(160).with_columns(shifted).write_csv("waves.csv")
    undertow("train", "waves.csv", *FORECAST, "--horizon", 3, "--epochs", 2, "--folder", "r")
    run = open_run(Path("r"))
    for row in evaluate(run, None).of("ahead", by="LSTM"):
        assert row["coverage"] * row["n"] == pytest.approx(math.ceil((row["n"] + 1) * 0.9))
    wave_table(200).with_columns(shifted).write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "p.csv").out
    table = pl.read_csv("p.csv").drop_nulls("truth")
    inside = table.filter(pl.col("truth").is_between("lower", "upper"))
    assert f"inside ({len(inside):,} of {len(table):,})" in said
    (row,) = evaluate(run, Path("new.csv")).of("all", by="LSTM")
    assert row["coverage"] == pytest.approx(len(inside) / len(table))


def test_baselines_and_their_skill(run):
    wave_table(200).write_csv("new.csv")
    found = evaluate(open_run(run), Path("new.csv"))
    rows = {row["by"]: row for row in found.of("all")}
    assert list(rows) == ["LSTM", "persistence", "7 rows ago", "seasonal (day-of-year) mean", "linear"]
    level = wave_table(200)["level"].to_numpy().reshape(2, 200)
    ends, errors = np.arange(9, 200), []
    for values in level:
        errors += [values[end] - values[end + k] for end in ends for k in (1, 2, 3) if end + k < 200]
    assert rows["persistence"]["mae"] == pytest.approx(np.abs(errors).mean())
    assert rows["persistence"]["skill"] == pytest.approx(
        1 - rows["LSTM"]["rmse"] / rows["persistence"]["rmse"]
    )
    assert rows["LSTM"]["skill"] != rows["LSTM"]["skill"]
    assert rows["linear"]["rmse"] < 0.2 < rows["persistence"]["rmse"]  # a wave with noise of 0.1 is linear


def test_mase_is_scaled_by_the_training_part_of_each_series(run, waves):
    table = pl.read_csv(waves)
    level = table["level"].to_numpy().reshape(2, 160)[:, :128]  # the first 80 %
    scales = np.abs(level[:, 7:] - level[:, :-7]).mean(axis=1)
    kept = json.loads((run / "config.json").read_text())["facts"]
    assert kept["season"] == 7
    np.testing.assert_allclose(list(kept["scales"]["level"].values()), scales, rtol=1e-5)
    found = evaluate(open_run(run), None)
    for place, scale in zip(("north", "south"), scales, strict=True):
        (row,) = found.of("series", by="LSTM", name=place)
        assert row["mase"] == pytest.approx(row["mae"] / scale, rel=1e-5)


def test_of_the_training_table_only_the_part_held_back_is_scored(run, waves):
    found = evaluate(open_run(run), waves)
    assert found.of("all", by="LSTM")[0]["n"] == 2 * (30 * 3 + 2 + 1)  # targets from row 128 of 160 on
    assert "held back" in found.said[0]
    one_more = pl.read_csv(waves).with_columns(extra=1)
    one_more.write_csv("other.csv")
    assert evaluate(open_run(run), Path("other.csv")).of("all", by="LSTM")[0]["n"] == 2 * (148 * 3 + 2 + 1)


def test_rows_after_the_training_part_do_not_change_the_linear_model(undertow, run, waves):
    opened = open_run(run)
    (found,) = forecasts(opened, waves)
    before = linear.forecast(opened, waves, found)
    table = wave_table(160)
    late = pl.col("day") >= pl.date(2020, 5, 8)  # the last 32 days
    table.with_columns(level=pl.when(late).then(pl.col("level") + 50).otherwise("level")).write_csv(
        "late.csv"
    )
    undertow("train", "late.csv", *FORECAST, "--horizon", 3, "--epochs", 1, "--folder", "late")
    other = open_run(Path("late"))
    late_model = linear.forecast(other, waves, forecasts(other, waves)[0])
    np.testing.assert_allclose(late_model, before)


def test_without_the_training_table_there_is_no_linear_model(run, waves):
    wave_table(100).write_csv("new.csv")
    waves.unlink()
    found = evaluate(open_run(run), Path("new.csv"))
    assert "linear" not in {row["by"] for row in found.rows}
    assert any("no linear model" in line and "waves.csv" in line for line in found.said)


def test_a_linear_process_is_forecast_without_error(undertow):
    t = np.arange(300)
    values = np.sin(0.3 * t) + 0.5 * np.cos(0.3 * t)  # y_{t+1} = 2 cos(0.3) y_t - y_{t-1}
    pl.DataFrame({"t": t, "y": values}).write_csv("sine.csv")
    undertow(
        "train", "sine.csv", "--target", "y", "--steps", 8, "--hidden-size", 4, "--epochs", 1, "--folder", "s"
    )
    opened = open_run(Path("s"))
    (found,) = forecasts(opened, Path("sine.csv"))
    predicted = linear.forecast(opened, Path("sine.csv"), found)
    assert np.nanmax(np.abs(predicted - found.truth)) < 0.01


def test_the_linear_model_reads_the_known_future(undertow):
    """The target is twice the promotion of its own row: without the known future it cannot be forecast."""
    promo = np.random.default_rng(0).normal(size=240).round(2)
    table = pl.DataFrame({"promo": promo, "sold": (2 * promo + 5).round(2)})
    table.write_csv("shop.csv")
    options = ("--target", "sold", "--known", "promo", "--steps", 4, "--horizon", 2, "--hidden-size", 4)
    assert undertow("train", "shop.csv", *options, "--epochs", 1, "--folder", "r").code == 0
    (row,) = evaluate(open_run(Path("r")), None).of("all", by="linear")
    assert (
        row["rmse"] < 0.02 < 0.5 < evaluate(open_run(Path("r")), None).of("all", by="persistence")[0]["rmse"]
    )
    future = pl.DataFrame({"promo": [1.0], "sold": [None]}, schema=table.schema)
    pl.concat([table, future]).write_csv("new.csv")  # the future of one row only
    found = forecasts(open_run(Path("r")), Path("new.csv"))[0]
    ahead = linear.forecast(open_run(Path("r")), Path("new.csv"), found)
    assert ahead[-1, 0] == pytest.approx(7.0, abs=0.05) and np.isnan(ahead[-1, 1])


def test_the_linear_model_simulates(undertow):
    """The target is the rain of two rows. Its last value is not there, so persistence is no rival."""
    rain = np.random.default_rng(0).exponential(size=240).round(2)
    pl.DataFrame({"rain": rain, "level": (rain + np.roll(rain, 1)).round(2)}).write_csv("river.csv")
    options = ("--target", "level", "--simulate", "--steps", 4, "--hidden-size", 4, "--epochs", 1)
    assert undertow("train", "river.csv", *options, "--folder", "r").code == 0
    rows = evaluate(open_run(Path("r")), None).of("all")
    assert [row["by"] for row in rows] == ["LSTM", "training mean", "linear"]
    assert rows[2]["rmse"] < 0.2 * rows[1]["rmse"]


def test_measure_leaves_out_what_is_not_known():
    nan = np.nan
    row = measure(np.array([[1.0, nan]]), np.array([[2.0, 5.0]]), np.array([[0.5, 0.5]]))
    assert (row["n"], row["mae"], row["mase"], row["bias"]) == (1, 1.0, 2.0, 1.0)
