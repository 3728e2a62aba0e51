"""Two processes in one run folder, and what a killed one leaves behind."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import undertow as package
from inputs import CLASSIFY
from undertow.app import signals
from undertow.app.runs import lock
from undertow.app.runs.folder import FILES

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def trained(undertow, walks):
    assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r", "-q").code == 0
    return Path("r")


def test_a_killed_training_goes_on_bit_for_bit():
    """The small version of `make kills`."""
    command = [sys.executable, ROOT / "tools" / "kills.py", "--kills", "3", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 kills in ")


def test_one_process_at_a_time_trains_in_a_folder(undertow, walks, trained):
    with lock.held(trained):
        for arguments in (
            ("--resume", "r", "--epochs", 2),
            (walks, *CLASSIFY, "--folder", "r", "--overwrite"),
        ):
            refused = undertow("train", *arguments)
            assert refused.code == 2
            assert refused.err == (
                f"undertow: r: process {os.getpid()} is training in this folder; wait until it ends\n"
            )
        assert undertow("info", "r").code == 0
    assert undertow("train", "--resume", "r", "--epochs", 2).code == 0
    assert sorted(path.name for path in trained.iterdir()) == sorted(FILES)


def test_the_lock_of_a_dead_process_is_taken_over(undertow, trained):
    (trained / lock.LOCK).write_text("1\n")
    assert undertow("train", "--resume", "r", "--epochs", 2).code == 0


@pytest.mark.parametrize(
    "command", [("info", "r"), ("train", "--resume", "r", "--epochs", 2)], ids=["info", "resume"]
)
def test_what_a_killed_process_left_is_put_right(undertow, trained, command):
    (trained / ".config.json.new").write_text("{")
    (trained / ".tmpAbC123").write_text("half of a safetensors file")
    (trained / lock.LOCK).write_text("1\n")
    (trained / "curve.png").unlink()
    assert undertow(*command).code == 0
    assert sorted(path.name for path in trained.iterdir()) == sorted(FILES)


def test_a_folder_of_a_process_killed_at_its_start_is_free(undertow, walks):
    Path("r").mkdir()
    for name in ("last.safetensors", ".config.json.new", lock.LOCK):
        (Path("r") / name).write_text("half")
    assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r", "-q").code == 0
    assert sorted(path.name for path in Path("r").iterdir()) == sorted(FILES)


def test_files_get_the_mode_that_the_umask_says(undertow, walks):
    before = os.umask(0o027)
    try:
        assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r", "-q").code == 0
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path("r").iterdir()} == {0o640}


def test_a_signal_before_the_work_begins_ends_without_a_traceback():
    script = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from undertow.app import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_signals_that_are_ignored_stay_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals.Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not interrupt.asked
    finally:
        signal.signal(signal.SIGTERM, before)
