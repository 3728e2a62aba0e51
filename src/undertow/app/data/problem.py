"""A built-in problem of the literature: sequences drawn afresh for every batch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from undertow import problems
from undertow.app.config import DataConfig
from undertow.app.data import Baseline, Facts, Shape
from undertow.app.errors import UserError
from undertow.app.objective import Batch, Objective
from undertow.problems import UNSCORED

BATCHES = 100  # an epoch
VALIDATION = 1000  # sequences
VALIDATION_BATCH = 250


class ProblemTask:
    """Endless training sequences from the seed, and a fixed validation set from another stream."""

    evaluations = 1

    def __init__(self, config: DataConfig, batch_size: int, seed: int) -> None:
        try:
            self.problem = problems.get(config.source)
            self.problem.sample(np.random.default_rng(0), 1, config.steps)
        except ValueError as error:
            raise UserError(str(error)) from None
        self.steps, self.batch_size, self.seed = config.steps, batch_size, seed
        problem = self.problem
        classes = problem.task == "classification"
        self.shape = Shape(problem.output_size, problem.readout, inputs=problem.input_size)
        self.objective = Objective("accuracy", "right") if classes else Objective("rmse", "RMSE")
        self.facts = Facts(
            lines=[
                f"{config.source}: T={config.steps}, drawn afresh; {VALIDATION} other sequences validate",
                f"solved, says {problem.source}, by: {problem.criterion.words}",
            ],
            baselines=[Baseline("best constant guess", self._guess())],
        )

    def _guess(self) -> float:
        """The best constant guess: its error, or the share of scored steps that it gets right."""
        if self.problem.task == "regression":
            return float(np.sqrt(self.problem.baseline))
        if self.problem.readout == "last":
            return 1 / self.problem.output_size
        y = torch.cat([batch.y[batch.y != UNSCORED] for batch in self.validation_batches()])
        return float(y.bincount().max() / len(y))

    def buffers(self) -> dict[str, Tensor]:
        return {}

    def steps_per_epoch(self) -> int:
        return BATCHES

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, 1 + epoch])
        for _ in range(BATCHES):
            yield self._batch(rng, self.batch_size)

    def validation_batches(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, 0])
        for _ in range(0, VALIDATION, VALIDATION_BATCH):
            yield self._batch(rng, VALIDATION_BATCH)

    def _batch(self, rng: np.random.Generator, n: int) -> Batch:
        x, y = self.problem.sample(rng, n, self.steps)
        return Batch(torch.from_numpy(x), torch.from_numpy(y))
