"""What is minimised, and the unit in which it is shown."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from undertow.app.runs.near import Figure, constant, figure, is_near, moved, read
from undertow.app.words import verdict

if TYPE_CHECKING:  # to show a value needs no torch
    import torch
    from torch import Tensor

    from undertow.app.runs.windows import Window


NUMBERS = ("rmse", "esr")  # kinds of an Objective whose targets are numbers


@dataclass(frozen=True)
class Batch:
    """One batch of sequences.

    Args:
        x: [T,N] symbols or [T,N,C] features.
        y: The targets: [T,N] or [N] classes, or [N,outputs] numbers, those of the first row of the horizon
            first; with numbers at every step [T,N,outputs]. A class UNSCORED or a NaN is no target.
        lengths: [N] int64, if they differ.
        carried: Whether the sequences go on from the end of the batch before.
        normalised: Whether ``x`` is what the layers read: normalised, with targets in units of ``window``.
        reset: [T,N], True at steps that start from the initial state again, if there are any.
        unit: [N,outputs], the unit of each number in the loss that is minimised. None: the objective's scale.
        window: The windows of a forecast, where ``x`` is ``normalised``.
    """

    x: "Tensor"
    y: "Tensor"
    lengths: "Tensor | None" = None
    carried: bool = False
    normalised: bool = False
    reset: "Tensor | None" = None
    unit: "Tensor | None" = None
    window: "Window | None" = None

    def to(self, device: "torch.device") -> "Batch":
        """Return the batch on ``device``; lengths stay where they are. Nothing waits for the copies."""
        if self.x.device == device:
            return self
        reset = None if self.reset is None else moved(self.reset, device)
        unit = None if self.unit is None else moved(self.unit, device)
        window = None if self.window is None else self.window.each(lambda value: moved(value, device))
        x, y = moved(self.x, device), moved(self.y, device)
        return replace(self, x=x, y=y, reset=reset, unit=unit, window=window)

    def through(self, network: Any, state: Any = None) -> Any:
        """Let a network read the batch.

        Args:
            network: A SequenceModel, or what takes its arguments.
            state: The state after the batch before, for sequences that are ``carried``.

        Returns:
            Its output and state.
        """
        before = state if self.carried else None
        return network(self.x, before, self.lengths, self.normalised, self.reset, self.window)


@dataclass(frozen=True)
class Objective:
    """The loss of a task and the unit in which it is shown.

    Args:
        kind: ``bits`` (cross-entropy of the next symbol, E = -Σ y log2 ŷ), ``accuracy`` (cross-entropy of the
            class, shown as the share that is right), ``rmse`` (squared error in units of ``scale``, shown
            as its root in the target's own unit) or ``esr`` (the same of sound, shown as it is: with the
            root mean square of the validation part as ``scale`` it is the error-to-signal ratio there).
        unit: The unit's name.
        scale: The spread of the target's values, for ``rmse``. Of several targets: [outputs], the spread of
            each output's target; the root is then shown as it is, in units of these spreads. For ``bits`` the
            symbols by unit.
        extra: Bits by unit that are added to those of the symbols.
        weights: How much each class counts in the loss of ``accuracy``; none: all alike.
        emphasis: Of ``esr``: a of the pre-emphasis 1 - a z⁻¹. Where a batch has a ``unit``, the mean of the
            squared errors before and after it is minimised. What is shown has none.
        level: The root mean square of the target after the pre-emphasis, over that before it.
    """

    kind: str
    unit: str
    scale: float | tuple[float, ...] = 1.0
    extra: float = 0.0
    weights: tuple[float, ...] = ()
    emphasis: float = 0.0
    level: float = 1.0

    @property
    def numbers(self) -> bool:
        """Whether the targets are numbers, and no classes."""
        return self.kind in NUMBERS

    @property
    def size(self) -> float:
        """The size of a loss of 1 in the unit that is shown."""
        return 1.0 if isinstance(self.scale, tuple) else self.scale

    @classmethod
    def of_unit(cls, unit: str) -> "Objective":
        """Make the objective of a run from its unit.

        Args:
            unit: ``RMSE``, ``NRMSE``, ``ESR``, ``right``, or bits of a symbol.

        Returns:
            The objective, with scale 1.
        """
        kinds = {"RMSE": "rmse", "NRMSE": "rmse", "ESR": "esr", "right": "accuracy"}
        return cls(kinds.get(unit, "bits"), unit)

    def loss(self, output: "Tensor", y: "Tensor", unit: "Tensor | None" = None) -> "Tensor":
        """Compute the mean loss over the targets.

        Args:
            output: [T,N,outputs], or [N,outputs].
            y: The targets, as of Batch.
            unit: As of Batch.

        Returns:
            A scalar: nats, or squared error in units of ``unit`` or ``scale``.
        """
        from torch.nn import functional

        from undertow.app import metrics
        from undertow.problems import UNSCORED

        if self.numbers and unit is not None and self.emphasis:
            high, true = (metrics.emphasised(each, self.emphasis) for each in (output, y))
            return (_squares(output, y, unit) + _squares(high, true, unit * self.level)) / 2
        if self.numbers:
            return _squares(output, y, self._scale(output) if unit is None else unit)
        scores, y = output.flatten(0, -2), y.flatten()
        loss = functional.cross_entropy(scores, y, self._weights(scores), ignore_index=UNSCORED)
        if is_near(loss):
            return 0.0 * scores.sum() if loss.isnan() and not (y != UNSCORED).any() else loss
        return loss.where((y != UNSCORED).any(), 0.0 * scores.sum())

    def _scale(self, like: "Tensor") -> Any:
        """The unit of the squared error: a number, or [outputs]."""
        return constant(self.scale, like.dtype, like.device) if isinstance(self.scale, tuple) else self.scale

    def _weights(self, like: "Tensor") -> "Tensor | None":
        """How much each class counts, [classes]; None: all alike."""
        return constant(self.weights, like.dtype, like.device) if self.weights else None

    def unit_of(self, like: "Tensor") -> "Tensor | None":
        """The unit of each output's squared error, [outputs]; of classes their weights, or None."""
        if not self.numbers:
            return self._weights(like)
        scale = self.scale if isinstance(self.scale, tuple) else (self.scale,) * like.shape[0]
        return constant(scale, like.dtype, like.device)

    def targets(self, y: "Tensor") -> tuple[float, int]:
        """Count what ``loss`` is a mean over.

        Args:
            y: The targets, as of Batch.

        Returns:
            How much the targets count together, and how many they are.
        """
        import torch

        from undertow.problems import UNSCORED

        known = y == y if self.numbers else y != UNSCORED
        count = int(known.sum())
        if not self.weights:
            return count, count
        weights = torch.tensor(self.weights, dtype=torch.float64, device=y.device)
        return float(weights[y[known]].sum()), count

    def show(self, value: float) -> str:
        """Show a value with its unit: ``2.104 bits/char``, ``97.5% right``, ``2.31 RMSE``."""
        if self.kind == "accuracy":
            return f"{100 * value:.1f}% {self.unit}"
        return f"{value:.4g} {self.unit}" if self.numbers else f"{value:.3f} {self.unit}"

    def verdict(self, mine: float, other: float) -> str:
        """Compare two values.

        Args:
            mine: The network's.
            other: A baseline's.

        Returns:
            The words of ``words.verdict``: in points of accuracy, or in percent of the baseline's error.
        """
        if self.kind == "accuracy":
            return verdict(100 * (mine - other), "point")
        return verdict(100 * (other - mine) / max(other, 1e-12), "%")


