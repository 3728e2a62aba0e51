"""What must hold: results, no race, no waiting, and what torch does with a layer."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import undertow
from gpu.comparing import cases, compare, drawn, moved, results
from gpu.setting import CLOCK, DEVICE, DRY, HALF, OPTIONS, Row, Run, proved
from gpu.timing import captured, lengths, training, wait, while_forced, without_waiting
from undertow.kernels import triton


def correct() -> Iterator[Row]:
    """Outputs and gradients against float64 on the CPU, from new memory that holds NaN; five repeats."""
    torch.use_deterministic_algorithms(True)
    for case in cases():
        yield compare(case, 2 if DRY else 5)


def sanitizer() -> Iterator[Row]:
    """compute-sanitizer on two small cases, if the machine has it."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        yield {"skipped": "compute-sanitizer is not installed"}
        return
    for check in ("memcheck", "racecheck"):
        how = [tool, "--tool", check, "--error-exitcode", "9"]
        command = [*how, sys.executable, Path(__file__).parent, "--tiny"]
        limit = min(60, CLOCK.left())
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
            yield {"tool": check, "ok": run.returncode == 0, "said": run.stdout[-600:]}
        except subprocess.TimeoutExpired:
            yield {"tool": check, "skipped": f"it took more than {limit:.0f} s"}


def tiny() -> None:
    """What compute-sanitizer watches: U in the program's memory, and in blocks."""
    for size in ((5, 3, 2, 37), (5, 3, 2, 130)):
        results(triton.ENGINE, moved(drawn(*size, OPTIONS, "lengths"), DEVICE, torch.float32))
    wait()


N, T, C, H = (3, 2, 2, 3) if DRY else (64, 50, 16, 64)


def made(**options: Any) -> Any:
    return undertow.LSTM(C, H, device=DEVICE, **options)


def loop() -> Iterator[Row]:
    """A training loop that must not wait for the GPU; autocast, torch.compile, a CUDA graph, DDP."""
    x, ends = torch.randn(T, N, C, device=DEVICE), lengths(N, T).to(DEVICE)
    marks = torch.rand(T, N, device=DEVICE) < 0.9

    def trained(module: Any, steps: int = 1 if DRY else 3, **given: Any) -> Run:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

        def run() -> None:
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                module(x, **given)[0].float().square().mean().backward()
                optimizer.step()

        return run

    everything = made(layer_norm=True, peepholes=True, zoneout=0.1, recurrent_dropout=0.1)
    for name, run in {
        "plain, no waiting": without_waiting(while_forced(trained(made()))),
        "lengths on the GPU, no waiting": without_waiting(trained(made(), lengths=ends)),
        "options, no waiting": without_waiting(trained(everything, mask=marks, reset=~marks)),
        "checkpoint, no waiting": without_waiting(trained(made(checkpoint=8))),
        "autocast": partial(autocast, x, ends),
        "torch.compile": partial(compiled, x),
        "CUDA graph": partial(graph, x, ends),
        "DDP": partial(distributed, x, ends),
    }.items():
        yield proved({"what": name}, partial(finished, run))


def finished(run: Run) -> None:
    """Run, and wait for what goes wrong on the GPU."""
    run()
    wait()


def autocast(x: Tensor, ends: Tensor) -> None:
    """Half precision, and gradients of the weights' own dtype."""
    module = made()
    with torch.autocast(DEVICE, dtype=HALF[0]):
        y, _ = module(x, lengths=ends)
    assert y.dtype is HALF[0]
    y.float().sum().backward()
    assert module.weight_hh_l0.grad.dtype is torch.float32


def gradients(module: Any, run: Run) -> list[Tensor]:
    """What ``run`` leaves in the gradients of a module."""
    run()
    found = [p.grad.clone() for p in module.parameters()]
    for p in module.parameters():
        p.grad.zero_()
    return found


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, e in zip(found, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def compiled(x: Tensor) -> None:
    """A program whose layers are one node each, with the same gradients."""
    dtype = HALF[0] if DRY else torch.float32  # which the CPU's kernels do not take
    module, x = made(bidirectional=True, dtype=dtype), x.to(dtype)
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    expected = gradients(module, while_forced(training(module, x)))
    same(gradients(module, while_forced(training(program, x))), expected)


def graph(x: Tensor, ends: Tensor) -> None:
    """A step in a CUDA graph, with the same gradients; and with those of new numbers in x."""
    module, x = made(), x.clone()
    step = training(module, x, lengths=ends)
    first, replay = gradients(module, step), captured(step)
    same(gradients(module, replay), first)
    x.mul_(0.5)
    second = gradients(module, replay)
    same(second, gradients(module, step))
    assert not torch.equal(first[0], second[0])


def distributed(x: Tensor, ends: Tensor) -> None:
    """One process of DistributedDataParallel, with the same gradients."""
    module = made(layer_norm=True)
    expected = gradients(module, training(module, x, lengths=ends))
    dist = torch.distributed
    dist.init_process_group("gloo" if DRY else "nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(module)
        same(gradients(module, training(wrapped, x, lengths=ends)), expected)
    finally:
        dist.destroy_process_group()
