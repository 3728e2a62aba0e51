"""What each option of LSTM costs: its time over the same LSTM without, a loop of torch's operations over it.

python benchmarks/variants.py [--rounds 7] [--threads 2]

The loop is what one would otherwise write: the same equations, a step at a time. Results and gradients of
both are compared, from the same draws, before anything is timed; then all take turns.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch

import record
import undertow
from undertow.app.bench.speed import Shape, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine
from undertow.kernels import call as variant

SHAPES = [Shape(32, 100, 16, 64), Shape(64, 100, 32, 128), Shape(256, 100, 32, 256)]
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "learn_initial_state": {"learn_initial_state": True},
    "input_dropout": {"input_dropout": 0.2},
    "weight_drop": {"weight_drop": 0.5},
    "mask": {},
    "reset": {},
    "recurrent_dropout": {"recurrent_dropout": 0.25},
    "zoneout": {"zoneout": 0.1},
    "peepholes": {"peepholes": True},
    "coupled": {"coupled": True},
    "layer_norm": {"layer_norm": True},
}
IN_KERNEL = list(OPTIONS)[4:]  # the others leave the kernel's equations as they are


class Contestant:
    """An LSTM with one option, called as training and inference call it."""

    def __init__(
        self, name: str, shape: Shape, loop: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        torch.manual_seed(0)
        self.lstm = undertow.LSTM(shape.C, shape.H, dtype=dtype, **OPTIONS[name])
        self.x, self.loop = torch.randn(shape.T, shape.N, shape.C, dtype=dtype), loop
        marks = torch.rand(shape.T, shape.N)
        marked = {"mask": {"mask": marks < 0.9}, "reset": {"reset": marks < 0.05}}
        self.marks = marked.get(name, {})

    def path(self) -> AbstractContextManager[Any]:
        return patch.object(variant.native, "serves", return_value=False) if self.loop else nullcontext()

    def inference(self) -> torch.Tensor:
        self.lstm.eval()
        with self.path(), torch.no_grad():
            y: torch.Tensor = self.lstm(self.x, **self.marks)[0]
        return y

    def training(self) -> torch.Tensor:
        self.lstm.train().zero_grad()
        with self.path():
            y: torch.Tensor = self.lstm(self.x, **self.marks)[0]
            y.sum().backward()
        return y

    def results(self) -> list[torch.Tensor]:
        torch.manual_seed(1)
        found = [self.inference(), self.training().detach()]
        return [*found, *(p.grad for p in self.lstm.parameters() if p.grad is not None)]


def validate(name: str, shape: Shape) -> None:
    """Raises AssertionError where kernel and loop differ by more than rounding.

    In float64: with layer normalisation an untrained LSTM multiplies any difference by 1.1 at each step.
    """
    ours, loop = (Contestant(name, shape, loop, torch.float64).results() for loop in (False, True))
    for one, other in zip(ours, loop, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9 * float(other.abs().max()))


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name in list(calls) if k % 2 else list(calls)[::-1]:
            start = perf_counter()
            calls[name]()
            if k:  # the first warms up
                times[name].append(perf_counter() - start)
    return times


def measure(shape: Shape, rounds: int) -> list[dict[str, Any]]:
    """A row for each option."""
    ours = {name: Contestant(name, shape) for name in OPTIONS}
    loops = {name: Contestant(name, shape, loop=True) for name in IN_KERNEL}
    for name in loops:
        validate(name, shape)
    found: dict[str, dict[str, Any]] = {name: {"shape": str(shape), "option": name} for name in OPTIONS}
    for kind in ("inference", "training"):
        calls = {name: getattr(each, kind) for name, each in ours.items()}
        calls |= {f"loop {name}": getattr(each, kind) for name, each in loops.items()}
        times = take_turns(calls, rounds)
        for name, row in found.items():
            pairs = zip(times[name], times["none"], strict=True)
            row[kind] = {"seconds": spread(times[name]), "cost": spread([a / b for a, b in pairs])}
            if name in loops:
                pairs = zip(times[f"loop {name}"], times[name], strict=True)
                row[kind]["loop"] = spread([a / b for a, b in pairs])
    return list(found.values())


def main() -> None:
    options = argparse.ArgumentParser(description="What each option of LSTM costs.")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{machine()}, threads: {chosen.threads}\n")
    print(
        f"{'N,T,C,H':16}{'':22}{'inference':>12}{'cost':>7}{'loop':>7}{'training':>12}{'cost':>7}{'loop':>7}"
    )
    rows = []
    for shape in SHAPES:
        for row in measure(shape, chosen.rounds):
            rows.append(row | {"threads": chosen.threads})
            cells = [f"{row['shape']:16}{row['option']:22}"]
            for kind in ("inference", "training"):
                loop = row[kind].get("loop", (0, 0, 0))[1]
                cells.append(
                    f"{duration(row[kind]['seconds'][1]):>12}{row[kind]['cost'][1]:7.2f}{loop or '':7.3}"
                )
            print("".join(cells), flush=True)
    record.write("variants", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
