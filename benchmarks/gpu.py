"""On a GPU: cuDNN's baseline, the kernels' results against float64, their times, in one run of some minutes.

python benchmarks/gpu.py [--seconds 440] [--out FILE] [--parts baseline,correct] [--dry]

Writes results/gpu.json after every row, so that a run cut short loses nothing; prints the table last.
``--dry`` runs every part on the CPU in Triton's interpreter, with tiny sizes: its figures mean nothing.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRY = "--dry" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for where new memory is filled with NaN

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

import record  # noqa: E402
import undertow  # noqa: E402
from undertow.kernels import cpu, engines, plain, triton  # noqa: E402
from undertow.kernels.call import PLAIN, Call, Ragged, Variant  # noqa: E402
from undertow.kernels.triton import rules  # noqa: E402

DEVICE = "cpu" if DRY else "cuda"
HALF = [torch.float16] if DRY else [torch.bfloat16, torch.float16]  # bfloat16 is wrong in the interpreter
DTYPES = [torch.float32, *HALF]
TIMED = DTYPES[: 1 if DRY else 2]
BOUNDS = {"ieee": 1e-5, "tf32": 2e-3, "torch.bfloat16": 2e-2, "torch.float16": 2e-2}
GOALS = {(32, 100, 16, 64): 1.0, (256, 365, 32, 64): 1.5, (64, 100, 32, 128): 1.2, (2048, 100, 64, 128): 1.3}
SHAPES = [*GOALS, (256, 100, 32, 256), (32, 64, 512, 512), (16, 500, 8, 32)]  # N, T, C, H
GRID = [(n, 100, 32, h) for h in (32, 64, 128, 160, 192, 256, 512) for n in (8, 32, 128, 512, 2048)]
if DRY:
    SHAPES, GRID = [(3, 2, 2, 3)], [(2, 2, 2, 3)]
OPTIONS = ["mask", "reset", "recurrent", "zoneout", "peepholes", "coupled", "norms"]
Run = Callable[[], Any]


# ------------------------------------------------------------------------------------ measuring


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
    for run in ways.values():
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


# ------------------------------------------------------------------------------------ the parts


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


def layer(shape: tuple[int, ...], dtype: torch.dtype, kind: Any) -> Any:
    return kind(*shape[2:], device=DEVICE, dtype=dtype)


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Any:
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


def drawn(N: int, T: int, C: int, H: int, options: list[str], form: str) -> Call:
    """A call of two directions in float64 on the CPU, with these options."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def chosen(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g) < 0.5

    D, rows = 2, (T, N)
    ragged = Ragged()
    if form == "lengths":
        ragged = Ragged(lengths(N, T))
    elif form == "packed":
        _, sizes, order, _ = pack_padded_sequence(normal(T, N, 1), lengths(N, T), enforce_sorted=False)
        ragged, rows = Ragged(None, sizes, order), (int(sizes.sum()),)
    fields: dict[str, Any] = {
        "mask": {"mask": chosen(T, N)},
        "reset": {"reset": chosen(T, N), "reset_h": normal(D, N, H), "reset_c": normal(D, N, H)},
        "recurrent": {"recurrent": chosen(D, N, H).double() * 2},
        "zoneout": {"zoneout_h": chosen(D, *rows, H).double(), "zoneout_c": chosen(D, *rows, H).double() / 2},
        "peepholes": {"peepholes": normal(D, 3, H)},
        "coupled": {"coupled": True},
        "norms": {"gain_x": normal(D, 4 * H), "gain_h": normal(D, 4 * H),
                  "gain_c": normal(D, H), "bias_c": normal(D, H)},
    }  # fmt: skip
    given = {name: value for option in options for name, value in fields[option].items()}
    weights = [(normal(4 * H, C) / C**0.5, normal(4 * H, H) / H**0.5, normal(4 * H), normal(4 * H), None)
               for _ in range(D)]  # fmt: skip
    variant = Variant(**given) if given else PLAIN
    return Call("lstm", normal(*rows, C), normal(D, N, H), normal(D, N, H), weights, ragged, variant)


TRAINED = ("reset_h", "reset_c", "peepholes", "gain_x", "gain_h", "gain_c", "bias_c")


def moved(call: Call, device: str, dtype: torch.dtype, back: torch.dtype | None = None) -> Call:
    """The call in ``dtype``, as leaves; with ``back`` its rounded numbers in that one."""
    names = ["x", "h_0", "c_0", *"WUbb_" * call.D, *Variant._fields[:-1]]

    def leaf(name: str, t: Tensor | None) -> Any:
        if t is None or t.dtype is torch.bool:
            return t if t is None else t.to(device)
        moved = t.to(dtype).to(device, back or dtype)
        return moved.requires_grad_(name in TRAINED or name in ("x", "h_0", "c_0", *"WUb"))

    tensors = [leaf(name, t) for name, t in zip(names, call.tensors, strict=False)]
    some, sizes, order = call.ragged
    there = [None if t is None else t.to(device) for t in (some, order)]
    return call.filled(tensors)._replace(ragged=Ragged(there[0], sizes, there[1]))


