"""One training of a run: the loop on a task's batches, evaluated, saved, and resumable.

A resumed training gives the same result as one that was never interrupted: weights, optimiser,
carried state, random numbers and running sums are all part of the checkpoint.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undertow.app.data import Task
from undertow.app.errors import UserError
from undertow.app.loop import Hook, Learner, Loop, Step
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.near import Figure, Row, figure, is_near, read
from undertow.app.runs.objective import Batch, Objective, Score, counts
from undertow.app.runs.selection import ValidationScore
from undertow.app.runs.weights import load_weights
from undertow.app.training import by_hand
from undertow.app.training.alone import ALONE, Alone
from undertow.app.training.fabric import PLAIN, device_of, make_fabric, resume_scaling, scaling
from undertow.app.training.optimizer import AdamW
from undertow.app.training.processes import Team
from undertow.app.training.progress import Position, Progress

SAVE_EVERY = 10.0  # seconds between checkpoints: writing takes longer than an epoch of a small network
READ_EVERY = 0.5  # seconds between two readings of what steps on a GPU have found: each waits for it
FIRST_SAVE = 1.0  # seconds to the first one: a shorter training writes only its end


class FabricLearner(Learner):
    """Learns on the device and in the precision of a Fabric.

    Args:
        fabric: The Fabric, or what takes its place, that has set up network and optimiser.
        *others: The arguments of Learner.
    """

    def __init__(self, fabric: Any, *others: Any) -> None:
        super().__init__(*others)
        self.fabric, self.device = fabric, fabric.device

    def backward(self, loss: Tensor) -> None:
        """Add gradients, as of Learner, with the precision's scaling."""
        self.fabric.backward(loss)

    def evaluate(self, batch: Batch, state: Any, kind: str) -> tuple[Tensor, Any, Figure, Row]:
        """Compute output, state, loss and ``counts`` of a network in evaluation, without gradients."""
        output, state = batch.through(self.network, state)
        return output, state, figure(self.loss(output, batch.y)), counts(output, batch.y, kind)

    def clip(self) -> Figure:
        """Clip gradients, as of Learner."""
        norm: Any = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.max_norm, error_if_nonfinite=False
        )
        if norm is None:
            return math.nan
        return figure(norm) if isinstance(norm, Tensor) else float(norm)


class HandLearner(FabricLearner):
    """Learns a usual network, see ``by_hand``, in float32 on the CPU.

    Args:
        objective: What is minimised.
        *others: The arguments of FabricLearner.
    """

    def __init__(self, objective: Objective, *others: Any) -> None:
        super().__init__(*others)
        self.objective = objective
        self.largest, self.layers = 0, None  # the memory of the largest batch so far
        self.seen: Any = None  # the memory of the last evaluation

    def differentiate(self, batch: Batch) -> tuple[Tensor, Figure]:
        """Compute gradients, as of Learner."""
        if not by_hand.may_learn(self.network, batch):
            self.counts = None
            return super().differentiate(batch)
        self.optimizer.join()
        found = by_hand.learn(self.network, batch, self.objective, self.layers)
        self.carry, self.counts = found.state, found.counts
        if (size := batch.x.numel()) >= self.largest:
            self.largest, self.layers = size, found.layers
        return found.output, found.loss

    def evaluate(self, batch: Batch, state: Any, kind: str) -> tuple[Tensor, Any, Figure, Row]:
        """Compute as FabricLearner."""
        if not by_hand.may_learn(self.network, batch):
            return super().evaluate(batch, state, kind)
        found = by_hand.learn(self.network, batch, self.objective, self.seen)
        self.seen = found.layers
        return found.output, found.state, found.loss, found.counts


