"""What the tests of the command line share: a way to run it, and files of small inputs."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import sounds
from inputs import walk_table, wave_table
from undertow.app import cli


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Undertow = Callable[..., Result]


@pytest.fixture(autouse=True)
def one_thread():
    """Equal results need equal sums; and the data here are too small to share out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def signals_are_heard():
    """Also where the tests run in the background or under nohup; a command ignores what it finds ignored."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL))
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def undertow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Undertow:
    """``undertow(...)`` in an empty folder: exit code, stdout, stderr. A traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["undertow", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text whose next character always follows from the ones before it."""
    path = tmp_path / "rhyme.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 80, encoding="utf-8")
    return path


@pytest.fixture
def waves(tmp_path: Path) -> Path:
    """Two daily series, `north` and `south`: a cycle of eight days, with noise, and a useless word."""
    path = tmp_path / "waves.csv"
    wave_table(160).write_csv(path)
    return path


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    """Sequences of 4 to 9 steps, `up` or `down` by the sign of their drift."""
    path = tmp_path / "walks.csv"
    walk_table(40).write_csv(path)
    return path


@pytest.fixture
def amp(tmp_path: Path) -> tuple[Path, Path]:
    """Two seconds before and after a small device."""
    x = sounds.plucked(2)
    return sounds.write(tmp_path / "clean.wav", x), sounds.write(tmp_path / "amp.wav", sounds.driven(x))
