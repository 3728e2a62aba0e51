"""The run folder, the picture, what is said, and the built-in problems."""

import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from inputs import CLASSIFY, DATA, FORECAST, TEXT
from undertow.app import outputs
from undertow.app.errors import UserError
from undertow.app.runs import shapes
from undertow.app.runs.config import ModelConfig, TrainConfig, to_dict, with_defaults
from undertow.app.runs.folder import FILES, fingerprint, open_run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Objective, Score
from undertow.app.runs.options import read
from undertow.app.training import session
from undertow.app.training import view as progress
from undertow.app.training.view import LiveView


def test_a_run_is_five_files_and_none_is_a_pickle(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "r")
    assert sorted(path.name for path in Path("r").iterdir()) == sorted(FILES)
    content = json.loads(Path("r/config.json").read_text())
    assert content["undertow_run"] == 1
    assert content["training"]["seed"] == 0
    assert content["versions"]["torch"] == version("torch")  # torch.__version__ may add +cu130
    assert content["source"]["bytes"] == walks.stat().st_size
    assert len(content["source"]["sha256"]) == 64
    assert Path("r/curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with safe_open("r/model.safetensors", "pt") as file:
        assert {"centre", "scale", "head.weight", "rnn.weight_ih_l0"} < set(file.keys())
    rows = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    wanted = {"step", "epoch", "train", "validation", "seconds", "lr", "grad_norm", "clipped"}
    assert wanted < set(rows[0])


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_same_options_same_run(undertow, walks, cell):
    for name in "ab":
        undertow("train", walks, *CLASSIFY, "--cell", cell, "--epochs", 2, "--folder", name)
    first, second = (open_run(Path(name)).load_model().state_dict() for name in "ab")
    for name, value in first.items():
        assert torch.equal(value, second[name])
    undertow("train", walks, *CLASSIFY, "--cell", cell, "--epochs", 2, "--seed", 1, "--folder", "c")
    assert not torch.equal(first["head.weight"], open_run(Path("c")).load_model().state_dict()["head.weight"])


def test_a_crash_while_writing_loses_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("old")

    def crash(beside):
        beside.write_text("half of the ne")
        raise OSError("disk full")

    with pytest.raises(UserError, match=r"config\.json: cannot be written: disk full"):
        outputs.atomically(path, crash)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_options_survive_the_file_and_wrong_ones_do_not():
    config = TrainConfig(lr=0.1, batch_size=2, epochs=3, patience=4, clip=0.5, seed=6)
    assert read(TrainConfig, json.loads(json.dumps(to_dict(config))), "x") == config
    with pytest.raises(UserError, match="config: unknown option 'speed'"):
        read(TrainConfig, to_dict(config) | {"speed": 1}, "config")
    with pytest.raises(UserError, match="option 'hidden_size' is missing"):
        read(ModelConfig, {"cell": "lstm"}, "config")
    for name, wrong, expected in (
        ("batch_size", "2", "a whole number from 1 to 1,000,000, got '2'"),
        ("batch_size", 2.5, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("lr", float("nan"), "a number above 0"),
        ("epochs", 0, "a whole number from 1"),
        ("device", "tpu", "one of auto, cpu, cuda, got 'tpu'"),
        ("seed", None, "a whole number"),
    ):
        with pytest.raises(UserError, match=f"^config: {name}: expected {expected}"):
            read(TrainConfig, to_dict(config) | {name: wrong}, "config")


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("size", [{"symbols": 5, "width": 3}, {"inputs": 4}], ids=["symbols", "features"])
def test_the_shapes_of_a_models_file_are_known_without_torch(cell, size):
    config = ModelConfig(cell, 6, 2, 0.1, outputs=7, readout="last", **size)
    state = SequenceModel(config).state_dict()
    assert shapes.expected(config) == {name: list(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("task", ["text", "forecast", "classify", "problem"])
def test_every_task_has_every_default(task):
    needed = {"hidden_size", "num_layers", "dropout", "lr", "batch_size", "patience", "clip", "seed", "cell"}
    assert needed <= set(with_defaults(task, {}))


@pytest.mark.parametrize(
    ("given", "init"),
    [
        ({}, "chrono"),
        ({"init": "torch"}, "torch"),
        ({"cell": "rnn"}, "torch"),
        ({"forget_bias": 1.0}, "torch"),
        ({"steps": 2}, "torch"),
        ({"cell": "rnn", "init": "chrono"}, "chrono"),  # refused later, by its name
    ],
)
def test_a_problems_lstm_starts_with_gates_that_hold(given, init):
    assert with_defaults("problem", given)["init"] == init
    assert with_defaults("text", given)["init"] == given.get("init", "torch")


def test_scores_are_means_over_predictions():
    score, objective = Score(), Objective("rmse", "RMSE", scale=10.0)
    for y in (torch.tensor([[3.0]]), torch.tensor([[4.0], [0.0]])):
        score.add(objective.loss(torch.zeros_like(y), y).item(), torch.zeros_like(y), y, "rmse")
    assert score.value(objective) == pytest.approx(((9 + 16 + 0) / 3) ** 0.5)
    score, objective = Score(), Objective("accuracy", "right")
    output, y = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    score.add(objective.loss(output, y).item(), output, y, "accuracy")
    assert score.value(objective) == pytest.approx(2 / 3)
    assert objective.verdict(0.9, 0.5) == "beaten by 40 points"
    assert Objective("rmse", "RMSE").verdict(3.0, 2.0) == "not beaten: it is better by 50%"


@pytest.mark.parametrize(("problem", "unit"), [("adding", "RMSE"), ("temporal-order", "right")])
def test_problems_train(undertow, problem, unit):
    options = ("--steps", 12, "--epochs", 1, "--hidden-size", 4, "--batch-size", 4, "--folder", "r")
    result = undertow("train", problem, *options)
    assert result.code == 0, result.err
    assert f"{problem} is a built-in problem" in result.out
    assert "best constant guess" in result.out
    assert unit in result.out


def test_a_short_lag_is_learnt(undertow):
    options = ("--steps", 10, "--epochs", 4, "--hidden-size", 16, "--lr", 0.02, "--folder", "r")
    assert undertow("train", "two-sequence", *options).code == 0
    assert open_run(Path("r")).read_metrics()[-1]["validation"] > 0.97


def test_rnn_trains_on_text_too(undertow, text):
    result = undertow("train", text, *TEXT, "--cell", "rnn", "--epochs", 1, "--folder", "r")
    assert result.code == 0, result.err
    assert len(undertow("generate", "r", "--length", 20).out) == 20 + 1


def test_info_says_what_matters(undertow, waves):
    undertow("train", waves, *FORECAST, "--epochs", 2, "--folder", "r")
    said = undertow("info", "r")
    assert said.code == 0, said.err
    words = (
        "forecast",
        "waves.csv",
        "target level",
        "horizon 1",
        "LSTM, 1 layer of 16 units",
        "2 of 2 epochs",
    )
    for word in (*words, "persistence", "RMSE", "torch 2", "SHA-256", "seed 0"):
        assert word in said.out, word


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_precisions(undertow, walks, precision, cell):
    options = (*CLASSIFY, "--precision", precision, "--cell", cell, "--epochs", 2, "--folder", "r")
    result = undertow("train", walks, *options)
    assert result.code == 0, result.err
    assert undertow("predict", "r", walks).code == 0
    assert undertow("train", "--resume", "r", "--epochs", 3).code == 0


def test_quiet_only_says_how_it_ended(undertow, walks):
    loud = undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "a").out
    quiet = undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "b", "--quiet").out
    assert "epoch 1/2" in loud
    assert "epoch 1/2" not in quiet
    assert "on the validation part" in quiet


@pytest.mark.parametrize("width", [80, 120])
def test_live_line_fits_the_terminal(undertow, walks, monkeypatch, width):
    screen = io.StringIO()
    console = Console(force_terminal=True, width=width, file=screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(session, "view", lambda _, quiet, progress: LiveView(console, progress))
    assert undertow("train", walks, *CLASSIFY, "--epochs", 3, "--folder", "r").code == 0
    for word in ("epoch 3/3", "best", "% right", "steps/s", "left"):
        assert word in screen.getvalue()
    assert "\x1b[1A\x1b[2K\x1b[1A" not in screen.getvalue()  # never two lines


def test_a_log_hears_of_long_epochs(undertow, walks, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    said = undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "r").out
    assert "epoch 0.25/2  train" in said
    assert said.count("validation ") == 2 + 1  # and in the summary


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data beside the repository")
def test_motions_end_to_end(undertow):
    source, test = DATA / "basic-motions-train.csv", DATA / "basic-motions-test.csv"
    result = undertow(
        "train", source, "--sequence", "sequence", "--label", "label", "--folder", "r", "--quiet"
    )
    assert result.code == 0, result.err
    said = undertow("predict", "r", test, "-o", "labels.csv")
    assert said.code == 0, said.err
    right = float(said.out.split("% right")[0].split()[-1])
    assert right >= 90  # 93 on average over ten seeds, 82 to 100


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data beside the repository")
def test_weather_beats_both_baselines(undertow):
    source = DATA / "seattle-weather.csv"
    result = undertow("train", source, "--target", "temp_max", "--folder", "r", "--quiet")
    assert result.code == 0, result.err
    assert result.out.count("beaten by") == 2
    assert "not beaten" not in result.out
    run = open_run(Path("r"))
    best = min(row["validation"] for row in run.read_metrics())
    assert best < 0.95 * run.baselines["persistence"] < run.baselines["seasonal (day-of-year) mean"]


def test_data_are_known_by_the_content_of_every_file(tmp_path):
    first, second, folder = tmp_path / "a", tmp_path / "b", tmp_path / "parts"
    folder.mkdir()
    seen = set()
    for k, changed in enumerate([first, second, folder / "c", folder / "d"] * 2):
        changed.write_text(f"{k}")
        files = [str(each) for each in (second, folder) if each.exists()]
        found = fingerprint(first, *files)
        seen.add(found["sha256"])
        assert found["bytes"] == sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file())
    assert len(seen) == 8
    assert fingerprint(first)["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_a_full_disk_ends_a_training_in_one_line(undertow, walks, small_files):
    """The weights too, which safetensors writes."""
    with small_files:
        result = undertow("train", walks, *CLASSIFY, "--epochs", 1, "-q", "--folder", "r")
    assert result.code == 2
    assert result.err.startswith("undertow: r/") and "cannot be written: " in result.err
    assert result.err.count("\n") == 1
    assert not Path("r").exists()
