"""An ensemble whose members several processes train is the one that a single process trains."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import undertow as package
from inputs import wave_table

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def undertow(folder, *arguments):
    command = [sys.executable, "-m", "undertow", "train", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    wave_table(110).write_csv(folder / "waves.csv")
    options = [
        "waves.csv",
        "--target",
        "level",
        "--group",
        "place",
        "--members",
        3,
        "--hidden-size",
        4,
        "--epochs",
        2,
    ]
    said = {
        name: undertow(folder, *options, "--folder", name, *more)
        for name, more in (("one", []), ("two", ["--devices", 2]))
    }
    return folder, said


def test_the_members_and_their_scores_are_the_same(trained):
    folder, said = trained
    for name, done in said.items():
        assert done.returncode == 0, f"{name}: {done.stderr}"
    one, two = (json.loads((folder / name / "ensemble.json").read_text()) for name in said)
    assert one == two
    for k in (1, 2, 3):
        one, two = (load_file(folder / name / "members" / str(k) / "model.safetensors") for name in said)
        assert all((one[name] == two[name]).all() for name in one)


def test_one_process_speaks_of_the_members_it_trains(trained):
    said = trained[1]["two"].stdout
    assert re.findall(r"^member (\d) of 3", said, re.MULTILINE) == ["1", "3"]
    assert said.count("Saved in two") == 1


def test_an_ensemble_goes_on_in_another_number_of_processes(trained):
    folder, _ = trained
    done = undertow(folder, "--resume", "one", "--devices", 2)
    assert done.returncode == 2
    assert done.stderr.count("all 3 members are finished already") == 1
    done = undertow(folder, "--resume", "one", "--devices", 2, "--epochs", 3)
    assert done.returncode == 0, done.stderr
    done = undertow(folder, "--resume", "two", "--epochs", 3)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((folder / name / "ensemble.json").read_text()) for name in ("one", "two"))
    assert one == two
