"""The targets of labelled sequences: classes or numbers, how they are split, and what a guess achieves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from undertow.app.data import Baseline
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.objective import Objective


@dataclass(frozen=True)
class Targets:
    """What is learnt of each sequence."""

    y: Tensor  # [sequences] classes, int64, or [sequences, 1] numbers, float32
    classes: list[str]  # by number; none of numbers

    @property
    def outputs(self) -> int:
        """The outputs of the network."""
        return len(self.classes) or 1

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers of the sequences to train and to validate on; every class keeps its share."""
        groups = self.y if self.classes else torch.zeros(len(self.y), dtype=torch.int64)
        return stratified(groups, fraction, seed)

    def objective(self, train: Tensor) -> Objective:
        """What is minimised; the scale of numbers is their spread in the training part."""
        if self.classes:
            return Objective("accuracy", "right")
        return Objective("rmse", "RMSE", scale=float(self.units(train)[1]))

    def units(self, train: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the numbers in the training part, [1] each."""
        known = self.y[train].double()
        spread = known.std(unbiased=False) if float(known.max()) > float(known.min()) else torch.tensor(1.0)
        return known.mean().float()[None], spread.float()[None]

    def baselines(self, train: Tensor, validation: Tensor) -> list[Baseline]:
        """Guesses that look at no input, judged on the validation part."""
        truth = self.y[validation]
        if self.classes:
            commonest = int(self.y[train].bincount().argmax())
            return [Baseline("commonest class", float((truth == commonest).double().mean()))]
        error = (truth.double() - self.y[train].double().mean()).square().mean().sqrt()
        return [Baseline("training mean", float(error))]

    def describe(self, label: str | None) -> str:
        """Say in a line which classes there are, or how large the numbers are."""
        if self.classes:
            return f"{len(self.classes)} classes: {one_of(self.classes)}"
        low, high, middle = float(self.y.min()), float(self.y.max()), float(self.y.double().mean())
        return f"{label} of each sequence: {low:.4g} to {high:.4g}, mean {middle:.4g}"


def targets_of(
    labels: pl.Series, path: Path, config: DataConfig, classes: list[str] | None = None
) -> Targets:
    """The targets of labelled sequences.

    Args:
        labels: The label of each sequence, names or numbers.
        path: Their file, for error messages.
        config: The options, with the task that the labels ask for.
        classes: The classes that a model has learnt. None: those among the labels.

    Returns:
        The targets.

    Raises:
        UserError: All labels are the same, or one is no class of ``classes``.
    """
    if config.task == "regress":
        if classes is None and labels.n_unique() < 2:
            raise UserError(f"{path}: column {config.label!r} holds one number only: {labels[0]:g}")
        return Targets(torch.tensor(labels.to_list(), dtype=torch.float32)[:, None], [])
    names = labels.cast(pl.String).to_list()
    found = sorted(set(names)) if classes is None else classes
    if len(found) < 2:
        raise UserError(f"{path}: column {config.label!r} holds one class only: {found[0]!r}")
    for name in names:
        if name not in found:
            raise UserError(
                f"{path}: column {config.label!r}: expected a class that the model learnt "
                f"({one_of(found)}), got {name!r}"
            )
    number = {name: k for k, name in enumerate(found)}
    return Targets(torch.tensor([number[name] for name in names]), found)


def stratified(y: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the sequences to train and to validate on; a class with one sequence only trains."""
    rng = np.random.default_rng(seed)
    train, validation = [], []
    for label in range(int(y.max()) + 1):
        numbers = rng.permutation(np.flatnonzero(y.numpy() == label))
        held_back = min(len(numbers) - 1, max(1, round(fraction * len(numbers))))
        validation.append(numbers[:held_back])
        train.append(numbers[held_back:])
    return torch.from_numpy(np.concatenate(train)), torch.from_numpy(np.concatenate(validation))
