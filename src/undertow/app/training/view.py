"""What ``undertow train`` shows meanwhile: a live line in a terminal, plain lines in a log, or nothing."""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from undertow.app.loop import Hook, Loop, Step
from undertow.app.terminal import REFRESH, clock, sparkline
from undertow.app.training.progress import Progress
from undertow.app.working import PLAIN_EVERY, bars

CURVE = 12  # evaluations in the curve beside it

if TYPE_CHECKING:
    from undertow.app.training.trainer import HookMaker


class View(Hook):
    """Shows nothing.

    Args:
        console: Where the subclasses print.
        progress: Where the training stands.
    """

    def __init__(self, console: Console, progress: Progress) -> None:
        self.console, self.progress = console, progress

    def on_start(self, loop: Loop) -> None:
        """Note the time."""
        self.began = time.monotonic()

    def speed(self, loop: Loop) -> float:
        """Return the optimiser steps a second of this session."""
        return loop.step / max(1e-9, time.monotonic() - self.began)

    def left(self, loop: Loop) -> str:
        """Estimate the time left from the speed of this session and the time budget, as ``00:59``."""
        progress = self.progress
        steps, minutes = progress.total_steps - progress.at.step, progress.config.minutes
        left = steps * (time.monotonic() - self.began) / max(1, loop.step)
        return clock(min(left, max(0.0, 60 * minutes - progress.at.seconds)) if minutes else left)


class PlainView(View):
    """Prints a line now and then, for logs and pipes: an evaluation, or the training error between two."""

    def on_start(self, loop: Loop) -> None:
        """Note the time of the last line."""
        super().on_start(loop)
        self.said = self.began

    def on_step(self, loop: Loop, steps: list[Step]) -> None:
        """Print the training error if nothing was printed for long."""
        if time.monotonic() - self.said >= 2 * PLAIN_EVERY:
            score, objective = self.progress.score, self.progress.objective
            self._say(loop, f"train {objective.show(score.value(objective))}")

    def on_evaluate(self, loop: Loop, found: dict[str, Any]) -> None:
        """Print the first and last evaluation, and others now and then."""
        progress = self.progress
        first, last = len(progress.rows) == 1, bool(progress.at.finished)
        if first or last or time.monotonic() - self.said >= PLAIN_EVERY:
            show = progress.objective.show
            errors = f"train {show(found['train'])}  validation {show(found['validation'])}"
            self._say(loop, errors + "  best" * (found is progress.at.best))

    def _say(self, loop: Loop, errors: str) -> None:
        self.said = time.monotonic()
        epoch = self.progress.at.step / self.progress.steps_per_epoch
        where = f"epoch {round(epoch, 2):g}/{self.progress.config.epochs}  {errors}"
        speed = f"{self.speed(loop):.1f} steps/s  {self.left(loop)} left"
        self.console.print(f"{where}  {speed}")


class LiveView(View):
    """Shows a bar with the progress, the speed, the best error and its curve."""

    def on_start(self, loop: Loop) -> None:
        """Start the bar."""
        super().on_start(loop)
        self.bars = bars(self.console)
        self.bar = self.bars.add_task("epoch 1", total=self.progress.total_steps, tail="")
        self.bars.start()
        self.drawn = 0.0

    def on_step(self, loop: Loop, steps: list[Step]) -> None:
        """Redraw the bar, at most once every REFRESH seconds."""
        if time.monotonic() - self.drawn >= REFRESH:
            self._draw(loop)

    def on_evaluate(self, loop: Loop, found: dict[str, Any]) -> None:
        """Redraw the bar."""
        self._draw(loop)

    def on_end(self, loop: Loop) -> None:
        """Remove the bar."""
        self.bars.stop()

    def _draw(self, loop: Loop) -> None:
        self.drawn = time.monotonic()
        progress, at, show = self.progress, self.progress.at, self.progress.objective.show
        epoch = min(progress.config.epochs, at.epoch + 1)
        parts = [f"{self.speed(loop):.0f} steps/s", f"{self.left(loop)} left"]
        if progress.rows:
            curve = sparkline([row["validation_loss"] for row in progress.rows[-CURVE:]])
            parts.insert(0, f"best {show(at.best['validation'])} {curve}")
        elif progress.score.count:
            parts.insert(0, f"train {show(progress.score.value(progress.objective))}")
        self.bars.update(
            self.bar,
            completed=at.step,
            description=f"epoch {epoch}/{progress.config.epochs}",
            tail=" · ".join(parts),
        )


def live(console: Console | None) -> "list[HookMaker]":
    """Return what shows a training inside of a longer piece of work.

    Args:
        console: The terminal. None: nothing is shown.

    Returns:
        The maker of a live line in a terminal; none elsewhere, where the work prints its own lines.
    """
    return [lambda trainer: LiveView(console, trainer.progress)] if console and sys.stdout.isatty() else []
