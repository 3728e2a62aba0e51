"""Several processes on one machine, measured, and on many machines, computed.

python benchmarks/scale.py [--hidden 64 256 1024] [--nodes-only] [--write]

First: the time of a training step in one process with two threads, in two processes with one thread each, and
in one process with one thread, in turn; the least time, since others may use the machine. Then, for a network
on n machines with one core each, from the processor time of a step on each machine's part of the batch:

    step(n) = compute(N / n) + 2 (n - 1) / n · bytes / bandwidth + 2 (n - 1) · latency

which is a ring all-reduce (Patarasuk & Yuan 2009) after the backward pass. Speed-up: step(1) / step(n).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time

import torch

import record
from undertow.app.loop import Learner
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch, Objective
from undertow.app.training.optimizer import AdamW
from undertow.app.verbs.bench import machine

N, T, SYMBOLS, LAYERS = 64, 64, 64, 2
NODES = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = {
    "10 Gb/s": (1.25e9, 25e-6),
    "100 Gb/s": (12.5e9, 5e-6),
}  # bytes a second; seconds a message, assumed
STEPS = {64: 40, 256: 12, 1024: 2}  # from one evaluation to the next, by H
ROUNDS = 2
RHYME = "the quick brown fox jumps over the lazy dog.\n"
WAYS = {"1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1), "1 process, 1 thread": (1, 1)}


def learner(hidden_size: int) -> Learner:
    config = ModelConfig("lstm", hidden_size, LAYERS, 0.0, SYMBOLS, "every", symbols=SYMBOLS, width=SYMBOLS)
    model = SequenceModel(config)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    return Learner(model, optimizer, lambda peak: peak, Objective("bits", "bits/char").loss, 1.0)


def compute(hidden_size: int, n: int) -> float:
    """Processor seconds of a step on n sequences, in one thread: the least after one to warm up."""
    learns = learner(hidden_size)
    x = torch.randint(SYMBOLS, (T, n))
    times = []
    for _ in range(1 + max(2, STEPS.get(hidden_size, 2) // 3)):
        began = process_time()
        learns.learn(Batch(x, x))
        times.append(process_time() - began)
    return min(times[1:])


def parameters(hidden_size: int) -> int:
    return sum(each.numel() for each in learner(hidden_size).network.parameters())


def step_of(hidden_size: int, processes: int, threads: int, folder: str) -> float:
    """Seconds of a step of ``undertow train``, between two evaluations and with one of them."""
    options = f"--hidden-size {hidden_size} --num-layers {LAYERS} --batch-size {N} --steps {T} --epochs 1"
    command = [sys.executable, "-m", "undertow", "train", f"{hidden_size}.txt", *options.split()]
    devices = ["--devices", str(processes)] if processes > 1 else []
    variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [*command, "--dropout", "0", "-q", "--folder", folder, *devices], env=variables, check=True
    )
    first, second = map(json.loads, Path(folder, "metrics.jsonl").read_text().splitlines())
    return (second["seconds"] - first["seconds"]) / (second["step"] - first["step"])


def on_this_machine(hidden_sizes: list[int]) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by H and way: the least of ROUNDS, the ways in turn."""
    found = {}
    for hidden_size in hidden_sizes:
        symbols = 2 * STEPS.get(hidden_size, 2) * N * T / 0.9  # two evaluations an epoch, a tenth validates
        Path(f"{hidden_size}.txt").write_text(RHYME * (1 + round(symbols / len(RHYME))))
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for round_ in range(ROUNDS):
            for way, (processes, threads) in WAYS.items():
                folder = f"{hidden_size}-{processes}-{threads}-{round_}"
                times[way].append(1e3 * step_of(hidden_size, processes, threads, folder))
        found[str(hidden_size)] = {way: min(each) for way, each in times.items()}
    return found


def on_nodes(hidden_size: int) -> dict[str, dict[str, float]]:
    """Speed-up by network and number of machines."""
    size = 4 * parameters(hidden_size)
    times = {n: compute(hidden_size, N // n) for n in NODES}
    found: dict[str, dict[str, float]] = {
        "compute": {str(n): 1e3 * each for n, each in times.items()},
        "megabytes": {"": size / 1e6},
    }
    for network, (bandwidth, latency) in NETWORKS.items():
        steps = {n: times[n] + 2 * (n - 1) / n * size / bandwidth + 2 * (n - 1) * latency for n in NODES}
        found[network] = {str(n): steps[1] / steps[n] for n in NODES}
    return found


def main() -> None:
    options = argparse.ArgumentParser(description="Measure what several processes cost and gain.")
    options.add_argument("--hidden", type=int, nargs="+", default=[64, 256, 1024])
    options.add_argument("--nodes-only", action="store_true")
    options.add_argument(
        "--write", action="store_true", help="write the result beside those of other benchmarks"
    )
    chosen = options.parse_args()
    load = os.getloadavg()[0]
    result: dict[str, object] = {"load": load, "N": N, "T": T, "layers": LAYERS}
    if not chosen.nodes_only:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            result["step_ms"] = on_this_machine(chosen.hidden)
            os.chdir("/")
    torch.set_num_threads(1)
    result["nodes"] = {str(hidden_size): on_nodes(hidden_size) for hidden_size in chosen.hidden}
    print(json.dumps(result | {"load_after": os.getloadavg()[0]}, indent=1))
    if chosen.write:
        record.write("scale", {"machine": machine(), **result})


if __name__ == "__main__":
    main()
