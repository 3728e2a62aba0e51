"""Speed of ``undertow.LSTM`` against ``torch.nn.LSTM`` and others: validate first, then time all by turns.

The speed of a shared machine varies. So the figure that counts is the ratio of two times taken one after the
other: its median over the repeats, and the quartiles. The processor's peak is measured along with them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, Protocol

import torch
from torch import Tensor

import undertow

Results = dict[str, Tensor]
Spread = tuple[float, float, float]  # lower quartile, median, upper quartile

# Working folder in which a process started with -m finds this very package.
HOME = Path(__file__).parents[3]

# Seconds. OpenMP's threads spin for some 8 ms after their last work and would slow down the next contestant.
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
        """Operations of a forward pass: 2·T·N·4H·(C+H) by layer and direction. Training takes thrice that."""
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
    """What every contestant computes: inference or training of one shape, with given weights and input."""

    shape: Shape
    training: bool
    threads: int
    weights: Results  # a state_dict of nn.LSTM
    x: Tensor  # [T,N,C]

    @property
    def flops(self) -> float:
        """Operations of one call."""
        return self.shape.flops * (3 if self.training else 1)


class Contestant(Protocol):
    """An implementation that computes tasks and is timed at them."""

    name: str
    trains: bool  # or does inference alone

    def prepare(self, task: Task) -> Results:
        """Get ready for a task, and compute it once.

        Args:
            task: The task.

        Returns:
            y, h_n and c_n; if the task is training, also the gradients, by parameter name and as input,
            h_0 and c_0.
        """

    def seconds(self, count: int) -> float:
        """Time the task.

        Args:
            count: Calls that are timed, after one that is not; at least 1.

        Returns:
            Seconds a call, the mean.
        """


class Module:
    """A torch module in this process."""

    trains = True

    def __init__(self, name: str, kind: type[torch.nn.LSTM]) -> None:
        self.name = name
        self._kind = kind
        self._call: Callable[[], Any]
        self._wait: Callable[[], None]

    def prepare(self, task: Task) -> Results:
        """Get ready for a task, as of Contestant."""
        torch.set_num_threads(task.threads)
        module = make(self._kind, task.shape).to(task.x.device)
        module.load_state_dict(task.weights)
        self._wait = waiting(task.x.device)
        y, (h_n, c_n) = call(module, task.x, False)()
        self._call = call(module, task.x, task.training)
        return {"y": y, "h_n": h_n, "c_n": c_n} | (self._call() if task.training else {})

    def seconds(self, count: int) -> float:
        """Time the task, as of Contestant."""
        return seconds(self._call, count, self._wait)


@dataclass(frozen=True)
class Against:
    """A contestant's seconds a call, and their ratio to ours."""

    seconds: Spread
    ratio: Spread


@dataclass(frozen=True)
class Timing:
    """Our seconds a call, those of the others, and the peak of the machine meanwhile."""

    shape: Shape
    training: bool
    threads: int
    ours: Spread
    others: dict[str, Against]  # by name, nn.LSTM the first
    flops: float  # of a call
    peak: float  # flops a second of as many threads that do multiply-adds alone
    handover: float  # seconds for a cache line from core to core
    device: str = "cpu"  # or cuda, whose peak and handover are not measured

    @property
    def of_peak(self) -> float:
        """The share of the peak that ours reaches; 0 if the peak is unknown."""
        return self.flops / self.ours[1] / self.peak if self.peak else 0.0


def compare(
    shape: Shape,
    training: bool,
    threads: int,
    repeats: int = 7,
    at_least: float = 0.02,
    others: Sequence[Contestant] = (),
    device: str = "cpu",
) -> Timing:
    """Time one shape, after all results have been compared with nn.LSTM's.

    Args:
        shape: The sizes.
        training: Whether a call is forward and backward, or forward only.
        threads: Threads of each contestant, at least 1.
        repeats: Rounds; in each, every contestant has one turn.
        at_least: Seconds of a turn; fast contestants are called several times.
        others: Contestants beside ours and nn.LSTM; in training, only those that train.
        device: cpu or cuda; ours and nn.LSTM compute there, both at torch's default precision.

    Returns:
        Seconds a call and ratios, as quartiles over the rounds, and the machine's peak.

    Raises:
        AssertionError: A result differs from nn.LSTM's; nothing is timed.
    """
    before = torch.get_num_threads()
    rivals = [other for other in others if other.trains or not training]
    everyone = [Module("undertow", undertow.LSTM), Module("nn.LSTM", torch.nn.LSTM), *rivals]
    task = make_task(shape, training, threads, device)
    try:
        with _exact_on_gpus():
            validate(everyone, task)
        times, machine = _timed(everyone, threads if device == "cpu" else 0, repeats, at_least)
    finally:
        torch.set_num_threads(before)
    ours, *theirs = zip(*times, strict=True)
    others_by_name = {
        other.name: Against(spread(them), spread([b / a for a, b in zip(ours, them, strict=True)]))
        for other, them in zip(everyone[1:], theirs, strict=True)
    }
    return Timing(shape, training, threads, spread(ours), others_by_name, task.flops, *machine, device)