class TeamLearner(FabricLearner):
    """Learns with other processes, each of which reads its part of every batch.

    Args:
        team: The processes.
        *others: The arguments of FabricLearner.
    """

    def __init__(self, team: Team, *others: Any) -> None:
        super().__init__(*others)
        self.team = team

    def learn(self, batch: Batch) -> Step:
        """Do one optimiser step, as of Learner, and return the loss of all parts together."""
        began = self.team.now()
        step = super().learn(batch)
        return replace(step, loss=self.loss_of_all, seconds=self.team.now() - began)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the loss of all parts together."""
        part = self.team.part_of_loss(loss)
        super().backward(part)
        self.loss_of_all = self.team.add_up(self.network.parameters(), part)


class Trainer(Hook):
    """Trains the model of a run on its data.

    Args:
        run: The run; its model is made from ``run.model`` and the seed.
        task: The data.
        team: The processes that train it.
    """

    def __init__(self, run: Run, task: Task, team: Alone = ALONE) -> None:
        self.run, self.task, self.team, config = run, task, team, run.training
        self.progress = Progress(config, task.objective, task.steps_per_epoch(), task.evaluations)
        device = team.device if isinstance(team, Team) else device_of(config)
        self.fabric = make_fabric(device, config.precision)
        torch.manual_seed(config.seed + config.member - 1)
        self.plain = SequenceModel(run.model)
        for name, value in task.buffers().items():
            self.plain.get_buffer(name).copy_(value)
        self.plain.to(device)
        how_fast = {"lr": config.lr, "weight_decay": config.weight_decay}
        optimizer: Any = AdamW(self.plain.parameters(), self.plain.in_one_piece(), **how_fast)
        self.model, self.optimizer = self.fabric.setup(self.plain, optimizer)
        how = self.progress.learning_rate, task.objective.loss, config.clip
        made = self.fabric, self.model, self.optimizer, *how
        self.learner = self._learner(*made)
        self.loop = Loop([self.learner], lambda: self.progress.at.due, self._evaluate)
        self.best: dict[str, Tensor] = {}  # the best weights, while they are not on disk
        self.written = 0  # rows of the metrics on disk
        self.saved_at = team.now()
        self.read_at = time.monotonic()

    def _learner(self, *made: Any) -> FabricLearner:
        if isinstance(self.team, Team):
            return TeamLearner(self.team, *made)
        plain = is_near(self.fabric.device) and self.run.training.precision == PLAIN
        if plain and by_hand.is_usual(self.plain, self.task.objective):
            return HandLearner(self.task.objective, *made)
        return FabricLearner(*made)

    # -- the loop ---------------------------------------------------------------------------------

    def fit(self, *hooks: Hook) -> bool:
        """Train until the training is finished or a signal stops it, and save.

        Args:
            *hooks: Told of every step and evaluation.

        Returns:
            Whether the training is finished.
        """
        self.team.begin(self.plain)
        with self.team.interrupt() as interrupt, self._data_at_hand():
            self.loop.run(self._batches(), [self, *hooks], interrupt)
            self.save()
        return bool(self.progress.at.finished)

    @contextmanager
    def _data_at_hand(self) -> Iterator[None]:
        """Keep the data where the network is. Each of several processes copies its part of a batch."""
        device = self.fabric.device
        if is_near(device) or isinstance(self.team, Team):
            yield
            return
        self.task.to(device)
        try:
            with (
                warnings.catch_warnings()
            ):  # a decoder's weights cannot be in one piece with the layers' as well
                warnings.filterwarnings("ignore", message="RNN module weights are not part of single contig")
                yield
        finally:
            self.task.to(None)

    def _batches(self) -> Iterator[Batch]:
        """The remaining batches, until there is a reason to stop."""
        at, steps = self.progress.at, self.progress.steps_per_epoch
        while not at.finished:
            for batch in islice(self.task.train_batches(at.epoch), at.batch, steps):
                self.team.seed(self.run.training.seed, self.run.training.member, at.step)
                yield self._part(batch)
                if at.finished:
                    return

    def _part(self, batch: Batch) -> Batch:
        """What this process reads of a batch."""
        return self.team.cut(batch, self.task.objective, self.run.model.readout == "every")

    def on_step(self, loop: Loop, steps: list[Step]) -> None:
        """Count the step, and save now and then. Raises UserError if the loss is not finite."""
        self.team.alive()
        self.progress.add_step(steps[0])
        if self.progress.waiting and (self.progress.at.due or time.monotonic() - self.read_at > READ_EVERY):
            self._read()
        elif self.progress.diverged is not None:
            self._check_loss()
        if not self.progress.at.due and self._saved_long_ago():
            self.save()

    def on_end(self, loop: Loop) -> None:
        """Write what was measured, also where an error ends the training."""
        self._write_measured()

    def _read(self) -> None:
        """Wait for the numbers of the steps that are still on a device. Raises UserError as ``on_step``."""
        began = self.team.now()
        self.progress.read()
        self.progress.at.seconds += self.team.now() - began
        self.read_at = time.monotonic()
        self._check_loss()

    def _check_loss(self) -> None:
        if self.progress.diverged is not None:
            step, loss = self.progress.diverged
            kept = f"the best model so far stays in {self.run.folder}"
            raise UserError(
                f"training diverged: the loss is {loss} at step {step}; "
                f"{kept if self.progress.at.best else 'there is no model yet'}; "
                f"try a smaller --lr (now {self.run.training.lr:g})"
            )

    # -- measuring --------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, Any] | None:
        """The new row of the metrics; None if a signal came: the evaluation is then done on resuming."""
        progress, began = self.progress, self.team.now()
        score, train = self.team.total(self._validate()), self.team.total(progress.score)
        progress.at.seconds += self.team.now() - began
        if self.loop.interrupt.asked:
            return None
        progress.score = train
        if progress.add_evaluation(score):
            self.best = {name: value.clone() for name, value in self.plain.state_dict().items()}
        if self._saved_long_ago():
            self.save()
        return progress.rows[-1]

    @torch.no_grad()
    def _validate(self) -> ValidationScore:
        score, state, objective = ValidationScore(), None, self.task.objective
        rows: list[Row] = []
        self.model.eval()
        for batch in self.task.validation_batches():
            if self.loop.interrupt.asked:
                break
            self.team.alive()
            batch = self._part(batch).to(self.fabric.device)
            output, state, loss, found = self.learner.evaluate(batch, state, objective.kind)
            score.see(output, batch.y, objective.kind)
            rows.append((self.team.weigh(loss), *found))
        self.model.train()
        for row in read(rows):
            score.add_counts(*row)
        return score

    # -- checkpoint -------------------------------------------------------------------------------

    def _saved_long_ago(self) -> bool:
        return self.team.now() - self.saved_at > SAVE_EVERY

    def _write_measured(self) -> None:
        """Write the best weights and the metrics, if they are new."""
        if self.best:
            self.run.write_model(self.best)
            self.best = {}
        if len(self.progress.rows) > self.written:
            self.run.write_metrics(self.progress.rows)
            self.written = len(self.progress.rows)

    def save(self) -> None:
        """Write all of where training stands: ``last.safetensors`` after the files that it refers to."""
        self._read()
        self._write_measured()
        at = self.progress.at
        at.train = self.team.total(self.progress.score).to_dict()
        tensors = {f"model.{name}": value for name, value in self.plain.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        carry = self.team.whole(self.learner.carry)
        tensors |= {f"carry.{index}": value for index, value in enumerate(carry or ())}
        tensors["random.cpu"] = torch.get_rng_state()
        for name, number in scaling(self.fabric).items():
            tensors[f"scaler.{name}"] = torch.tensor(number)
        if self.fabric.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        self.run.write_last(tensors, asdict(at))
        self.saved_at = self.team.now()

    def resume(self) -> None:
        """Take over the state in ``last.safetensors``. Raises UserError if it is damaged."""
        path, progress = self.run.path("last.safetensors"), self.progress
        tensors, state = self.run.read_last()
        if set(state) != set(asdict(Position())):
            raise UserError(f"{path}: damaged: it does not say where training stood")
        at = progress.at = Position(**state)
        progress.score = Score(**at.train) if self.team.leads else Score()
        progress.rows = [row for row in self.run.read_metrics() if row["step"] <= at.step]
        self.written = len(progress.rows)
        load_weights(self.plain, _part(tensors, "model."), path)
        self._resume_optimizer(_part(tensors, "optimizer."))
        device = self.fabric.device
        carry = tuple(value.to(device) for value in _part(tensors, "carry.").values())
        self.learner.carry = self.team.own(carry or None)
        found = _part(tensors, "scaler.").items()
        resume_scaling(self.fabric, {name: value.item() for name, value in found if value.numel() == 1})
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and device.type == "cuda":
            _set_random(tensors["random.cuda"], device, path)
        at.finished = progress.reason_to_stop() if progress.rows and not at.due else ""

    def _resume_optimizer(self, tensors: dict[str, Tensor]) -> None:
        content = self.optimizer.state_dict()
        for name, value in tensors.items():
            index, _, moment = name.partition(".")
            content["state"].setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(content)


def _set_random(state: Tensor, device: torch.device, path: Path) -> None:
    try:
        torch.cuda.set_rng_state(state, device)
    except (RuntimeError, TypeError):
        raise UserError(f"{path}: damaged: random.cuda is no state of torch's random numbers") from None


HookMaker = Callable[[Trainer], Hook]  # what is told of a training, made when it begins


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have the prefix, sorted by name, without the prefix."""
    return {name[len(prefix) :]: tensors[name] for name in sorted(tensors) if name.startswith(prefix)}
