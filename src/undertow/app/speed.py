"""Speed of ``undertow.LSTM`` against ``torch.nn.LSTM``: validate, then time, the two by turns.

A machine that others use too is never twice the same, so the figure that counts is the ratio of two times
taken one right after the other, its median over the repeats, and how far the repeats lie apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import undertow


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
class Timing:
    """Seconds a call, median and quartiles, and nn.LSTM's time over ours, likewise."""

    shape: Shape
    training: bool
    threads: int
    ours: tuple[float, float, float]
    theirs: tuple[float, float, float]
    ratio: tuple[float, float, float]

    @property
    def gflops(self) -> tuple[float, float]:
        """GFLOP/s of ours and theirs."""
        work = self.shape.flops * (3 if self.training else 1) / 1e9
        return work / self.ours[1], work / self.theirs[1]


def compare(shape: Shape, training: bool, threads: int, repeats: int = 7, at_least: float = 0.02) -> Timing:
    """Time one shape. Raises AssertionError, and times nothing, where the results differ from nn.LSTM's.

    Each repeat calls each module as often as fills ``at_least`` seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, theirs = modules(shape)
        x = torch.randn(shape.T, shape.N, shape.C, generator=torch.Generator().manual_seed(1))
        validate(ours, theirs, x, training)
        calls = [call(module, x, training) for module in (ours, theirs)]
        return timed(shape, training, threads, calls, repeats, at_least)
    finally:
        torch.set_num_threads(before)


def modules(shape: Shape) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and torch's, with the same parameters."""
    sizes = (shape.C, shape.H, shape.num_layers)
    ours = undertow.LSTM(*sizes, bidirectional=shape.bidirectional)
    theirs = torch.nn.LSTM(*sizes, bidirectional=shape.bidirectional)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def call(module: torch.nn.Module, x: Tensor, training: bool) -> Callable[[], Any]:
    """What is timed: a forward pass, or forward and backward with gradients of parameters and input."""
    if not training:

        def forward() -> Any:
            with torch.no_grad():
                return module(x)

        return forward
    leaf = x.clone().requires_grad_()
    with torch.no_grad():
        dy = torch.ones_like(module(x)[0])

    def step() -> dict[str, Tensor]:
        module.zero_grad()
        leaf.grad = None
        y, _ = module(leaf)
        y.backward(dy)
        grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        return grads | {"input": leaf.grad} if leaf.grad is not None else grads

    return step


def validate(ours: torch.nn.Module, theirs: torch.nn.Module, x: Tensor, training: bool) -> None:
    """Outputs within 1e-5, gradients within 1e-4 of the largest: float32 sums of up to 1e5 terms."""
    (y, (h, c)), (y_, (h_, c_)) = call(ours, x, False)(), call(theirs, x, False)()
    for name, a, b in (("y", y, y_), ("h_n", h, h_), ("c_n", c, c_)):
        same(name, a, b, 1e-5)
    if training:
        got, expected = call(ours, x, True)(), call(theirs, x, True)()
        for name in expected:
            same(f"gradient of {name}", got[name], expected[name], 1e-4)


def same(name: str, a: Tensor, b: Tensor, tolerance: float) -> None:
    difference = ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
    if not difference <= tolerance:
        raise AssertionError(f"{name} differs from nn.LSTM's by {difference:.1e} of the largest: not timed")


def timed(
    shape: Shape,
    training: bool,
    threads: int,
    calls: list[Callable[[], Any]],
    repeats: int,
    at_least: float,
) -> Timing:
    counts = [max(1, int(at_least / seconds(f, 1))) for f in calls]
    pairs = [tuple(map(seconds, calls, counts)) for _ in range(repeats)]
    ours, theirs = zip(*pairs, strict=True)
    ratios = [b / a for a, b in pairs]
    return Timing(shape, training, threads, spread(ours), spread(theirs), spread(ratios))


def seconds(f: Callable[[], Any], count: int) -> float:
    """One call's share of the time that ``count`` calls take, after one that is not counted."""
    f()
    start = perf_counter()
    for _ in range(count):
        f()
    return (perf_counter() - start) / count


def spread(values: Any) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return low, median(values), high