def counts(output: "Tensor", y: "Tensor", kind: str) -> "tuple[Figure, Figure]":
    """Count the predictions of a batch that are scored.

    Args:
        output: As of Objective.loss.
        y: The targets.
        kind: As of Objective.

    Returns:
        How many there are, and how many classes are right; 0 of numbers and of ``bits``. On a GPU both are
        scalars that nobody has waited for.
    """
    from undertow.problems import UNSCORED

    if kind in NUMBERS and is_near(y) and math.isfinite(y.sum()):
        return y.numel(), 0
    scored = figure((y == y if kind in NUMBERS else y != UNSCORED).sum())
    return scored, figure((output.argmax(-1) == y).sum()) if kind == "accuracy" else 0


def _squares(output: "Tensor", y: "Tensor", unit: Any) -> "Tensor":
    """The mean squared error in a unit, over the targets that are known."""
    import torch
    from torch.nn import functional

    if is_near(y):
        loss = functional.mse_loss(output / unit, y / unit)
        if not loss.isnan():
            return loss
    unknown = y.isnan()
    y = torch.where(unknown, output.detach(), y)  # an error of zero, and no gradient
    if is_near(y):
        share: Any = y.numel() / max(1, y.numel() - int(unknown.sum()))
    else:
        share = y.numel() / (~unknown).sum().clamp(min=1)
    found: Tensor = share * functional.mse_loss(output / unit, y / unit)
    return found


@dataclass
class Score:
    """A running mean of the loss over predictions, and the number of classes that were right."""

    loss_sum: float = 0.0
    count: int = 0
    hits: int = 0

    def add(self, loss: float, output: "Tensor", y: "Tensor", kind: str) -> None:
        """Count the predictions of a batch.

        Args:
            loss: Their mean loss, as of Objective.loss.
            output: As of Objective.loss.
            y: The targets.
            kind: As of Objective.
        """
        self.see(output, y, kind)
        self.add_counts(loss, *read([counts(output, y, kind)])[0])

    def see(self, output: "Tensor", y: "Tensor", kind: str) -> None:
        """Measure what the mean loss and the hits do not tell; here nothing. Nothing waits for a device.

        Args:
            output: As of ``add``.
            y: As of ``add``.
            kind: As of ``add``.
        """

    def add_counts(self, loss: float, scored: float, hits: float) -> None:
        """Count the predictions of a batch, as ``counts`` found them.

        Args:
            loss: Their mean loss.
            scored: Their number.
            hits: How many classes are right.
        """
        self.loss_sum += loss * scored
        self.count += int(scored)
        self.hits += int(hits)

    @property
    def loss(self) -> float:
        """The mean loss; NaN before the first prediction."""
        return self.loss_sum / self.count if self.count else math.nan

    def value(self, objective: Objective) -> float:
        """Return the mean in the objective's own unit; NaN before the first prediction."""
        if not self.count:
            return math.nan
        if objective.kind == "rmse":
            return math.sqrt(self.loss) * objective.size
        if objective.kind == "esr":
            return self.loss
        if objective.kind == "accuracy":
            return self.hits / self.count
        return self.loss / math.log(2) * objective.size + objective.extra

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON holds them."""
        return {"loss_sum": self.loss_sum, "count": self.count, "hits": self.hits}


def perplexity(loss: float, facts: dict[str, Any]) -> str:
    """Say how many words or tokens the network chooses among: exp of the loss.

    Args:
        loss: Nats a symbol.
        facts: Those of the run, which name its symbols.

    Returns:
        `` (perplexity 95.3 per word)``; empty for other symbols and tasks.
    """
    symbol = {"words": "word", "bpe": "token"}.get(facts.get("symbols", ""))
    return f" (perplexity {math.exp(min(loss, 700)):.4g} per {symbol})" if symbol else ""
