"""The classics: trials that end by the paper's rule, results that survive, one table in three forms."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from far import META, layer, numbers_are_one
from undertow import problems
from undertow.app.classics import settings as classics_settings
from undertow.app.classics import view as classics_view
from undertow.app.classics.results import Results
from undertow.app.classics.settings import FULL, Setting, chosen
from undertow.app.classics.trial import Outcome, Trial
from undertow.app.errors import UserError
from undertow.app.loop import Hook
from undertow.app.runs import near
from undertow.kernels import dispatch

EASY = Setting("two-sequence", 5, 8, 16, 2e-2, 2000, "chrono", every=5, rnn_lr=1e-2, seeds=2)
HARD = Setting("adding-1997", 20, 4, 8, 1e-2, 48, every=2, seeds=2)
STRINGS = Setting("reber", 20, 4, 4, 1e-2, 8, every=1, stretch=0.0, seeds=1)


@pytest.fixture
def small(monkeypatch):
    """The verb with three settings that take a second together."""
    monkeypatch.setattr(classics_settings, "FULL", (EASY, HARD, STRINGS))
    monkeypatch.setattr("undertow.app.classics.trial.TEST_SIZE", 50)


def lines(folder="classics"):
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------------------------- settings


def test_every_problem_of_the_literature_is_set_at_a_published_lag():
    assert {setting.problem for setting in FULL} == set(problems.names()) - {"adding"}
    assert len({setting.row for setting in FULL}) == len(FULL)
    for setting in FULL:
        published = setting.posed.published
        assert not published or setting.steps in published
    lags = {(setting.problem, setting.steps) for setting in FULL}
    assert {("adding-1997", 100), ("adding-1997", 500), ("adding-1997", 1000)} < lags


def test_quick_is_shorter_and_has_one_seed():
    quick = chosen([], True, None)
    assert {s.problem for s in quick} == {s.problem for s in FULL}
    assert all(s.seeds == 1 for s in quick)
    steps = {(s.problem, s.steps) for s in quick}
    assert sum(s for _, s in steps) < sum(s.steps for s in FULL) / 2
    assert [s.seeds for s in chosen(["adding-1997"], False, 7)] == [7, 7, 7]


def test_a_name_that_is_no_problem_is_refused(undertow):
    result = undertow("classics", "addition")
    assert result.code == 2
    assert result.err.startswith("undertow: addition: no problem of the classics; problems: reber, ")
    assert result.err.count("\n") == 1
    assert not Path("classics").exists()


# ------------------------------------------------------------------------------------ trials


def test_a_trial_stops_when_the_papers_rule_holds():
    trial = Trial(EASY, "LSTM", 0)
    trial.run()
    outcome = trial.outcome(1.0)
    assert outcome.solved and outcome.sequences < EASY.most
    assert outcome.sequences % (EASY.batch_size * EASY.every) == 0
    assert outcome.wrong / outcome.tested < 0.02
    assert outcome.error < 0.02


def test_a_trial_that_does_not_solve_uses_all_its_sequences_and_says_so():
    trial = Trial(replace(HARD, most=21), "RNN", 0)
    trial.run()
    outcome = trial.outcome(1.0)
    assert (outcome.solved, outcome.sequences, outcome.tested) == (False, 21, 2560)
    assert outcome.wrong > 2000


@pytest.mark.parametrize("cell", ["LSTM", "RNN"])
def test_same_seed_same_trial(cell):
    def run(seed):
        trial = Trial(replace(HARD, most=24), cell, seed)
        trial.run()
        return trial.outcome(0.0)

    assert run(3) == run(3) != run(4)


class Rates(Hook):
    """The learning rate of each parameter group at each step."""

    def __init__(self):
        self.seen = []

    def on_step(self, loop, steps):
        self.seen.append([group["lr"] for group in loop.learners[0].optimizer.param_groups])


def test_the_rate_falls_over_the_second_half():
    trial = Trial(replace(HARD, most=80, head=10, every=100), "LSTM", 0)
    trial.run([hook := Rates()])
    rates = np.array(hook.seen)  # [batches, 2]
    np.testing.assert_allclose(rates[:, 1], 10 * rates[:, 0])
    np.testing.assert_allclose(rates[:6, 0], HARD.lr)
    assert np.all(np.diff(rates[5:, 0]) < 0) and rates[-1, 0] < 0.3 * HARD.lr


@pytest.mark.parametrize("setting", FULL, ids=lambda setting: setting.row)
def test_each_setting_makes_a_network_that_starts_as_it_says(setting):
    layer = Trial(setting, "LSTM", 0).network.rnn
    forget = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()[setting.hidden_size : 2 * setting.hidden_size]
    if setting.start == "chrono":
        assert forget.min() >= 0 and forget.exp().max() <= setting.reach * setting.steps
    elif setting.start != "torch":
        assert (forget == setting.start_options()["forget_bias"]).all()


def test_long_streams_are_judged_without_a_reset():
    setting = replace(FULL[[s.problem for s in FULL].index("continual-reber")], look_steps=300)
    trial = Trial(setting, "LSTM", 0)
    seen = []
    trial.network.register_forward_hook(lambda module, args, y: seen.append(tuple(args[0].shape)))
    outcome = trial.outcome(0.0)
    assert (outcome.tested, seen) == (10, [(300, 10, 7)])


# ----------------------------------------------------------------------------------- the verb


def test_the_verb_trains_all_and_writes_all(undertow, small):
    result = undertow("classics")
    assert result.code == 0, result.err
    found = lines()
    assert len(found) == 10
    assert {(o["row"], o["cell"], o["seed"]) for o in found} >= {
        ("two-sequence T=5", "LSTM", 1), ("adding-1997 T=20", "RNN", 0), ("reber T=20", "LSTM", 0),
    }  # fmt: skip
    assert "two-sequence T=5" in result.out and "pass" in result.out and "fail" in result.out
    assert Path("classics/classics.png").read_bytes().startswith(b"\x89PNG")


def test_markdown_and_json_say_the_same(undertow, small):
    undertow("classics")
    content = json.loads(Path("classics/classics.json").read_text())
    page = Path("classics/classics.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in page if line.startswith("|")]
    assert table[0] == list(classics_view.HEADINGS)
    assert len(table) - 2 == len(content["rows"]) == 3
    assert content["caption"] in page
    for cells, row in zip(table[2:], content["rows"], strict=True):
        said = dict(zip(table[0], cells, strict=True))
        lstm, rnn = row["lstm"], row["rnn"]
        assert (said["problem"], said["T"]) == (row["problem"], str(row["steps"]))
        assert said["LSTM solved"] == f"{lstm['solved']} of {lstm['trials']}"
        assert said["sequences, median"] == ("" if lstm["sequences"] is None else f"{lstm['sequences']:,}")
        assert said["published"] == ("" if row["published"] is None else f"{row['published']:,}")
        assert said["verdict"] == row["verdict"] == ("pass" if lstm["solved"] == lstm["trials"] else "fail")
        assert said["plain RNN solved"] == f"{rnn['solved']} of {rnn['trials']}"
    by_row = {(o["row"], o["cell"]): o for o in lines()}
    assert by_row["adding-1997 T=20", "RNN"]["solved"] is False  # nothing else can 48 sequences come to


def test_the_rnn_gets_a_multiple_of_what_the_lstm_needed(undertow, small):
    undertow("classics", "two-sequence")
    found = lines()
    needed = max(o["sequences"] for o in found if o["cell"] == "LSTM")
    cap = min(EASY.most, classics_settings.RNN_PATIENCE * needed)
    assert all(o["sequences"] <= cap for o in found if o["cell"] == "RNN")
    assert all(o["sequences"] == cap for o in found if o["cell"] == "RNN" and not o["solved"])


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(undertow, small, monkeypatch):
    def interrupted(watch, loop, steps):
        if (watch.trial.setting.problem, watch.trial.cell, loop.step) == ("adding-1997", "LSTM", 3):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(classics_view.Watch, "on_step", interrupted)
        stopped = undertow("classics")
    assert stopped.code == 130
    assert "Stopped by Ctrl-C" in stopped.out and "not run" in stopped.out
    assert {o["row"] for o in lines()} == {"two-sequence T=5"}
    before = Path("classics/results.jsonl").read_text()
    resumed = undertow("classics")
    assert resumed.code == 0
    assert "4 networks are trained already, 6 to go" in resumed.out
    assert Path("classics/results.jsonl").read_text().startswith(before)
    assert len(lines()) == 10
    undertow("classics", "--output", "whole")
    assert [o | {"seconds": 0} for o in lines()] == [o | {"seconds": 0} for o in lines("whole")]
    again = undertow("classics")
    assert again.code == 0 and len(lines()) == 10  # nothing left to do: the table once more


def test_a_signal_before_anything_is_done_leaves_the_folder_usable(undertow, small, monkeypatch):
    def interrupted(watch, loop, steps):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(classics_view.Watch, "on_step", interrupted)
        stopped = undertow("classics", "two-sequence", "--seeds", 1)
    assert stopped.code == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM" in stopped.out
    assert undertow("classics", "two-sequence", "--seeds", 1).code == 0
    assert len(lines()) == 2


def test_results_of_another_version_are_refused(undertow, small):
    assert undertow("classics", "two-sequence", "--seeds", 1).code == 0
    path = Path("classics/results.jsonl")
    path.write_text(path.read_text().replace('"hidden_size"', '"hidden"'))
    again = undertow("classics", "two-sequence", "--seeds", 1)
    assert again.code == 2
    assert "line 1 is damaged or of another version" in again.err


def test_more_seeds_go_on_from_fewer(undertow, small):
    undertow("classics", "two-sequence", "--seeds", 1)
    assert len(lines()) == 2
    assert undertow("classics", "two-sequence", "--seeds", 3).code == 0
    assert [(o["cell"], o["seed"]) for o in lines()][2:] == [
        ("LSTM", 1), ("LSTM", 2), ("RNN", 1), ("RNN", 2),
    ]  # fmt: skip


def test_results_of_other_settings_are_not_mixed_in(undertow, small, monkeypatch):
    undertow("classics", "adding-1997", "--seeds", 1)
    kept = Path("classics/results.jsonl").read_text()
    monkeypatch.setattr(classics_settings, "FULL", (replace(HARD, lr=2e-2),))
    result = undertow("classics")
    assert result.code == 2 and result.err.count("\n") == 1
    assert "adding-1997 T=20 was trained with other settings; --overwrite starts anew" in result.err
    assert Path("classics/results.jsonl").read_text() == kept
    assert undertow("classics", "--overwrite").code == 0
    assert {o["setting"]["lr"] for o in lines()} == {2e-2}


def test_a_damaged_line_is_named(undertow, small):
    undertow("classics", "adding-1997", "--seeds", 1)
    with Path("classics/results.jsonl").open("a") as file:
        file.write('{"row": "adding')
    result = undertow("classics")
    assert result.code == 2
    assert "results.jsonl: line 3 is damaged" in result.err


def test_a_folder_with_other_files_is_left_alone(undertow, small):
    Path("classics").mkdir()
    Path("classics/thesis.txt").write_text("mine")
    result = undertow("classics", "--overwrite")
    assert result.code == 2
    assert "--output classics: holds other files and no results" in result.err
    assert [path.name for path in Path("classics").iterdir()] == ["thesis.txt"]


def test_an_outcome_survives_the_file(tmp_path):
    results = Results(tmp_path / "r", [EASY], overwrite=False)
    outcome = Outcome("two-sequence T=5", "LSTM", 0, True, 80, 1, 50, 0.01, 1.5, 99, EASY.to_dict())
    results.add(outcome)
    assert Results(tmp_path / "r", [EASY], overwrite=False).outcomes == [outcome]
    with pytest.raises(UserError, match="other settings"):
        Results(tmp_path / "r", [replace(EASY, hidden_size=9)], overwrite=False)


def test_help_does_not_wait_for_torch(undertow):
    assert "--quick" in undertow("classics", "--help").out


# ------------------------------------------------------------------ the other verbs' new options


@pytest.mark.parametrize(
    "problem", ["reber", "continual-reber", "copy-memory", "lag-noise-free", "lag-random"]
)
def test_problems_with_a_target_at_every_step_train(undertow, problem):
    options = ("--steps", 12, "--epochs", 1, "--hidden-size", 4, "--batch-size", 2, "--folder", "r")
    result = undertow("train", problem, *options)
    assert result.code == 0, result.err
    assert f"{problem} is a built-in problem" in result.out and "right" in result.out
    config = json.loads(Path("r/config.json").read_text())
    assert config["model"]["readout"] == "every"
    assert 0 < config["baselines"]["best constant guess"] < 1


def test_train_starts_the_network_as_asked(undertow):
    options = ("--steps", 12, "--epochs", 1, "--hidden-size", 6, "--batch-size", 2)
    assert undertow("train", "adding", *options, "--init", "chrono", "--folder", "a").code == 0
    assert undertow("train", "adding", *options, "--forget-bias", 2, "--lr", 1e-12, "--folder", "b").code == 0
    model = json.loads(Path("a/config.json").read_text())["model"]
    assert (model["init"], model["max_lag"], model["forget_bias"]) == ("chrono", 12, None)
    from undertow.app.runs.folder import open_run

    rnn = open_run(Path("b")).load_model().rnn
    torch.testing.assert_close((rnn.bias_ih_l0 + rnn.bias_hh_l0)[6:12].detach(), torch.full((6,), 2.0))
    assert open_run(Path("a")).load_model().rnn.init == "chrono"


def test_chrono_takes_the_longest_sequence_where_there_are_no_steps(undertow, walks):
    options = ("--sequence", "id", "--label", "way", "--hidden-size", 8, "--epochs", 1)
    assert undertow("train", walks, *options, "--init", "chrono", "--folder", "r").code == 0
    assert json.loads(Path("r/config.json").read_text())["model"]["max_lag"] == 9


def test_runs_of_before_the_options_still_load(undertow):
    undertow("train", "adding", "--steps", 5, "--epochs", 1, "--hidden-size", 4, "--folder", "r")
    path = Path("r/config.json")
    content = json.loads(path.read_text())
    for name in ("init", "max_lag", "forget_bias"):
        del content["model"][name]
    path.write_text(json.dumps(content))
    assert undertow("info", "r").code == 0
    from undertow.app.runs.folder import open_run

    assert open_run(Path("r")).load_model().rnn.init is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--init", "chronos"), "--init chronos: expected one of torch, chrono, orthogonal"),
        (("--init", "chrono", "--cell", "rnn"), "--init chrono: sets gates, and --cell rnn has none"),
        (("--forget-bias", 1, "--cell", "rnn"), "--forget-bias: sets gates, and --cell rnn has none"),
        (("--init", "chrono", "--forget-bias", 1), "--forget-bias: --init chrono sets it already"),
        (("--init", "chrono", "--steps", 2), "--init chrono: expected sequences of more than 2 steps, got 2"),
    ],
)
def test_starts_that_do_not_fit_are_refused(undertow, options, message):
    result = undertow("train", "adding", *options)
    assert result.code == 2
    assert result.err.startswith(f"undertow: {message}") and result.err.count("\n") == 1
    assert not Path("runs").exists()


def test_on_a_gpu_a_trial_ends_the_same(monkeypatch):
    outcomes = []
    for places in (("cpu",), ()):  # () is the way of a GPU: nothing is read in a step
        monkeypatch.setattr(near, "NEAR", places)
        trial = Trial(replace(HARD, most=24), "LSTM", 0)
        trial.run()
        outcomes.append(trial.outcome(0.0))
    assert outcomes[0].error == pytest.approx(outcomes[1].error, rel=1e-5)
    assert outcomes[0].sequences == outcomes[1].sequences == 24


def test_a_trial_computes_on_its_device(monkeypatch):
    """The device meta stands in for a GPU: it does not mix with the CPU, and its numbers are 1."""
    numbers_are_one(monkeypatch)
    monkeypatch.setattr(dispatch, "layer", layer)
    monkeypatch.setattr("undertow.app.classics.trial.placed", lambda kind: META)
    trial = Trial(HARD, "LSTM", 0, device="cuda")
    trial.run()
    assert trial.outcome(0.0).sequences == HARD.most
    assert all(p.grad.is_meta for p in trial.network.parameters())


@pytest.mark.parametrize(("device", "expected"), [("cuda", "a CUDA device"), ("tpu", "auto, cpu, cuda")])
def test_a_device_that_is_not_there(undertow, monkeypatch, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = undertow("classics", "--quick", "--device", device)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"--device {device}: expected {expected}" in done.err
