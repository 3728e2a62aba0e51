"""What chooses the best evaluation of a training: ``--select``."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from undertow.app.errors import UserError, one_of
from undertow.app.runs.near import is_near
from undertow.app.runs.objective import Objective, Score

if TYPE_CHECKING:  # to read a run needs no torch
    from torch import Tensor

CHOICES = {  # by the kind of an Objective
    "bits": ("loss", "last"),
    "rmse": ("loss", "rmse", "mae", "last"),
    "esr": ("loss", "last"),
    "accuracy": ("loss", "accuracy", "f1", "last"),
}
WORDS = {
    "loss": "the lowest loss",
    "rmse": "the lowest RMSE",
    "mae": "the lowest mean absolute error",
    "accuracy": "the most right",
    "f1": "the highest macro F1",
}


def check(select: str, objective: Objective) -> None:
    """Check the value of ``--select``.

    Args:
        select: The value.
        objective: The objective of the task.

    Raises:
        UserError: The task has no such measure.
    """
    if select not in CHOICES[objective.kind]:
        raise UserError(f"--select {select}: expected {one_of(list(CHOICES[objective.kind]))} for this task")


def words(select: str) -> str:
    """Say which evaluation's weights are kept.

    Args:
        select: The value of ``--select``.

    Returns:
        A line for people.
    """
    if select == "last":
        return "the weights of the last evaluation (--select last)"
    return f"the weights with {WORDS[select]} (--select {select})"


def better(select: str, row: dict[str, Any], best: dict[str, Any]) -> bool:
    """Tell whether an evaluation takes the place of the best one.

    Args:
        select: The value of ``--select``.
        row: The metrics of the evaluation.
        best: The metrics of the best one before it; empty if there is none.

    Returns:
        Whether it does.
    """
    return not best or select == "last" or row["cost"] < best["cost"] or math.isnan(best["cost"])


def best_of(select: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the evaluation whose weights are kept.

    Args:
        select: The value of ``--select``.
        rows: The metrics, at least one row.

    Returns:
        Its row.
    """
    best: dict[str, Any] = {}
    for row in rows:
        best = row if better(select, row, best) else best
    return best


@dataclass
class ValidationScore(Score):
    """A score of the validation part, with the sums of all measures by which it may be chosen."""

    absolute: "Tensor | None" = None  # [outputs], sums of the absolute errors, in the units of the targets
    confusion: "Tensor | None" = None  # [classes,classes] int64, row true class, column predicted class

    def see(self, output: "Tensor", y: "Tensor", kind: str) -> None:
        """Add to the sums, as of Score; they stay where the batch lies."""
        if kind == "rmse":
            errors = (output - y).abs().double().flatten(0, -2).nansum(0)
            self.absolute = errors if self.absolute is None else self.absolute + errors
        elif kind == "accuracy":
            found = _confusion(output, y)
            self.confusion = found if self.confusion is None else self.confusion + found

    def cost(self, select: str, objective: Objective) -> float:
        """Compute what ``--select`` minimises.

        Args:
            select: Its value.
            objective: The objective of the task.

        Returns:
            The loss; RMSE or mean absolute error, of several targets in units of their spreads;
            1 - accuracy or 1 - macro F1.
        """
        if select in ("rmse", "accuracy"):
            return self.value(objective) if select == "rmse" else 1 - self.value(objective)
        if select == "mae":
            return self._mean_absolute(objective)
        if select == "f1":
            from undertow.app import metrics

            return math.nan if self.confusion is None else 1 - metrics.macro_f1(self.confusion.cpu().numpy())
        return self.loss

    def _mean_absolute(self, objective: Objective) -> float:
        if not self.count or self.absolute is None:
            return math.nan
        several = isinstance(objective.scale, tuple)
        unit: Any = self.absolute.new_tensor(objective.scale) if several else 1.0
        return float((self.absolute / unit).sum()) / self.count


def _confusion(output: "Tensor", y: "Tensor") -> "Tensor":
    """How often each class was taken for each, [classes,classes] int64, as of ``ValidationScore``."""
    import torch

    from undertow.problems import UNSCORED

    classes, scored = output.shape[-1], y != UNSCORED
    cells = y * classes + output.argmax(-1)
    if is_near(y):
        return torch.bincount(cells[scored], minlength=classes**2).view(classes, classes)
    none = torch.zeros(classes**2, dtype=torch.int64, device=y.device)  # bincount would wait
    found = none.scatter_add(0, cells.clamp(min=0).flatten(), scored.long().flatten())
    return found.view(classes, classes)
