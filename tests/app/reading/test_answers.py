"""What predict prints and writes about labelled sequences."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inputs import FORECAST
from undertow.app.reading.watch import watch
from undertow.app.runs.folder import open_run

REGRESS = ("--sequence", "id", "--label", "drift", "--hidden-size", 8)


def drifts(n, seed=0):
    """Walks of 4 to 9 steps; the label is ten times the drift, plus 100."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        drift = rng.uniform(-1, 1)
        x = drift * np.arange(rng.integers(4, 10)) + 0.02 * rng.normal()
        rows += [(f"w{number}", k, float(value), round(100 + 10 * drift, 3)) for k, value in enumerate(x)]
    return pl.DataFrame(rows, schema=["id", "step", "x", "drift"], orient="row")


@pytest.fixture
def numbers(undertow):
    drifts(60).write_csv("drifts.csv")
    result = undertow(
        "train", "drifts.csv", *REGRESS, "--epochs", 15, "--lr", 0.02, "--noise", 0, "--folder", "r"
    )
    assert result.code == 0, result.err
    return result


def test_numbers_are_learnt_in_their_own_unit(undertow, numbers):
    run = open_run(Path("r"))
    best = min(row["validation"] for row in run.read_metrics())
    assert best < run.baselines["training mean"] / 2
    assert 4 < run.baselines["training mean"] < 8  # the spread of ten times a uniform drift is 5.8
    assert "drift of each sequence" in numbers.out
    drifts(30, seed=5).write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv").out
    table = pl.read_csv("out.csv")
    assert table.columns == ["id", "prediction", "truth"]
    error = (table["prediction"] - table["truth"]).to_numpy()
    assert f"{np.sqrt(np.mean(error**2)):.4g} RMSE of drift over 30 sequences" in said
    assert f"mean absolute error {np.abs(error).mean():.4g}" in said
    assert "training mean: " in said
    assert "beaten by" in said


def test_a_baseline_that_lacks_a_series_is_compared_on_the_others(undertow, waves):
    said = undertow("train", waves, *FORECAST, "--interval", 0, "--epochs", 1, "--folder", "r")
    assert said.code == 0, said.err
    table = pl.read_csv(waves).with_columns(pl.col("place").replace("south", "west"))
    table.write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv").out
    found = pl.read_csv("out.csv").drop_nulls("truth")
    error = (found["prediction"] - found["truth"]).to_numpy()
    north = (found["place"] == "north").to_numpy()
    n = len(found)
    assert f"{np.sqrt(np.mean(error**2)):.4g} RMSE of level over {n} forecasts" in said
    assert "mean: " in said and f"({north.sum()} of {n} forecasts)" in " ".join(said.split())
    table.filter(pl.col("place") == "west").write_csv("new.csv")
    said = undertow("predict", "r", "new.csv").out
    assert "persistence: " in said and "mean: " not in said


def test_numbers_without_truth(undertow, numbers):
    table = drifts(3)
    table.drop("drift").write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv").out
    assert "the labels cannot be compared with the truth" in said
    assert pl.read_csv("out.csv").columns == ["id", "prediction"]


@pytest.mark.parametrize("verb", ["info", "inspect", "doctor", "evaluate"])
def test_every_verb_reads_the_run(undertow, numbers, verb):
    result = undertow(verb, "r")
    assert result.code == 0, result.err


def test_inspect_compares_the_answer_with_the_truth(undertow, numbers):
    undertow("inspect", "r")
    assert "the truth is 1" in Path("r/report.html").read_text("utf-8")  # about 100


def test_doctor_measures_the_loss_in_units_of_the_spread(numbers):
    watched = watch(open_run(Path("r")), sequences=100)
    rows = open_run(Path("r")).read_metrics()
    assert watched.loss == pytest.approx(min(row["validation_loss"] for row in rows), rel=1e-4)


def test_resumed_numbers_stay_numbers(undertow, numbers):
    assert undertow("train", "--resume", "r", "--epochs", 16).code == 0
    assert open_run(Path("r")).data.task == "regress"


# -- at every step --------------------------------------------------------------------------------


