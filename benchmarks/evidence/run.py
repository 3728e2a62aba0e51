"""Every contestant on every data set: results/evidence.json, from which ``page.py`` writes docs/evidence.md.

python benchmarks/evidence/run.py --undertow PYTHON [--only SET ...] [--contestants NAME ...] [--seconds 30]

Results that are there already stay unless their set and contestant run again.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from scores import forecast_scores, label_scores  # noqa: E402
from sources import SOURCES, Source, load, prepare  # noqa: E402

import record  # noqa: E402

OURS, CERTAIN = "undertow", ("naive", "seasonal naive", "ridge")  # these have no seed
FORECASTERS = (OURS, "neuralforecast LSTM", "boosting", "seasonal naive", "naive")
LABELLERS = (OURS, "nn.LSTM", "ridge")
Result = dict[str, Any]


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a process with one thread.

    Returns:
        Its seconds of processor time, which other processes of the machine do not change, and its peak memory
        in MiB.

    Raises:
        RuntimeError: It failed; with the last lines it wrote.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    used = folder / "used"
    with (folder / "log").open("a") as log:
        measured = [sys.executable, "-S", str(HERE / "used.py"), str(used), *command]
        if subprocess.run(measured, stdout=log, stderr=log, env=os.environ | threads).returncode:
            raise RuntimeError(f"{shlex.join(command)}\n{(folder / 'log').read_text()[-2000:]}")
    seconds, mib = map(float, used.read_text().split())
    return seconds, mib


def ours(undertow: list[str], source: Source, folder: Path, seed: int, seconds: int) -> tuple[float, float]:
    """Train and predict through the command line, with default options."""
    undertow = [*undertow, str(HERE / "clocked.py")]
    names = {"--sequence": "sequence", "--label": "label"}
    if not source.classify:
        names = {"--target": source.target, "--horizon": str(source.horizon)}
        table = load(folder, "all.csv")
        names |= {} if (table["series"] == "").all() else {"--group": "series"}
    options = [part for pair in names.items() for part in pair] + source.options
    more = ["--seed", str(seed), "--minutes", str(seconds / 60), "--overwrite"]
    train = run(
        [*undertow, "train", str(folder / "train.csv"), *options, *more, "--folder", str(folder / "run")],
        folder,
    )
    answers = ["-o", str(folder / "answers.csv"), "--overwrite"]
    predict = run([*undertow, "predict", str(folder / "run"), str(folder / "all.csv"), *answers], folder)
    answered(source, folder).to_csv(folder / "predicted.csv", index=False)
    return train[0] + predict[0], max(train[1], predict[1])


def answered(source: Source, folder: Path) -> pd.DataFrame:
    """What undertow predicted, by the number of rows known to each forecast."""
    found = pd.read_csv(folder / "answers.csv")
    if source.classify:
        return found[["sequence", "prediction"]]
    table = load(folder, "all.csv")
    table["row"] = table.groupby("series", sort=False).cumcount()
    found = found.assign(ahead=found.get("ahead", 1), series=found.get("series", ""))
    if isinstance(table["time"].iloc[0], str):
        table["time"], found["time"] = pd.to_datetime(table["time"]), pd.to_datetime(found["time"])
    found = found.merge(table[["series", "time", "row"]], on=["series", "time"])
    return found.assign(origin=found["row"] - found["ahead"] + 1)


def contest(name: str, undertow: list[str], source: Source, seeds: int, seconds: int) -> Result:
    """All seeds of a contestant on a data set: mean and spread of its scores, the largest time and memory."""
    rows = []
    for seed in range(1 if name in CERTAIN else seeds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            prepare(source.name, folder)
            peer = [sys.executable, str(HERE / "peers.py"), name, str(folder), str(seed), str(seconds)]
            if name == OURS:
                took, used = ours(undertow, source, folder, seed, seconds)
            else:
                took, used = run(peer, folder)
            predicted = pd.read_csv(folder / "predicted.csv").fillna({"series": ""})
            score = label_scores if source.classify else lambda f, p: forecast_scores(source, f, p)
            rows.append(score(folder, predicted) | {"seconds": took, "mib": used})
    spread = {key: stdev(row[key] for row in rows) for key in rows[0] if len(rows) > 1}
    return {
        "seeds": len(rows),
        "mean": {key: mean(row[key] for row in rows) for key in rows[0]},
        "sd": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--undertow", required=True, help="the Python that has it, such as .venv/bin/python")
    parser.add_argument("--only", nargs="*", default=[s.name for s, _ in SOURCES])
    parser.add_argument("--contestants", nargs="*", default=[*FORECASTERS, *LABELLERS])
    parser.add_argument("--seconds", type=int, default=20, help="budget of one training, processor time")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    for source, _ in SOURCES:
        if source.name not in chosen.only:
            continue
        for name in LABELLERS if source.classify else FORECASTERS:
            if name not in chosen.contestants:
                continue
            print(f"{source.name}: {name}", flush=True)
            found = contest(name, shlex.split(chosen.undertow), source, chosen.seeds, chosen.seconds)
            print("   ", {k: round(v, 4) for k, v in found["mean"].items()}, flush=True)
            keep(source.name, name, found | {"budget": chosen.seconds})


def keep(source: str, contestant: str, found: Result) -> None:
    """Add a result to the file, which another process may have changed meanwhile."""
    file = record.path("evidence")
    results: dict[str, Any] = json.loads(file.read_text())["results"] if file.exists() else {}
    results.setdefault(source, {})[contestant] = found
    record.write("evidence", {"machine": machine(), "versions": versions(), "results": results})


def machine() -> dict[str, Any]:
    """The processor, its cores and the system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "threads": 1,
    }


def versions() -> dict[str, str]:
    """The versions of the peers."""
    names = ("torch", "neuralforecast", "scikit-learn", "numpy", "pandas")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


if __name__ == "__main__":
    main()
