"""Ensembles: each member a whole run, their mean the answer, and no interruption changes the result."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from inputs import CLASSIFY, FORECAST, TEXT, changed
from undertow.app.loop import Hook
from undertow.app.runs import members, together
from undertow.app.runs.folder import open_run
from undertow.app.training import ensemble, intervals, session

WAVES = changed(FORECAST, ("--epochs", 1, "--horizon", 2, "--members", 2))
WALKS = changed(CLASSIFY, ("--epochs", 2, "--members", 3))


class StopAt(Hook):
    """Presses Ctrl-C at a step of all sessions together, as the signal handler would."""

    seen = 0

    def __init__(self, step):
        self.step = step

    def on_step(self, loop, steps):
        StopAt.seen += 1
        loop.interrupt.asked = StopAt.seen == self.step


def tensors(folder):
    paths = [path for path in Path(folder).rglob("*.safetensors") if path.name != "last.safetensors"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def scores(folder):
    return json.loads((Path(folder) / "ensemble.json").read_text())


def test_forecasts_are_the_mean_and_their_intervals_are_calibrated_together(undertow, waves):
    trained = undertow("train", waves, *WAVES, "--folder", "r")
    assert trained.code == 0, trained.err
    assert "member 1 of 2" in trained.out and "member 2 of 2" in trained.out
    for name in ("r", "r/members/1", "r/members/2"):
        assert undertow("predict", name, waves, "-o", f"{name.replace('/', '-')}.parquet").code == 0
    whole, *parts = (pl.read_parquet(f"{name}.parquet") for name in ("r", "r-members-1", "r-members-2"))
    one, other = (part["prediction"].to_numpy() for part in parts)
    np.testing.assert_allclose(whole["prediction"].to_numpy(), (one + other) / 2, rtol=1e-6)
    assert not np.allclose(one, other, rtol=1e-4)
    assert (whole["lower"] <= whole["prediction"]).all() and (whole["prediction"] <= whole["upper"]).all()
    late = whole.filter(pl.col("day") >= pl.date(2020, 1, 1) + pl.duration(days=129)).drop_nulls("truth")
    inside = late.filter(pl.col("truth").is_between("lower", "upper"))
    assert 0.87 < len(inside) / len(late) < 0.95  # the part that calibrated them
    said = undertow("info", "r").out
    assert "an ensemble of 2" in said and "2 members, all trained" in said and "90% intervals" in said
    for verb in ("doctor", "inspect"):
        shown = undertow(verb, "r")
        assert shown.code == 0, shown.err
        assert f"r has 2 members; this is the first, {Path('r/members/1')}" in shown.out


def test_a_member_is_the_run_of_its_seed_with_the_data_of_the_first(undertow, walks):
    undertow("train", walks, *WALKS, "--folder", "r")
    undertow("train", walks, *changed(CLASSIFY, ("--epochs", 2)), "--folder", "alone")
    alone, run = open_run(Path("alone")), open_run(Path("r"))
    first, second = (each.load_model().state_dict() for each in members.of(run)[:2])
    assert all(torch.equal(first[name], value) for name, value in alone.load_model().state_dict().items())
    assert not torch.equal(first["head.weight"], second["head.weight"])
    assert [each.training.seed for each in members.of(run)] == [0, 0, 0]  # of the split
    assert [each.training.member for each in members.of(run)] == [1, 2, 3]


def test_labels_get_the_mean_probability_and_the_score_is_that_of_the_mean(undertow, walks):
    undertow("train", walks, *WALKS, "--folder", "r")
    run = open_run(Path("r"))
    task = session._prepared(run.data, run.training)
    (batch,) = task.validation_batches()
    chances, right = [], []
    with torch.no_grad():
        for member in members.of(run):
            output = batch.through(member.load_model())[0]
            chances.append(output.double().softmax(-1))
            right.append(float((output.argmax(-1) == batch.y).double().mean()))
        found = batch.through(together.network_of(run))[0]
    mean = torch.stack(chances).mean(0)
    torch.testing.assert_close(found.double().softmax(-1), mean, rtol=1e-5, atol=1e-6)
    assert scores("r")["ensemble"] == float((mean.argmax(-1) == batch.y).double().mean())
    assert scores("r")["members"] == pytest.approx(right)
    assert undertow("predict", "r", walks).code == 0


def test_text_is_drawn_from_the_mean_probability_with_a_state_for_each_member(undertow, text):
    undertow("train", text, *changed(TEXT, ("--epochs", 1, "--members", 2)), "--folder", "r")
    assert undertow("generate", "r", "--length", 20, "--seed", 0).code == 0
    run = open_run(Path("r"))
    network, singles = together.network_of(run), [each.load_model() for each in members.of(run)]
    x = torch.tensor([[1], [2], [3], [4]])
    with torch.no_grad():
        _, state = network(x[:2])
        found, _ = network(x[2:], state)
        each = [single(x)[0][2:].softmax(-1) for single in singles]
    torch.testing.assert_close(found.softmax(-1), torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [1, 8, 15])
def test_resumed_equals_undisturbed(undertow, walks, monkeypatch, stop):
    """Three members of 8 steps each: in the first, after its last step, in the second."""
    undertow("train", walks, *WALKS, "--folder", "whole")
    with monkeypatch.context() as patch:
        StopAt.seen = 0
        patch.setattr(session, "view", lambda *_: StopAt(stop))
        stopped = undertow("train", walks, *WALKS, "--folder", "part")
    assert stopped.code == 130 and "undertow train --resume part" in stopped.out
    refused = undertow("predict", "part", walks)
    assert refused.code == 2 and "not all trained; undertow train --resume part trains them" in refused.err
    assert undertow("info", "part").code == 0
    assert undertow("train", "--resume", "part").code == 0
    assert tensors("part") == tensors("whole") and scores("part") == scores("whole")


@pytest.mark.parametrize("place", ["save", "write_config", "add", "score", "train_member"])
def test_killed_anywhere_and_resumed_equals_undisturbed(undertow, waves, monkeypatch, place):
    """An exception that nothing catches stands for SIGKILL: what comes after it does not happen."""
    undertow("train", waves, *WAVES, "--folder", "whole")

    class Killed(BaseException):
        pass

    owner = {"save": session.Trainer, "write_config": session.Run, "add": intervals}.get(place, ensemble)
    real, calls = getattr(owner, place), []

    def dies(*arguments, **options):
        calls.append(1)
        if len(calls) == 2 or place == "score":
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, place, dies)
        undertow("train", waves, *WAVES, "--folder", "part")
    assert undertow("train", "--resume", "part").code == 0
    assert tensors("part") == tensors("whole") and scores("part") == scores("whole")


def test_a_finished_ensemble_is_continued_by_more_epochs_only(undertow, walks):
    undertow("train", walks, *WALKS, "--folder", "r")
    before = tensors("r")
    refused = undertow("train", "--resume", "r")
    assert refused.code == 2 and "all 3 members are finished already" in refused.err
    assert tensors("r") == before
    assert undertow("train", "--resume", "r", "--epochs", 3).code == 0
    epochs = [each.read_metrics()[-1]["epoch"] for each in members.of(open_run(Path("r")))]
    assert epochs == [3, 3, 3]


def test_overwrite_leaves_no_member_behind_and_other_folders_of_that_name_are_refused(undertow, walks):
    undertow("train", walks, *WALKS, "--folder", "r")
    undertow("train", walks, *changed(CLASSIFY, ("--epochs", 1)), "--folder", "r", "--overwrite")
    assert not Path("r/members").exists() and not Path("r/ensemble.json").exists()
    Path("mine/members").mkdir(parents=True)
    Path("mine/members/list.txt").write_text("names")
    refused = undertow("train", walks, *CLASSIFY, "--folder", "mine", "--overwrite")
    assert refused.code == 2 and Path("mine/members/list.txt").exists()


@pytest.mark.parametrize("count", [0, 101])
def test_there_are_1_to_100_members(undertow, walks, count):
    refused = undertow("train", walks, *CLASSIFY, "--members", count)
    assert refused.code == 2
    assert f"--members {count}: expected a whole number from 1 to 100" in refused.err


def test_one_member_is_a_run_as_without_the_option(undertow, walks):
    options = changed(CLASSIFY, ("--epochs", 1))
    assert undertow("train", walks, *options, "--members", 1, "--folder", "one").code == 0
    undertow("train", walks, *options, "--folder", "alone")
    assert tensors("one") == tensors("alone")


def test_the_time_budget_is_that_of_all_members(undertow, walks):
    undertow("train", walks, *WALKS, "--minutes", 9, "--folder", "r")
    assert [each.training.minutes for each in members.of(open_run(Path("r")))] == [3, 3, 3]