def sums(n, seed=0):
    """Steps up and down; the label is the sign of the last two steps' sum, or ten times that sum."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n):
        x = rng.normal(size=rng.integers(8, 20))
        total = x + np.r_[0, x[:-1]]
        for k, (value, found) in enumerate(zip(x, total, strict=True)):
            empty = k == 2
            sign = None if empty else ("up" if found > 0 else "down")
            rows.append((f"w{number}", k, float(value), sign, None if empty else round(10 * found, 3)))
    return pl.DataFrame(rows, schema=["id", "step", "x", "sign", "total"], orient="row")


def train_steps(undertow, label, other):
    sums(60).drop(other).write_csv("sums.csv")
    options = ("--hidden-size", 12, "--epochs", 25, "--lr", 0.02, "--noise", 0)
    result = undertow("train", "sums.csv", "--sequence", "id", "--label", label, *options, "--folder", "r")
    assert result.code == 0, result.err
    return result


def test_a_class_at_every_step(undertow):
    said = train_steps(undertow, "sign", "total").out
    assert "sign changes within a sequence: it is learnt at every step" in said
    assert "60 rows without a label: not scored" in said
    assert "sign of each step" in said
    new = sums(20, seed=5).drop("total")
    new.write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv").out
    table = pl.read_csv("out.csv")
    assert table.columns == ["id", "step", "prediction", "probability", "truth"]
    assert table.select("id", "step").equals(new.select("id", "step"))
    assert table["truth"].to_list() == new["sign"].to_list()
    known = table.drop_nulls("truth")
    right = int((known["prediction"] == known["truth"]).sum())
    assert right / len(known) > 0.85
    assert f"{100 * right / len(known):.1f}% right: {right} of {len(known)} steps" in said


def test_a_number_at_every_step(undertow):
    train_steps(undertow, "total", "sign")
    run = open_run(Path("r"))
    assert min(row["validation"] for row in run.read_metrics()) < run.baselines["training mean"] / 3
    new = sums(20, seed=5).drop("sign")
    new.write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv").out
    table = pl.read_csv("out.csv")
    assert table.columns == ["id", "step", "prediction", "truth"]
    error = (table["prediction"] - table["truth"]).drop_nulls().to_numpy()
    assert f"{np.sqrt(np.mean(error**2)):.4g} RMSE of total over {len(error)} steps" in said
    assert len(error) == len(new) - 20


@pytest.mark.parametrize("label", ["sign", "total"])
def test_every_verb_reads_a_run_of_steps(undertow, label):
    train_steps(undertow, label, "total" if label == "sign" else "sign")
    for verb in ("info", "inspect", "doctor", "evaluate"):
        result = undertow(verb, "r")
        assert result.code == 0, f"{verb}: {result.err}"
    assert " steps" in result.out  # of evaluate
    watched = watch(open_run(Path("r")), sequences=100)
    rows = open_run(Path("r")).read_metrics()
    assert watched.loss == pytest.approx(min(row["validation_loss"] for row in rows), rel=1e-4)
    assert np.nanmean(watched.loss_per_step) == pytest.approx(watched.loss, rel=1e-4)


def test_rows_stand_for_steps_without_a_time(undertow):
    sums(30).drop("total", "step").write_csv("sums.csv")
    options = ("--sequence", "id", "--label", "sign", "--epochs", 1, "--hidden-size", 4, "--folder", "r")
    undertow("train", "sums.csv", *options)
    undertow("predict", "r", "sums.csv", "-o", "out.csv")
    assert pl.read_csv("out.csv")["row"].to_list() == list(range(1, len(sums(30)) + 1))


def test_balanced_accuracy_is_the_mean_recall(undertow):
    sums(30).drop("total").write_csv("sums.csv")
    options = ("--sequence", "id", "--label", "sign", "--epochs", 2, "--hidden-size", 4, "--folder", "r")
    assert undertow("train", "sums.csv", *options, "--class-weights", "balanced").code == 0
    assert open_run(Path("r")).data.class_weights == "balanced"
    said = undertow("predict", "r", "sums.csv", "-o", "out.csv").out
    known = pl.read_csv("out.csv").drop_nulls("truth")
    shares = known.group_by("truth").agg((pl.col("prediction") == pl.col("truth")).mean())["prediction"]
    assert f"mean recall over the classes (balanced accuracy): {100 * shares.mean():.1f}%" in said


def test_class_weights_of_numbers_are_refused(undertow):
    drifts(20).write_csv("drifts.csv")
    result = undertow("train", "drifts.csv", *REGRESS, "--class-weights", "balanced", "--folder", "r")
    assert result.code == 2
    assert "--class-weights balanced: drift holds numbers, no classes" in result.err
