"""Options with values of all kinds: no traceback, and what is refused leaves nothing behind."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from commands import TRAIN, call
from sampling import examples, seed
from undertow.app.runs import config
from undertow.app.training.view import View

pytestmark = pytest.mark.filterwarnings("default")

CASES, PARTS = 500, 10
HUGE = "10" * 20
NUMBERS = [
    "nan", "inf", "-inf", "-0.0", "-1", "0", "0.5", "1", "2", "3.5", "7", "1e-300", "1e308", "1e400",
    HUGE, str(10**9), str(10**15), "9" * 5000, "", " 1", "1_0", "０", "0x1", "one",
]  # fmt: skip
WORDS = [
    "",
    " ",
    "x",
    "level",
    "place",
    "day",
    "sky",
    "id",
    "way",
    "step",
    "é",
    "a" * 300,
    "a/b",
    "[bold]",
    "\x1b[1m",
]
PATHS = [
    "", ".", "/", "new", "new/deep", "rhyme.txt/new", "a" * 300, "text", "fifo", "new.html", "new.csv",
    "/proc/new", "/dev/null", "\ud800", "nowhere/new.html", "text/report.html",
]  # fmt: skip
DEVICES = [*WORDS, "auto", "cuda", "cpu"]
SOURCES = [*PATHS, "rhyme.txt", "waves.csv", "walks.csv", "adding", "reber"]
VERBS: dict[str, tuple[tuple[str, ...], dict[str, list[str]]]] = {
    "info": (("text",), {}),
    "generate": (
        ("text", "--length", "2"),
        {"--length": ["0", "nan", HUGE], "--temperature": NUMBERS, "--seed": NUMBERS, "--prompt": WORDS},
    ),
    "predict": (
        ("forecast", "waves.csv"),
        {"--device": DEVICES, "--output": PATHS, "--gaps": [*WORDS, "fill", "ignore"]},
    ),
    "evaluate": (("forecast", "waves.csv"), {"--device": DEVICES, "--gaps": [*WORDS, "fill", "ignore"]}),
    "export": (
        ("text", "--to", "onnx"),
        {
            "--to": [*WORDS, "c", "torch", "nam", "safetensors"],
            "--output": PATHS,
            "--dtype": [*WORDS, "int16", "int8"],
            "--data": PATHS,
        },
    ),
    "inspect": (
        ("text",), {"--steps": ["-1", "nan", "1", HUGE], "--compare": PATHS, "--output": ["a", *PATHS[:7]]}
    ),
    "doctor": (
        ("text",),
        {"--device": DEVICES, "--lag": ["-1", "0", "nan", HUGE], "--sequences": ["0", "inf", HUGE]},
    ),
    "demo": (("--lag", "1"), {"--steps": NUMBERS, "--seed": NUMBERS, "--lag": ["9", "nan", HUGE]}),
    "classics": (("nothing",), {"--seeds": NUMBERS}),
    "bench": (("--threads", "0"), {"--threads": ["0", "-1", "x", "1,0", HUGE], "--repeats": NUMBERS}),
}  # fmt: skip


def values(option: Any) -> list[str]:
    return NUMBERS if option.plain in (int, float) else WORDS


def training(draw: random.Random) -> list[str]:
    """A small training with some options changed or added."""
    arguments = [str(word) for word in TRAIN[draw.choice(list(TRAIN))]]
    if draw.random() < 0.2:
        arguments[0] = draw.choice(SOURCES)
    for option in draw.sample(list(config.options()), draw.randint(1, 3)):
        given = [] if option.plain is bool else [draw.choice(values(option))]
        arguments += [option.flag, *given]
    run = draw.choice(PATHS) if draw.random() < 0.3 else "new"
    return ["train", *arguments, *(["--folder", run] if draw.random() < 0.8 else [])]


def other(draw: random.Random) -> list[str]:
    """Another verb, with options of its own or other folders."""
    verb = draw.choice(list(VERBS))
    needed, options = VERBS[verb]
    arguments = [verb, *needed]
    for flag in draw.sample(list(options), min(len(options), draw.randint(1, 2))):
        arguments += [flag, draw.choice(options[flag])]
    if draw.random() < 0.3 and verb not in ("demo", "bench"):
        arguments[1] = draw.choice(PATHS)
    return arguments


def stop_early(self: View, *_: Any) -> None:
    if self.progress.at.step >= 2:
        self.progress.at.finished = "long enough"


@pytest.mark.parametrize("part", range(PARTS))
def test_options(place, monkeypatch, part):
    monkeypatch.setattr(View, "on_step", stop_early)
    start = seed(part)
    draw, folder = random.Random(start), place()
    for number in range(examples(CASES) // PARTS):
        before = sorted(folder.rglob("*"))
        arguments = training(draw) if draw.random() < 0.7 else other(draw)
        ended = call(*arguments)
        ended.check(f"case {start}.{number}: {arguments}")
        if ended.code == 2:
            left = sorted(set(folder.rglob("*")) - set(before))
            assert not left, f"case {start}.{number}: {arguments} was refused and left {left}"
        else:
            folder = place()


def test_a_pipe_is_refused(place):
    place()
    os.mkfifo("fifo")
    for arguments in (("train",), ("predict", "forecast"), ("inspect", "forecast", "-i")):
        ended = call(*arguments, "fifo")
        ended.check(arguments)
        assert "expected a file, and it is a device or a pipe" in ended.err


def test_a_folder_that_cannot_be_written(place, monkeypatch):
    folder = place()
    monkeypatch.setattr(os, "access", lambda *_: False)
    predict = ("predict", "forecast", "waves.csv", "-o", "new.csv")
    for arguments in (("train", *TRAIN["text"], "--folder", "new"), predict):
        ended = call(*arguments)
        ended.check(arguments)
        assert ended.code == 2
    assert not Path(folder / "new").exists()
