"""A panel larger than memory: peak memory and speed of ``undertow train``, beside a panel that is in memory.

python benchmarks/beyond.py FOLDER [--gb 10] [--columns 100] [--turns 8] [--speed-only] [--write]

The panel is one CSV file of ``--gb`` gigabytes, made in FOLDER unless it is there: hourly rows of many
series, a target and ``--columns`` other numbers. It is trained on from disk (``--cache FOLDER/cache``).
A panel of the same columns, 50 times smaller, is trained on in memory and from disk. Peak memory is VmHWM
of Linux, which counts mapped files too, with that of the process that reads windows ahead. The training
prints its speed with the evaluation in it, which reads more windows of a larger panel.

Then steps on windows from memory and from a file as large as the panel's features are timed in one process:
in turn with the file in the system's cache (warm), and then read from the disk (cold), which nothing else
should use: at 17,000 windows a second or less it is the bound. OMP_NUM_THREADS=1 trains with one thread.
"""

import argparse
import copy
import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch

import record
from undertow.app.data.files.disk import Rows
from undertow.app.data.tasks.inputs import Inputs
from undertow.app.data.tasks.windows import Windows
from undertow.app.training import begin, session
from undertow.app.verbs.bench import machine

ROWS = 8760  # of a series: a year
SHARE = 50  # how many times smaller the panel in memory is


def make(path: Path, gb: float, columns: int) -> None:
    """Write a panel of about so many gigabytes, a series at a time."""
    rng, hours, number = np.random.default_rng(0), np.arange(ROWS), 0
    times = (np.datetime64("2023-01-01T00:00") + hours.astype("timedelta64[h]")).astype("datetime64[us]")
    with path.open("wb") as file:
        while file.tell() < gb * 1e9:
            others = {f"x{k}": rng.normal(size=ROWS).round(4) for k in range(columns)}
            level = 10 + np.sin(2 * np.pi * hours / 24) + 0.3 * others["x0"] + rng.normal(0, 0.1, ROWS)
            frame = pl.DataFrame({"time": times, "level": level.round(3), **others})
            frame = frame.insert_column(1, pl.lit(f"s{number:04}").alias("site"))
            frame.write_csv(file, include_header=not number, datetime_format="%Y-%m-%d %H:%M")
            number += 1


def peak_of(process: int) -> int:
    """VmHWM in KiB; 0 of a process that has ended."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process}/status").read_text()):
            return int(found[1])
    return 0


def readers(process: int) -> list[int]:
    """The children that read windows ahead.

    Any other is the process itself in the moment before it starts one: its memory would count twice.
    """
    found = []
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            if b"reader.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def train(path: Path, folder: Path, cache: Path | None) -> dict[str, float]:
    """Train an epoch; the seconds of all of it, the steps a second and the peak of memory in GB."""
    command = [sys.executable, "-m", "undertow", "train", str(path), "--target", "level", "--group", "site"]
    command += ["--folder", str(folder / "run"), "--overwrite", "--epochs", "1", "--validation", "0.05"]
    command += ["--cache", str(cache)] if cache else []
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(peak_of, [process.pid, *readers(process.pid)])))
            time.sleep(0.5)
        said = process.stdout.read() if process.stdout else ""
    print(said, flush=True)
    speeds = re.findall(r"([\d.]+) steps/s", said)
    return {"seconds": time.monotonic() - began, "steps/s": float(speeds[-1]), "peak GB": peak * 1024 / 1e9}


def on_disk(task: Any, rows: int, folder: Path) -> Any:
    """The task with its rows again and again, so many in all, in a file."""
    x, steps = task.inputs.x, task.config.steps
    file = Rows(folder, (rows, x.shape[1]))
    for k in range(0, rows, len(x)):
        part = x[: rows - k].numpy()
        file.write(np.arange(k, k + len(part)), part)
    os.sync()

    def again(each: torch.Tensor) -> torch.Tensor:
        return each.repeat(-(-rows // len(each)), *[1] * (each.dim() - 1))[:rows]

    large = copy.copy(task)
    large.y, large.units = again(task.y), again(task.units)
    inputs = task.inputs
    large.inputs = Inputs(file, inputs.last, inputs.centre, inputs.scale)
    large._train = Windows(large._read, torch.arange(rows - steps - task.config.horizon), large._expect)
    return large


def speed(small: Path, gb: float, folder: Path, turns: int) -> dict[str, dict[str, float]]:
    """Milliseconds a step from memory, from a file in the system's cache, and from the disk, in turn."""
    given = {"target": ("level",), "group": ("site",), "validation": 0.05}
    _, options, _ = begin.options_of([str(small)], given)
    _, task, trainer = session._planned(str(small), options, folder / "none", None, session.ALONE)
    learner = trainer.learner
    rows = int(gb * 1e9 / small.stat().st_size * len(task.inputs.x))
    large, rng = on_disk(task, rows, folder), np.random.default_rng(0)
    task._train.small = large._train.small = False

    def turn(task: Any, count: int = 32, before: int = 8) -> tuple[float, float]:
        size = task.batch_size
        chosen = torch.from_numpy(rng.integers(0, len(task._train.starts), (before + count) * size))
        batches = task._train.batches(size, chosen)
        for batch in islice(batches, before):  # an epoch has hundreds: its first ones do not count
            learner.learn(batch)
        clock, processor = time.perf_counter(), time.process_time()
        for batch in batches:
            learner.learn(batch)
        return 1e3 * (time.perf_counter() - clock) / count, 1e3 * (time.process_time() - processor) / count

    found: dict[str, list[tuple[float, float]]] = {"memory": [], "warm": [], "cold": []}
    for _ in range(turns):  # the file has just been written, as in a training
        found["memory"].append(turn(task))
        found["warm"].append(turn(large))
    for _ in range(turns):
        large.inputs.x._advise(0, 0, "POSIX_FADV_DONTNEED")
        found["cold"].append(turn(large))
        found["memory"].append(turn(task))
    return {
        name: {
            "median ms": median(clock for clock, _ in each),
            "least ms": min(clock for clock, _ in each),
            "processor ms": median(processor for _, processor in each),
        }
        for name, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    large, small = (given.folder / f"{name}.csv" for name in ("large", "small"))
    for path, gb in ((large, given.gb), (small, given.gb / SHARE)):
        if not path.exists() and not (path == large and given.speed_only):
            make(path, gb, given.columns)
    cache = given.folder / "cache"
    ways = {
        "small, in memory": (small, None),
        "large, cache made": (large, cache),
        "large, cache there": (large, cache),
        "small, from disk": (small, cache),
        "small, in memory again": (small, None),
    }
    found = {}
    for name, (path, where) in ({} if given.speed_only else ways).items():
        found[name] = train(path, given.folder, where) | {"GB": path.stat().st_size / 1e9}
        print(name, json.dumps(found[name]), flush=True)
    steps = speed(small, given.gb, given.folder, given.turns)
    print(json.dumps(steps, indent=1), "load", os.getloadavg()[0])
    if given.write:
        figures = {"machine": machine(), "threads": torch.get_num_threads(), "columns": given.columns}
        figures |= {"ways": found, "step": steps}
        record.write("beyond", figures)


if __name__ == "__main__":
    main()
