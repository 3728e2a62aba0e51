"""One network trained by several processes is the network that one process trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import sounds
import undertow as package
from inputs import walk_table, wave_table

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
RHYME = "the quick brown fox jumps over the lazy dog.\n"


def write_sources(folder: Path) -> None:
    (folder / "rhyme.txt").write_text(RHYME * 48)
    (folder / "rhymes").mkdir()
    for name, times in (("a.txt", 30), ("b.txt", 14)):
        (folder / "rhymes" / name).write_text(RHYME * times)
    wave_table(110).write_csv(folder / "waves.csv")
    x, walks = pl.col("x"), walk_table(44)
    walks.with_columns(end=x.last().over("id").round(3)).write_csv(folder / "walks.csv")
    high, low = pl.when(x > 1).then(pl.lit("high")), pl.lit("low")  # between them no label
    walks.with_columns(sign=high.when(x < -3).then(low)).write_csv(folder / "steps.csv")
    clean = sounds.plucked(1)
    sounds.write(folder / "clean.wav", clean)
    sounds.write(folder / "amp.wav", sounds.driven(clean))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    write_sources(folder)
    command = [sys.executable, Path(__file__).parent / "steps.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_any_number_of_processes_gives_the_same_training(trained):
    assert len(trained) == 10
    for name, by_size in trained.items():
        alone = by_size["1"]
        assert len(alone["losses"]) >= 50, name
        for size in sorted(set(by_size) - {"1"}):
            assert by_size[size]["losses"] == pytest.approx(alone["losses"], abs=1e-5), f"{name}, {size}"
            for mine, other in zip(by_size[size]["metrics"], alone["metrics"], strict=True):
                assert mine == pytest.approx(other, rel=1e-4, abs=1e-5), f"{name}, {size}"


def test_a_disturbed_training_goes_on():
    """The small version of `make kills-ddp`."""
    command = [sys.executable, ROOT / "tools" / "kills_ddp.py", "--kills", "2", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 kills in ")


def test_only_the_first_process_speaks(trained):
    for name, by_size in trained.items():
        for size in set(by_size) - {"1"}:
            first, *others = by_size[size]["said"]
            assert "Saved in" in first and not any(others), name
