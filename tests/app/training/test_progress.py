"""Where a training stands: what is counted, when it is measured, when it ends, its learning rate."""

import math

import pytest
import torch

from undertow.app.loop import Step
from undertow.app.runs.config import TrainConfig
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.selection import ValidationScore
from undertow.app.training.progress import LOWEST_RATE, WARM_UP, Progress


def plan(steps_per_epoch=200, evaluations=1, **options):
    given = {"lr": 2.0, "batch_size": 1, "epochs": 10, "patience": 5, "clip": 1.0, "seed": 0} | options
    return Progress(TrainConfig(**given), Objective("rmse", "RMSE"), steps_per_epoch, evaluations)


def step(norm=0.5, loss=4.0, seconds=1.0):
    """Of two predictions."""
    y = torch.zeros(2, 1)
    return Step(Batch(y, y), y, loss, norm, seconds)


def score(loss, count=1):
    return ValidationScore(loss * count, count)


# ------------------------------------------------------------------------------- learning rate


def test_training_rises_for_a_tenth_of_its_steps_at_most_and_falls_to_the_lowest_rate():
    progress, rates = plan(), []
    for progress.at.step in range(2001):
        rates.append(progress.learning_rate(2.0))
    assert rates.index(max(rates)) == WARM_UP - 1
    assert rates[-1] == pytest.approx(2.0 * LOWEST_RATE)
    assert plan().total_steps == 2000


def test_a_short_training_rises_for_a_tenth_of_its_steps():
    progress, rates = plan(steps_per_epoch=5), []
    for progress.at.step in range(50):
        rates.append(progress.learning_rate(2.0))
    assert rates.index(max(rates)) == 5  # of 50


def test_a_time_budget_takes_the_rate_down_with_the_time():
    progress = plan(minutes=1.0)
    progress.at.step, progress.at.seconds = 200, 30.0
    assert progress.learning_rate(2.0) == pytest.approx(1.05)
    progress.at.seconds = 60.0
    assert progress.learning_rate(2.0) == pytest.approx(2.0 * LOWEST_RATE)
    assert progress.out_of_time


# ------------------------------------------------------------------------------------- counting


def test_steps_epochs_and_seconds_are_counted():
    progress, seen = plan(steps_per_epoch=3), []
    for _ in range(7):
        progress.add_step(step(seconds=0.5))
        seen.append((progress.at.epoch, progress.at.batch, progress.at.step))
    assert seen == [(0, 1, 1), (0, 2, 2), (1, 0, 3), (1, 1, 4), (1, 2, 5), (2, 0, 6), (2, 1, 7)]
    assert progress.at.seconds == 3.5
    assert (progress.score.loss, progress.score.count) == (4.0, 14)


@pytest.mark.parametrize(
    ("steps", "evaluations", "after"),
    [(6, 1, [6]), (6, 2, [3, 6]), (7, 2, [4, 7]), (7, 3, [3, 5, 7]), (2, 5, [1, 2])],
)
def test_evaluations_are_spread_evenly_over_an_epoch(steps, evaluations, after):
    progress, due = plan(steps, evaluations), []
    for k in range(2 * steps):
        progress.add_step(step())
        due += [k + 1] * progress.at.due
    assert due == [*after, *(steps + k for k in after)]


def test_a_row_says_what_happened_since_the_last_one():
    progress = plan(steps_per_epoch=4, clip=1.0)
    assert math.isnan(progress._row(ValidationScore())["grad_norm"])
    for norm in (0.5, 1.0, 3.0, 1.5):
        progress.add_step(step(norm, loss=9.0, seconds=0.25))
    assert progress.add_evaluation(score(16.0))
    (row,) = progress.rows
    assert row == {
        "step": 4, "epoch": 1.0, "train": 3.0, "validation": 4.0, "train_loss": 9.0, "validation_loss": 16.0,
        "cost": 16.0, "seconds": 1.0, "lr": progress.learning_rate(2.0), "grad_norm": 1.5, "clipped": 0.5,
    }  # fmt: skip
    progress.add_step(step(norm=7.0, loss=1.0))
    progress.add_evaluation(score(16.0))
    row = progress.rows[-1]
    assert (row["epoch"], row["train_loss"]) == (1.25, 1.0)
    assert (row["grad_norm"], row["clipped"]) == (7.0, 1.0)


def test_without_a_limit_no_step_is_clipped():
    progress = plan(clip=0.0)
    progress.add_step(step(norm=1000.0))
    progress.add_evaluation(score(1.0))
    assert progress.rows[0]["clipped"] == 0


# ------------------------------------------------------------------------------------ the end


def test_the_best_evaluation_is_kept_and_those_since_are_counted():
    progress, told = plan(patience=3), []
    for loss in (4.0, 3.0, 3.0, 5.0):
        progress.at.due = True
        told.append((progress.add_evaluation(score(loss)), progress.at.stale, progress.at.finished))
        assert not progress.at.due
    assert told == [(True, 0, ""), (True, 0, ""), (False, 1, ""), (False, 2, "")]
    assert progress.at.best is progress.rows[1]
    progress.add_evaluation(score(4.0))
    assert progress.at.finished == "no improvement in 3 evaluations"


def test_it_ends_after_the_last_epoch():
    progress = plan(epochs=2)
    progress.at.epoch = 1
    assert progress.reason_to_stop() == ""
    progress.at.epoch = 2
    assert progress.reason_to_stop() == "all 2 epochs done"


def test_it_ends_after_its_time_and_is_measured_first():
    progress = plan(minutes=0.5)
    progress.add_step(step(seconds=29.0))
    assert not progress.at.due and progress.reason_to_stop() == ""
    progress.add_step(step(seconds=1.0))
    assert progress.at.due
    assert progress.reason_to_stop() == "0.5 minutes used up"
    assert not plan().out_of_time  # 0: no budget
