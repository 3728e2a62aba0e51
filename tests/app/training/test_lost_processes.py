"""A lost network and a process that hangs: the others end in time, with one line, and the run goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import undertow as package
from cable import ADDRESSES, two_machines
from undertow.app.runs import lock
from undertow.app.runs.folder import FILES

TIMEOUT, PATIENCE = 10, 100  # seconds: of --timeout where a process is lost, and where none is
GRACE = 60  # seconds until a process that should have ended hangs
TRAIN = (
    *("train", "rhyme.txt", "--dropout", "0", "--steps", "16", "--batch-size", "7", "--epochs", "2"),
    *("--hidden-size", "8", "--num-layers", "1", "--resume", "auto"),
)
SLOW = """
import os, pathlib, sys, time
from undertow.app.training import trainer
learn, trainer.SAVE_EVERY = trainer.Trainer.on_step, 0.0
def on_step(self, loop, steps):
    learn(self, loop, steps)
    if "SLOW" in os.environ and loop.step > 4:
        pathlib.Path("reached-" + os.environ["RANK"]).touch()
        time.sleep(0.2)
trainer.Trainer.on_step = on_step
from undertow.app import main
sys.argv[0] = "undertow"
main()
"""


@pytest.fixture(scope="module")
def cable():
    with two_machines() as made:
        yield made


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def process(folder, rank, port, slow, cable, *more):
    """A process of a training, as torchrun starts it."""
    variables = {
        "TORCHELASTIC_RUN_ID": "test", "RANK": rank, "WORLD_SIZE": 2,
        "LOCAL_RANK": 0 if cable else rank, "LOCAL_WORLD_SIZE": 1 if cable else 2, "MASTER_PORT": port,
        "MASTER_ADDR": ADDRESSES[0] if cable else "127.0.0.1", "TORCH_CPP_LOG_LEVEL": "FATAL",
        "OMP_NUM_THREADS": 1, "PYTHONPATH": Path(package.__file__).parents[1],
    }  # fmt: skip
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    command = [*(cable.within(rank) if cable else []), sys.executable, "-c", SLOW, *TRAIN, "--folder", "r"]
    command += [str(each) for each in ("--timeout", TIMEOUT if slow else PATIENCE, *more)]
    return subprocess.Popen(
        command, cwd=folder, env=environment | ({"SLOW": "1"} if slow else {}),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start(folder, slow, cable, *more):
    """Two processes of one training; on two machines if there is a cable."""
    port = free_port()
    return [process(folder, rank, port, slow, cable, *more) for rank in range(2)]


def wait_until_both_train(folder, processes):
    until = time.monotonic() + 200
    while len(list(folder.glob("reached-*"))) < 2:
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].stderr.read()
        assert time.monotonic() < until, "the training does not begin"
        time.sleep(0.05)


def check_lost(process):
    """It has ended by itself, in time, with one line."""
    _, said = process.communicate(timeout=TIMEOUT + GRACE)
    assert process.returncode == 2, said
    assert said.startswith("undertow: process ") and said.count("\n") == 1, said
    assert "lost the other processes: " in said


def check_goes_on(folder, cable, more, alone):
    """The folder is whole, and both processes together bring it to the end of an undisturbed training."""
    names = {path.name for path in (folder / "r").iterdir()}
    assert names <= {*FILES, "members", lock.LOCK}, names  # the lock of a killed process is taken over
    ended = [(process.communicate(timeout=600), process) for process in start(folder, False, cable, *more)]
    assert [process.returncode for _, process in ended] == [0, 0], [said for (_, said), _ in ended]
    for name in alone:
        mine, other = (
            [json.loads(row)["validation"] for row in (run / name).read_text().splitlines()]
            for run in (folder / "r", folder / "whole")
        )
        assert mine == pytest.approx(other, abs=1e-5)


@pytest.fixture(params=["one network", "members"])
def case(request, undertow):
    """The folder, further options, and the metrics of an undisturbed training in one process."""
    Path("rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    more = ("--members", 2) if request.param == "members" else ()
    done = undertow(*TRAIN, "--folder", "whole", "-q", *more)
    assert done.code == 0, done.err
    names = [f"members/{k}/metrics.jsonl" for k in (1, 2)] if more else ["metrics.jsonl"]
    return Path.cwd(), more, names


def test_a_lost_network_ends_both_machines(case, cable):
    folder, more, alone = case
    processes = start(folder, True, cable, *more)
    wait_until_both_train(folder, processes)
    cable.cut()
    try:
        for process in processes:
            check_lost(process)
    finally:
        cable.mend()
    check_goes_on(folder, cable, more, alone)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_hangs_ends_the_other_one(case, rank):
    folder, more, alone = case
    processes = start(folder, True, None, *more)
    wait_until_both_train(folder, processes)
    processes[rank].send_signal(signal.SIGSTOP)
    try:
        check_lost(processes[1 - rank])
    finally:
        processes[rank].kill()
        processes[rank].communicate()
    check_goes_on(folder, None, more, alone)


def test_a_first_process_that_hangs_while_all_meet_is_not_waited_for(tmp_path):
    (tmp_path / "rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        other = process(tmp_path, 1, silent.getsockname()[1], True, None)
        _, said = other.communicate(timeout=TIMEOUT + GRACE)
    assert other.returncode == 2, said
    assert said.startswith("undertow: process 2 of 2: cannot join the others: "), said
    assert said.count("\n") == 1, said
