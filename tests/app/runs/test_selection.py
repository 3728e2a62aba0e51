"""What chooses the best evaluation: measures by hand, and trainings that keep the weights asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inputs import CLASSIFY, FORECAST, TEXT
from undertow.app.reading.predictions import forecasts
from undertow.app.runs.folder import open_run
from undertow.app.runs.objective import Objective
from undertow.app.runs.selection import ValidationScore, best_of, better
from undertow.app.runs.weights import load_weights

NUMBERS, CLASSES = Objective("rmse", "RMSE", 2.0), Objective("accuracy", "right")


def test_costs_of_numbers():
    score = ValidationScore()
    output, y = torch.tensor([[1.0, 2.0], [5.0, 0.0]]), torch.tensor([[2.0, 4.0], [5.0, torch.nan]])
    score.add(NUMBERS.loss(output, y).item(), output, y, "rmse")
    score.add(NUMBERS.loss(output[:1], y[:1]).item(), output[:1], y[:1], "rmse")
    assert score.cost("mae", NUMBERS) == pytest.approx((1 + 2 + 0 + 1 + 2) / 5)
    assert score.cost("rmse", NUMBERS) == pytest.approx((10 / 5) ** 0.5)
    assert score.cost("loss", NUMBERS) == score.cost("last", NUMBERS) == pytest.approx(10 / 5 / 4)


def test_absolute_errors_of_several_targets_count_in_their_spreads():
    """Metres beside millimetres: without the spreads one target alone would choose the weights."""
    objective, score = Objective("rmse", "NRMSE", (2.0, 100.0)), ValidationScore()
    output, y = torch.zeros(2, 2), torch.tensor([[1.0, 50.0], [3.0, torch.nan]])
    score.add(objective.loss(output, y).item(), output, y, "rmse")
    assert score.cost("mae", objective) == pytest.approx((0.5 + 0.5 + 1.5) / 3)


def test_costs_of_classes():
    score = ValidationScore()
    output = torch.eye(3)[[0, 1, 1, 2]]
    score.add(1.0, output, torch.tensor([0, 1, 0, -100]), "accuracy")  # the last one is not scored
    assert score.cost("accuracy", CLASSES) == pytest.approx(1 - 2 / 3)
    assert score.cost("f1", CLASSES) == pytest.approx(1 - 2 / 3)  # class 0: 2/3, class 1: 2/3, class 2: none
    assert np.isnan(ValidationScore().cost("f1", CLASSES))


def test_better():
    assert better("loss", {"cost": 1.0}, {})
    assert better("loss", {"cost": 1.0}, {"cost": 2.0})
    assert not better("loss", {"cost": 2.0}, {"cost": 2.0})
    assert better("last", {"cost": 9.0}, {"cost": 2.0})
    assert better("f1", {"cost": 1.0}, {"cost": float("nan")})
    assert not better("f1", {"cost": float("nan")}, {"cost": 1.0})
    rows = [{"cost": 3.0}, {"cost": 1.0}, {"cost": 1.0}, {"cost": 2.0}]
    assert best_of("mae", rows) is rows[1]
    assert best_of("last", rows) is rows[3]


@pytest.mark.parametrize("select", ["mae", "last"])
def test_a_forecast_keeps_the_weights_that_were_asked_for(undertow, waves, select):
    said = undertow(
        "train", waves, *FORECAST, "--epochs", 4, "--lr", 0.3, "--select", select, "--folder", "r"
    )
    assert said.code == 0
    assert f"(--select {select})" in " ".join(said.out.split())
    run = open_run(Path("r"))
    assert run.training.select == select
    rows = run.read_metrics()
    best = best_of(select, rows)
    assert f"epoch {best['epoch']:g};" in said.out
    (found,) = forecasts(run, waves)
    late = np.isfinite(found.truth[:, 0]) & (found.rows[:, 0] % 160 >= 128)
    error = np.abs(found.predicted - found.truth)[late].mean()
    at_best = next(row for row in rows if row["step"] == best["step"])
    if select == "mae":
        assert error == pytest.approx(at_best["cost"], rel=1e-4)
        assert at_best["cost"] == min(row["cost"] for row in rows)
    else:
        last, _ = run.read_last()
        model = run.load_model()
        mine = {name[6:]: value for name, value in last.items() if name.startswith("model.")}
        load_weights(model, mine, Path("r"))
        assert all(torch.equal(value, mine[name]) for name, value in run.load_model().state_dict().items())


def test_f1_chooses_classes_and_goes_on_after_a_break(undertow, walks):
    options = (*CLASSIFY, "--select", "f1")
    assert undertow("train", walks, *options, "--epochs", 6, "--folder", "whole").code == 0
    assert undertow("train", walks, *options, "--epochs", 3, "--folder", "part").code == 0
    assert open_run(Path("part")).training.select == "f1"
    assert undertow("train", "--resume", "part", "--epochs", 6).code == 0
    costs = [row["cost"] for row in open_run(Path("part")).read_metrics()]
    assert len(costs) == 6 and all(0 <= cost <= 1 for cost in costs)


@pytest.mark.parametrize(
    ("select", "data", "options"),
    [("accuracy", "waves", FORECAST), ("mae", "walks", CLASSIFY), ("rmse", "text", TEXT)],
)
def test_a_measure_of_another_task_is_refused(undertow, request, select, data, options):
    source = request.getfixturevalue(data)
    said = undertow("train", source, *options, "--select", select, "--folder", "r")
    assert said.code == 2
    assert f"--select {select}: expected loss" in said.err
    assert not Path("r").exists()


def test_patience_beside_the_last_evaluation_is_refused(undertow, waves):
    said = undertow("train", waves, *FORECAST, "--select", "last", "--patience", 3, "--folder", "r")
    assert said.code == 2
    assert "--patience 3: has no meaning with --select last" in said.err
