"""Networks written in C beside the streaming runtime: nanoseconds a step, and the size of the object.

python benchmarks/c.py [--rounds 15]

An LSTM with one input and a head of one output, one thread. The outputs are first compared with the float64
equations. Then all are timed in turn, each time the least of many calls. A ratio is of two times of one
round; it stands with its median and quartiles.
"""

import argparse
import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from stream import T, Timing, X, expected, least, network, validate
from undertow import networks
from undertow.stream import Stream

SIZES = (8, 16, 32, 64)
BUILDS = tuple((name, options) for options in ("-O3 -march=native", "-O2") for name in ("gcc", "clang"))
BLOCKS = 20  # of a call from Python, whose own time is then small


def streamed(H: int, truth: np.ndarray) -> Timing:
    stream, x = Stream(network(H)), np.tile(X, (BLOCKS, 1))
    validate("stream", H, stream.process(X), truth)
    stream.reset()
    out = np.empty((len(x), 1), np.float32)
    return lambda: least(lambda: stream.process(x, out), len(x), 50)


def compiled(H: int, build: tuple[str, str], folder: Path, truth: np.ndarray) -> Timing:
    compiler, options = build
    source, library = folder / "net.c", folder / f"{H}{compiler}{options.replace(' ', '')}.so"
    networks.write(network(H), source)
    subprocess.run([compiler, *options.split(), "-shared", "-fPIC", source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    state, x = np.zeros(4096, np.float32), np.tile(X, (BLOCKS, 1))
    out = np.empty_like(x)

    def process(steps: int) -> None:
        pointers = (ctypes.c_void_p(each.ctypes.data) for each in (state, x, out))
        loaded.net_process(*pointers, ctypes.c_size_t(steps))

    loaded.net_init(ctypes.c_void_p(state.ctypes.data))
    process(T)
    validate(" ".join(build), H, out[:T], truth)
    return lambda: least(lambda: process(len(x)), len(x), 50)


def object_size(H: int, folder: Path) -> int:
    networks.write(network(H), folder / "net.c")
    subprocess.run(["cc", "-Os", "-c", folder / "net.c", "-o", folder / "net.o"], check=True)
    return (folder / "net.o").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    builds = [build for build in BUILDS if shutil.which(build[0])]
    names = ["stream", *(" ".join(build) for build in builds)]
    print("| H | object, -Os |", " | ".join(names), "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for H in SIZES:
            truth = expected(network(H))
            timings = [streamed(H, truth), *(compiled(H, build, folder, truth) for build in builds)]
            found = [[timing() for timing in timings] for _ in range(rounds)]
            cells = [f"{min(each[0] for each in found):.0f}"]
            for k in range(1, len(timings)):
                ratios = sorted(each[k] / each[0] for each in found)
                low, _, high = quantiles(ratios, n=4)
                ns = min(each[k] for each in found)
                cells.append(f"{ns:.0f}, {median(ratios):.2f} ({low:.2f}–{high:.2f})")
            print(
                "|",
                H,
                "|",
                f"{object_size(H, folder) / 1000:.1f} kB",
                "|",
                " | ".join(cells),
                "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
