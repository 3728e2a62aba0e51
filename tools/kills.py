"""Kill a short training again and again, resume it, and compare the end with that of an undisturbed training.

python tools/kills.py [--kills 200] [--seed 0]

Each process, forked after torch was imported, gets SIGKILL at a random instant, and the next one goes on.
Once a training has ended, weights, optimiser, random numbers and metrics must be equal bit for bit to the
undisturbed ones, the times apart. The folder must then hold the files of a run and nothing else.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from undertow.app import cli
from undertow.app.runs.folder import FILES
from undertow.app.training import curve, session, trainer  # noqa: F401  (imported before the fork)

OPTIONS = [
    "--steps",
    "16",
    "--batch-size",
    "8",
    "--hidden-size",
    "16",
    "--num-layers",
    "2",
    "--dropout",
    "0.2",
    "--epochs",
    "3",
    "-q",
]
START = ["train", "rhyme.txt", *OPTIONS, "--folder"]
SAVE_EVERY = 0.02  # seconds: many chances to be killed while writing


def launch(arguments: list[str]) -> int:
    """Start ``undertow ...`` in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with Path("output.txt").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = ["undertow", *arguments]
            cli.main()
            code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(arguments: list[str], seconds: float) -> int:
    """Run a command, with SIGKILL after ``seconds`` where it is still there; its exit code."""
    process = launch(arguments)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return ended(process)


def content(folder: Path) -> dict[str, Any]:
    """All that a run holds, but for times."""
    found: dict[str, Any] = {}
    for name in ("model.safetensors", "last.safetensors"):
        with safe_open(folder / name, "pt") as file:
            found |= {f"{name} {key}": file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            found[name] = without_times(json.loads((file.metadata() or {}).get("state", "{}")))
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return found | {"metrics.jsonl": [without_times(json.loads(row)) for row in rows]}


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name != "seconds"}
    return {name: without_times(value) if isinstance(value, dict) else value for name, value in kept.items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is not the same in two runs."""
    names = sorted(set(one) | set(other))
    return [name for name in names if not same(one.get(name), other.get(name))]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def train_through(folder: Path, longest: float, draw: random.Random, most: int) -> int:
    """Train to the end with up to ``most`` kills; how many there were."""
    kills = 0
    while True:
        known = (folder / "config.json").exists()
        arguments = ["train", "--resume", str(folder), "-q"] if known else [*START, str(folder)]
        last = kills == most
        code = killed(arguments, draw.uniform(0, 0.6 * longest)) if not last else ended(launch(arguments))
        said = Path("output.txt").read_text()
        if code == 0 or "finished already" in said:
            return kills
        assert code == -signal.SIGKILL, f"exit code {code}: {said}"
        kills += 1


def main() -> None:
    options = argparse.ArgumentParser(description="Kill a training again and again, and resume it.")
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    draw, kills, rounds = random.Random(chosen.seed), 0, 0
    torch.set_num_threads(1)
    trainer.SAVE_EVERY = SAVE_EVERY
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        Path("rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
        began = time.monotonic()
        assert ended(launch([*START, "whole"])) == 0, Path("output.txt").read_text()
        longest, whole = time.monotonic() - began, content(Path("whole"))
        while kills < chosen.kills:
            rounds, folder = rounds + 1, Path(f"run-{rounds}")
            kills += train_through(folder, longest, draw, min(12, chosen.kills - kills))
            assert ended(launch(["info", str(folder)])) == 0, Path("output.txt").read_text()
            wrong = differences(content(folder), whole)
            assert not wrong, f"{folder} differs from an undisturbed training: {wrong}"
            names = sorted(path.name for path in folder.iterdir())
            assert names == sorted(FILES), f"{folder} holds {names}"
        os.chdir("/")
    print(f"{kills} kills in {rounds} trainings; each ended like the undisturbed one of {longest:.1f} s")


if __name__ == "__main__":
    main()
