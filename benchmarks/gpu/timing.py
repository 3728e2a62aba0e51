"""Times by the GPU's clock, layers and their inputs, and which engine computes them."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from gpu.setting import DEVICE, DRY, Run, Shape
from undertow.kernels import cpu, engines, plain, triton


def prepare() -> None:
    """With ``--dry`` the kernels compute on the CPU, in Triton's interpreter, and the CPU's do not."""
    if DRY:
        triton.DEVICES.append("cpu")
        torch.set_num_threads(1)
        engines.ENGINES = tuple(e for e in engines.ENGINES if e is not cpu.ENGINE)


def wait() -> None:
    if not DRY:
        torch.cuda.synchronize()


def seconds(run: Run, most: float = 0.1) -> float:
    """One turn: the mean of some calls one after another, by the GPU's clock."""
    if DRY:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    wait()
    start, count = time.perf_counter(), 0
    first.record()
    while count < 3 or (count < 20 and time.perf_counter() - start < most / 20):
        run()
        count += 1
    last.record()
    wait()
    return first.elapsed_time(last) * 1e-3 / count


def raced(ways: dict[str, Run], turns: int = 20) -> dict[str, float]:
    """The median seconds of each of ``ways``, which take turns."""
    for run in () if DRY else ways.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 if DRY else turns):
        for name, run in ways.items():
            times[name].append(seconds(run))
    return {name: statistics.median(each) for name, each in times.items()}


def host(run: Run) -> float:
    """Seconds until a call returns, before the GPU has finished."""
    found = []
    for _ in range(1 if DRY else 10):
        wait()
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    wait()
    return statistics.median(found)


def training(module: Any, x: Any, **given: Any) -> Run:
    """Forward and backward, without an optimizer."""

    def run() -> None:
        module.zero_grad(set_to_none=True)
        y = module(x, **given)[0]
        (y if isinstance(y, Tensor) else y.data).sum().backward()

    return run


def inference(module: Any, x: Any, **given: Any) -> Run:
    def run() -> None:
        with torch.no_grad():
            module(x, **given)

    return run


def layer(shape: Shape, dtype: torch.dtype, kind: Any) -> Any:
    return kind(*shape[2:], device=DEVICE, dtype=dtype)


def inputs(shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
    """x [T,N,C], a leaf."""
    N, T, C, _ = shape
    return torch.randn(T, N, C, device=DEVICE, dtype=dtype, requires_grad=True)


def lengths(N: int, T: int) -> Tensor:
    return torch.randint(T // 2, T + 1, (N,), generator=torch.Generator().manual_seed(0))


def packed_of(x: Tensor) -> Any:
    """The same sequences packed, as a leaf."""
    packed = pack_padded_sequence(x.detach(), lengths(x.shape[1], x.shape[0]), enforce_sorted=False)
    packed.data.requires_grad_()
    return packed


@contextmanager
def by_the_cpu() -> Iterator[None]:
    """The CPU's kernels compute, with ``--dry`` too."""
    before = engines.ENGINES
    engines.ENGINES = (cpu.ENGINE, plain.ENGINE)
    try:
        yield
    finally:
        engines.ENGINES = before


@contextmanager
def forced(ours: bool) -> Iterator[None]:
    """The kernels compute all plain calls that they can, or none."""
    before = triton.ENGINE.is_faster
    triton.ENGINE.is_faster = lambda *_: ours  # type: ignore[method-assign]
    try:
        yield
    finally:
        triton.ENGINE.is_faster = before  # type: ignore[method-assign]


def while_forced(run: Run) -> Run:
    def forced_run() -> None:
        with forced(True):
            run()

    return forced_run


def in_torch_operations(run: Run) -> Run:
    def slow() -> None:
        before = engines.ENGINES
        engines.ENGINES = (plain.ENGINE,)
        try:
            run()
        finally:
            engines.ENGINES = before

    return slow


def captured(run: Run) -> Run:
    """The same from a CUDA graph; what it reads and leaves lies where it lay at the capture."""
    if DRY:
        return run
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compiles, as torch's guide to graphs asks
        run()
        run()
    torch.cuda.current_stream().wait_stream(aside)
    found = torch.cuda.CUDAGraph()
    with torch.cuda.graph(found):
        run()
    return found.replay


def without_waiting(run: Run) -> Run:
    """The same; once it has run, it must not wait for the GPU any more."""

    def watched() -> None:
        run()  # compiles
        if DRY:
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return watched
