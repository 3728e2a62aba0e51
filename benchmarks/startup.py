"""How long each verb takes to its answer, as a ratio to `python -c "import torch"`.

python benchmarks/startup.py [--repeats 9]

Each round runs every command once, with an import of torch right before it; a ratio is of the two. A command
ends with its answer, a training with its first step. All processes compute with one thread.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import record
from undertow.app.bench.speed import spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

TRAIN_TEXT = ("train", "rhyme.txt", "--steps", "16", "--batch-size", "8", "--hidden-size", "32", "-q")
TRAIN_TABLE = ("train", "waves.csv", "--target", "level", "--hidden-size", "16", "-q")
COMMANDS = {  # what is asked -> its arguments
    "help": ("--help",),
    "wrong option": ("train", "rhyme.txt", "--hidden-size", "0"),
    "no --target": ("train", "waves.csv"),
    "no such table": ("predict", "table-run", "nowhere.csv"),
    "info, text": ("info", "text-run"),
    "info, forecast": ("info", "table-run"),
    "generate": ("generate", "text-run", "--length", "20"),
    "predict": ("predict", "table-run", "waves.csv"),
    "train, text: first step": (*TRAIN_TEXT, "--folder", "new"),
    "train, table: first step": (*TRAIN_TABLE, "--folder", "new"),
}
FIRST_STEP = (  # as `python -m undertow`, to the end of the first training step
    "import os, undertow.app.training.view as view\n"
    "view.View.on_step = lambda *_: os._exit(77)\n"
    "from undertow.app import main\n"
    "main()"
)


def program(arguments: tuple[str, ...]) -> list[str]:
    start = ["-c", FIRST_STEP] if arguments[-1:] == ("new",) else ["-m", "undertow"]
    return [sys.executable, *start, *arguments]


def seconds(command: list[str], folder: Path) -> float:
    """How long the command takes. Raises RuntimeError where a training went past its first step."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    took = perf_counter() - start
    if FIRST_STEP in command and done.returncode != 77:
        raise RuntimeError(f"expected to stop after the first step: {command[3:]}")
    return took


def prepare(folder: Path) -> None:
    """Small inputs, and a run of each."""
    (folder / "rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 80)
    rows = [f"{day},{day % 8}.5" for day in range(300)]
    (folder / "waves.csv").write_text("\n".join(["t,level", *rows]) + "\n")
    for arguments, run in ((TRAIN_TEXT, "text-run"), (TRAIN_TABLE, "table-run")):
        command = [*program(arguments), "--epochs", "1", "--folder", run]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)


def measure(folder: Path, repeats: int) -> dict[str, tuple[list[float], list[float]]]:
    """For every command its seconds, and its ratios to the import of torch before it."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            torch = seconds([sys.executable, "-c", "import torch"], folder)
            mine = seconds(program(arguments), folder)
            found[name][0].append(mine)
            found[name][1].append(mine / torch)
            shutil.rmtree(folder / "new", ignore_errors=True)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description="How long each verb takes to its answer.")
    options.add_argument("--repeats", type=int, default=9)
    repeats = options.parse_args().repeats
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made))
        found = measure(Path(made), repeats)
    print(f'{machine()}; ratio to `python -c "import torch"`, quartiles in brackets\n')
    rows = {}
    for name, (times, ratios) in found.items():
        (low, middle, high), took = spread(ratios), spread(times)
        print(f"{name:26}{duration(took[1]):>10}{middle:8.2f} ({low:.2f} to {high:.2f})")
        rows[name] = {"seconds": took, "ratio": (low, middle, high)}
    record.write("startup", {"machine": machine(), "repeats": repeats, "rows": rows})


if __name__ == "__main__":
    main()
