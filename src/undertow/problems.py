"""Long-lag problems of the literature, generated: nothing to download, nothing to overfit.

In each, something seen early decides the target at the very end, with noise in between, so a
network solves it only if error reaches back over the whole lag. All but the adding problem's
marker placement follow Hochreiter & Schmidhuber 1997 (below HS97), Neural Computation 9(8),
1735-1780; NumPy alone, no torch.

    >>> adding = get("adding")
    >>> x, target = adding.sample(np.random.default_rng(0), n=32, steps=100)
    >>> x.shape, target.shape
    ((100, 32, 2), (32, 1))

Sequences here have the same length within a sample, ``steps``, where HS97 draw lengths from T to
1.1 T; positions given there for T = 100 scale with ``steps``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Rng = np.random.Generator
Sample = tuple[npt.NDArray[np.float32], npt.NDArray[Any]]

#: HS97 call a real-valued answer correct when it is off by less than this.
TOLERANCE = 0.04


def adding(steps: int, n: int, rng: Rng) -> Sample:
    """Sum of two marked numbers among ``steps`` (HS97, experiment 4).

    x [T,N,2] float32: a value uniform in [0, 1), and a marker that is 1 at two steps, one in each
    half of the sequence, else 0. target [N,1]: the sum of the two marked values. Guessing their
    mean, 1, leaves the variance 1/6.

    Values, markers and sum are those of Arjovsky, Shah & Bengio 2016 (arXiv:1511.06464), which the
    field now uses; HS97 have values in [-1, 1], both markers in the first half and the target
    0.5 + (X1 + X2)/4. Their LSTM, at T = 100, needed 74,000 sequences and then failed on 1 of 2560.
    """
    x, first, second = _marked_values(steps, n, rng)
    return x, (first + second)[:, None]


def multiplication(steps: int, n: int, rng: Rng) -> Sample:
    """Product of two marked numbers (HS97, experiment 5): no solution by integrating alone.

    x as in ``adding``, target [N,1]: the product; guessing its mean, 1/4, leaves 7/144.
    HS97's LSTM, at T = 100, needed 1,273,000 sequences and then failed on 14 of 2560.
    """
    x, first, second = _marked_values(steps, n, rng)
    return x, (first * second)[:, None]


def temporal_order(steps: int, n: int, rng: Rng, relevant: int = 2) -> Sample:
    """In which order did X and Y come? (HS97, experiment 6a; 6b with ``relevant`` = 3.)

    x [T,N,8] float32, one-hot over E, B, a, b, c, d, X, Y: starts with E, ends with B, and between
    them random letters a to d, but for an X or Y at ``relevant`` places. target [N] int64: the class
    0 to 3 (XX, XY, YX, YY), or 0 to 7. In 6a the places are drawn from T/10 to T/5 and from T/2 to
    3T/5; in 6b from T/10 to T/5, 33T/100 to 43T/100 and 66T/100 to 76T/100.
    HS97's LSTM needed 31,390 sequences for 6a and failed on 1 of 2560; 571,100 and 2 for 6b.
    """
    E, B, A, X = 0, 1, 2, 6
    symbols = rng.integers(A, X, size=(steps, n))  # [T, N]
    symbols[0], symbols[-1] = E, B
    starts = (10, 50) if relevant == 2 else (10, 33, 66)
    target = np.zeros(n, dtype=np.int64)
    for start in starts:
        low, high = steps * start // 100, steps * (start + 10) // 100
        place = rng.integers(low, high, size=n, endpoint=True)  # [N]
        is_y = rng.integers(0, 2, size=n)  # [N]
        symbols[place, np.arange(n)] = X + is_y
        target = 2 * target + is_y
    return np.eye(8, dtype=np.float32)[symbols], target


def two_sequence(steps: int, n: int, rng: Rng) -> Sample:
    """Which of two classes did the first three values show? (HS97, experiment 3a, after Bengio et al. 1994.)

    x [T,N,1] float32: +1 three times for class 1, -1 for class 0, then Gaussian noise of variance
    0.2. target [N] int64. HS97 note that guessing weights at random solves it too: a smoke test.
    Their LSTM needed 27,380 sequences at T = 100.
    """
    target = rng.integers(0, 2, size=n)  # [N]
    x = rng.normal(0.0, np.sqrt(0.2), size=(steps, n, 1)).astype(np.float32)
    x[:3] = (2 * target - 1)[:, None]
    return x, target


@dataclass(frozen=True)
class Problem:
    """A generated problem, with what is needed to train on it and to say when it is solved."""

    name: str
    task: Literal["regression", "classification"]
    input_size: int
    output_size: int  # 1, or the number of classes
    draw: Callable[[int, int, Rng], Sample]
    baseline: float  # error of the best constant guess: mean square, or cross-entropy in nats
    min_steps: int
    steps: int = 100  # the lag of the published experiments

    def sample(self, rng: Rng, n: int, steps: int | None = None) -> Sample:
        """``n`` fresh sequences: x [T,N,input_size] float32 and their target at the end.

        target is float32 [N,1] for a regression, int64 [N] for a classification.
        Raises ValueError where ``n`` or ``steps`` is too small.
        """
        steps = self.steps if steps is None else steps
        if n < 1:
            raise ValueError(f"n: expected at least 1 sequence, got {n}")
        if steps < self.min_steps:
            raise ValueError(f"steps: {self.name} needs at least {self.min_steps}, got {steps}")
        return self.draw(steps, n, rng)

    def correct(self, output: npt.NDArray[Any], target: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which sequences were answered rightly, [N]: off by less than 0.04, or the right class.

        output [N,output_size]: the network's answer after the last step, or its class scores.
        """
        if self.task == "regression":
            return np.asarray(np.abs(output - target).max(axis=-1) < TOLERANCE)
        return np.asarray(output.argmax(axis=-1) == target)

    def solved(self, output: npt.NDArray[Any], target: npt.NDArray[Any]) -> bool:
        """Solved means 99 of 100 sequences answered rightly; use fresh sequences, a thousand or more."""
        return bool(self.correct(output, target).mean() >= 0.99)


