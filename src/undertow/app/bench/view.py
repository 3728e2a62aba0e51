"""What ``undertow bench`` shows: a table for inference, one for training, and a summary of each."""

from collections.abc import Iterator
from statistics import geometric_mean
from typing import Any

from rich.table import Table
from rich.text import Text

from undertow.app.bench.speed import Timing
from undertow.app.terminal import marked
from undertow.app.words import counted


def speeds(timings: list[Timing]) -> Iterator[Any]:
    """Make the tables and summaries of one thread count.

    Args:
        timings: Timings with the same number of threads.

    Yields:
        What is to be printed, in order.
    """
    threads, on_cpu = timings[0].threads, timings[0].device == "cpu"
    yield f"\n{counted(threads, 'thread')}; meanwhile {_meanwhile(timings)}" if on_cpu else ""
    for training in (False, True):
        rows = [timing for timing in timings if timing.training == training]
        yield speed_table("Training" if training else "Inference", rows)
        yield summary(rows)


def _meanwhile(timings: list[Timing]) -> str:
    """The machine's peak and handover during these rows, from the lowest to the highest."""
    peaks = [timing.peak / 1e9 for timing in timings]
    handovers = [timing.handover * 1e9 for timing in timings]
    return (
        f"multiply-adds alone reach {_span(peaks)} GFLOP/s, a cache line goes from core to core in "
        f"{_span(handovers)} ns"
    )


def _span(values: list[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def speed_table(title: str, timings: list[Timing]) -> Table:
    """Make a table with a row for each timing.

    Args:
        title: The heading.
        timings: Timings of the same contestants.

    Returns:
        Our seconds a call and share of the peak, nn.LSTM's seconds, and all ratios with their quartiles.
    """
    _, *rivals = timings[0].others
    table = _plain_table(title)
    for heading in ("undertow", "of peak", "nn.LSTM", "ratio", *rivals):
        table.add_column(heading, justify="right", no_wrap=True)
    for timing in timings:
        nn = timing.others["nn.LSTM"]
        ratios = [_cell(other.ratio) for other in timing.others.values()]
        peak = f"{100 * timing.of_peak:.0f}%" if timing.peak else "-"
        table.add_row(str(timing.shape), duration(timing.ours[1]), peak, duration(nn.seconds[1]), *ratios)
    return table


def _plain_table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("N,T,C,H", no_wrap=True)
    return table


def _cell(ratio: tuple[float, float, float]) -> Text:
    low, middle, high = ratio
    style = "green" if low > 1 else "red" if high < 1 else "yellow"
    return marked(f"[{style}]{middle:.2f}[/] [dim]({low:.1f}-{high:.1f})[/]")


def duration(seconds: float) -> str:
    """Show a time with three digits in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def summary(timings: list[Timing]) -> str:
    """Summarise timings.

    Args:
        timings: Timings of the same contestants.

    Returns:
        The geometric mean of each contestant's time over ours, and the lowest value with its shape.
    """
    lines = ["Others' time over ours, quartiles in brackets:"]
    for name in timings[0].others:
        slowest = min(timings, key=lambda timing: timing.others[name].ratio[1])
        mean = geometric_mean([timing.others[name].ratio[1] for timing in timings])
        least = f"{slowest.others[name].ratio[1]:.2f} at {slowest.shape}"
        lines.append(f"{mean:.2f} times as fast as {name} (geometric mean; least {least})")
    return "\n".join(lines) + "\n"


def memory(peaks: list[dict[str, Any]]) -> Table:
    """Make the table of peak memory.

    Args:
        peaks: For each shape its name as ``shape``, and bytes by module as ``bytes``.

    Returns:
        A row for each shape, in MiB.
    """
    table = _plain_table("Training, peak memory in MiB")
    for name in peaks[0]["bytes"]:
        table.add_column(name, justify="right")
    for peak in peaks:
        table.add_row(peak["shape"], *(f"{count / 2**20:.1f}" for count in peak["bytes"].values()))
    return table