def results(engine: Any, call: Call) -> dict[str, Tensor]:
    """All outputs and gradients, with the same incoming gradients for every dtype."""
    outputs = engine.layer(call)
    g = torch.Generator().manual_seed(2)
    douts = [torch.randn(o.shape, generator=g).to(o.device, o.dtype) for o in outputs]
    leaves = [(k, t) for k, t in enumerate(call.tensors) if t is not None and t.requires_grad]
    grads = torch.autograd.grad(outputs, [t for _, t in leaves], douts)
    named = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    named |= {f"d{k}": g for (k, _), g in zip(leaves, grads, strict=True)}
    return {name: t.detach() for name, t in named.items()}


def normwise(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    def error(a: Tensor, e: Tensor) -> float:
        return float((a.double().cpu() - e).norm() / e.norm().clamp_min(1e-30))

    return {name: error(found[name], e) for name, e in truth.items()}


Case = tuple[tuple[int, ...], list[str], str, torch.dtype, str]  # size, options, form, dtype, precision


def cases() -> list[Case]:
    """What ``correct`` compares: a plain layer in every way, options in float32 and bfloat16, all of them."""
    forms = ("padded", "lengths", "packed")
    settings = [(torch.float32, "ieee"), (HALF[0], str(HALF[0]))]
    more = [(torch.float32, "tf32"), (torch.float16, "torch.float16")]
    sizes = [(33, 20, 7, 64), (17, 9, 5, 37), (9, 6, 16, 128), (5, 4, 3, 200)]
    if DRY:
        return [((3, 2, 2, 3), options, "lengths", *how) for options in ([], OPTIONS) for how in settings]
    found: list[Case] = [
        (size, [], form, *how) for size in sizes for form in forms for how in settings + more
    ]
    for k, options in enumerate([*([name] for name in OPTIONS), OPTIONS]):
        for form in forms:
            some = [o for o in options if form != "packed" or o not in ("mask", "reset")]
            if some:
                each = settings + more if len(options) > 1 else settings
                found += [(sizes[k % 3], some, form, *how) for how in each]
    return found


def compare(case: Case, repeats: int = 5) -> dict[str, Any]:
    """The kernels and float64 on the CPU, from the same rounded numbers."""
    size, options, form, dtype, name = case
    torch.backends.cudnn.rnn.fp32_precision = "ieee" if name == "ieee" else "tf32"
    try:
        call = drawn(*size, options, form)
        truth = results(cpu.ENGINE, moved(call, "cpu", dtype, torch.float64))
        runs = [results(triton.ENGINE, moved(call, DEVICE, dtype)) for _ in range(repeats)]
    finally:
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
    errors = normwise(runs[0], truth)
    worst = max(errors, key=errors.__getitem__)
    repeat = all(torch.equal(run[n], runs[0][n]) for run in runs[1:] for n in run)
    row = {"size": size, "options": options, "form": form, "as": name, "worst": worst}
    right = repeat and errors[worst] <= BOUNDS[name]
    return row | {"normwise": errors[worst], "repeats": repeat, "ok": right}


def correct() -> Iterator[dict[str, Any]]:
    """Outputs and gradients against float64 on the CPU, from new memory that holds NaN; five repeats."""
    torch.use_deterministic_algorithms(True)
    for case in cases():
        yield compare(case, 2 if DRY else 5)


Job = tuple[str, Any]


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
        yield {"jobs": len(jobs), "seconds": warm(jobs[-1])}
        return
    start, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    workers = min(14, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        each = list(pool.map(warm, jobs))
    yield {"jobs": len(jobs), "workers": workers, "seconds": time.monotonic() - start, "longest": max(each)}


def sanitizer() -> Iterator[dict[str, Any]]:
    """compute-sanitizer on two small cases, if the machine has it."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        yield {"skipped": "compute-sanitizer is not installed"}
        return
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, __file__, "--tiny"]
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


Launched = tuple[tuple[int, ...], torch.dtype, rules.Launch]


def launches() -> list[Launched]:
    """Other launches than those of the table, and those."""
    sizes = [
        (32, 100, 16, 64),
        (256, 100, 32, 64),
        (2048, 50, 64, 128),
        (64, 100, 32, 128),
        (64, 100, 32, 256),
    ]
    found: list[Launched] = []
    for shape in SHAPES if DRY else sizes:
        N, _, _, H = shape
        for dtype in TIMED:
            size = dtype.itemsize
            own = rules.launch(H, N, size)
            fits = 4 * rules.units(H) ** 2 * size <= 140 << 10
            found.append((shape, dtype, own))
            for BN, BK, warps in itertools.product((8, 16), (0,) if fits else (32, 64), (4, 8)):
                how = own._replace(BN=BN, BK=BK, warps=warps, stages=2 if BK else 1)
                if how != own and not (DRY and (BN, warps) != (16, 4)):
                    found.append((shape, dtype, how))
    return found


@contextmanager
def launched(how: rules.Launch | None, dtype: torch.dtype) -> Iterator[None]:
    """Every kernel is launched so; None: by the table."""
    table = rules.LAUNCHES
    if how is not None:
        rules.LAUNCHES = {dtype.itemsize: (how._replace(units=512, most=rules.MANY, shared=0),)}
    try:
        yield
    finally:
        rules.LAUNCHES = table


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

    def without_waiting(run: Run) -> Run:
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


PARTS = (facts, baseline, compiling, correct, sanitizer, loop, speed, options, ablations, sweep)
# of the whole time, at most
SHARES = {"baseline": 0.2, "compiling": 0.3, "correct": 0.15, "sanitizer": 0.1, "loop": 0.1, "speed": 0.25,
          "options": 0.1, "ablations": 0.05}  # fmt: skip


# ------------------------------------------------------------------------------------ the run


def run_all(names: list[str], total: float, out: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def save() -> None:
        if out is None:
            record.write("gpu", found)
        else:
            out.write_text(json.dumps(found, indent=1), encoding="utf-8")

    began = time.monotonic()
    for part in PARTS:
        name = part.__name__
        if name not in names:
            continue
        start, rows = time.monotonic(), found.setdefault(name, [])
        end = min(began + total, start + SHARES.get(name, 1) * total)
        try:
            for row in part():
                rows.append(row)
                save()
                if time.monotonic() > end:
                    rows.append({"cut short": f"after {time.monotonic() - start:.0f} s"})
                    break
        except Exception as error:  # the other parts still run
            rows.append({"error": f"{type(error).__name__}: {str(error)[:500]}"})
        torch.use_deterministic_algorithms(False)
        save()
        print(f"{name}: {len(rows)} rows, {time.monotonic() - start:.0f} s", flush=True)
    return found


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(json.dumps(found.get("facts", [{}])[0], indent=1))
    proofs = [row for part in ("correct", "loop", "sanitizer") for row in found.get(part, [])]
    bad = [row for row in proofs if row.get("ok") is False]
    print(f"{len(proofs)} proofs, {len(bad)} not right")
    for row in bad[:20]:
        print("  ", row)
    names = ("ours", "chosen", "lengths", "packed")
    print("\ncuDNN's time over ours: plain, as chosen, lengths and packed against packed")
    print(f"{'N, T, C, H':>22} {'dtype':>9} {'cuDNN ms':>9}", *(f"{name:>8}" for name in names))
    for row in found.get("speed", []):
        if "ms" not in row:
            print(row)
            continue
        ms = row["ms"]
        ratios = [ms["cudnn"] / ms[name] for name in ("ours", "chosen")]
        ratios += [ms["cudnn packed"] / ms[name] for name in ("ours lengths", "ours packed") if name in ms]
        shown = " ".join(f"{r:8.2f}" for r in ratios)
        goal = f"  goal {row['goal']}" if row["goal"] else ""
        print(f"{row['shape']!s:>22} {row['dtype'][6:]:>9} {ms['cudnn']:9.3f} {shown}{goal}")
    print("\noption: its time over our plain layer's, the time of torch operations over ours")
    for row in found.get("options", []):
        ms = row.get("ms", {})
        if "ours" in ms:
            slow = f"{ms['torch'] / ms['ours']:7.1f}" if "torch" in ms else ""
            print(f"  {row['option']:>18} {ms['ours'] / ms['plain']:5.2f} {slow}")


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--seconds", type=float, default=440)
    parse.add_argument("--out", type=Path, help="default: results/gpu.json")
    parse.add_argument("--parts", default=",".join(part.__name__ for part in PARTS))
    parse.add_argument("--dry", action="store_true", help="on the CPU in the interpreter")
    parse.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    asked = parse.parse_args()
    if DRY:
        triton.DEVICES.append("cpu")
        torch.set_num_threads(1)
        engines.ENGINES = tuple(e for e in engines.ENGINES if e is not cpu.ENGINE)
    elif not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --dry runs every part on the CPU")
    if asked.tiny:
        return tiny()
    return show(run_all(asked.parts.split(","), asked.seconds, asked.out))


if __name__ == "__main__":
    main()
