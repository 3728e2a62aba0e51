"""What ``undertow demo`` shows: both errors during the training, then the result as a table and in words."""

import math
import time

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from undertow.app.demo.duel import ADDING, Array, Duel, Verdict
from undertow.app.demo.picture import ROUNDING
from undertow.app.loop import Hook, Loop, Step
from undertow.app.signals import Interrupt
from undertow.app.terminal import marked, sparkline
from undertow.palette import DARK, LSTM, RNN

NAMES = {"LSTM": f"[bold {DARK[LSTM]}]LSTM[/]", "RNN": f"[bold {DARK[RNN]}]plain RNN[/]"}
CHANCE = 1 - 0.96**2  # how often the sum of two uniform numbers lies within 0.04 of its mean
TREND = (1e-4, 1.0)  # the errors of the lowest and the highest block


def train(duel: Duel, console: Console) -> int:
    """Train both networks and show how far they are.

    Args:
        duel: The networks and their data.
        console: Where progress is shown.

    Returns:
        The exit code: 0, or 128 and the number of the signal that stopped it.
    """
    with Interrupt() as interrupt:
        duel.train([Watch(duel, console)], interrupt)
    if interrupt.asked:
        console.print(f"Stopped by {interrupt.name} at step {duel.loop.step} of {duel.steps}.")
    return interrupt.code


class Watch(Hook):
    """Shows both errors, steps a second and the time left."""

    def __init__(self, duel: Duel, console: Console) -> None:
        speed = TextColumn("steps  {task.fields[rate]:.0f} a second ")
        columns = (
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            speed,
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        progress = Progress(*columns, console=console)
        self.bar, self.progress = progress.add_task("", total=duel.steps, rate=0.0), progress
        self.live = Live(
            get_renderable=lambda: Group(_standing(duel), "", progress), console=console, refresh_per_second=5
        )

    def on_start(self, loop: Loop) -> None:
        """Start the live display."""
        self.began = time.monotonic()
        self.live.start()

    def on_step(self, loop: Loop, steps: list[Step]) -> None:
        """Update the speed and the bar."""
        rate = loop.step / (time.monotonic() - self.began)
        self.progress.update(self.bar, completed=loop.step, rate=rate)

    def on_end(self, loop: Loop) -> None:
        """Stop the live display."""
        self.live.stop()


def _standing(duel: Duel) -> Table:
    """The errors of both at the last evaluation, and that of guessing the mean."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    table.add_column("mean square error", justify="right")
    table.add_column("within 0.04", justify="right")
    table.add_column("error so far (log scale)")
    for kind, name in NAMES.items():
        seen = duel.seen[kind]
        if seen:
            table.add_row(
                marked(name), f"{seen[-1].error:.4f}", f"{seen[-1].right:.0%}", trend([v.error for v in seen])
            )
    table.add_row("guessing the mean", f"{ADDING.baseline:.4f}", f"{CHANCE:.0%}", "", style="dim")
    return table


def trend(errors: list[float], width: int = 24) -> str:
    """Draw errors as a row of blocks, on the same logarithmic scale each time.

    Args:
        errors: The errors, in the order of the evaluations.
        width: The most blocks; of more errors some are left out, evenly.

    Returns:
        The blocks.
    """
    picked = [errors[k] for k in np.linspace(0, len(errors) - 1, min(width, len(errors))).astype(int)]
    low, high = (math.log(error) for error in TREND)
    return sparkline([math.log(max(error, TREND[0])) for error in picked], low, high)


def comparison(duel: Duel, verdicts: dict[str, Verdict], after: dict[str, Array]) -> Table:
    """Make the table of results.

    Args:
        duel: The trained networks.
        verdicts: Their errors, as of ``Duel.test``.
        after: Their reach, as of ``Duel.reach``.

    Returns:
        A row for each network and one for guessing the mean.
    """
    table = Table(title="\nOn 2560 fresh sequences", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("mean square error", "within 0.04", f"gradient at lag {duel.lag}"):
        table.add_column(heading, justify="right")
    left = {"LSTM": f"{after['LSTM c'][-1]:.2g} (cell)", "RNN": f"{after['RNN h'][-1]:.1g}"}
    for kind, name in NAMES.items():
        table.add_row(marked(name), f"{verdicts[kind].error:.5f}", f"{verdicts[kind].right:.1%}", left[kind])
    table.add_row("guessing the mean", f"{ADDING.baseline:.5f}", f"{CHANCE:.1%}", "", style="dim")
    return table


def in_words(duel: Duel, verdicts: dict[str, Verdict], after: dict[str, Array]) -> str:
    """Say in sentences what the table and the picture show.

    Args:
        duel: The trained networks.
        verdicts: Their errors, as of ``Duel.test``.
        after: Their reach, as of ``Duel.reach``.

    Returns:
        The text.
    """
    cell, hidden = after["LSTM c"][-1], after["RNN h"][-1]
    return (
        f"The LSTM answers {verdicts['LSTM'].right:.0%} of them to within 0.04, the plain RNN "
        f"{verdicts['RNN'].right:.0%}; guessing the mean would answer {CHANCE:.0%}.\n"
        f"The picture shows why. {duel.lag} steps before the answer, the gradient of the error has "
        f"{cell:.2g} times its size at the end in the LSTM's cell, and {hidden:.0e} times in the plain RNN"
        + (", far too small to learn from." if hidden < ROUNDING else ".")
    )
