"""Which of several processes this is, and what each takes of a batch."""

import os
import signal
import sys

import pytest
import torch

from undertow.app.errors import UserError
from undertow.app.runs.objective import Batch, Objective
from undertow.app.signals import SharedInterrupt
from undertow.app.training import interface, place, shares
from undertow.problems import UNSCORED

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NNODES": "2",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "devices", "expected"),
    [
        ({}, None, None),
        ({}, 1, None),
        ({}, 3, place.Place(0, 3, 0, 3, "--devices")),
        ({"LOCAL_RANK": "2"}, 3, place.Place(2, 3, 2, 3, "--devices")),
        (TORCHRUN, None, place.Place(3, 4, 1, 2, "torchrun")),
        (TORCHRUN, 2, place.Place(3, 4, 1, 2, "torchrun")),
        (SLURM, None, place.Place(5, 6, 2, 3, "SLURM")),
        (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None, None),
        ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}, None, None),
    ],
    ids=[
        "alone",
        "one",
        "first",
        "child",
        "torchrun",
        "torchrun and --devices",
        "srun",
        "torchrun of 1",
        "sbatch",
    ],
)
def test_the_environment_says_which_process_this_is(monkeypatch, variables, devices, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place.find(devices) == expected


def test_another_number_of_devices_than_the_launcher_started_is_refused(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--devices 3: torchrun started 2 on this machine"):
        place.find(3)


@pytest.mark.parametrize(("option", "value"), [("--devices", 0), ("--devices", 2000), ("--timeout", 0)])
def test_numbers_out_of_range_are_refused(undertow, option, value):
    refused = undertow("train", "adding", option, value)
    assert refused.code == 2
    assert refused.err.startswith(f"undertow: {option} {value}: expected")


@pytest.mark.parametrize(
    ("wrong", "variables"),
    [
        (["--hidden-size", 0], TORCHRUN),
        (["--overwrite"], TORCHRUN),
        (["--timeout", 0], TORCHRUN),
        (["--devices", 3], TORCHRUN),
        ([], SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4,2"}),
    ],
    ids=["option", "folder", "timeout", "devices", "tasks"],
)
def test_what_all_processes_refuse_the_first_one_says(undertow, monkeypatch, wrong, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(place.signals, "ignore", lambda: None)
    rank = "RANK" if "RANK" in variables else "SLURM_PROCID"
    folder = ["--folder", "r", "--resume", "auto"] if "--overwrite" in wrong else []
    refused = {}
    for number in ("0", variables[rank]):
        monkeypatch.setenv(rank, number)
        refused[number] = undertow("train", "adding", *folder, *wrong)
    first, other = refused.values()
    assert (first.code, other.code) == (2, 2)
    assert first.err.startswith("undertow: ") and other.err == ""


def test_parts_are_contiguous_and_cover_the_batch():
    for n in range(1, 9):
        for size in range(1, 6):
            found = [k for rank in range(size) for k in range(n)[shares.places(n, rank, size)]]
            assert found == list(range(n))


def test_a_part_is_as_long_as_its_longest_sequence():
    x, lengths = torch.arange(20.0).view(5, 4, 1), torch.tensor([2, 3, 5, 1])
    batch = Batch(x, torch.arange(20).view(5, 4), lengths)
    part = shares.part(batch, 0, 2, every=True)
    assert part.x.shape == (3, 2, 1) and part.y.shape == (3, 2) and part.lengths.tolist() == [2, 3]
    assert torch.equal(part.x, x[:3, :2])
    whole = shares.part(Batch(x, torch.arange(4), lengths), 1, 2, every=False)
    assert whole.x.shape == (5, 2, 1) and whole.y.tolist() == [2, 3]


@pytest.mark.parametrize(
    "y", [torch.tensor([1, 0]), torch.tensor([[1.0], [2.0]])], ids=["classes", "numbers"]
)
def test_a_process_without_a_sequence_reads_one_without_targets(y):
    batch = Batch(torch.ones(3, 2, 1), y)
    parts = [shares.part(batch, rank, 3, every=False) for rank in range(3)]
    assert [part.x.shape[1] for part in parts] == [1, 1, 1]
    kind = "rmse" if y.dtype.is_floating_point else "accuracy"
    objective = Objective(kind, "right", weights=() if kind == "rmse" else (1.0, 3.0))
    counts = [objective.targets(part.y) for part in parts]
    assert sorted(count for _, count in counts) == [0, 1, 1]
    assert sum(weight for weight, _ in counts) == objective.targets(y)[0]
    assert objective.targets(torch.full_like(y, torch.nan if kind == "rmse" else UNSCORED)) == (0, 0)


def test_a_signal_counts_when_all_know_of_it(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("undertow.app.signals.time.monotonic", lambda: clock[0])
    with SharedInterrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # the terminal's and the launcher's
        assert interrupt.heard == signal.SIGTERM and not interrupt.asked and interrupt.code == 0
        interrupt.agree([0.0, 0.0, 0.0])
        assert not interrupt.asked
        interrupt.agree([0.0, 2.0, 0.0])
        assert interrupt.asked and interrupt.code == 143 and interrupt.name == "SIGTERM"
        clock[0] += 4
        with pytest.raises(SystemExit, match="143"):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="interfaces are asked for in Linux's way")
def test_gloo_takes_the_interface_that_a_user_names_or_the_one_to_the_first_machine(monkeypatch):
    monkeypatch.setattr(interface, "towards", {"10.0.0.1": "eth7", "127.0.0.1": "lo"}.get)
    for given, address, expected in (
        (None, "10.0.0.1", "eth7"),
        ("eth1", "10.0.0.1", "eth1"),
        (None, "127.0.0.1", None),
        (None, "nowhere", None),
    ):
        monkeypatch.setenv(interface.VARIABLE, given or "")
        if given is None:
            monkeypatch.delenv(interface.VARIABLE)
        interface.choose(address)
        assert os.environ.get(interface.VARIABLE) == expected
    monkeypatch.undo()
    monkeypatch.setattr(interface.socket, "if_nameindex", lambda: [(1, "no-address"), (2, "lo")])
    assert interface.towards("127.0.0.1") == "lo"


def test_srun_starts_as_many_tasks_on_each_machine(monkeypatch):
    for name, value in (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4,2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="srun: expected as many tasks on each machine, got 4,2"):
        place.find(None)
