"""What is timed: cuDNN, the kernels beside it, options, kernel by kernel, other launches."""

import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import torch

import undertow
from gpu.comparing import cases, compare
from gpu.launching import launched, launches
from gpu.setting import CLOCK, DEVICE, DRY, DTYPES, GOALS, GRID, SHAPES, TIMED
from gpu.timing import (
    forced,
    host,
    in_torch_operations,
    inference,
    inputs,
    layer,
    lengths,
    packed_of,
    prepare,
    raced,
    training,
    wait,
    while_forced,
)

Job = tuple[str, Any]


def facts() -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {"torch": torch.__version__, "undertow": undertow.__version__, "dry": DRY}
    if not DRY:
        p = torch.cuda.get_device_properties(0)
        found |= {"card": p.name, "processors": p.multi_processor_count, "cuda": torch.version.cuda}
        found |= {"cudnn": torch.backends.cudnn.version(), "rnn": torch.backends.cudnn.rnn.fp32_precision}
        query = "clocks.sm,clocks.mem,clocks.max.sm,power.limit,driver_version,temperature.gpu"
        if tool := shutil.which("nvidia-smi"):
            asked = [tool, f"--query-gpu={query}", "--format=csv,noheader"]
            found[query] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    yield found


def baseline() -> Iterator[dict[str, Any]]:
    """torch's operator alone: cuDNN."""
    plan = [(shape, dtype, form) for shape in SHAPES for form in ("padded", "packed") for dtype in DTYPES]
    plan += [(shape, dtype, "padded") for shape in GRID for dtype in TIMED]
    for shape, dtype, form in plan:
        module, x = layer(shape, dtype, torch.nn.LSTM), inputs(shape, dtype)
        if form == "packed":
            x = packed_of(x)
        ways = {"forward": inference(module, x), "training": training(module, x)}
        times = raced(ways, 7)
        row = {name: s / shape[1] * 1e6 for name, s in times.items()}
        yield {"shape": shape, "dtype": str(dtype), "form": form, "us_a_step": row,
               "host_us": host(ways["training"]) * 1e6}  # fmt: skip


def warm(job: Job) -> float:
    """Run a job once in another process, so that Triton's cache on disk holds its kernels."""
    torch.set_num_threads(1)
    start, (kind, what) = time.monotonic(), job
    try:
        if kind == "case":
            compare(what, 1)
        else:
            shape, dtype, how = what
            with launched(how, dtype):
                module, x = layer(shape, dtype, undertow.LSTM), inputs(shape, dtype)
                with forced(True):
                    training(module, x)()
                    inference(module, x)()
                    if how is None:
                        training(module, x, lengths=lengths(*shape[:2]))()
                        training(module, packed_of(x))()
    except Exception as error:  # the part that needs it says more
        print(job, type(error).__name__, str(error)[:200], flush=True)
    return time.monotonic() - start


def compiling() -> Iterator[dict[str, Any]]:
    """All kernels that the other parts need, on all cores at once."""
    jobs: list[Job] = [("case", case) for case in cases()]
    one_of = {(shape[3], shape[0] > 1056): shape for shape in [*SHAPES, *GRID]}.values()
    jobs += [("layer", (shape, dtype, None)) for shape in one_of for dtype in TIMED]
    jobs += [("layer", each) for each in launches()]
    if DRY:
        jobs = jobs[-1:]
    start, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    workers = 1 if DRY else min(14, os.cpu_count() or 1)
    with spawn.Pool(workers, initializer=prepare) as pool:  # leaving it ends the processes
        each, done = pool.imap_unordered(warm, jobs), []
        for _ in jobs:
            done.append(each.next(timeout=CLOCK.left()))
    yield {"jobs": len(jobs), "workers": workers, "seconds": time.monotonic() - start, "longest": max(done)}


