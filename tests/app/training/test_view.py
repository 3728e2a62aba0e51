"""What a person sees while training, without a clock: time is given."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from undertow.app.loop import Step
from undertow.app.runs.config import TrainConfig
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.selection import ValidationScore
from undertow.app.training import view
from undertow.app.training.progress import Progress


@pytest.fixture
def at(monkeypatch):
    """``at(seconds)`` sets the time that the views see."""
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr(view, "time", clock)
    return lambda seconds: setattr(clock, "now", 1000.0 + seconds)


def progress(**options):
    given = {"lr": 0.1, "batch_size": 1, "epochs": 4, "patience": 5, "clip": 1.0, "seed": 0} | options
    return Progress(TrainConfig(**given), Objective("rmse", "RMSE"), steps_per_epoch=10, evaluations=1)


def train(shown, plan, steps, loop):
    """As the loop does."""
    y = torch.zeros(1, 1)
    for _ in range(steps):
        plan.add_step(Step(Batch(y, y), y, 9.0, 1.0, 0.0))
        loop.step += 1
        shown.on_step(loop, [])


def evaluate(shown, plan, loop, loss=4.0):
    plan.add_evaluation(ValidationScore(loss, 1))
    shown.on_evaluate(loop, plan.rows[-1])


def plain(plan):
    screen, loop = io.StringIO(), SimpleNamespace(step=0)
    shown = view.PlainView(Console(file=screen, width=200), plan)
    shown.on_start(loop)
    return shown, loop, lambda: screen.getvalue().splitlines()


def test_a_log_gets_a_line_of_the_first_evaluation_and_then_one_every_ten_seconds(at):
    plan = progress()
    shown, loop, lines = plain(plan)
    at(2)
    train(shown, plan, 10, loop)
    evaluate(shown, plan, loop)
    assert lines() == ["epoch 1/4  train 3 RMSE  validation 2 RMSE  best  5.0 steps/s  00:06 left"]
    at(11.9)
    train(shown, plan, 10, loop)
    evaluate(shown, plan, loop, 16.0)
    assert len(lines()) == 1
    at(12)
    train(shown, plan, 10, loop)
    evaluate(shown, plan, loop, 16.0)
    assert lines()[1] == "epoch 3/4  train 3 RMSE  validation 4 RMSE  2.5 steps/s  00:04 left"
    at(13)
    train(shown, plan, 10, loop)
    evaluate(shown, plan, loop, 1.0)
    assert lines()[2].startswith("epoch 4/4  train 3 RMSE  validation 1 RMSE  best")  # the last one


def test_a_log_hears_within_an_epoch_after_twenty_silent_seconds(at):
    plan = progress()
    shown, loop, lines = plain(plan)
    at(19.9)
    train(shown, plan, 3, loop)
    assert lines() == []
    at(20)
    train(shown, plan, 2, loop)
    assert lines() == ["epoch 0.4/4  train 3 RMSE  0.2 steps/s  03:00 left"]


def test_the_time_left_is_that_of_the_budget_where_it_ends_first(at):
    plan = progress(minutes=1.0)
    shown, loop, _ = plain(plan)
    at(2)
    train(shown, plan, 4, loop)
    assert shown.left(loop) == "00:18"
    plan.at.seconds = 50.0
    assert shown.left(loop) == "00:10"
    plan.at.seconds = 70.0
    assert shown.left(loop) == "00:00"


def test_before_the_first_step_there_is_no_division_by_zero(at):
    shown, loop, _ = plain(progress())
    assert shown.speed(loop) == 0
    assert shown.left(loop) == "00:00"


def test_the_live_line_says_the_epoch_under_way_and_the_best_error(at):
    plan, loop = progress(), SimpleNamespace(step=0)
    shown = view.LiveView(Console(file=io.StringIO(), force_terminal=True, width=80), plan)
    shown.on_start(loop)
    line = shown.bars.tasks[0]
    try:
        at(2)
        train(shown, plan, 1, loop)
        assert (line.description, line.completed, line.total) == ("epoch 1/4", 1, 40)
        assert line.fields["tail"] == "train 3 RMSE · 0 steps/s · 01:18 left"
        train(shown, plan, 3, loop)
        assert line.completed == 1  # drawn a moment ago
        at(4)
        train(shown, plan, 6, loop)
        evaluate(shown, plan, loop)
        assert (line.description, line.completed) == ("epoch 2/4", 10)
        assert line.fields["tail"] == "best 2 RMSE ▁ · 2 steps/s · 00:12 left"
        at(5)
        train(shown, plan, 30, loop)
        evaluate(shown, plan, loop, 9.0)
        assert line.description == "epoch 4/4"  # at the end too
        assert line.fields["tail"].startswith("best 2 RMSE ▁█")
    finally:
        shown.on_end(loop)
    assert not shown.bars.live.is_started
