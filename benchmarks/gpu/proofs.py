"""What must hold: results, no race, no waiting, and what torch does with a layer."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import undertow
from gpu.comparing import cases, compare, drawn, moved, results
from gpu.setting import DEVICE, DRY, HALF, OPTIONS, Run
from gpu.timing import lengths, training, wait, while_forced, without_waiting
from undertow.kernels import triton


def correct() -> Iterator[dict[str, Any]]:
    """Outputs and gradients against float64 on the CPU, from new memory that holds NaN; five repeats."""
    torch.use_deterministic_algorithms(True)
    for case in cases():
        yield compare(case, 2 if DRY else 5)


def sanitizer() -> Iterator[dict[str, Any]]:
    """compute-sanitizer on two small cases, if the machine has it."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        yield {"skipped": "compute-sanitizer is not installed"}
        return
    for check in ("memcheck", "racecheck"):
        command = [
            tool,
            "--tool",
            check,
            "--error-exitcode",
            "9",
            sys.executable,
            Path(__file__).parent,
            "--tiny",
        ]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            yield {"tool": check, "ok": run.returncode == 0, "said": run.stdout[-600:]}
        except subprocess.TimeoutExpired:
            yield {"tool": check, "skipped": "it took more than 60 s"}


def tiny() -> None:
    """What compute-sanitizer watches: U in the program's memory, and in blocks."""
    for size in ((5, 3, 2, 37), (5, 3, 2, 130)):
        results(triton.ENGINE, moved(drawn(*size, OPTIONS, "lengths"), DEVICE, torch.float32))
    wait()


def loop() -> Iterator[dict[str, Any]]:
    """A training loop that must not wait for the GPU; autocast, torch.compile, a CUDA graph."""
    N, T, C, H = (3, 2, 2, 3) if DRY else (64, 50, 16, 64)
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

    def autocast() -> None:
        with torch.autocast(DEVICE, dtype=HALF[0]):
            assert ours(x, lengths=ends)[0].dtype is HALF[0]

    def compiled() -> None:
        if DRY:
            return
        backend = "aot_eager"
        program = torch.compile(undertow.LSTM(C, H, device=DEVICE), backend=backend, fullgraph=True)
        program(x)[0].sum().backward()

    def graph() -> None:
        if DRY:
            return
        module = undertow.LSTM(C, H, device=DEVICE)
        step = training(module, x, lengths=ends)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            step()
            step()
        torch.cuda.current_stream().wait_stream(stream)
        found = torch.cuda.CUDAGraph()
        module.zero_grad(set_to_none=True)
        with torch.cuda.graph(found):
            module(x, lengths=ends)[0].sum().backward()
        for p in module.parameters():
            p.grad.zero_()
        found.replay()
        wait()
        replayed = [p.grad.clone() for p in module.parameters()]
        step()
        for a, p in zip(replayed, module.parameters(), strict=True):
            torch.testing.assert_close(a, p.grad, rtol=1e-4, atol=1e-4)

    ours = undertow.LSTM(C, H, device=DEVICE)
    everything = undertow.LSTM(
        C, H, device=DEVICE, layer_norm=True, peepholes=True, zoneout=0.1, recurrent_dropout=0.1
    )
    for name, run in {
        "plain, no waiting": without_waiting(while_forced(trained(ours))),
        "lengths on the GPU, no waiting": without_waiting(trained(ours, lengths=ends)),
        "options, no waiting": without_waiting(trained(everything, mask=marks, reset=~marks)),
        "checkpoint, no waiting": without_waiting(trained(undertow.LSTM(C, H, device=DEVICE, checkpoint=8))),
        "autocast": autocast,
        "torch.compile": compiled,
        "CUDA graph": graph,
    }.items():
        try:
            run()
            wait()
            yield {"what": name, "ok": True}
        except Exception as error:
            yield {"what": name, "ok": False, "error": f"{type(error).__name__}: {str(error)[:300]}"}
