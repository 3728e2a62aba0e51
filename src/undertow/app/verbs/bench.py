"""``undertow bench``: this machine's speed against torch.nn.LSTM and others."""

import json
import platform
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow import __version__
from undertow.app.errors import UserError

if TYPE_CHECKING:
    from undertow.app.bench.speed import Contestant, Shape, Timing


MOST_THREADS = 1024


def bench(
    full: Annotated[
        bool, typer.Option("--full", help="All shapes of the project's table; takes minutes.")
    ] = False,
    threads: Annotated[str, typer.Option(help="Thread counts, such as 1,2. (default: torch's)")] = "",
    repeats: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rounds of timings for each shape.")] = 7,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also ONNX Runtime and OpenVINO, if installed with onnx."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    memory: Annotated[bool, typer.Option("--memory", help="Also the peak memory of training.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file too.")] = None,
) -> None:
    """Measure this machine's speed against torch.nn.LSTM, inference and training, one shape at a time."""
    import torch

    from undertow.app.bench import speed
    from undertow.app.bench import view as bench_view
    from undertow.app.terminal import Terminal
    from undertow.app.words import counted

    if output and not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    counts = _thread_counts(threads) or [torch.get_num_threads()]
    _check_device(device, alone=not (threads or peers or memory))
    if device == "cpu":
        _check_kernels()
    if memory:
        _check_memory()
    shapes = speed.FULL if full else speed.QUICK
    console = Terminal()
    name = machine() if device == "cpu" else torch.cuda.get_device_name()
    console.print(f"{name}, torch {torch.__version__}, float32")
    timings: list[Timing] = []
    peaks: list[dict[str, Any]] = []
    with ExitStack() as until_done:
        others = _contestants(peers, until_done) if device == "cpu" else []
        for count in counts:
            before = len(timings)
            for shape in shapes:
                for training in (False, True):
                    with console.status(f"{shape}, {counted(count, 'thread')}"):
                        timings.append(_measure(shape, training, count, repeats, others, device))
            for line in bench_view.speeds(timings[before:]):
                console.print(line)
    if memory:
        for shape in shapes:
            with console.status(f"{shape}, memory"):
                peaks.append(_training_memory(shape, counts[-1]))
        console.print(bench_view.memory(peaks))
    if output:
        output.write_text(json.dumps(_as_json(timings, peaks), indent=1) + "\n")


def _check_device(device: str, alone: bool) -> None:
    """Raise UserError if there is no such device, or if ``--threads`` and the like are given for a GPU."""
    from undertow.app.runs.device import chosen

    if chosen(device, ("cpu", "cuda")) == "cuda" and not alone:
        raise UserError(
            "--device cuda: expected without --threads, --peers and --memory, which are the CPU's"
        )


def _check_kernels() -> None:
    from undertow import hardware

    try:
        hardware.fma_peak(1, 1e-6)
    except ModuleNotFoundError:
        raise UserError("bench: the C++ kernels were not built, so there is nothing to measure") from None


def _check_memory() -> None:
    from undertow.app.bench import memory

    if not memory.available():
        raise UserError("--memory: only Linux says how much memory a process took at its peak")


def _contestants(peers: bool, until_done: ExitStack) -> "list[Contestant]":
    """The contestants beside ours and nn.LSTM; ``until_done`` closes them."""
    from undertow.app.bench import tuned

    others: list[Contestant] = [until_done.enter_context(tuned.Tuned())] if tuned.available() else []
    if peers:
        from undertow.app.bench.peers import available

        found = available()
        if not found:
            raise UserError(
                "--peers: expected ONNX Runtime or OpenVINO: pip install onnx onnxruntime openvino"
            )
        others += found
    return others


def _measure(
    shape: "Shape", training: bool, threads: int, repeats: int, others: "list[Contestant]", device: str
) -> "Timing":
    from undertow.app.bench import speed

    try:
        return speed.compare(shape, training, threads, repeats, others=others, device=device)
    except AssertionError as wrong:
        raise UserError(f"{shape}: {wrong}") from None


def _training_memory(shape: "Shape", threads: int) -> dict[str, Any]:
    from undertow.app.bench.memory import training_peaks

    return {"shape": str(shape), "threads": threads, "bytes": training_peaks(shape, threads)}


def _thread_counts(text: str) -> list[int]:
    try:
        counts = [int(word) for word in text.split(",") if word]
    except ValueError:
        counts = [0]
    if not all(1 <= count <= MOST_THREADS for count in counts):
        raise UserError(f"--threads {text}: expected numbers from 1 to {MOST_THREADS}, such as 1,2")
    return counts


def _as_json(timings: list["Timing"], memory: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    versions = {"undertow": __version__, "torch": torch.__version__, "python": platform.python_version()}
    figures = {"machine": machine(), "versions": versions, "rows": [_row(t) for t in timings]}
    return figures | ({"training_memory": memory} if memory else {})


def _row(timing: "Timing") -> dict[str, Any]:
    others = dict(timing.others)
    nn = others.pop("nn.LSTM")
    return {
        "shape": str(timing.shape),
        "training": timing.training,
        "threads": timing.threads,
        "device": timing.device,
        "seconds": timing.ours,
        "seconds_nn": nn.seconds,
        "ratio": nn.ratio,
        "gflops": [timing.flops / seconds / 1e9 for seconds in (timing.ours[1], nn.seconds[1])],
        "peak_gflops": timing.peak / 1e9,
        "of_peak": timing.of_peak,
        "handover_ns": timing.handover * 1e9,
        "others": {name: {"seconds": other.seconds, "ratio": other.ratio} for name, other in others.items()},
    }


def machine() -> str:
    """The processor's name, if the system tells it, and the number of cores."""
    import os

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"
