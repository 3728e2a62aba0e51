"""Peak memory of training: how far a process grows in its first steps, each module in a process of its own.

Steps that follow others would find their memory in a pool, and show nothing. Linux alone tells the peak:
``python -m undertow.app.bench.memory 64,200,32,128,1,0 2 undertow`` (layers, both ways; threads; whose).
"""

import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import torch

import undertow
from undertow.app.bench.speed import HOME, Shape, call, make, make_task

KINDS: dict[str, type[torch.nn.LSTM]] = {"undertow": undertow.LSTM, "nn.LSTM": torch.nn.LSTM}
STEPS = 3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> bool:
    return RESET.is_file()


def training_peaks(shape: Shape, threads: int) -> dict[str, int]:
    """Bytes that each kind of module takes at most while it trains, beyond itself and its input."""
    numbers = ",".join(str(int(value)) for value in astuple(shape))
    command = [sys.executable, "-m", __name__, numbers, str(threads)]
    return {name: int(subprocess.check_output([*command, name], cwd=HOME)) for name in KINDS}


def _training_peak(kind: type[torch.nn.LSTM], shape: Shape, threads: int) -> int:
    """Likewise of one kind in this process; meaningful in a fresh one alone."""
    torch.set_num_threads(threads)
    tiny = make_task(Shape(1, 1, 1, 1), True, threads)
    call(
        make(kind, tiny.shape), tiny.x, True
    )()  # what is loaded at the first step of all is no step's memory
    task = make_task(shape, True, threads)
    step = call(make(kind, shape), task.x, True)
    RESET.write_text("5")  # the peak so far becomes what is in use now: man 5 proc
    before = status("VmHWM")
    for _ in range(STEPS):
        step()
    return status("VmHWM") - before


def status(key: str) -> int:
    """Bytes under that name in the system's account of this process."""
    found = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(found[key].split()[0]) * 1024


if __name__ == "__main__":
    N, T, C, H, layers, both_ways = map(int, sys.argv[1].split(","))
    wanted = Shape(N, T, C, H, layers, bool(both_ways))
    print(_training_peak(KINDS[sys.argv[3]], wanted, int(sys.argv[2])))
