"""A panel larger than memory: peak memory and speed of ``undertow train``, beside a panel that is in memory.

python benchmarks/beyond.py FOLDER [--gb 4] [--columns 100] [--write]

The panel is one CSV file of ``--gb`` gigabytes, made in FOLDER unless it is there: hourly rows of many
series, a target and ``--columns`` other numbers. It is trained on from disk (``--cache FOLDER/cache``).
A panel of the same columns, 50 times smaller, is trained on in memory and from disk. Peak memory is VmHWM
of Linux, which counts mapped files too. Speed is what the training prints, without the evaluation.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

import record
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


def train(path: Path, folder: Path, cache: Path | None) -> dict[str, float]:
    """Train an epoch; the seconds of all of it, the steps a second and the peak of memory in GB."""
    command = [sys.executable, "-m", "undertow", "train", str(path), "--target", "level", "--group", "site"]
    command += ["--folder", str(folder / "run"), "--overwrite", "--epochs", "1", "--validation", "0.05"]
    command += ["--cache", str(cache)] if cache else []
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            if found := re.search(r"VmHWM:\s*(\d+)", status.read_text()):
                peak = max(peak, int(found[1]))
            time.sleep(0.5)
        said = process.stdout.read() if process.stdout else ""
    print(said, flush=True)
    speeds = re.findall(r"([\d.]+) steps/s", said)
    return {"seconds": time.monotonic() - began, "steps/s": float(speeds[-1]), "peak GB": peak * 1024 / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=4.0)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    large, small = (given.folder / f"{name}.csv" for name in ("large", "small"))
    for path, gb in ((large, given.gb), (small, given.gb / SHARE)):
        if not path.exists():
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
    for name, (path, where) in ways.items():
        found[name] = train(path, given.folder, where) | {"GB": path.stat().st_size / 1e9}
        print(name, json.dumps(found[name]), flush=True)
    if given.write:
        record.write("beyond", {"machine": machine(), "columns": given.columns, "ways": found})


if __name__ == "__main__":
    main()
