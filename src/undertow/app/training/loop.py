"""The training loop: one optimiser step after another, measured, clipped, saved, and resumable.

A resumed training gives the same result as one that was never interrupted: weights, optimiser,
carried state, random numbers and running sums are all part of the checkpoint.
"""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from undertow.app.data import Task
from undertow.app.errors import UserError
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel, State
from undertow.app.runs.objective import Batch, Score
from undertow.app.runs.weights import load_weights
from undertow.app.signals import Interrupt
from undertow.app.training.device import make_fabric
from undertow.app.training.optimizer import AdamW
from undertow.app.training.view import View
from undertow.app.words import counted

WARM_UP = 100  # steps over which the learning rate rises, at most a tenth of all steps
LOWEST_RATE = 0.05  # of the peak, where the cosine ends
SAVE_EVERY = 30.0  # seconds between checkpoints, evaluations apart


@dataclass
class Position:
    """Where training stands. Plain values, for the checkpoint."""

    epoch: int = 0  # completed
    batch: int = 0  # batches done in this epoch
    step: int = 0  # optimiser steps in all
    seconds: float = 0.0  # spent training, all sessions together
    best: dict[str, Any] = field(default_factory=dict)  # the metrics row of the best evaluation
    stale: int = 0  # evaluations since then
    due: bool = False  # an evaluation was interrupted and is still to be done
    finished: str = ""  # why it ended, once it has
    train: dict[str, Any] = field(default_factory=lambda: Score().to_dict())  # since the last evaluation
    norms: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # steps, sum of norms, clipped


