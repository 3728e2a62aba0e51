"""What a person sees while training: a live line in a terminal, plain lines in a log, or nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

if TYPE_CHECKING:
    from undertow.app.training.loop import Trainer

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_EVERY = 10.0  # seconds between lines in a log
BAR = 12  # columns of the bar: the line must fit into 80
REFRESH = 0.2  # seconds between updates of the live line


def sparkline(values: list[float], width: int = 12) -> str:
    """The last ``width`` values as blocks, lowest to highest."""
    values = values[-width:]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)


def seconds_left(trainer: "Trainer", began: float, first_step: int) -> float:
    """By the rate of this session, and by the time budget where there is one."""
    done = trainer.at.step - first_step
    left = (trainer.total_steps - trainer.at.step) * (time.monotonic() - began) / max(1, done)
    minutes = trainer.config.minutes
    return min(left, max(0.0, 60 * minutes - trainer.at.seconds)) if minutes else left


def clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))[2 if seconds < 3600 else 0 :]


class View:
    """Says nothing; the others speak. ``live`` surrounds the training."""

    began = 0.0
    first_step = 0

    @contextmanager
    def live(self, trainer: "Trainer") -> Iterator[None]:
        self.began, self.first_step = time.monotonic(), trainer.at.step
        yield

    def stepped(self, trainer: "Trainer") -> None:
        """After every optimiser step."""

    def evaluated(self, trainer: "Trainer", row: dict[str, Any], improved: bool) -> None:
        """After every evaluation."""

    def rate(self, trainer: "Trainer") -> float:
        """Optimiser steps a second in this session."""
        return (trainer.at.step - self.first_step) / max(1e-9, time.monotonic() - self.began)

    def left(self, trainer: "Trainer") -> str:
        return clock(seconds_left(trainer, self.began, self.first_step))


class PlainView(View):
    """A line now and then, for logs and pipes: evaluations, or where it stands if there is none for long."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.said = time.monotonic()

    def stepped(self, trainer: "Trainer") -> None:
        if time.monotonic() - self.said >= 2 * PLAIN_EVERY:
            score, objective = trainer.score, trainer.task.objective
            self._say(trainer, f"train {objective.show(score.value(objective))}")

    def evaluated(self, trainer: "Trainer", row: dict[str, Any], improved: bool) -> None:
        first, last = len(trainer.rows) == 1, bool(trainer.at.finished)
        if first or last or time.monotonic() - self.said >= PLAIN_EVERY:
            show = trainer.task.objective.show
            errors = f"train {show(row['train'])}  validation {show(row['validation'])}"
            self._say(trainer, errors + "  best" * improved)

    def _say(self, trainer: "Trainer", errors: str) -> None:
        self.said = time.monotonic()
        epoch = trainer.at.step / trainer.task.steps_per_epoch()
        where = f"epoch {round(epoch, 2):g}/{trainer.config.epochs}  {errors}"
        speed = f"{self.rate(trainer):.1f} steps/s  {self.left(trainer)} left"
        self.console.print(f"{where}  {speed}")


class LiveView(View):
    """A bar that says where training stands, and above it one line for each new best."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.drawn = 0.0

    @contextmanager
    def live(self, trainer: "Trainer") -> Iterator[None]:
        tail = TextColumn("{task.fields[tail]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=BAR), tail
        with super().live(trainer), Progress(*columns, console=self.console, transient=True) as self.progress:
            self.bar = self.progress.add_task("epoch 1", total=trainer.total_steps, tail="")
            yield

    def stepped(self, trainer: "Trainer") -> None:
        now = time.monotonic()
        if now - self.drawn < REFRESH:
            return
        self.drawn = now
        self._draw(trainer)

    def evaluated(self, trainer: "Trainer", row: dict[str, Any], improved: bool) -> None:
        self._draw(trainer)

    def _draw(self, trainer: "Trainer") -> None:
        show, at = trainer.task.objective.show, trainer.at
        epoch = min(trainer.config.epochs, at.epoch + 1)
        parts = [f"{self.rate(trainer):.0f} steps/s", f"{self.left(trainer)} left"]
        if trainer.rows:
            curve = sparkline([row["validation_loss"] for row in trainer.rows])
            parts.insert(0, f"best {show(at.best['validation'])} {curve}")
        elif trainer.score.count:
            parts.insert(0, f"train {show(trainer.score.value(trainer.task.objective))}")
        self.progress.update(
            self.bar,
            completed=at.step,
            description=f"epoch {epoch}/{trainer.config.epochs}",
            tail=" · ".join(parts),
        )
