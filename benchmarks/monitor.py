"""What a FlowMonitor costs that samples one training step in 50, by turns with training alone.

python benchmarks/monitor.py [--repeats 200] [--every 50] [--threads 2]

An LSTM with a linear head that answers after the last step, trained by Adam. A turn is two training steps:
with the monitor, one that is sampled and the one after it, which finds the caches as the sample left them;
and two without. What the sample adds, over ``every`` steps without, is the cost: on a machine that others
use, 50 steps with and 50 without differ by more than it. Both must train to the same bits.
"""

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

import record
import undertow
from undertow.app.bench.speed import Shape, Spread, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

SHAPES = [Shape(32, 100, 16, 64), Shape(64, 100, 32, 128)]


class Network(torch.nn.Module):
    """An LSTM and a linear layer that answers after its last step, trained on one batch over and over."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lstm, self.head = undertow.LSTM(shape.C, shape.H), torch.nn.Linear(shape.H, 1)
        self.x, self.target = torch.randn(shape.T, shape.N, shape.C), torch.randn(shape.N, 1)
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3)

    def train_step(self) -> None:
        self.optimizer.zero_grad()
        (self.head(self.lstm(self.x)[0][-1]) - self.target).square().mean().backward()
        self.optimizer.step()


def trained(shape: Shape, steps: int, every: int) -> list[torch.Tensor]:
    """The parameters after ``steps`` steps; every 0: without a monitor."""
    network = Network(shape)
    monitor = undertow.FlowMonitor(network, every) if every else None
    for _ in range(steps):
        network.train_step()
        if monitor is not None:
            monitor.step()
    return [p.detach() for p in network.parameters()]


def turns(network: Network) -> dict[str, Callable[[], None]]:
    """Two training steps each."""

    def monitored() -> None:
        monitor = undertow.FlowMonitor(network)  # to be made is part of its cost
        for _ in range(2):
            network.train_step()
            monitor.step()  # the first time it samples

    def alone() -> None:
        for _ in range(2):
            network.train_step()

    return {"alone": alone, "monitored": monitored}


def measure(shape: Shape, repeats: int, every: int) -> tuple[dict[str, Spread], Spread]:
    """Seconds a turn of each, and the part of ``every`` steps' time that a sample adds.

    Raises AssertionError where the monitor changes a result.
    """
    pairs = zip(trained(shape, 12, 5), trained(shape, 12, 0), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the monitor changed what was trained"
    calls = turns(Network(shape))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(repeats + 1):
        for name in list(calls) if k % 2 else list(calls)[::-1]:
            start = perf_counter()
            calls[name]()
            if k:  # the first warms up
                times[name].append(perf_counter() - start)
    rounds = zip(times["monitored"], times["alone"], strict=True)
    cost = spread([(a - b) / (every * b / 2) for a, b in rounds])
    return {name: spread(found) for name, found in times.items()}, cost


def main() -> None:
    options = argparse.ArgumentParser(description="What a FlowMonitor costs.")
    options.add_argument("--repeats", type=int, default=200)
    options.add_argument("--every", type=int, default=50)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{machine()}, threads: {chosen.threads}, every {chosen.every} steps; quartiles in brackets\n")
    print(f"{'N,T,C,H':18}{'a step alone':>14}{'the monitor adds':>28}")
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        found, (low, middle, high) = measure(shape, chosen.repeats, chosen.every)
        cell = f"{middle:.1%} ({low:.1%} to {high:.1%})"
        print(f"{shape!s:18}{duration(found['alone'][1] / 2):>14}{cell:>28}", flush=True)
        rows.append(
            {"shape": str(shape), "threads": chosen.threads, "every": chosen.every}
            | {"seconds of two steps": found, "cost": (low, middle, high)}
        )
    record.write("monitor", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
