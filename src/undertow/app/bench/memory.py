"""Peak memory of training: how far a process grows in its first steps, one process for each module.

Later steps find their memory in a pool and show nothing. Only Linux tells the peak:
``python -m undertow.app.bench.memory N,T,C,H,LAYERS,BIDIRECTIONAL THREADS MODULE``, as in
``64,200,32,128,1,0 2 undertow``.
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
    """Tell whether this system tells the peak memory of a process; Linux does."""
    return RESET.is_file()


def training_peaks(shape: Shape, threads: int) -> dict[str, int]:
    """Measure the peak memory of the first training steps, each module in a fresh process.

    Args:
        shape: The sizes.
        threads: Threads of each process.

    Returns:
        Bytes by module, without those of the module itself and its input.
    """
    numbers = ",".join(str(int(value)) for value in astuple(shape))
    command = [sys.executable, "-m", __name__, numbers, str(threads)]
    return {name: int(subprocess.check_output([*command, name], cwd=HOME)) for name in KINDS}


def _training_peak(kind: type[torch.nn.LSTM], shape: Shape, threads: int) -> int:
    """The peak of one module in this process, in bytes. It means something in a fresh process only."""
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
    """Read a size that the system keeps of this process, such as VmHWM, in bytes."""
    found = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(found[key].split()[0]) * 1024


if __name__ == "__main__":
    N, T, C, H, layers, both_ways = map(int, sys.argv[1].split(","))
    wanted = Shape(N, T, C, H, layers, bool(both_ways))
    print(_training_peak(KINDS[sys.argv[3]], wanted, int(sys.argv[2])))
