"""Speed of ``undertow.LSTM`` against ``torch.nn.LSTM`` and others: validate, then time, all by turns.

A machine that others use too is never twice the same, so the figure that counts is the ratio of two times
taken one right after the other, its median over the repeats, and how far the repeats lie apart. What the
processor gives meanwhile is measured along with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, Protocol

import torch
from torch import Tensor

import undertow

Results = dict[str, Tensor]
Spread = tuple[float, float, float]  # lower quartile, median, upper quartile

# Where a process of our own, started there with -m, finds this very package.
HOME = Path(__file__).parents[3]

# OpenMP's threads spin for some 8 ms after their last work; those of another process would fight with them.
PAUSE = 0.015


@dataclass(frozen=True)
class Shape:
    """N sequences of T steps, C inputs, H hidden units."""

    N: int
    T: int
    C: int
    H: int
    num_layers: int = 1
    bidirectional: bool = False

    def __str__(self) -> str:
        extra = f" x{self.num_layers}" * (self.num_layers > 1) + " both ways" * self.bidirectional
        return f"{self.N},{self.T},{self.C},{self.H}{extra}"

    @property
    def flops(self) -> float:
        """Of a forward pass: 2·T·N·4H·(C+H) for each layer and direction; training takes three times that."""
        D = 2 if self.bidirectional else 1
        inputs = [self.C] + [D * self.H] * (self.num_layers - 1)
        return sum(2 * self.T * self.N * 4 * self.H * (C + self.H) * D for C in inputs)


QUICK = [Shape(1, 1, 64, 64), Shape(1, 100, 64, 64), Shape(32, 100, 16, 64), Shape(64, 100, 32, 128)]
FULL = [
    Shape(1, 1, 8, 16),
    Shape(1, 100, 8, 32),
    Shape(1, 100, 64, 64),
    Shape(1, 1, 64, 64),
    Shape(16, 50, 8, 16),
    Shape(32, 100, 8, 32),
    Shape(32, 100, 16, 64),
    Shape(64, 100, 32, 128),
    Shape(256, 365, 32, 64),
    Shape(256, 100, 32, 256),
    Shape(32, 100, 128, 256),
    Shape(32, 64, 512, 512),
    Shape(64, 64, 1024, 1024),
    Shape(5, 100, 1, 37),
    Shape(1, 50, 3, 200),
    Shape(31, 77, 19, 129),
    Shape(64, 200, 32, 128, num_layers=2, bidirectional=True),
]


@dataclass(frozen=True)
class Task:
    """What everyone is to do: inference or training of one shape, with these parameters and this input."""

    shape: Shape
    training: bool
    threads: int
    weights: Results  # a state_dict of nn.LSTM
    x: Tensor  # [T,N,C]

    @property
    def flops(self) -> float:
        return self.shape.flops * (3 if self.training else 1)


class Contestant(Protocol):
    """One who can do tasks and be timed at them."""

    name: str
    trains: bool  # or does inference alone

    def prepare(self, task: Task) -> Results:
        """Get ready for this task. What comes of it: y, h_n, c_n and, training, gradients by name."""

    def seconds(self, count: int) -> float:
        """One call's share of the time that ``count`` calls take, after one that is not counted."""


class Module:
    """A torch module in this process."""

    trains = True

    def __init__(self, name: str, kind: type[torch.nn.LSTM]) -> None:
        self.name = name
        self._kind = kind
        self._call: Callable[[], Any]

    def prepare(self, task: Task) -> Results:
        torch.set_num_threads(task.threads)
        module = make(self._kind, task.shape)
        module.load_state_dict(task.weights)
        y, (h_n, c_n) = call(module, task.x, False)()
        self._call = call(module, task.x, task.training)
        return {"y": y, "h_n": h_n, "c_n": c_n} | (self._call() if task.training else {})

    def seconds(self, count: int) -> float:
        return seconds(self._call, count)


@dataclass(frozen=True)
class Against:
    """Another's seconds a call, and its time over ours."""

    seconds: Spread
    ratio: Spread


@dataclass(frozen=True)
class Timing:
    """Our seconds a call, those of others, and what the machine could do meanwhile."""

    shape: Shape
    training: bool
    threads: int
    ours: Spread
    others: dict[str, Against]  # by name, nn.LSTM the first
    flops: float  # of a call
    peak: float  # flops a second of as many threads that do multiply-adds alone
    handover: float  # seconds for a cache line from core to core

    @property
    def of_peak(self) -> float:
        """The part of the peak that ours reaches; 0 where there is no peak."""
        return self.flops / self.ours[1] / self.peak if self.peak else 0.0


