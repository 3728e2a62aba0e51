"""Each series counts alike in the loss, whatever its size."""

import numpy as np
import polars as pl
import pytest
import torch

from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.data.tasks.units import LEAST
from undertow.app.runs.config import DataConfig


def task_of(folder, series, horizon=2, **options):
    rows = [{"name": name, "t": t, "y": y} for name, values in series.items() for t, y in enumerate(values)]
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    config = DataConfig(
        str(folder / "rows.csv"),
        "forecast",
        0.2,
        5,
        horizon=horizon,
        target=("y",),
        group=("name",),
        **options,
    )
    return ForecastTask(config, 8, 0)


def test_the_unit_of_a_series_is_its_error_of_persistence(tmp_path):
    rng = np.random.default_rng(0)
    walk = rng.normal(size=40).cumsum()
    task = task_of(tmp_path, {"large": 1000 * walk, "small": walk, "still": np.full(40, 3.0)})
    early = walk[:32]
    expected = float(np.sqrt(np.mean((early[2:] - early[:-2]) ** 2)))
    spread = float(task.spread)
    assert task.units[0].item() == pytest.approx(1000 * expected, rel=1e-5)
    assert task.units[40].item() == pytest.approx(max(expected, LEAST * spread), rel=1e-5)
    assert task.units[80].item() == pytest.approx(LEAST * spread, rel=1e-5)
    batch = next(task.train_batches(0))
    assert batch.unit.shape == batch.y.shape


def test_errors_of_alike_series_weigh_alike(tmp_path):
    walk = np.random.default_rng(1).normal(size=60).cumsum()
    task = task_of(tmp_path, {"large": 50 * walk, "small": walk})
    unit = torch.tensor([[task.units[0, 0], task.units[0, 0]], [task.units[60, 0], task.units[60, 0]]])
    y = torch.tensor([[50.0, 100.0], [1.0, 2.0]])
    each = [task.objective.loss(torch.zeros(1, 2), y[k : k + 1], unit[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(each[0], each[1], rtol=1e-5, atol=0.0)


def test_one_series_has_no_unit_of_its_own(tmp_path):
    task = task_of(tmp_path, {"one": np.arange(40.0) % 7})
    assert task.units is None
    assert next(task.train_batches(0)).unit is None
