"""Run folders with one entry changed: no command ends in a traceback, and one that refuses writes nothing."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from commands import TRAIN, call
from sampling import examples, seed

pytestmark = pytest.mark.filterwarnings("default")

CASES, PARTS = 500, 10
VALUES: list[Any] = [
    None, True, False, -7, -1, 0, 1, 2, 3, 300, 10**9, 10**30, 1.5, -0.5, float("nan"), float("inf"), 1e308,
    -1e308, "", "x", "RMSE", "\ud800", "é" * 300, "../x", [], [1], ["a", "a"], [[]], {}, {"a": 1}, {"": {}},
    {"step": 1},
]  # fmt: skip
COMMANDS = {
    "text": ("generate", "text", "--length", "2"),
    "forecast": ("predict", "forecast", "waves.csv"),
    "classify": ("predict", "classify", "walks.csv"),
    "problem": ("info", "problem"),
    "sound": ("predict", "sound", "clean.wav", "-o", "new.wav"),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all entries of JSON."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*path, key)
        yield from places(each, (*path, key))


def change(value: Any, draw: random.Random) -> str:
    """Change, remove or add one entry of JSON; what was done."""
    path = draw.choice(list(places(value)))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    how = draw.random()
    if how < 0.1:
        del holder[path[-1]]
        return f"without {path}"
    if how < 0.15 and isinstance(holder, dict):
        holder["unknown"] = draw.choice(VALUES)
        return f"unknown beside {path}"
    holder[path[-1]] = near(holder[path[-1]], draw) if how < 0.5 else draw.choice(VALUES)
    return f"{path} = {holder[path[-1]]!r}"


def near(value: Any, draw: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return draw.choice([value + 1, value - 1, -value, value * 1000, value / 2, float(value)])
    if isinstance(value, str):
        return draw.choice([value + "x", value[1:], value.upper()])
    if isinstance(value, list):
        return draw.choice([value[1:], value + value, value[::-1]])
    return value


def change_config(folder: Path, draw: random.Random) -> str:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    done = change(content, draw)
    path.write_text(json.dumps(content))
    return done


def change_metrics(folder: Path, draw: random.Random) -> str:
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    done = change(rows, draw)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return done


def change_state(folder: Path, draw: random.Random) -> str:
    path = folder / "last.safetensors"
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
    done = change(state, draw)
    save_file(load_file(path), path, {"state": json.dumps(state)})
    return done


def change_tensor(folder: Path, draw: random.Random) -> str:
    name = draw.choice(["last.safetensors", "model.safetensors"])
    path = folder / name
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    key = draw.choice(sorted(tensors))
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "flat": lambda x: x.flatten(),
        "shorter": lambda x: x[: len(x) // 2] if x.dim() else x[None],
        "whole": lambda x: x.long(),
        "double": lambda x: x.double(),
        "not finite": lambda x: x.double() * float("nan"),
        "zero": torch.zeros_like,
        "empty": lambda x: x.new_empty(0),
    }
    how = draw.choice([*ways, "gone", "twice"])
    if how == "gone":
        del tensors[key]
    elif how == "twice":
        tensors[key + "0"] = tensors[key].clone()
    else:
        tensors[key] = ways[how](tensors[key]).contiguous().clone()
    save_file(tensors, path, metadata)
    return f"{name}: {key} {how}"


def change_bytes(folder: Path, draw: random.Random) -> str:
    path = draw.choice(sorted(path for path in folder.iterdir() if path.suffix != ".png"))
    raw = bytearray(path.read_bytes())
    place = draw.randrange(len(raw))
    if draw.random() < 0.3:
        raw = raw[:place]
    else:
        raw[place] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    return f"{path.name}: byte {place}"


CHANGES = [
    change_config,
    change_config,
    change_config,
    change_metrics,
    change_state,
    change_tensor,
    change_bytes,
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "curve.png"}


@pytest.mark.parametrize("part", range(PARTS))
def test_a_changed_run(place, part):
    start = seed(part)
    draw = random.Random(start)
    for number in range(examples(CASES) // PARTS):
        place()
        task = draw.choice(list(TRAIN))
        folder = Path(task)
        done = draw.choice(CHANGES)(folder, draw)
        before = snapshot(folder)
        resume = ("train", "--resume", task, "--epochs", 2, "-q")
        command = draw.choice([("info", task), COMMANDS[task], resume])
        ended = call(*command)
        ended.check(f"case {start}.{number}: {' '.join(map(str, command))} with {task}/ {done}")
        if ended.code == 2:
            assert snapshot(folder) == before, f"case {start}.{number}: {command} refused {done} and wrote"
