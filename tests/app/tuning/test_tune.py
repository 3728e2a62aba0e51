"""`undertow tune`: the space, a study that goes on, what is kept of it."""

from pathlib import Path

import optuna
import polars as pl
import pytest

from inputs import CLASSIFY, FORECAST, TEXT, changed
from undertow.app.errors import UserError
from undertow.app.runs.folder import open_run
from undertow.app.tuning import worker
from undertow.app.tuning.space import DEFAULTS, Domain, space_of
from undertow.app.tuning.storage import open_storage

SMALL = ("--space", "hidden_size=2,4", "--space", "steps=5,8", "--epochs", 2)
TUNE = (*(part for part in FORECAST[:4]), *SMALL, "--batch-size", 64)


def study_of(folder="runs/waves-tune"):
    return optuna.load_study(study_name=folder.split("/")[-1], storage=open_storage(None, Path(folder)))


def costs(study):
    return [(trial.params, trial.state.name, trial.value) for trial in study.trials]


def test_a_study_keeps_its_best_run_and_says_what_mattered(undertow, waves):
    said = undertow("tune", waves, *TUNE, "--trials", 6)
    assert said.code == 0, said.err
    study = study_of()
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 6
    assert set(states) <= {"COMPLETE", "PRUNED"}
    best = open_run(Path("runs/waves-tune/best"))
    assert best.training.lr == study.best_trial.params["lr"]
    assert min(row["validation"] for row in best.read_metrics()) == study.best_value
    assert study.best_value == min(trial.value for trial in study.trials if trial.value is not None)
    assert said.out.count("\ntrial ") == 6
    assert "what mattered: " in said.out
    assert (best.folder.parent / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert undertow("predict", "runs/waves-tune/best", waves).code == 0


def test_a_trial_that_others_surpass_ends_early(undertow, text):
    space = "--space", "lr=0.01,0.02,0.000001", "--space", "hidden_size=8", "--seed", 3
    alike = "--steps", 16, "--batch-size", 16, "--num-layers", 1, "--dropout", 0, "--epochs", 2
    said = undertow("tune", text, *space, *alike, "--trials", 9, "--folder", "pruned")
    assert said.code == 0, said.err
    trials = study_of("pruned").trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert pruned and len(pruned) + len(whole) == 9
    assert said.out.count(" pruned in epoch ") == len(pruned)
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert last < max(whole[0].intermediate_values) and trial.number >= 5
        assert trial.intermediate_values[last] > min(each.intermediate_values[last] for each in whole)


def test_the_same_command_goes_on_as_if_it_had_not_stopped(undertow, waves):
    whole = undertow("tune", waves, *TUNE, "--trials", 4, "--folder", "whole", "-q")
    assert whole.code == 0, whole.err
    assert undertow("tune", waves, *TUNE, "--trials", 2, "--folder", "parts", "-q").code == 0
    assert undertow("tune", waves, *TUNE, "--trials", 4, "--folder", "parts").out.count("\ntrial ") == 2
    assert costs(study_of("parts")) == costs(study_of("whole"))
    assert undertow("tune", waves, *TUNE, "--trials", 4, "--folder", "parts", "-q").code == 0
    assert len(study_of("parts").trials) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--epochs", 3), "study waves-tune: has other options than this command; another --folder begins"),
        (("--space", "lr=0.1..0.2"), "study waves-tune: has other space than this command"),
    ],
    ids=str,
)
def test_another_study_in_the_folder_is_refused(undertow, waves, change, said):
    assert undertow("tune", waves, *TUNE, "--trials", 1).code == 0
    options = TUNE if change[0] == "--space" else changed(TUNE[:4], TUNE[8:], change)
    space = SMALL[:4] if change[0] != "--space" else ()
    refused = undertow("tune", waves, *options, *space, *(change if not space else ()), "--trials", 1)
    assert refused.code == 2
    assert said in refused.err
    frame = pl.read_csv(waves).with_columns(pl.col("level") + 1)
    frame.write_csv(waves)
    assert "has other data than" in undertow("tune", waves, *TUNE, "--trials", 1).err


@pytest.mark.parametrize("task", ["text", "classify", "problem"])
def test_every_task_is_tuned(undertow, request, task):
    name = {"text": "text", "classify": "walks"}.get(task)
    source = "adding" if name is None else request.getfixturevalue(name)
    options = {
        "text": (*TEXT[:4], "--space", "hidden_size=2,3", "--space", "num_layers=1"),
        "classify": (*CLASSIFY[:4], "--space", "hidden_size=2,3"),
        "problem": ("--steps", 5, "--space", "hidden_size=2,3", "--minutes", 0.001),
    }[task]
    said = undertow("tune", source, *options, "--epochs", 1, "--trials", 1, "--folder", "s", "-q")
    assert said.code == 0, said.err
    assert "The best run is s/best" in said.out