def names() -> list[str]:
    """The problems there are."""
    return list(_PROBLEMS)


def get(name: str) -> Problem:
    """The problem of this name. Raises ValueError listing the names there are."""
    if name not in _PROBLEMS:
        raise ValueError(f"problem: expected one of {', '.join(names())}, got {name!r}")
    return _PROBLEMS[name]


def _marked_values(
    steps: int, n: int, rng: Rng
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """x [T,N,2], values and markers, and the two marked values [N]."""
    x = np.zeros((steps, n, 2), dtype=np.float32)
    x[..., 0] = rng.random((steps, n), dtype=np.float32)
    each, half = np.arange(n), steps // 2
    first = rng.integers(0, half, size=n)  # [N]
    second = rng.integers(half, steps, size=n)  # [N]
    x[first, each, 1] = x[second, each, 1] = 1
    return x, x[first, each, 0], x[second, each, 0]


def _temporal_order_3(steps: int, n: int, rng: Rng) -> Sample:
    return temporal_order(steps, n, rng, relevant=3)


_PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("adding", "regression", 2, 1, adding, baseline=1 / 6, min_steps=2),
        Problem("multiplication", "regression", 2, 1, multiplication, baseline=7 / 144, min_steps=2),
        Problem("temporal-order", "classification", 8, 4, temporal_order, float(np.log(4)), min_steps=10),
        Problem(
            "temporal-order-3", "classification", 8, 8, _temporal_order_3, float(np.log(8)), min_steps=10
        ),
        Problem("two-sequence", "classification", 1, 2, two_sequence, float(np.log(2)), min_steps=4),
    )
}
