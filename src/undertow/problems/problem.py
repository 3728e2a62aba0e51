"""What a problem is: how it is drawn, and when it counts as solved by the paper that posed it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from undertow.equations import softmax

Rng = np.random.Generator
Array = npt.NDArray[Any]
Sample = tuple[npt.NDArray[np.float32], Array]

#: In a target [T,N]: no answer is due at this step. torch's cross-entropy ignores this number.
UNSCORED = -100


@dataclass(frozen=True)
class Criterion:
    """When a problem counts as solved, in terms of fresh sequences.

    A sequence is processed correctly if every output, at every scored step, is off by less than
    ``tolerance``. The outputs of a classification are probabilities.
    """

    words: str
    tolerance: float
    sequences: int  # how many are judged
    wrong: int = 0  # how many of them may be processed wrongly
    mean_error: float = inf  # the mean over sequences of the error must be below this


@dataclass(frozen=True)
class Problem:
    """A generated problem, with what is needed to train on it and to judge whether it is solved."""

    name: str
    task: Literal["regression", "classification"]
    input_size: int
    output_size: int  # 1, or the number of classes
    draw: Callable[[int, int, int, Rng], Sample]  # steps, length, n, rng
    baseline: float  # error of the best constant guess: mean square, or cross-entropy in nats
    min_steps: int
    criterion: Criterion
    source: str
    readout: Literal["last", "every"] = "last"  # where answers are due: after the last step, or at each
    steps: int = 100  # the lag of the published experiments
    #: lag -> training sequences that the paper's LSTM needed
    published: Mapping[int, int] = field(default_factory=dict)
    #: the target without noise, computed from x, where training targets are noisy
    truth: Callable[[Array], Array] | None = None
    #: the error of each sequence, [N], where it is not a distance
    judge: Callable[[Array, Array], Array] | None = None

    def sample(self, rng: Rng, n: int, steps: int | None = None, stretch: float = 0.0) -> Sample:
        """Draw fresh sequences.

        T is ``steps`` unless the problem's own docstring says otherwise.

        Args:
            rng: the source of randomness.
            n: N, the number of sequences.
            steps: the length that the lag depends on; None: the published one.
            stretch: T is drawn once for the sample, from ``steps`` to (1 + stretch) ``steps``. The places of
                the inputs that matter depend on ``steps`` alone. With 0.1 each sequence is as long as
                Hochreiter & Schmidhuber's.

        Returns:
            x [T,N,input_size] float32, and the target: float32 [N,1] for a regression, int64 [N] for a
            classification at the end of the sequence, and int64 [T,N] where ``readout`` is "every", with
            UNSCORED at steps without a target.

        Raises:
            ValueError: ``n``, ``steps`` or ``stretch`` does not fit; the message names it.
        """
        steps = self.steps if steps is None else steps
        if n < 1:
            raise ValueError(f"n: expected at least 1 sequence, got {n}")
        if steps < self.min_steps:
            raise ValueError(f"steps: {self.name} needs at least {self.min_steps}, got {steps}")
        if stretch and (stretch < 0 or self.readout == "every"):
            wanted = "0: the problem sets its own lengths" if self.readout == "every" else "0 or more"
            raise ValueError(f"stretch: expected {wanted}, got {stretch}")
        length = int(rng.integers(steps, int(steps * (1 + stretch)), endpoint=True)) if stretch else steps
        return self.draw(steps, length, n, rng)

    def error(self, output: Array, target: Array) -> npt.NDArray[np.float64]:
        """Return how far each sequence's answer is off: the largest absolute error of any output.

        Args:
            output: [N,output_size], or [T,N,output_size] where ``readout`` is "every": the answers of a
                regression, or the scores of a classification before the softmax.
            target: as ``sample`` returns it.

        Returns:
            float64 [N].
        """
        if self.judge is not None:
            return np.asarray(self.judge(output, target), np.float64)
        if self.task == "regression":
            return np.asarray(np.abs(np.float64(output) - target).max(axis=-1))
        return misplaced(output, target)

    def correct(self, output: Array, target: Array) -> npt.NDArray[np.bool_]:
        """Return which sequences are processed correctly, bool [N]; arguments as for ``error``."""
        return self.error(output, target) < self.criterion.tolerance

    def solved(self, output: Array, target: Array) -> bool:
        """Return whether the criterion is met; give it ``criterion.sequences`` fresh sequences."""
        return self.met(self.error(output, target))

    def met(self, error: Array) -> bool:
        """Return whether errors [N] meet the criterion; they may have been computed in several parts."""
        wrong = np.count_nonzero(~(error < self.criterion.tolerance))
        allowed = self.criterion.wrong * len(error) / self.criterion.sequences
        return bool(wrong <= allowed and error.mean() < self.criterion.mean_error)


def misplaced(scores: Array, target: Array) -> npt.NDArray[np.float64]:
    """Return the largest absolute error of any class's probability at any scored step.

    Args:
        scores: [N,classes] or [T,N,classes], before the softmax.
        target: int64 [N] or [T,N].

    Returns:
        float64 [N].
    """
    right = np.take_along_axis(softmax(scores), np.maximum(target, 0)[..., None], axis=-1)[..., 0]
    # probabilities sum to one, so no output is further off than that of the right class
    off = np.where(target == UNSCORED, 0.0, 1 - right)
    return off if off.ndim == 1 else np.asarray(off.max(axis=0))
