"""A built-in problem of the literature: sequences drawn afresh for every batch."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from undertow import problems
from undertow.app.data import Baseline, Facts, Known, Shape
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch, Objective
from undertow.problems import UNSCORED, Problem

BATCHES = 100  # an epoch
VALIDATION = 1000  # sequences
VALIDATION_BATCH = 250


def objective_of(problem: Problem) -> Objective:
    """Cross-entropy of the class, or squared error."""
    return Objective("accuracy", "right") if problem.task == "classification" else Objective("rmse", "RMSE")


def build_network(problem: Problem, cell: str, hidden_size: int, **start: Any) -> SequenceModel:
    """An ``LSTM`` or ``RNN`` that reads the problem's values as they are; ``start``: as in ModelConfig."""
    shape = problem.output_size, problem.readout, problem.input_size
    name: Literal["lstm", "rnn"] = "lstm" if cell == "LSTM" else "rnn"
    return SequenceModel(ModelConfig(name, hidden_size, 1, 0.0, *shape, **start), normalise=False)


def draw_batch(problem: Problem, rng: np.random.Generator, n: int, steps: int, stretch: float = 0.0) -> Batch:
    """``n`` fresh sequences as a batch."""
    x, y = problem.sample(rng, n, steps, stretch)
    return Batch(torch.from_numpy(x), torch.from_numpy(y))


class ProblemTask:
    """Endless training sequences from the seed, and a fixed validation set from another stream."""

    evaluations = 1

    def __init__(self, config: DataConfig, batch_size: int, seed: int, known: Known | None = None) -> None:
        try:
            self.problem = problems.get(config.source)
            self.problem.sample(np.random.default_rng(0), 1, config.steps)
        except ValueError as error:
            raise UserError(str(error)) from None
        self.steps, self.batch_size, self.seed = config.steps, batch_size, seed
        problem = self.problem
        self.shape = Shape(problem.output_size, problem.readout, inputs=problem.input_size)
        self.objective = objective_of(problem)
        self.facts = Facts(
            lines=[
                f"{config.source}: T={config.steps}, drawn afresh; {VALIDATION} other sequences validate",
                f"solved, says {problem.source}, by: {problem.criterion.words}",
            ],
            baselines=self._baselines(),
        )

    def _baselines(self) -> list[Baseline]:
        """The best guesses that look at no input: their error, or the share of scored steps that is right."""
        if self.problem.readout == "every":
            counts = self.frequencies()
            shares = counts.sum(dim=0).max() / counts.sum(), counts.amax(dim=1).sum() / counts.sum()
            names = "best constant guess", "best guess at each step"
            return [Baseline(name, float(share)) for name, share in zip(names, shares, strict=True)]
        regression = self.problem.task == "regression"
        error = float(np.sqrt(self.problem.baseline)) if regression else 1 / self.problem.output_size
        return [Baseline("best constant guess", error)]

    def frequencies(self) -> Tensor:
        """How often each class is the answer at each step, in the validation part, [T,classes]."""
        found = [counted(batch.y, self.shape.outputs) for batch in self.validation_batches()]
        T = max(map(len, found))
        return torch.stack([functional.pad(each, (0, 0, 0, T - len(each))) for each in found]).sum(dim=0)

    def buffers(self) -> dict[str, Tensor]:
        """Return nothing: the values are read as they are."""
        return {}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return BATCHES

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        rng = np.random.default_rng([self.seed, 1 + epoch])
        for _ in range(BATCHES):
            yield self._batch(rng, self.batch_size)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        rng = np.random.default_rng([self.seed, 0])
        for _ in range(0, VALIDATION, VALIDATION_BATCH):
            yield self._batch(rng, VALIDATION_BATCH)

    def to(self, device: torch.device | None) -> None:
        """Do nothing: sequences are drawn on the CPU."""

    def _batch(self, rng: np.random.Generator, n: int) -> Batch:
        return draw_batch(self.problem, rng, n, self.steps)


def counted(y: Tensor, classes: int) -> Tensor:
    """How often each class stands at each step of y [T,N], [T,classes]."""
    scored, T = y != UNSCORED, len(y)
    cells = (torch.arange(T)[:, None] * classes + y)[scored]
    return cells.bincount(minlength=T * classes).view(T, classes)
