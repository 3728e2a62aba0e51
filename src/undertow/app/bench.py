"""``undertow bench``: this machine's speed against torch.nn.LSTM, a readable table."""

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow import __version__
from undertow.app.errors import UserError

if TYPE_CHECKING:
    from undertow.app.speed import Shape, Timing


def bench(
    full: Annotated[bool, typer.Option("--full", help="All shapes of the project's table: minutes.")] = False,
    threads: Annotated[str, typer.Option(help="Thread counts to measure with, such as 1,2.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of timings for each row.")] = 7,
    output: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file too.")] = None,
) -> None:
    """Measure this machine's speed against torch.nn.LSTM, inference and training, one shape at a time."""
    import torch
    from rich.console import Console

    from undertow.app import speed

    if output and not output.parent.is_dir():
        raise UserError(f"--output: there is no folder {output.parent}")
    counts = thread_counts(threads) or [torch.get_num_threads()]
    console = Console()
    console.print(f"{machine()}, torch {torch.__version__}, float32", highlight=False)
    timings: list[Timing] = []
    for count in counts:
        table, before = empty_table(count), len(timings)
        for shape in speed.FULL if full else speed.QUICK:
            with console.status(f"{shape}, {count} threads"):
                both = [measure(shape, training, count, repeats) for training in (False, True)]
            timings += both
            table.add_row(str(shape), *cells(both[0]), *cells(both[1]))
        console.print(table)
        console.print(summary(timings[before:]), highlight=False)
    if output:
        output.write_text(json.dumps(as_json(timings), indent=1) + "\n")


def measure(shape: "Shape", training: bool, threads: int, repeats: int) -> "Timing":
    from undertow.app import speed

    try:
        return speed.compare(shape, training, threads, repeats)
    except AssertionError as wrong:
        raise UserError(f"{shape}: {wrong}") from None


def thread_counts(text: str) -> list[int]:
    try:
        counts = [int(word) for word in text.split(",") if word]
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise UserError(f"--threads: expected numbers from 1, such as 1,2, got {text!r}")
    return counts


def empty_table(threads: int) -> Any:
    from rich.table import Table

    title = "1 thread" if threads == 1 else f"{threads} threads"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("N,T,C,H")
    for kind in ("inference", "training"):
        for heading in (kind, "nn.LSTM", "ratio"):
            table.add_column(heading, justify="right", no_wrap=True)
    return table


def cells(timing: "Timing") -> tuple[str, str, str]:
    low, ratio, high = timing.ratio
    style = "green" if low > 1 else "red" if high < 1 else "yellow"
    return (
        duration(timing.ours[1]),
        duration(timing.theirs[1]),
        f"[{style}]{ratio:.2f}[/] [dim]({low:.1f}-{high:.1f})[/]",
    )


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def summary(timings: list["Timing"]) -> str:
    from statistics import geometric_mean

    def mean(training: bool) -> str:
        ratios = [t.ratio[1] for t in timings if t.training == training]
        return f"{geometric_mean(ratios):.2f} times as fast, slowest row {min(ratios):.2f}"

    return f"Geometric mean: inference {mean(False)}; training {mean(True)}.\nIn brackets: quartiles.\n"


def as_json(timings: list["Timing"]) -> dict[str, Any]:
    import torch

    rows = [
        {
            "shape": str(t.shape),
            "training": t.training,
            "threads": t.threads,
            "seconds": t.ours,
            "seconds_nn": t.theirs,
            "ratio": t.ratio,
            "gflops": t.gflops,
        }
        for t in timings
    ]
    versions = {"undertow": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"machine": machine(), "versions": versions, "rows": rows}


def machine() -> str:
    """The processor's name, as far as the system tells, and how many there are."""
    import os

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"
