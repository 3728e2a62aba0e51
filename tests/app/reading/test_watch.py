"""Watching a trained network: the right sequences, the model's own results, exact gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inputs import CLASSIFY, FORECAST, TEXT
from undertow.app.data.tasks.problem import ProblemTask
from undertow.app.errors import UserError
from undertow.app.reading.watch import observe, read, watch
from undertow.app.runs.folder import open_run
from undertow.problems import UNSCORED

SHORT = ("--epochs", 1, "-q", "--folder", "run")


@pytest.fixture
def trained(undertow, request, text, waves, walks):
    """A run of each task: ``trained("text", "lstm")``."""
    sources = {
        "text": (text, *TEXT),
        "forecast": (waves, *FORECAST),
        "classify": (walks, *CLASSIFY),
        "problem": ("adding", "--steps", 20, "--hidden-size", 8),
    }

    def train(task, cell="lstm"):
        result = undertow("train", *sources[task], "--cell", cell, *SHORT)
        assert result.code == 0, result.err
        return open_run(Path("run"))

    return train


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("task", ["text", "forecast", "classify", "problem"])
def test_results_are_the_models_own_and_gradients_the_loss_s(trained, task, cell):
    run = trained(task, cell)
    seen = watch(run, sequences=3)
    batch = seen.reading.batch
    model = run.load_model()
    output, _ = model(batch.x, lengths=batch.lengths)
    assert np.array_equal(output.detach().numpy(), seen.output)
    loss = seen.objective.loss(output, batch.y)
    assert seen.loss == loss.item()
    loss.backward()
    layer = seen.trace["rnn"].layers[0]
    assert layer.cell == cell
    N = batch.x.shape[1]
    assert N == len(seen.reading.steps) == 3
    assert layer.gradients.dweight_hh == pytest.approx(model.rnn.weight_hh_l0.grad.numpy(), abs=1e-6)
    assert [len(names) for names in seen.reading.steps] == layer.lengths.tolist()
    if task == "text":
        assert seen.loss_per_step.mean() == pytest.approx(seen.loss, rel=1e-5)
        assert len(seen.reading.inputs) == run.model.symbols
    else:
        assert seen.loss_per_step is None
        assert len(seen.reading.inputs) == batch.x.shape[2]


def test_without_input_only_the_validation_part_is_read(trained, text):
    run = trained("text")
    content = text.read_text()
    held_back = content[len(content) - int(0.1 * len(content)) :]
    assert "".join(read(run, steps=50).steps[0]) == held_back[:50]


def test_a_text_may_be_given_as_a_file_or_as_it_is(trained, tmp_path):
    run = trained("text")
    (tmp_path / "other.txt").write_text("the lazy fox")
    for given in ("the lazy fox", "other.txt"):
        reading = read(run, given)
        assert "".join(reading.steps[0]) == "the lazy fo"  # the last character is only a target
        assert reading.inputs[reading.batch.y[-1, 0]] == "x"
    assert read(run, "the lazy fox " * 100, steps=2000).batch.x.shape == (1299, 1)  # no file has such a name


def test_forecast_windows_end_with_the_last_known_target(trained, waves):
    run = trained("forecast")
    reading = read(run, sequences=4)
    assert reading.inputs[0] == "level"
    assert reading.steps[0][0] < reading.steps[0][-1]
    assert reading.batch.x.shape[:2] == (10, 4)
    assert "2020-06-07" in reading.steps[0][-1]  # day 159 of 160: the target is the last row
    assert read(run, str(waves), sequences=1).batch.y == reading.batch.y[:1]


def test_a_classification_shows_every_class_in_turn(trained):
    reading = read(trained("classify"), sequences=4)
    assert sorted(reading.batch.y[:2].tolist()) == [0, 1]
    assert reading.classes == ["down", "up"]
    assert reading.batch.lengths is not None


def test_a_problem_shows_its_own_validation_sequences(trained):
    run = trained("problem")
    reading = read(run, sequences=2, steps=30)
    assert reading.batch.x.shape == (30, 2, 2)
    assert reading.inputs == ["value", "marker"]
    assert torch.equal(reading.batch.x, read(run, sequences=2, steps=30).batch.x)


@pytest.mark.parametrize("problem", [("copy-memory", "--steps", 5), ("reber", "--steps", 30)])
def test_a_problem_with_a_target_at_every_step(undertow, problem):
    """Its sequences may be longer or shorter than ``steps``, and not every step is asked for something."""
    assert undertow("train", *problem, "--hidden-size", 8, *SHORT).code == 0
    run = open_run(Path("run"))
    seen = watch(run, sequences=3)
    T, N, _ = seen.reading.batch.x.shape
    assert N == 3
    assert seen.reading.batch.y.shape == seen.loss_per_step.shape == seen.output.shape[:2] == (T, N)
    asked = (seen.reading.batch.y != UNSCORED).numpy()
    assert asked.any(axis=1).all()  # no step that is padding for all
    ends = seen.trace["rnn"].layers[0].lengths.tolist()
    assert ends == [len(names) for names in seen.reading.steps] == asked.sum(axis=0).tolist()
    assert asked.any() and asked.all() == (problem[0] == "copy-memory")
    assert np.array_equal(np.isfinite(seen.loss_per_step), asked)
    assert np.nanmean(seen.loss_per_step) == pytest.approx(seen.loss, rel=1e-5)
    assert undertow("inspect", "run").code == undertow("doctor", "run").code == 0

    # padding changes neither the loss nor its gradient
    drawn = next(ProblemTask(run.data, 3, run.training.seed).validation_batches())
    model = run.load_model()
    loss = seen.objective.loss(model(drawn.x[:, :3])[0], drawn.y[:, :3])
    loss.backward()
    assert seen.loss == pytest.approx(loss.item(), rel=1e-6)
    mine = seen.trace["rnn"].layers[0].gradients.dweight_hh
    assert mine == pytest.approx(model.rnn.weight_hh_l0.grad.numpy(), abs=1e-7)


def test_two_networks_can_read_the_same(trained):
    reading = read(trained("problem"))
    first = observe(open_run(Path("run")), reading)
    assert first.reading is reading


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("text", "ein Straßenhund", "--input: .*'S' .1 time, from position 5"),
        ("text", "x", "--input x: expected 2 symbols or more, got 1"),
        ("forecast", "nowhere.csv", "nowhere.csv: no such file"),
        ("problem", "anything", "--input anything: adding draws its own sequences"),
    ],
)
def test_input_that_does_not_fit_is_refused(trained, task, given, message):
    with pytest.raises(UserError, match=message):
        read(trained(task), given)


@pytest.mark.parametrize("task", ["text", "forecast", "classify"])
def test_data_that_have_changed_have_no_part_held_back(trained, task):
    run = trained(task)
    source = Path(run.data.source)
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"has changed since run was trained.*; --input .* reads all of it"):
        read(run)
    assert "held back" not in read(run, str(source)).about


def test_data_that_are_gone_are_said_to_be(trained, waves):
    run = trained("forecast")
    waves.unlink()
    with pytest.raises(UserError, match="no such file, but the run was trained on it"):
        read(run)


def test_sequences_without_a_label_are_passed_over(undertow):
    rows = [f"{k},{step},{k * step % 5 + 0.5 if k % 2 else ''}\n" for k in range(40) for step in range(4)]
    Path("a.csv").write_text("".join(["id,x,way\n", *rows]))
    assert undertow("train", "a.csv", *CLASSIFY, *SHORT).code == 0
    run = open_run(Path("run"))
    assert np.isfinite(watch(run).loss)
    for given, number in ((None, 3), ("a.csv", 9)):
        y = read(run, given, sequences=number).batch.y  # [T, N, 1]
        assert y.shape[1] == number and not y.isnan().any()