def speed() -> Iterator[dict[str, Any]]:
    """Ours against cuDNN at its defaults; what the table of engines chooses; packed; torch operations."""
    for shape in [*SHAPES, *GRID]:
        for dtype in TIMED:
            theirs, ours = (layer(shape, dtype, kind) for kind in (torch.nn.LSTM, undertow.LSTM))
            x, ends = inputs(shape, dtype), lengths(*shape[:2])
            packed = packed_of(x)
            ways = {
                "cudnn": training(theirs, x),
                "ours": while_forced(training(ours, x)),
                "chosen": training(ours, x),
            }
            if shape in SHAPES:
                ways |= {
                    "cudnn packed": training(theirs, packed),
                    "ours lengths": training(ours, x, lengths=ends.to(DEVICE)),
                    "ours packed": while_forced(training(ours, packed)),
                }
            times = raced(ways, 10)
            yield {"shape": shape, "dtype": str(dtype), "ms": {n: s * 1e3 for n, s in times.items()},
                   "goal": GOALS.get(shape), "host_us": host(ways["ours"]) * 1e6}  # fmt: skip


def options() -> Iterator[dict[str, Any]]:
    """Each option against our plain layer and against torch operations; and a layer that is watched."""
    N, T, C, H = SHAPES[0] if DRY else (64, 100, 32, 128)
    x = torch.randn(T, N, C, device=DEVICE, requires_grad=True)
    marks = torch.rand(T, N, device=DEVICE) < 0.9
    plain_one = undertow.LSTM(C, H, device=DEVICE)
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "mask": ({}, {"mask": marks}),
        "reset": ({}, {"reset": ~marks}),
        "recurrent_dropout": ({"recurrent_dropout": 0.2}, {}),
        "zoneout": ({"zoneout": 0.1}, {}),
        "peepholes": ({"peepholes": True}, {}),
        "coupled": ({"coupled": True}, {}),
        "layer_norm": ({"layer_norm": True}, {}),
    }
    for name, (made, given) in list(cases.items())[: 1 if DRY else None]:
        run = training(undertow.LSTM(C, H, device=DEVICE, **made), x, **given)
        start = time.perf_counter()
        run()
        wait()
        first = time.perf_counter() - start
        times = raced({"plain": while_forced(training(plain_one, x)), "ours": run}, 10)
        slow = raced({"torch": in_torch_operations(run)}, 3)
        yield {"option": name, "first_call_s": first, "ms": {n: s * 1e3 for n, s in (times | slow).items()}}
    lstm = undertow.LSTM(C, H, device=DEVICE)
    run = while_forced(training(lstm, x))

    def watched() -> None:
        with undertow.trace(lstm):
            run()

    yield {
        "option": "trace",
        "ms": {n: s * 1e3 for n, s in raced({"plain": run, "ours": watched}, 10).items()},
    }
    segments = undertow.LSTM(C, H, device=DEVICE, checkpoint=max(1, T // 4))
    times = raced({"plain": run, "ours": training(segments, x)}, 10)
    yield {"option": "checkpoint", "ms": {n: s * 1e3 for n, s in times.items()}}


def ablations() -> Iterator[dict[str, Any]]:
    """Where the time goes, kernel by kernel."""
    activity = torch.profiler.ProfilerActivity
    for N, T, C, H in SHAPES:
        module = undertow.LSTM(C, H, device=DEVICE)
        x = torch.randn(T, N, C, device=DEVICE, requires_grad=True)
        run = while_forced(training(module, x))
        run()
        with torch.profiler.profile(activities=[activity.CPU if DRY else activity.CUDA]) as profile:
            run()
            wait()
        every = sorted(profile.key_averages(), key=lambda e: -e.self_device_time_total)
        yield {"shape": (N, T, C, H), "us": {e.key[:60]: e.self_device_time_total for e in every[:8]}}


def sweep() -> Iterator[dict[str, Any]]:
    """The times of ``launches``."""
    for shape, dtype, how in launches():
        module, x = layer(shape, dtype, undertow.LSTM), inputs(shape, dtype)
        row = {"shape": shape, "dtype": str(dtype), **how._asdict()}
        try:
            with launched(how, dtype), forced(True):
                times = raced({"forward": inference(module, x), "training": training(module, x)}, 5)
            yield row | {"us_a_step": {name: s / shape[1] * 1e6 for name, s in times.items()}}
        except Exception as error:  # more shared memory than there is
            yield row | {"refused": f"{type(error).__name__}: {str(error)[:120]}"}
