"""Small runs for the fuzz tests, and copies of them to spoil."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from commands import TRAIN, call, shorten
from inputs import walk_table, wave_table


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small inputs and a run of each task."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        folder = tmp_path_factory.mktemp("made")
        patch.chdir(folder)
        Path("rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 8)
        wave_table(24).write_csv("waves.csv")
        walk_table(12).write_csv("walks.csv")
        clean = np.random.default_rng(0).uniform(-0.5, 0.5, 6000)
        for name, samples in (("clean.wav", clean), ("amp.wav", np.tanh(3 * clean))):
            soundfile.write(name, samples, 8000, subtype="FLOAT")
        for task, options in TRAIN.items():
            ended = call("train", *options, "--folder", task)
            assert ended.code == 0, ended
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Each call makes a new folder with copies of all that was made, and goes there."""
    shorten(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def new() -> Path:
        folder = tmp_path / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        monkeypatch.chdir(folder)
        return folder

    yield new
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(threads)
