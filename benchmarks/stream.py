"""The streaming runtime beside others: nanoseconds a step of an LSTM with one input and a head of one output.

python benchmarks/stream.py [--rtneural CHECKOUT] [--xsimd INCLUDE] [--rounds 15] [--write]

Blocks of 64 steps, one thread. The outputs of undertow's blocks in float32 and of RTNeural are first compared
with the float64 equations. Then all are timed in turn, each time the least of many blocks. A ratio is of two
times of one round. RTNeural's LSTM of a fixed size is built here with each of its backends, and the quickest
counts. Without --rtneural it is left out; so is ONNX Runtime where it is not installed. From Python: a step
on bound arrays, undertow.LSTM and ONNX Runtime with T = 1.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any

import numpy as np

import record
from undertow import networks
from undertow.app.verbs.bench import machine
from undertow.equations import lstm
from undertow.networks import Dense, Network, Recurrent
from undertow.stream import Stream

HERE = Path(__file__).parent
SIZES = (8, 12, 16, 20, 32, 40, 64, 128)
T, STREAMS, LARGEST_ERROR = 64, 64, 2e-7
X = (0.25 * (np.arange(T) % 7) - 0.75).astype(np.float32)[:, None]
BACKENDS = {"Eigen": ["modules/Eigen"], "xsimd": [], "STL": []}

Timing = Callable[[], float]  # ns a step, the least of many


def network(H: int) -> Network:
    rng = np.random.default_rng(H)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-(H**-0.5), H**-0.5, shape)

    layer = Recurrent("lstm", draw(4 * H, 1), draw(4 * H, H), draw(4 * H))
    return Network((layer, Dense(draw(1, H), draw(1))))


def expected(net: Network) -> np.ndarray:
    layer, head = net.stages
    zero = np.zeros((1, layer.hidden_size))
    h, _ = lstm(X[:, None], zero, zero, layer.weight_ih, layer.weight_hh, layer.bias)
    return h[:, 0] @ head.weight.T.astype(float) + head.bias


def validate(name: str, H: int, y: np.ndarray, truth: np.ndarray) -> float:
    error = float(np.abs(y.ravel() - truth.ravel()).max())
    if not error <= LARGEST_ERROR:
        sys.exit(f"{name}, H = {H}: expected an error of at most {LARGEST_ERROR}, got {error}")
    return error


def least(call: Callable[[], Any], steps: int, times: int) -> float:
    best = float("inf")
    for _ in itertools.repeat(None, times):
        began = perf_counter_ns()
        call()
        best = min(best, (perf_counter_ns() - began) / steps)
    return best


def repeated(step: Callable[[], Any]) -> float:
    def hundred() -> None:
        for _ in itertools.repeat(None, 100):
            step()

    return least(hundred, 100, 100)


class RTNeural:
    """One build, as a process that measures when it is told to."""

    def __init__(self, program: Path, H: int, model: Path) -> None:
        self.process = subprocess.Popen(
            [program, str(H), model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.y = np.array([self._number() for _ in range(T)])

    def _number(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def __call__(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._number()

    def end(self) -> None:
        self.process.communicate()


def build(checkout: Path, xsimd: Path | None, into: Path) -> dict[str, Path]:
    built = {}
    for backend, includes in BACKENDS.items():
        if backend == "xsimd" and xsimd is None and not (checkout / "modules/xsimd/include").is_dir():
            print("RTNeural with xsimd is left out: no xsimd in the checkout, none by --xsimd")
            continue
        paths = [checkout, checkout / "modules/json", *(checkout / name for name in includes)]
        paths += [xsimd or checkout / "modules/xsimd/include"] if backend == "xsimd" else []
        built[backend] = into / backend
        options = [
            "-std=c++17",
            "-O3",
            "-march=native",
            "-ffast-math",
            "-DNDEBUG",
            "-DEIGEN_STACK_ALLOCATION_LIMIT=0",
        ]
        options += [f"-DRTNEURAL_USE_{backend.upper()}=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=32"]
        command = [os.environ.get("CXX", "c++"), *options, *(f"-I{path}" for path in paths)]
        subprocess.run([*command, HERE / "stream_rtneural.cc", "-o", built[backend]], check=True)
    return built


def onnx_session(net: Network, folder: Path) -> Timing | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    path = folder / "model.onnx"
    networks.write(net, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {each.name: [n if isinstance(n, int) else 1 for n in each.shape] for each in session.get_inputs()}
    given = {name: np.zeros(shape, np.float32) for name, shape in names.items()}
    return lambda: repeated(lambda: session.run(None, given))


def module_step(H: int) -> Timing:
    import torch

    import undertow

    torch.set_num_threads(1)
    layer, x = undertow.LSTM(1, H), torch.ones(1, 1, 1)
    state = (torch.zeros(1, 1, H), torch.zeros(1, 1, H))

    def step() -> None:
        layer(x, state)

    def timing() -> float:
        with torch.inference_mode():
            return repeated(step)

    return timing


def contestants(H: int, builds: dict[str, Path], folder: Path) -> tuple[dict[str, Timing], dict[str, float]]:
    net = network(H)
    truth = expected(net)
    block, out = Stream(net), np.empty((T, 1), np.float32)
    errors = {"undertow": validate("undertow.stream", H, Stream(net).process(X), truth)}
    single, one, made = Stream(net), np.ones(1, np.float32), np.empty(1, np.float32)
    many, narrow = Stream(net, STREAMS), Stream(net, dtype="int16")
    xs, ys = np.ones((4, STREAMS, 1), np.float32), np.empty((4, STREAMS, 1), np.float32)
    at_once, each = np.ones((STREAMS, 1), np.float32), np.empty((STREAMS, 1), np.float32)
    blocks = 4000 // H + 20
    timings: dict[str, Timing] = {
        "undertow": lambda: least(lambda: block.run(X, out), T, blocks),
        "undertow, int16": lambda: least(lambda: narrow.run(X, out), T, blocks),
        "undertow, 64 streams": lambda: least(lambda: many.run(xs, ys), 4 * STREAMS, blocks // 4),
        "undertow, Python, bound": lambda: repeated(single.bind(one, made)),
        "undertow, Python, bound, 64 streams": lambda: repeated(many.bind(at_once, each)) / STREAMS,
        "undertow, Python, step": lambda: repeated(lambda: single.step(one, made)),
        "undertow.LSTM, Python, T = 1": module_step(H),
    }
    if (session := onnx_session(net, folder)) is not None:
        timings["ONNX Runtime, Python, T = 1"] = session
    if builds:
        path = folder / "model.json"
        networks.write(net, path)
    for backend, program in builds.items():
        name = f"RTNeural {backend}"
        timings[name] = rtneural = RTNeural(program, H, path)
        errors[name] = validate(name, H, rtneural.y, truth)
    return timings, errors


def summary(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4)
    return {"median": round(median(values), 3), "quartiles": [round(low, 3), round(high, 3)]}  # type: ignore[dict-item]


def measure(H: int, builds: dict[str, Path], folder: Path, rounds: int) -> dict[str, Any]:
    timings, errors = contestants(H, builds, folder)
    found: dict[str, list[float]] = {name: [] for name in timings}
    for _ in range(rounds):
        for name, timing in timings.items():
            found[name].append(timing())
    rtneural = [name for name in timings if name.startswith("RTNeural")]
    for name in rtneural:
        timings[name].end()  # type: ignore[attr-defined]
    ratios = {}
    if rtneural:
        best = min(rtneural, key=lambda name: median(found[name]))
        ratios["RTNeural / undertow"] = summary(quotients(found[best], found["undertow"]))
        ratios["quickest RTNeural"] = best
    ratios["float32 / int16"] = summary(quotients(found["undertow"], found["undertow, int16"]))
    ratios["64 streams / one"] = summary(quotients(found["undertow, 64 streams"], found["undertow"]))
    of_python = quotients(found["undertow, Python, bound, 64 streams"], found["undertow, Python, bound"])
    ratios["64 streams / one, Python, bound"] = summary(of_python)
    for name in ("ONNX Runtime", "undertow.LSTM"):
        if (whole := f"{name}, Python, T = 1") in found:
            bound = found["undertow, Python, bound"]
            ratios[f"{name} / bound"] = summary(quotients(found[whole], bound))
    return {
        "ns": {name: summary(values) for name, values in found.items()},
        "ratios": ratios,
        "errors": errors,
    }


def quotients(over: list[float], under: list[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rtneural", type=Path, help="a checkout of RTNeural")
    parser.add_argument("--xsimd", type=Path, help="the include folder of xsimd, where the checkout has none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/stream.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builds = build(given.rtneural, given.xsimd, folder) if given.rtneural else {}
        found = {}
        for H in SIZES:
            found[H] = measure(H, builds, folder, given.rounds)
            print(f"H = {H}")
            for key, value in (found[H]["ns"] | found[H]["ratios"]).items():
                print(f"  {key:34} {value if isinstance(value, str) else value['median']}")
    if given.write:
        record.write("stream", {"machine": machine(), "sizes": found})


if __name__ == "__main__":
    main()
