"""A training step on all cores while a neighbour keeps one of them busy: how much slower, ours and nn.LSTM's.

python benchmarks/neighbour.py [--repeats 7]; Linux
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import record
import undertow
from undertow.app.bench.speed import Module, Shape, Spread, make_task, spread, turn, validate
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

SHAPES = [Shape(32, 100, 128, 256), Shape(64, 64, 1024, 1024)]
THREADS = 2
BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


class Neighbour:
    """A process that wants one core for itself: stopped, and let run in a ``with`` block."""

    def __init__(self, core: int) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", BUSY, str(core)])
        time.sleep(0.5)  # until it has started and chosen its core
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(shape: Shape, neighbour: Neighbour, repeats: int) -> dict[str, dict[str, Spread]]:
    """Seconds a step alone and loaded, and their ratio, by module. AssertionError where results differ."""
    both = [Module("undertow", undertow.LSTM), Module("nn.LSTM", torch.nn.LSTM)]
    validate(both, make_task(shape, True, THREADS))
    alone: dict[str, list[float]] = {each.name: [] for each in both}
    loaded: dict[str, list[float]] = {each.name: [] for each in both}
    counts = [max(1, int(0.1 / turn(each, 1))) for each in both]  # several of the scheduler's slices
    for _ in range(repeats):
        for each, count in zip(both, counts, strict=True):
            alone[each.name].append(turn(each, count))
            with neighbour.busy():
                loaded[each.name].append(turn(each, count))
    return {
        name: {
            "alone": spread(alone[name]),
            "loaded": spread(loaded[name]),
            "ratio": spread([b / a for a, b in zip(alone[name], loaded[name], strict=True)]),
        }
        for name in alone
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    repeats = options.parse_args().repeats
    core = max(os.sched_getaffinity(0))
    neighbour = Neighbour(core)
    rows: list[dict[str, Any]] = []
    try:
        print(f"{machine()}; a training step, {THREADS} threads, a neighbour on one core\n")
        print(f"{'N,T,C,H':18}{'':10}{'alone':>9}{'loaded':>9}{'loaded/alone':>20}")
        for shape in SHAPES:
            for name, found in measure(shape, neighbour, repeats).items():
                alone, loaded = (duration(found[key][1]) for key in ("alone", "loaded"))
                low, middle, high = found["ratio"]
                ratio = f"{middle:.2f} ({low:.2f}-{high:.2f})"
                print(f"{shape!s:18}{name:10}{alone:>9}{loaded:>9}{ratio:>20}")
                rows.append({"shape": str(shape), "threads": THREADS, "module": name, **found})
    finally:
        neighbour.end()
    record.write("neighbour", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
