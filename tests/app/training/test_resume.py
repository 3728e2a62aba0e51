"""Stopped and resumed, a training ends where it would have ended anyway."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import undertow as package
from inputs import CLASSIFY, FORECAST, TEXT, changed
from sounds import SOUND
from undertow.app.loop import Hook
from undertow.app.runs.folder import open_run
from undertow.app.training import session

PLANS = {
    "text": ("text", changed(TEXT, ("--epochs", 2, "--dropout", 0.2, "--num-layers", 2))),
    "forecast": ("waves", (*FORECAST, "--epochs", 3)),
    "classify": ("walks", (*CLASSIFY, "--epochs", 4)),
    "rnn": ("walks", (*CLASSIFY, "--epochs", 4, "--cell", "rnn")),
    "sound": ("amp", (*SOUND, "--epochs", 3)),
    "problem": ("two-sequence", ("--steps", 8, "--epochs", 2, "--hidden-size", 4, "--batch-size", 4)),
}
RESULTS = ("step", "epoch", "train", "validation", "lr", "grad_norm", "clipped")


class StopAt(Hook):
    """Presses Ctrl-C at a step, as the signal handler would."""

    def __init__(self, step):
        self.step = step

    def on_step(self, loop, steps):
        loop.interrupt.asked = loop.step == self.step


def results(folder):
    return [{name: row[name] for name in RESULTS} for row in open_run(Path(folder)).read_metrics()]


@pytest.mark.parametrize("plan", PLANS)
def test_resumed_equals_uninterrupted(undertow, request, monkeypatch, plan):
    source, options = PLANS[plan]
    found = source if source == "two-sequence" else request.getfixturevalue(source)
    sources = found if isinstance(found, tuple) else (found,)
    assert undertow("train", *sources, *options, "--folder", "whole").code == 0
    whole = results("whole")
    for stop in (1, whole[0]["step"], whole[-1]["step"] - 1):
        with monkeypatch.context() as patch:
            patch.setattr(session, "view", lambda *_, stop=stop: StopAt(stop))
            stopped = undertow("train", *sources, *options, "--folder", f"part-{stop}")
        assert stopped.code == 130
        assert f"undertow train --resume part-{stop}" in stopped.out
        torch.manual_seed(99)  # a new process would not have the old random numbers either
        resumed = undertow("train", "--resume", f"part-{stop}")
        assert resumed.code == 0, resumed.err
        assert len(results(f"part-{stop}")) == len(whole)
        for one, other in zip(results(f"part-{stop}"), whole, strict=True):
            assert one == pytest.approx(other, rel=1e-6)
        one, other = (open_run(Path(name)).load_model() for name in (f"part-{stop}", "whole"))
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-5, atol=1e-7)


def test_more_epochs_go_on(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "r")
    again = undertow("train", "--resume", "r")
    assert again.code == 2
    assert "finished already (all 2 epochs done)" in again.err
    more = undertow("train", "--resume", "r", "--epochs", 4)
    assert more.code == 0, more.err
    assert [row["epoch"] for row in open_run(Path("r")).read_metrics()] == [1, 2, 3, 4]
    assert open_run(Path("r")).training.epochs == 4


def test_stops_early_and_keeps_the_best(undertow, walks):
    options = (*CLASSIFY, "--epochs", 200, "--patience", 2, "--lr", 0.5)
    result = undertow("train", walks, *options, "--folder", "r")
    assert "no improvement in 2 evaluations" in result.out
    run = open_run(Path("r"))
    losses = [row["validation_loss"] for row in run.read_metrics()]
    assert len(losses) < 200
    assert losses.index(min(losses)) == len(losses) - 3
    last, _ = run.read_last()
    best = run.load_model().state_dict()
    assert not torch.equal(best["head.weight"], last["model.head.weight"])


def test_time_budget_ends_it(undertow, walks):
    result = undertow("train", walks, *CLASSIFY, "--epochs", 100_000, "--minutes", 0.02, "--folder", "r")
    assert result.code == 0
    assert "0.02 minutes used up" in result.out
    assert open_run(Path("r")).read_metrics()[-1]["seconds"] >= 1.2


@pytest.mark.parametrize(
    ("times", "number", "name"),
    [
        (1, signal.SIGINT, "Ctrl-C"),
        (2, signal.SIGINT, "Ctrl-C"),
        (1, signal.SIGTERM, "SIGTERM"),
        (1, signal.SIGHUP, "SIGHUP"),
    ],
)
def test_a_signal_ends_a_training(tmp_path, walks, times, number, name):
    """A real signal to a real process: once ends cleanly, everything saved; twice ends at once."""
    command = [sys.executable, "-m", "undertow.app.cli", "train", walks, *CLASSIFY, "--epochs", 100_000]
    command += ["--patience", 100_000, "--folder", "r"]
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "r" / "metrics.jsonl").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
        out, err = process.communicate(timeout=600)
    assert "Traceback" not in err
    assert process.returncode == 128 + number
    run = open_run(tmp_path / "r")
    run.load_model()
    if times == 1:
        assert f"Stopped by {name} at step" in out and "undertow train --resume r" in out
        _, state = run.read_last()
        assert state["step"] >= run.read_metrics()[-1]["step"] > 0
        assert (tmp_path / "r" / "curve.png").exists()


def test_a_training_whose_terminal_closes_is_saved(tmp_path, walks):
    """The system sends SIGHUP, and whatever is printed from then on is an error."""
    script = (
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "from undertow.app import main; main()"
    )  # fmt: skip
    options = ("train", walks, *CLASSIFY, "--epochs", 100_000, "--patience", 100_000, "--folder", "r")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, options)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1])},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        while not (tmp_path / "r" / "metrics.jsonl").exists():
            assert process.poll() is None
            with suppress(BlockingIOError):
                os.read(ours, 65536)
            time.sleep(0.02)
        os.close(ours)
        try:
            assert process.wait(timeout=600) == 128 + signal.SIGHUP
        finally:
            process.kill()
    assert (tmp_path / "r" / "curve.png").exists()
