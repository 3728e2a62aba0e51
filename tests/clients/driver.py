"""``make test-clients``: other people's programs, with torch's LSTM and with ours, compared and timed.

For each client ``NAME.py``, in an environment of its own with exactly what ``requirements/NAME.txt`` names:
runs with torch's LSTM and with ours take turns, each in a fresh process from the same seed; then one with
torch's, its oneDNN off, to show what rounding alone does. Results go to results.json, the table into
docs/clients.md.

It fails where a result differs by more than TOLERANCE, or where torch's LSTM was called in place of ours.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from table import write_table

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".venv-clients"
RESULTS = HERE / "results.json"
CLIENTS = sorted(path.stem for path in (HERE / "requirements").glob("*.txt") if path.stem != "formats")
# A part of the largest number compared. Both sides round to 6e-8 at each step; training, every step of which
# begins where the last has ended, lets that grow: to 2e-5 in these programs between torch's LSTM and itself,
# summing in another order.
TOLERANCE = 1e-4

Run = dict[str, Any]  # what client.py writes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", type=Path, required=True, help="undertow, built")
    parser.add_argument("--only", choices=CLIENTS, nargs="+", default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    failed = 0
    for name in options.only:
        python = environment(name, options.wheel)
        found = compare(*runs(python, name, options.rounds))
        record(name, found)
        print(
            f"{name}: {'; '.join(found['faults']) or 'agrees'}, {found['ratio']:.2f} times as fast",
            flush=True,
        )
        failed += bool(found["faults"])
    print(f"{len(options.only) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def record(name: str, found: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = found
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_table(results)


def environment(name: str, wheel: Path) -> Path:
    """The client's own interpreter, with its requirements and ``wheel`` installed."""
    folder, wanted = ENVIRONMENTS / name, HERE / "requirements" / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([*pip, "-r", wanted], check=True)
        stamp.write_text(wanted.read_text())
    subprocess.run([*pip, "--no-deps", "--force-reinstall", wheel], check=True)
    return python


def runs(python: Path, name: str, rounds: int) -> tuple[list[Run], list[Run], Run]:
    """Those with torch's LSTM, those with ours, and torch's without oneDNN."""
    script = str(HERE / f"{name}.py")
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(run(python, script))
        ours.append(run(python, "-m", "undertow.run", script))
    return theirs, ours, run(python, script, options=["--other-rounding"])


def run(python: Path, *program: str, options: list[str] | None = None) -> Run:
    """The results of one process; what it prints is shown where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [python, *program, result, *(options or [])]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
        return json.loads(result.read_text())


def compare(theirs: list[Run], ours: list[Run], other: Run) -> dict[str, Any]:
    """The client's entry of results.json; differences are from torch's first run."""
    first = theirs[0]
    seconds = {"theirs": [r["seconds"] for r in theirs], "ours": [r["seconds"] for r in ours]}
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    found = {key: first[key] for key in ("package", "version", "torch", "what", "threads")}
    found |= {
        "differences": differences(first, ours),
        "torch's own, run again": differences(first, theirs[1:]),
        "torch's own, without oneDNN": differences(first, [other]),
        "calls of torch's LSTM": {
            "theirs": first["torchs_calls"],
            "ours": max(r["torchs_calls"] for r in ours),
        },
        "seconds": seconds,
        "processor seconds": {  # tell more than the clock beside a busy neighbour
            "theirs": [r["processor_seconds"] for r in theirs],
            "ours": [r["processor_seconds"] for r in ours],
        },
        "ratio": median(ratios),
        "ratios": ratios,
    }
    return found | {"faults": faults(found)}


def differences(first: Run, others: list[Run]) -> dict[str, float]:
    """For each array the largest difference, as a part of the largest entry of the first's."""
    return {
        name: max((largest_difference(values, other["values"][name]) for other in others), default=0.0)
        for name, values in first["values"].items()
    }


def largest_difference(expected: list[float], actual: list[float]) -> float:
    if len(expected) != len(actual) or not all(map(isfinite, actual)):
        return float("inf")
    size = max(map(abs, expected))
    return max(abs(a - b) for a, b in zip(actual, expected, strict=True)) / size


def faults(found: dict[str, Any]) -> list[str]:
    calls = found["calls of torch's LSTM"]
    said = [
        f"{name} differs by {difference:.1e}, tolerated are {TOLERANCE:.0e}"
        for name, difference in found["differences"].items()
        if difference > TOLERANCE
    ]
    if calls["theirs"] == 0:
        said.append("torch's LSTM is not used at all")
    if calls["ours"] > 0:
        said.append(f"torch's LSTM was called {calls['ours']} times in place of ours")
    return said


if __name__ == "__main__":
    main()
