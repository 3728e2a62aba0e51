"""``--device`` of the commands that read with a trained network, as far as a CPU can prove it."""

import shutil

import polars as pl
import pytest
import torch

import sounds
import undertow as package
from far import META, layer, numbers_are_one
from inputs import CLASSIFY, FORECAST, TEXT, changed, walk_table
from undertow.app.evaluation import texts
from undertow.app.reading import forecaster, foreign, predictions, watch
from undertow.app.runs import device, together
from undertow.app.training import session
from undertow.kernels import dispatch, elsewhere
from undertow.kernels.engine import Engine

DAYS = changed(FORECAST, ("--hidden-size", 4))
PLANS = {
    "text": ("rhyme.txt", *changed(TEXT, ("--hidden-size", 8, "--members", 2))),
    "forecast": ("waves.csv", *changed(DAYS, ("--embed-group", "--horizon", 2))),
    "decoder": ("waves.csv", *changed(DAYS, ("--horizon", 3, "--head", "decoder"))),
    "classify": ("walks.csv", *CLASSIFY, "--members", 2),
    "steps": ("walks.csv", *changed(CLASSIFY, ("--label", "sign", "--per", "step"))),
    "regress": ("walks.csv", *changed(CLASSIFY, ("--label", "end", "--readout", "attention"))),
    "problem": ("adding", "--steps", 20, "--hidden-size", 4),
    "sound": ("clean.wav", "amp.wav", *changed(sounds.SOUND)),
}
THERE = ("--device", "cuda")


@pytest.fixture
def trained(undertow, tmp_path, text, waves):
    """``trained(plan)`` trains the run in the folder ``run``, and returns its data."""
    walks, x = walk_table(40), pl.col("x")
    sign = pl.when(x > 0).then(pl.lit("+")).otherwise(pl.lit("-"))
    walks.with_columns(end=x.last().over("id"), sign=sign).write_csv(tmp_path / "walks.csv")
    clean = sounds.plucked(1)
    sounds.write(tmp_path / "clean.wav", clean)
    sounds.write(tmp_path / "amp.wav", sounds.driven(clean))

    def train(plan):
        once = ("--epochs", 1, "--device", "cpu", "--folder", "run", "-q")
        done = undertow("train", *PLANS[plan], *once)
        assert done.code == 0, done.err
        return PLANS[plan][0]

    return train


class There(Engine):
    """What computes a layer that is watched; the CPU's kernels record it."""

    def layer(self, call):
        return layer(call)


@pytest.fixture
def on_meta(monkeypatch):
    """The GPU is the device meta, numbers that come from there are 1. Returns where layers computed."""
    calls, here = [], dispatch.layer

    def computed(call):
        calls.append(call.x.device.type)
        if not call.x.is_meta:
            return here(call)
        return layer(call) if call.recording is None else elsewhere.recorded(There(), call)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (device, together, forecaster, foreign, predictions, texts, watch):
        monkeypatch.setattr(module, "placed", lambda kind: META if kind == "cuda" else torch.device(kind))
    numbers_are_one(monkeypatch)
    monkeypatch.setattr(dispatch, "layer", computed)
    monkeypatch.setattr(dispatch, "knows", lambda *_: True)
    return calls


@pytest.mark.parametrize("plan", ["forecast", "decoder", "classify", "steps", "regress"])
def test_tables_are_read_there(undertow, trained, on_meta, plan):
    table = trained(plan)
    del on_meta[:]
    assert len(package.load_run("run").predict(table, device="cuda"))
    for verb in ("evaluate", *["doctor"][: plan == "decoder"]):
        done = undertow(verb, "run", *THERE)
        assert done.code == 0, done.err
    assert set(on_meta) == {"meta"}
    del on_meta[:]
    assert undertow("predict", "run", table).code == 0
    assert set(on_meta) == {"cpu"}


def test_a_text_is_read_and_written_there(undertow, trained, on_meta):
    trained("text")
    for command in (("generate", "run", "--length", 3), ("evaluate", "run"), ("doctor", "run")):
        del on_meta[:]
        done = undertow(*command, *THERE)
        assert done.code == 0, done.err
        assert set(on_meta) == {"meta"}, command
    del on_meta[:]
    run = package.load_run("run")
    assert len(run.generate("the", length=3, device="cuda")) == 6
    assert len(run.evaluate(device="cuda"))
    assert set(on_meta) == {"meta"}


@pytest.mark.parametrize("plan", ["problem", "sound"])
def test_what_is_shown_is_computed_there(undertow, trained, on_meta, plan):
    trained(plan)
    del on_meta[:]
    done = undertow("inspect", "run", "--compare", "run", *THERE)
    assert done.code == 0, done.err
    assert on_meta == ["meta"] * 2


def test_a_network_of_another_program_reads_there(undertow, trained, on_meta):
    trained("sound")
    assert undertow("export", "run", "--to", "safetensors", "-o", "net.safetensors").code == 0
    for verb in ("inspect", "doctor"):
        for network in ("net.safetensors", "run"):
            del on_meta[:]
            done = undertow(verb, network, "--input", "clean.wav", *THERE)
            assert done.code == 0, done.err
            assert set(on_meta) == {"meta"}, (verb, network)


def test_networks_that_are_trained_anew_are_trained_and_read_there(undertow, trained, on_meta, monkeypatch):
    trained("decoder")
    devices = []

    def trained_before(run, data, folder):
        devices.append(run.training.device)
        shutil.copytree("run", folder)
        return 0

    monkeypatch.setattr(session, "again", trained_before)
    del on_meta[:]
    done = undertow("evaluate", "run", "--backtest", 2, "--retrain", *THERE)
    assert done.code == 0, done.err
    assert devices == ["cuda"] * 2
    assert set(on_meta) == {"meta"}
    assert undertow("evaluate", "run", "--backtest", 2, "--retrain").code == 0
    assert devices[2:] == ["cpu"] * 2  # as of the run


def test_a_device_that_is_not_there(undertow, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table = trained("steps")
    (tmp_path / "run").rename("steps")
    trained("text")
    before = sorted(tmp_path.rglob("*"))
    commands = [("generate", "run"), *((verb, "steps") for verb in ("evaluate", "inspect", "doctor"))]
    for command in (*commands, ("predict", "steps", table)):
        for kind, expected in (("cuda", "a CUDA device, and this machine"), ("tpu", "auto, cpu, cuda")):
            done = undertow(*command, "--device", kind)
            assert done.code == 2
            assert f"--device {kind}: expected {expected}" in done.err
            assert len(done.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert undertow("predict", "steps", table, "--device", "auto").code == 0


def test_recordings_are_played_on_the_cpu(undertow, trained):
    trained("sound")
    for command in (("predict", "run", "clean.wav", "-o", "new.wav"), ("evaluate", "run")):
        done = undertow(*command, *THERE)
        assert done.code == 2
        assert "--device cuda: has no meaning for task sound" in done.err
        assert undertow(*command, "--device", "auto").code == 0