def test_a_failed_training_counts_and_hopeless_studies_end(undertow, waves, monkeypatch):
    too_long = ("--space", "hidden_size=2", "--space", "steps=5000,6000")
    refused = undertow("tune", waves, *FORECAST[:4], *too_long, "--epochs", 1, "--trials", 5)
    assert refused.code == 2
    assert "all 3 trials failed: " in refused.err
    assert refused.out.count("failed: ") == 3


def test_ctrl_c_keeps_the_trial_for_the_next_worker(undertow, waves, monkeypatch):
    from undertow.app.training import trainer

    original = trainer.Trainer.on_step

    def interrupt(self, loop, steps):
        original(self, loop, steps)
        loop.interrupt.asked = "trials/1" in str(self.run.folder)

    monkeypatch.setattr(trainer.Trainer, "on_step", interrupt)
    stopped = undertow("tune", waves, *TUNE, "--trials", 3)
    assert stopped.code == 130
    assert "The same command goes on." in stopped.out
    monkeypatch.setattr(trainer.Trainer, "on_step", original)
    assert undertow("tune", waves, *TUNE, "--trials", 3).code == 0
    trials = study_of().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == trials[1].params


def test_of_workers_that_begin_the_last_trial_together_one_has_none(undertow, waves, monkeypatch):
    assert undertow("tune", waves, *TUNE, "--trials", 1).code == 0
    counts = iter([0])  # what a worker sees that looked before the other one had begun
    original = worker.counting
    monkeypatch.setattr(worker, "counting", lambda study: [None] * next(counts, len(original(study))))
    assert undertow("tune", waves, *TUNE, "--trials", 1).code == 0
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE", "FAIL"]


# -- the space ----------------------------------------------------------------------------------


def test_the_space_is_the_default_one_with_changes():
    found = {domain.name: domain for domain in space_of("forecast", ["lr=0.1..0.2", "cell=lstm,rnn"], {})}
    assert set(found) == {*DEFAULTS, "cell"} - {"noise"}
    assert found["lr"] == Domain("lr", "0.1..0.2", low=0.1, high=0.2)
    assert not found["lr"].logarithmic
    assert found["cell"].choices == ("lstm", "rnn")
    assert found["num_layers"].choices == (1, 2)
    assert found["dropout"].low == 0
    assert not found["dropout"].logarithmic
    assert {each.name: each for each in space_of("text", [], {})}["lr"].logarithmic
    assert "lr" not in {domain.name for domain in space_of("text", [], {"lr": 0.1})}
    assert space_of("forecast", ["steps=8..20"], {"lr": 1})[-1].high == 20


@pytest.mark.parametrize("task", ["text", "forecast", "classify", "regress", "problem"])
def test_the_default_space_is_one_of_the_options(task):
    assert {domain.name for domain in space_of(task, [], {})} >= {
        "lr",
        "hidden_size",
        "num_layers",
        "dropout",
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("lr", "--space lr: expected OPTION=VALUES"),
        ("target=level", "--space target=level: expected OPTION=VALUES"),
        ("hiden=3", "--space hiden=3: expected OPTION=VALUES"),
        ("lr=x", "--space lr=x: expected float values, got 'x'"),
        ("lr=2..1", "--space lr=2..1: expected LOWEST..HIGHEST"),
        ("dropout=0..1", "--space dropout=0..1: --dropout 1.0: expected a number from 0 below 1"),
        ("hidden_size=8,8", "--space hidden_size=8,8: expected different values"),
        ("cell=gru", "--space cell=gru: --cell gru: expected one of lstm, rnn"),
        ("steps=5", "--space steps=5: --steps 9 is the same in all trials"),
    ],
)
def test_a_space_that_means_nothing_is_refused(asked, said):
    with pytest.raises(UserError) as caught:
        space_of("forecast", [asked], {"steps": 9})
    assert str(caught.value).startswith(said)


def test_a_storage_that_cannot_be_opened_is_one_line(undertow, waves):
    for url, said in (
        (
            "postgresql://127.0.0.1:1/none",
            "--storage postgresql://127.0.0.1:1/none: the study cannot be opened: ",
        ),
        ("grpc://here", "--storage grpc://here: expected grpc://HOST:PORT"),
        ("nonsense", "--storage nonsense: the study cannot be opened: "),
    ):
        refused = undertow("tune", waves, *TUNE, "--trials", 1, "--storage", url)
        assert refused.code == 2
        assert refused.err.startswith(f"undertow: {said}")
        assert refused.err.count("\n") == 1