def make(kind: type[torch.nn.LSTM], shape: Shape) -> torch.nn.LSTM:
    """Make a module of the class ``kind`` with the sizes of ``shape``."""
    return kind(shape.C, shape.H, shape.num_layers, bidirectional=shape.bidirectional)


def make_task(shape: Shape, training: bool, threads: int, device: str = "cpu") -> Task:
    """Make a task; its weights and input are the same each time.

    Args:
        shape: The sizes.
        training: Whether to train, or to infer only.
        threads: Threads to use.
        device: Where its input lies.

    Returns:
        The task, in float32.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        weights = make(torch.nn.LSTM, shape).state_dict()
        x = torch.randn(shape.T, shape.N, shape.C).to(device)
        return Task(shape, training, threads, weights, x)


def call(module: torch.nn.LSTM, x: Tensor, training: bool) -> Callable[[], Any]:
    """Make the function that is timed.

    Args:
        module: An nn.LSTM or a subclass.
        x: The input, [T,N,C] float32.
        training: Whether it runs forward and backward, or forward only.

    Returns:
        A function without arguments. It returns the module's result, or in training the gradients: of the
        parameters by name, and of input, h_0 and c_0.
    """
    if not training:

        def forward() -> Any:
            with torch.no_grad():
                return module(x)

        return forward
    D = 2 if module.bidirectional else 1
    dy = x.new_ones(*x.shape[:2], module.hidden_size * D)
    states = x.new_zeros(module.num_layers * D, x.shape[1], module.hidden_size)
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
    """Prepare all contestants, and compare their results with those of nn.LSTM.

    Outputs must agree within 1e-5 of the largest value, gradients within 1e-4: float32 sums of up to 1e5
    terms.

    Args:
        everyone: The contestants; nn.LSTM is the second.
        task: The task.

    Raises:
        AssertionError: A result differs.
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
    """Compare two results.

    Args:
        what: Their name, for the error.
        a: A result, of any shape.
        b: nn.LSTM's, of the same shape.
        tolerance: The largest difference allowed, as a share of the largest value of ``b``.

    Raises:
        AssertionError: They differ by more.
    """
    difference = ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
    if not difference <= tolerance:
        raise AssertionError(f"{what} differs from nn.LSTM's by {difference:.1e} of the largest: not timed")


def _timed(
    everyone: Sequence[Contestant], threads: int, repeats: int, at_least: float
) -> tuple[list[tuple[float, ...]], tuple[float, float]]:
    """Seconds a call by repeat and contestant; peak and handover, medians over repeats, 0 for no threads."""
    counts = [max(1, int(at_least / turn(each, 1))) for each in everyone]
    times, machine = [], []
    for _ in range(repeats):
        sleep(PAUSE)
        measured = threads and (undertow.hardware.fma_peak(threads) * 1e9, undertow.hardware.handover())
        machine.append(measured or (0.0, 0.0))
        times.append(tuple(map(turn, everyone, counts)))
    peaks, handovers = zip(*machine, strict=True)
    return times, (median(peaks), median(handovers))


def turn(contestant: Contestant, count: int) -> float:
    """Give a contestant its turn of ``count`` calls, after a pause; seconds a call."""
    sleep(PAUSE)
    return contestant.seconds(count)


def waiting(device: torch.device) -> Callable[[], None]:
    """Return what waits until a device has done its work; on the CPU nothing is left to do."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None


@contextmanager
def _exact_on_gpus() -> Iterator[None]:
    """Compute with all bits of float32, as a comparison needs; on GPUs torch's default has 10 bits."""
    rnn: Any = torch.backends.cudnn.rnn
    before, rnn.fp32_precision = rnn.fp32_precision, "ieee"
    try:
        yield
    finally:
        rnn.fp32_precision = before


def seconds(f: Callable[[], Any], count: int, wait: Callable[[], None] = lambda: None) -> float:
    """Time a function.

    Args:
        f: The function.
        count: Calls that are timed, after one that is not; at least 1.
        wait: Waits until all calls are done.

    Returns:
        Seconds a call, the mean.
    """
    f()
    wait()
    start = perf_counter()
    for _ in range(count):
        f()
    wait()
    return (perf_counter() - start) / count


def spread(values: Any) -> Spread:
    """Summarise values.

    Args:
        values: At least one number.

    Returns:
        Lower quartile, median and upper quartile; of fewer than three values minimum, median and maximum.
    """
    if len(values) < 3:  # between two, quartiles would lie outside both
        return min(values), median(values), max(values)
    low, middle, high = quantiles(values, n=4)
    return low, middle, high
