"""Where a training stands: plain values for the checkpoint, the metrics and the views."""

import math
from dataclasses import dataclass, field
from typing import Any

from undertow.app.loop import Step, warm_up_then_cosine
from undertow.app.runs.config import TrainConfig
from undertow.app.runs.near import Row, figure, is_known, read
from undertow.app.runs.objective import Objective, Score, counts
from undertow.app.runs.selection import ValidationScore, better
from undertow.app.words import counted

WARM_UP = 100  # steps over which the learning rate rises, at most a tenth of all steps
LOWEST_RATE = 0.05  # of the peak, where the cosine ends


@dataclass
class Position:
    """Where training stands: plain values for the checkpoint."""

    epoch: int = 0  # completed
    batch: int = 0  # batches completed in this epoch
    step: int = 0  # optimiser steps, all sessions together
    seconds: float = 0.0  # spent on training, all sessions together
    best: dict[str, Any] = field(default_factory=dict)  # the metrics row of the best evaluation
    stale: int = 0  # evaluations since the best one
    due: bool = False  # whether an evaluation comes before the next step
    finished: str = ""  # why the training ended; empty before
    train: dict[str, Any] = field(default_factory=lambda: Score().to_dict())  # since the last evaluation
    norms: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # steps, sum of norms, clipped


@dataclass
class Progress:
    """The plan of a training, where it stands, and its metrics so far."""

    config: TrainConfig
    objective: Objective
    steps_per_epoch: int
    evaluations: int  # an epoch
    at: Position = field(default_factory=Position)
    score: Score = field(default_factory=Score)  # on training batches since the last evaluation
    rows: list[dict[str, Any]] = field(default_factory=list)  # the metrics, one row for each evaluation
    waiting: list[Row] = field(default_factory=list)  # what steps on a device found, not yet read
    diverged: tuple[int, float] | None = None  # the first step whose loss is not finite, and this loss

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all epochs."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget, if there is one, is used up."""
        return 0 < self.config.minutes * 60 <= self.at.seconds

    def learning_rate(self, peak: float) -> float:
        """Return the rate of the next step: warm-up, then a cosine over the epochs or the time budget.

        Args:
            peak: The highest rate.

        Returns:
            The rate.
        """
        done = self.at.step / self.total_steps
        if self.config.minutes:
            done = max(done, self.at.seconds / (60 * self.config.minutes))
        rising = min(WARM_UP, 1 + self.total_steps // 10)
        return warm_up_then_cosine(peak, self.at.step, rising, done, LOWEST_RATE)

    def add_step(self, step: Step) -> None:
        """Count one optimiser step; what it found counts at once on the CPU, else when it is ``read``."""
        at, batch, loss = self.at, step.batch, step.loss
        at.step += 1
        if batch.unit is not None:  # then what is minimised is not what is shown
            loss = figure(self.objective.loss(step.output, batch.y))
        found = step.counts or counts(step.output, batch.y, self.objective.kind)
        if is_known(step.loss):
            self._count(at.step, step.loss, step.norm, loss, *found)
        else:
            self.waiting.append((at.step, step.loss, step.norm, loss, *found))
        at.batch += 1
        at.seconds += step.seconds
        at.due = self._to_be_measured(at.batch) or self.out_of_time
        if at.batch == self.steps_per_epoch:
            at.epoch, at.batch = at.epoch + 1, 0

    def read(self) -> None:
        """Count what the steps since the last reading have found, waiting for it once."""
        rows, self.waiting = read(self.waiting), []
        for row in rows:
            self._count(*row)

    def _count(self, step: Any, minimised: Any, norm: Any, loss: Any, scored: Any, hits: Any) -> None:
        """Count what a step found, as numbers."""
        if not math.isfinite(minimised):
            self.diverged = self.diverged or (int(step), minimised)
        self.score.add_counts(loss, scored, hits)
        steps, total, clipped = self.at.norms
        self.at.norms = [steps + 1, total + norm, clipped + (0 < self.config.clip < norm)]

    def _to_be_measured(self, batch: int) -> bool:
        """Whether an evaluation follows this batch of the epoch: ``evaluations`` of them, evenly spread."""
        steps, n = self.steps_per_epoch, self.evaluations
        return batch in {-(-steps * k // n) for k in range(1, n + 1)}

    def add_evaluation(self, score: ValidationScore) -> bool:
        """Count an evaluation, and add its row to the metrics.

        Args:
            score: The score on the validation part.

        Returns:
            Whether it is the best so far.
        """
        at, row = self.at, self._row(score)
        improved = better(self.config.select, row, at.best)
        at.due, at.stale = False, 0 if improved else at.stale + 1
        if improved:
            at.best = row
        self.rows.append(row)
        self.score, at.norms = Score(), [0.0, 0.0, 0.0]
        at.finished = self.reason_to_stop()
        return improved

    def _row(self, score: ValidationScore) -> dict[str, Any]:
        steps, total, clipped = self.at.norms
        return {
            "step": self.at.step,
            "epoch": round(self.at.step / self.steps_per_epoch, 4),
            "train": self.score.value(self.objective),
            "validation": score.value(self.objective),
            "train_loss": self.score.loss,
            "validation_loss": score.loss,
            "cost": score.cost(self.config.select, self.objective),
            "seconds": round(self.at.seconds, 3),
            "lr": self.learning_rate(self.config.lr),
            "grad_norm": total / steps if steps else math.nan,
            "clipped": clipped / steps if steps else 0.0,
        }

    def reason_to_stop(self) -> str:
        """Say why training ends here; empty if it goes on."""
        if self.at.epoch >= self.config.epochs:
            return "all " * (self.config.epochs > 1) + f"{counted(self.config.epochs, 'epoch')} done"
        if self.at.stale >= self.config.patience:
            return f"no improvement in {counted(self.at.stale, 'evaluation')}"
        return f"{counted(self.config.minutes, 'minute')} used up" if self.out_of_time else ""