class Trainer:
    """Trains the model of one run on one task; ``fit`` returns when done or interrupted."""

    def __init__(self, run: Run, task: Task, view: View) -> None:
        self.run, self.task, self.view, self.config = run, task, view, run.training
        self.fabric = make_fabric(self.config.device, self.config.precision)
        torch.manual_seed(self.config.seed)
        self.plain = SequenceModel(run.model)
        for name, value in task.buffers().items():
            self.plain.get_buffer(name).copy_(value)
        self.optimizer: Any = AdamW(
            self.plain.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay
        )
        self.model, self.optimizer = self.fabric.setup(self.plain, self.optimizer)
        self.at = Position()
        self.rows: list[dict[str, Any]] = []
        self.score = Score()
        self.carry: State | None = None
        self.saved_at = time.monotonic()

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.task.steps_per_epoch()

    # -- the loop ---------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train to the end; False where Ctrl-C ended it first. Everything is saved either way."""
        with Interrupt() as self.interrupt, self.view.live(self):
            if self.at.due:
                self._evaluate()
            while not self._over():
                self._epoch()
            self.save()
        return bool(self.at.finished)

    def _over(self) -> bool:
        return bool(self.at.finished) or self.interrupt.asked

    def _epoch(self) -> None:
        steps, at = self.task.steps_per_epoch(), self.at
        measured = {-(-steps * k // self.task.evaluations) for k in range(1, self.task.evaluations + 1)}
        for number, batch in enumerate(self.task.train_batches(at.epoch), 1):
            if number <= at.batch:
                continue  # done before the interruption
            self._step(batch)
            at.batch = number
            if number == steps:
                at.epoch, at.batch = at.epoch + 1, 0
            if number in measured or self._out_of_time():
                self._evaluate()
            if self._over() or number == steps:
                return
            if time.monotonic() - self.saved_at > SAVE_EVERY:
                self.save()

    def _step(self, batch: Batch) -> None:
        began = time.monotonic()
        batch = batch.to(self.fabric.device)
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        output, state = self.model(batch.x, self.carry if batch.carried else None, batch.lengths)
        self.carry = tuple(tensor.detach() for tensor in state)
        loss = self.task.objective.loss(output, batch.y)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self._note_norm(self._clip())
        self.optimizer.step()
        self._note_loss(loss.item(), output, batch.y)
        self.at.step += 1
        self.at.seconds += time.monotonic() - began
        self.view.stepped(self)

    def _clip(self) -> float:
        limit = self.config.clip or math.inf
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        return float(norm) if norm is not None else math.nan

    def _note_norm(self, norm: float) -> None:
        steps, total, clipped = self.at.norms
        self.at.norms = [steps + 1, total + norm, clipped + (0 < self.config.clip < norm)]

    def _note_loss(self, loss: float, output: Tensor, y: Tensor) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged: the loss is {loss} at step {self.at.step + 1}; the best model so far "
                f"stays in {self.run.folder}; try a smaller --lr (now {self.config.lr:g})"
            )
        self.score.add(loss, output.detach(), y, self.task.objective.kind)

    def learning_rate(self) -> float:
        """Warm-up, then a cosine from the peak to LOWEST_RATE of it over epochs or minutes."""
        config, total = self.config, self.total_steps
        done = self.at.step / total
        if config.minutes:
            done = max(done, self.at.seconds / (60 * config.minutes))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        rise = min(1.0, (self.at.step + 1) / min(WARM_UP, 1 + total // 10))
        return config.lr * rise * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)

    # -- measuring --------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        at = self.at
        at.due = True
        began = time.monotonic()
        score = self._validate()
        at.seconds += time.monotonic() - began
        if score is None:
            return  # interrupted: to be done when training goes on
        at.due = False
        row = self._row(score)
        self.rows.append(row)
        improved = not at.best or score.loss < at.best["validation_loss"]
        at.stale = 0 if improved else at.stale + 1
        if improved:
            at.best = row
            self.run.write_model(self.plain)
        self.score, at.norms = Score(), [0.0, 0.0, 0.0]
        at.finished = self._reason_to_stop()
        self.run.write_metrics(self.rows)
        self.save()
        self.view.evaluated(self, row, improved)

    @torch.no_grad()
    def _validate(self) -> Score | None:
        score, state, objective = Score(), None, self.task.objective
        self.model.eval()
        for batch in self.task.validation_batches():
            if self.interrupt.asked:
                break
            batch = batch.to(self.fabric.device)
            output, state = self.model(batch.x, state if batch.carried else None, batch.lengths)
            score.add(objective.loss(output, batch.y).item(), output, batch.y, objective.kind)
        self.model.train()
        return None if self.interrupt.asked else score

    def _row(self, score: Score) -> dict[str, Any]:
        steps, total, clipped = self.at.norms
        return {
            "step": self.at.step,
            "epoch": round(self.at.step / self.task.steps_per_epoch(), 4),
            "train": self.score.value(self.task.objective),
            "validation": score.value(self.task.objective),
            "train_loss": self.score.loss,
            "validation_loss": score.loss,
            "seconds": round(self.at.seconds, 3),
            "lr": self.learning_rate(),
            "grad_norm": total / steps if steps else math.nan,
            "clipped": clipped / steps if steps else 0.0,
        }

    def _out_of_time(self) -> bool:
        return 0 < self.config.minutes * 60 <= self.at.seconds

    def _reason_to_stop(self) -> str:
        if self.at.epoch >= self.config.epochs:
            return f"all {counted(self.config.epochs, 'epoch')} done"
        if self.at.stale >= self.config.patience:
            return f"no improvement in {self.at.stale} evaluations"
        return f"{counted(self.config.minutes, 'minute')} used up" if self._out_of_time() else ""

    # -- checkpoint -------------------------------------------------------------------------------

    def save(self) -> None:
        """Write where training stands, all of it."""
        self.at.train = self.score.to_dict()
        tensors = {f"model.{name}": value for name, value in self.plain.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        if self.carry is not None:
            tensors |= {f"carry.{index}": value for index, value in enumerate(self.carry)}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.fabric.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        self.run.write_last(tensors, asdict(self.at))
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from ``last.safetensors``; raises UserError where it is damaged."""
        path = self.run.path("last.safetensors")
        tensors, state = self.run.read_last()
        if set(state) != set(asdict(Position())):
            raise UserError(f"{path}: damaged: it does not say where training stood")
        self.at = Position(**state)
        self.score = Score(**self.at.train)
        self.rows = [row for row in self.run.read_metrics() if row["step"] <= self.at.step]
        load_weights(self.plain, part(tensors, "model."), path)
        self._resume_optimizer(part(tensors, "optimizer."))
        device = self.fabric.device
        self.carry = tuple(value.to(device) for value in part(tensors, "carry.").values()) or None
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], device)
        self.at.finished = ""
        self.at.finished = self._reason_to_stop() if self.rows and not self.at.due else ""

    def _resume_optimizer(self, tensors: dict[str, Tensor]) -> None:
        content = self.optimizer.state_dict()
        for name, value in tensors.items():
            index, _, moment = name.partition(".")
            content["state"].setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(content)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, sorted by name, the prefix taken off."""
    return {name[len(prefix) :]: tensors[name] for name in sorted(tensors) if name.startswith(prefix)}
