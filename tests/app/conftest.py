"""What the tests of the command line share: a way to run it, and small data with a known answer."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from undertow.app import cli

DATA = Path(__file__).parents[3] / "shared" / "data"


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


def wave_table(days: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    tables = []
    for place, level in (("north", 10.0), ("south", 20.0)):
        t = np.arange(days)
        level_by_day = level + 3 * np.sin(2 * np.pi * t / 8) + 0.1 * rng.normal(size=days)
        tables.append(
            pl.DataFrame(
                {
                    "day": [date(2020, 1, 1) + timedelta(days=int(k)) for k in t],
                    "place": place,
                    "sky": rng.choice(["clear", "cloud"], days),
                    "level": level_by_day.round(4),
                }
            )
        )
    return pl.concat(tables)


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    """Sequences of 4 to 9 steps, `up` or `down` by the sign of their drift."""
    path = tmp_path / "walks.csv"
    walk_table(40).write_csv(path)
    return path


def walk_table(n: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        drift = 1 if number % 2 else -1
        position = np.cumsum(drift + 0.3 * rng.normal(size=rng.integers(4, 10)))
        rows += [(f"w{number}", k, float(x), "up" if drift > 0 else "down") for k, x in enumerate(position)]
    return pl.DataFrame(rows, schema=["id", "step", "x", "way"], orient="row")


FORECAST = ("--target", "level", "--group", "place", "--steps", 10, "--hidden-size", 16)
CLASSIFY = ("--sequence", "id", "--label", "way", "--hidden-size", 8)
TEXT = ("--steps", 16, "--batch-size", 8, "--hidden-size", 32, "--num-layers", 1)
