"""The targets of labelled sequences: classes or numbers, how they are split, and what a guess achieves."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from undertow.app.data import Baseline
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.objective import Objective
from undertow.app.words import counted
from undertow.problems import UNSCORED


@dataclass(frozen=True)
class Targets:
    """What is learnt of each sequence, or at each of its steps.

    Args:
        y: By sequence a class, int64 [] or [T_i] at every step, or a number, float32 [1] or [T_i, 1]. A class
            UNSCORED or a NaN is no target.
        classes: The classes, by number; none of numbers.
        every: Whether there is a target at every step.
    """

    y: list[Tensor]
    classes: list[str]
    every: bool = False

    @property
    def outputs(self) -> int:
        """The outputs of the network."""
        return len(self.classes) or 1

    @cached_property
    def whole(self) -> Tensor:
        """The targets of all sequences where each has one: [n] classes, or [n, 1] numbers."""
        return torch.stack(self.y)

    def pad(self, chosen: Tensor) -> Tensor:
        """The targets of some sequences: [N] or [T, N] classes, [N, 1] or [T, N, 1] numbers."""
        if not self.every:
            return self.whole.index_select(0, chosen)
        parts = [self.y[k] for k in chosen.tolist()]
        return pad_sequence(parts, padding_value=UNSCORED if self.classes else torch.nan)

    def known(self, chosen: Tensor) -> Tensor:
        """The targets of some sequences that are scored, one after the other, [targets]."""
        found = torch.cat([self.y[k].flatten() for k in chosen.tolist()] or [torch.zeros(0)])
        return found[found != UNSCORED] if self.classes else found[~found.isnan()].double()

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers of the sequences to train and to validate on; their classes keep their shares."""
        by_class = bool(self.classes) and not self.every
        groups = torch.stack(self.y) if by_class else torch.zeros(len(self.y), dtype=torch.int64)
        return stratified(groups, fraction, seed)

    def objective(self, train: Tensor, balanced: bool = False) -> Objective:
        """What is minimised; the scale of numbers is their spread in the training part.

        ``balanced`` classes count inversely to how frequent they are in the training part, n / (K n_k), so
        that all K weigh alike (King and Zeng 2001). A class that is absent there counts as if it came once.
        """
        if self.classes:
            counts = self.known(train).bincount(minlength=self.outputs).clamp(min=1).double()
            weights = counts.sum() / (self.outputs * counts)
            return Objective("accuracy", "right", weights=tuple(weights.tolist()) if balanced else ())
        return Objective("rmse", "RMSE", scale=float(self.units(train)[1]))

    def units(self, train: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the numbers in the training part, [1] each."""
        known = self.known(train)
        spread = known.std(unbiased=False) if float(known.max()) > float(known.min()) else torch.tensor(1.0)
        return known.mean().float()[None], spread.float()[None]

    def baselines(self, train: Tensor, validation: Tensor) -> list[Baseline]:
        """Guesses that look at no input, judged on the validation part.

        The label of the step before would be none: where labels are to be predicted it is not known.
        """
        seen, truth = self.known(train), self.known(validation)
        if self.classes:
            commonest = int(seen.bincount().argmax())
            return [Baseline("commonest class", float((truth == commonest).double().mean()))]
        return [Baseline("training mean", float((truth - seen.mean()).square().mean().sqrt()))]

    def describe(self, label: str | None) -> list[str]:
        """Say which classes there are, or how large the numbers are, and how many steps have no label."""
        known, where = (
            self.known(torch.arange(len(self.y))),
            "at every step" if self.every else "of each sequence",
        )
        missing = sum(y.numel() for y in self.y) - len(known)
        unscored = [f"{counted(missing, 'row')} without a label: not scored"] if missing else []
        if self.classes:
            return [f"{len(self.classes)} classes: {one_of(self.classes)}", *self._alone(), *unscored]
        low, high, middle = float(known.min()), float(known.max()), float(known.mean())
        return [f"{label} {where}: {low:.4g} to {high:.4g}, mean {middle:.4g}", *unscored]

    def _alone(self) -> list[str]:
        """A line that names the classes with one sequence, which ``split`` leaves in the training part."""
        if self.every:
            return []
        counts = self.known(torch.arange(len(self.y))).bincount(minlength=self.outputs).tolist()
        names = [name for name, count in zip(self.classes, counts, strict=True) if count == 1]
        return [f"classes with one sequence, which does not validate: {one_of(names)}"] if names else []


def targets_of(
    labels: pl.Series, lengths: list[int], path: Path, config: DataConfig, classes: list[str] | None = None
) -> Targets:
    """The targets of labelled sequences.

    Args:
        labels: The label of each sequence or, as ``config.per`` says, of each row: names or numbers.
        lengths: The rows of each sequence.
        path: Their file, for error messages.
        config: The options, with the task that the labels ask for.
        classes: The classes that a model has learnt. None: those among the labels.

    Returns:
        The targets.

    Raises:
        UserError: All labels are the same, or one is no class of ``classes``.
    """
    every = config.per == "step"
    if config.task == "regress":
        if classes is None and labels.drop_nulls().n_unique() < 2:
            raise UserError(
                f"{path}: column {config.label!r} holds one number only: {labels.drop_nulls()[0]:g}"
            )
        values = torch.tensor(labels.fill_null(float("nan")).to_list(), dtype=torch.float32)[:, None]
        return Targets(_by_sequence(values, lengths, every), [], every)
    names = labels.cast(pl.String)
    found = names.drop_nulls().unique().sort().to_list() if classes is None else classes
    if len(found) < 2:
        raise UserError(f"{path}: column {config.label!r} holds one class only: {found[0]!r}")
    unknown = names.filter(~names.is_in(found))  # a null is neither
    if len(unknown):
        raise UserError(
            f"{path}: column {config.label!r}: expected a class that the model learnt "
            f"({one_of(found)}), got {unknown[0]!r}"
        )
    numbers = names.replace_strict(found, list(range(len(found))), default=UNSCORED, return_dtype=pl.Int64)
    return Targets(_by_sequence(torch.tensor(numbers.to_list()), lengths, every), found, every)


def _by_sequence(values: Tensor, lengths: list[int], every: bool) -> list[Tensor]:
    return list(torch.split(values, lengths) if every else values)


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