def compare(
    shape: Shape,
    training: bool,
    threads: int,
    repeats: int = 7,
    at_least: float = 0.02,
    others: Sequence[Contestant] = (),
) -> Timing:
    """Time one shape. Raises AssertionError, and times nothing, where results differ from nn.LSTM's.

    Each repeat calls each contestant as often as fills ``at_least`` seconds. ``others`` compete beside ours
    and nn.LSTM.
    """
    before = torch.get_num_threads()
    rivals = [other for other in others if other.trains or not training]
    everyone = [Module("undertow", undertow.LSTM), Module("nn.LSTM", torch.nn.LSTM), *rivals]
    task = make_task(shape, training, threads)
    try:
        validate(everyone, task)
        times, machine = _timed(everyone, threads, repeats, at_least)
    finally:
        torch.set_num_threads(before)
    ours, *theirs = zip(*times, strict=True)
    others_by_name = {
        other.name: Against(spread(them), spread([b / a for a, b in zip(ours, them, strict=True)]))
        for other, them in zip(everyone[1:], theirs, strict=True)
    }
    return Timing(shape, training, threads, spread(ours), others_by_name, task.flops, *machine)


def make(kind: type[torch.nn.LSTM], shape: Shape) -> torch.nn.LSTM:
    return kind(shape.C, shape.H, shape.num_layers, bidirectional=shape.bidirectional)


def make_task(shape: Shape, training: bool, threads: int) -> Task:
    """The same parameters and input each time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        weights = make(torch.nn.LSTM, shape).state_dict()
        return Task(shape, training, threads, weights, torch.randn(shape.T, shape.N, shape.C))


def call(module: torch.nn.LSTM, x: Tensor, training: bool) -> Callable[[], Any]:
    """What is timed: a forward pass, or forward and backward with all gradients there are."""
    if not training:

        def forward() -> Any:
            with torch.no_grad():
                return module(x)

        return forward
    D = 2 if module.bidirectional else 1
    dy = torch.ones(*x.shape[:2], module.hidden_size * D)
    states = torch.zeros(module.num_layers * D, x.shape[1], module.hidden_size)
    leaves = {"input": x.clone(), "h_0": states, "c_0": states.clone()}
    for leaf in leaves.values():
        leaf.requires_grad_()

    def step() -> Results:
        module.zero_grad()
        for leaf in leaves.values():
            leaf.grad = None
        y, _ = module(leaves["input"], (leaves["h_0"], leaves["c_0"]))
        y.backward(dy)
        inputs = dict(module.named_parameters()) | leaves
        return {name: t.grad for name, t in inputs.items() if t.grad is not None}

    return step


def validate(everyone: Sequence[Contestant], task: Task) -> None:
    """All get ready, and their results agree with those of nn.LSTM, the second.

    Outputs within 1e-5, gradients within 1e-4 of the largest: float32 sums of up to 1e5 terms.
    """
    ours, reference, *others = everyone
    expected = reference.prepare(task)
    for each in (ours, *others):
        got = each.prepare(task)
        for name, right in expected.items():
            output = name in ("y", "h_n", "c_n")
            what = f"{each.name}: {name}" if output else f"{each.name}: gradient of {name}"
            same(what, got[name], right, 1e-5 if output else 1e-4)


def same(what: str, a: Tensor, b: Tensor, tolerance: float) -> None:
    difference = ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
    if not difference <= tolerance:
        raise AssertionError(f"{what} differs from nn.LSTM's by {difference:.1e} of the largest: not timed")


def _timed(
    everyone: Sequence[Contestant], threads: int, repeats: int, at_least: float
) -> tuple[list[tuple[float, ...]], tuple[float, float]]:
    """Seconds a call, of everyone for each repeat; and the machine's peak and handover, medians over them."""
    counts = [max(1, int(at_least / turn(each, 1))) for each in everyone]
    times, machine = [], []
    for _ in range(repeats):
        sleep(PAUSE)
        machine.append((undertow.hardware.fma_peak(threads) * 1e9, undertow.hardware.handover()))
        times.append(tuple(map(turn, everyone, counts)))
    peaks, handovers = zip(*machine, strict=True)
    return times, (median(peaks), median(handovers))


def turn(contestant: Contestant, count: int) -> float:
    sleep(PAUSE)
    return contestant.seconds(count)


def seconds(f: Callable[[], Any], count: int) -> float:
    """One call's share of the time that ``count`` calls take, after one that is not counted."""
    f()
    start = perf_counter()
    for _ in range(count):
        f()
    return (perf_counter() - start) / count


def spread(values: Any) -> Spread:
    if len(values) < 3:  # between two, quartiles would lie outside both
        return min(values), median(values), max(values)
    low, middle, high = quantiles(values, n=4)
    return low, middle, high
