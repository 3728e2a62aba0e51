"""Simulation: the target computed from the other columns of the window, up to and with its own row."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run

STEPS = 6
RIVER = ("--target", "flow", "--simulate", "--steps", STEPS, "--hidden-size", 12, "--dropout", 0)


def rain_table(days: int = 300) -> pl.DataFrame:
    """A flow that is the rain of this row and half that of the row before."""
    rain = np.random.default_rng(0).uniform(0, 10, days).round(3)
    flow = rain + 0.5 * np.concatenate([[0.0], rain[:-1]])
    times = [date(2020, 1, 1) + timedelta(days=k) for k in range(days)]
    return pl.DataFrame({"day": times, "rain": rain, "flow": flow.round(3)})


@pytest.fixture
def river(tmp_path):
    path = tmp_path / "river.csv"
    rain_table().write_csv(path)
    return path


def task_of(path, **options):
    values = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": STEPS, "simulate": True}
    return ForecastTask(DataConfig(**values | {"target": ("flow",)} | options), 16, 0)


def test_the_target_is_no_input_and_is_that_of_the_last_row(river):
    task, table = task_of(river), rain_table()
    assert task.facts.values["columns"]["numeric"] == ["rain"]
    assert task.shape.residual == ()
    batch, start = next(iter(task.validation_batches())), int(task.validation[0])
    assert batch.x.shape[0] == STEPS
    assert float(batch.y[0, 0]) == pytest.approx(table["flow"][start + STEPS - 1])
    last = task.inputs.x[start + STEPS - 1, 0]
    assert batch.x[-1, 0, 0] == last  # the row of the target is read
    assert start + STEPS - 1 == 240  # the first row of the validation part
    assert int(task.starts.max()) + STEPS - 1 == 239


def test_missing_targets_are_no_gaps_and_count_nowhere(tmp_path):
    path = tmp_path / "holes.csv"
    hole = pl.col("day") == date(2020, 2, 1)
    rain_table().with_columns(pl.when(hole).then(None).otherwise("flow").alias("flow")).write_csv(path)
    task = task_of(path)
    assert 31 - STEPS + 1 not in task.starts.tolist()
    assert 30 - STEPS + 1 in task.starts.tolist()


def test_baselines_know_nothing_of_the_target(river):
    task, flow = task_of(river), rain_table()["flow"].to_numpy()
    found = {each.name: each.value for each in task.facts.baselines}
    assert "persistence" not in found
    by_hand = float(np.sqrt(np.mean((flow[240:] - flow[:240].mean()) ** 2)))
    assert found["training mean"] == pytest.approx(by_hand, rel=1e-5)


def test_a_simulation_is_learnt_and_needs_no_target(undertow, river, tmp_path):
    said = undertow("train", river, *RIVER, "--epochs", 60, "--lr", 0.02, "--folder", "r")
    assert said.code == 0, said.err
    run = open_run(tmp_path / "r")
    best = min(run.read_metrics(), key=lambda row: row["validation"])["validation"]
    assert best < 0.25 * run.baselines["training mean"]
    predicted = undertow("predict", "r", river, "-o", "out.csv")
    assert predicted.code == 0, predicted.err
    assert "training mean: " in predicted.out
    assert "persistence" not in predicted.out
    table = pl.read_csv("out.csv", try_parse_dates=True)
    assert len(table) == 300 - STEPS + 1
    assert table["day"][-1] == rain_table()["day"][-1]  # the last row of the table, not the one after it
    late = table.filter(pl.col("day") >= rain_table()["day"][240])
    assert float(((late["prediction"] - late["truth"]) ** 2).mean()) ** 0.5 == pytest.approx(best, rel=1e-4)
    rain_table().drop("flow").write_csv("rain.csv")
    alone = undertow("predict", "r", "rain.csv", "-o", "alone.csv")
    assert alone.code == 0, alone.err
    assert pl.read_csv("alone.csv")["prediction"].to_list() == pl.read_csv("out.csv")["prediction"].to_list()
    assert "simulated from the other columns" in undertow("info", "r").out
    for verb in (("info", "r"), ("doctor", "r"), ("inspect", "r"), ("evaluate", "r", river)):
        assert undertow(*verb).code == 0


@pytest.mark.parametrize("option", [("--horizon", 3), ("--known", "rain"), ("--head", "decoder")])
def test_a_simulation_has_no_horizon(undertow, river, option):
    said = undertow("train", river, *RIVER, *option)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{option[0]}: has no meaning with --simulate" in said.err
