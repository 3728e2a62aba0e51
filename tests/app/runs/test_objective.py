"""What is minimised, what counts, and how a value reads."""

import math

import pytest
import torch

from undertow.app.runs.objective import Objective, Score
from undertow.problems import UNSCORED

BITS = Objective("bits", "bits/char")
RIGHT = Objective("accuracy", "right")
RMSE = Objective("rmse", "RMSE", scale=10.0)


def test_a_value_reads_with_its_unit():
    assert BITS.show(2.10449) == "2.104 bits/char"
    assert RIGHT.show(0.9752) == "97.5% right"
    assert RMSE.show(2.31) == "2.31 RMSE"
    assert RMSE.show(12345.6) == "1.235e+04 RMSE"


@pytest.mark.parametrize("kind", [BITS, RIGHT, Objective("rmse", "RMSE")])
def test_a_runs_unit_says_its_objective(kind):
    assert Objective.of_unit(kind.unit) == kind


def test_cross_entropy_is_a_mean_over_every_step_that_is_scored():
    torch.manual_seed(0)
    output, y = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    y[2, 1] = UNSCORED
    each = -output.log_softmax(-1).gather(-1, y.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(BITS.loss(output, y), each[y != UNSCORED].mean())


def test_squared_error_is_a_mean_over_numbers_that_are_known():
    output = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = RMSE.loss(output, torch.tensor([[2.0, math.nan], [6.0, 2.0]]))
    assert loss.item() == pytest.approx((1 + 9 + 4) / 3 / 10.0**2)
    (gradient,) = torch.autograd.grad(loss, output)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 0.0], [-3.0, 2.0]]) * 2 / 3 / 10.0**2)
    nothing_known = RMSE.loss(output, torch.full((2, 2), math.nan))
    assert nothing_known.item() == 0


def test_a_score_counts_what_is_scored():
    score, none = Score(), torch.tensor([UNSCORED, UNSCORED])
    score.add(3.0, torch.zeros(2, 2), none, "accuracy")
    assert score.count == 0
    assert math.isnan(score.loss) and math.isnan(score.value(RIGHT))
    score.add(2.0, torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, UNSCORED]), "accuracy")
    score.add(5.0, torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1]), "accuracy")
    assert score.to_dict() == {"loss_sum": 12.0, "count": 3, "hits": 2}
    assert (score.loss, score.value(RIGHT)) == (4.0, 2 / 3)
    assert score.value(BITS) == pytest.approx(4.0 / math.log(2))


def test_unknown_numbers_are_not_counted():
    score = Score()
    score.add(0.25, torch.zeros(3), torch.tensor([1.0, math.nan, 2.0]), "rmse")
    assert (score.count, score.hits) == (2, 0)
    assert score.value(RMSE) == pytest.approx(5.0)


def test_who_is_better_and_by_how_much():
    assert RIGHT.verdict(0.5, 0.9) == "not beaten: it is better by 40 points"
    assert RMSE.verdict(1.0, 2.0) == "beaten by 50%"
    assert BITS.verdict(3.0, 2.0) == "not beaten: it is better by 50%"
    assert RIGHT.verdict(0.5, 0.5) == RMSE.verdict(1.0, 1.0) == "as good"
    assert RIGHT.verdict(0.501, 0.5) == "beaten by less than 1 point"
    assert RIGHT.verdict(0.51, 0.5) == "beaten by 1 point"
    assert RMSE.verdict(2.001, 2.0) == "not beaten: it is better by less than 1%"
