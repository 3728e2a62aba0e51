"""Long sequences: the memory and the time of a training step in segments (``checkpoint=K``), for several K.

python benchmarks/long.py [--repeats 7] [--threads 1]

Memory is the peak of a whole process, with torch, the input and all gradients in it, that trains two steps.
Time is that of a step over the same step without checkpoint, by turns, after both have given the same.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import record
import undertow
from undertow.app.bench.memory import status
from undertow.app.bench.speed import Results, Shape, call, make_task, same, seconds, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

LONG = Shape(8, 100_000, 16, 64)
SHAPES = [Shape(8, 4000, 16, 64), Shape(32, 1000, 32, 128), LONG]
CHECKPOINTS = [16, 64, 256, 1024]
STEPS = 2


def training(shape: Shape, checkpoint: int | None, threads: int) -> Callable[[], Results]:
    """A step of a module with the task's weights: gradients by name."""
    task = make_task(shape, True, threads)
    module = undertow.LSTM(shape.C, shape.H, checkpoint=checkpoint)
    module.load_state_dict(task.weights)
    step: Callable[[], Results] = call(module, task.x, True)
    return step


def slowdown(shape: Shape, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Each K's time over that without, step by step by turns. Raises AssertionError if results differ."""
    whole = training(shape, None, threads)
    steps = {K: training(shape, K, threads) for K in CHECKPOINTS if K < shape.T}
    expected = whole()
    for K, step in steps.items():
        for name, gradient in step().items():
            same(f"checkpoint={K}: gradient of {name}", gradient, expected[name], 1e-4)
    count = max(1, int(0.1 / seconds(whole, 1)))
    times: dict[int | None, list[float]] = {K: [] for K in (None, *steps)}
    ratios: dict[int, list[float]] = {K: [] for K in steps}
    for _ in range(repeats):
        for K, step in steps.items():
            without, found = seconds(whole, count), seconds(step, count)
            times[None].append(without)
            times[K].append(found)
            ratios[K].append(found / without)
    return [
        {"shape": str(shape), "checkpoint": K, "seconds": spread(times[K]),
         "without": median(times[None]), "ratio": spread(ratios[K])}
        for K in steps
    ]  # fmt: skip


def peak(checkpoint: int | None, threads: int) -> int:
    """Bytes that a process takes at most in which LONG is trained."""
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", str(checkpoint or 0)]
    return int(subprocess.check_output(command))


def own_peak(checkpoint: int | None, threads: int) -> int:
    step = training(LONG, checkpoint, threads)
    for _ in range(STEPS):
        step()
    return status("VmHWM")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument(
        "--peak", type=int, help=argparse.SUPPRESS
    )  # of this process, with that K; 0 for none
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak is not None:
        print(own_peak(chosen.peak or None, chosen.threads))
        return
    print(f"{machine()}, threads: {chosen.threads}\n")
    peaks = {str(K): peak(K, chosen.threads) for K in (None, *CHECKPOINTS)}
    for K, found in peaks.items():
        print(f"{LONG!s:20}checkpoint={K:8}peak {found / 2**20:6.0f} MiB")
    rows = []
    for shape in SHAPES:
        for row in slowdown(shape, chosen.threads, chosen.repeats):
            low, middle, high = row["ratio"]
            times = f"{duration(row['seconds'][1]):>9} over {duration(row['without']):>9}"
            print(
                f"{shape!s:20}checkpoint={row['checkpoint']:<8}{times}: {middle:.2f} ({low:.2f}-{high:.2f})"
            )
            rows.append(row)
    record.write(
        "long",
        {"machine": machine(), "torch": torch.__version__, "threads": chosen.threads, "shape": str(LONG),
         "peak": peaks, "rows": rows},
    )  # fmt: skip


if __name__ == "__main__":
    main()
