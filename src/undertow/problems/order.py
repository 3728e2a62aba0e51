"""Temporal order: a few symbols far apart in noise, and the question in which order they came."""

from functools import partial
from math import log

import numpy as np

from undertow.problems.problem import Criterion, Problem, Rng, Sample


def temporal_order(steps: int, length: int, n: int, rng: Rng, relevant: int = 2) -> Sample:
    """Draw sequences whose class is the order of a few X and Y (HS97, experiments 6a and 6b).

    It counts as solved when the mean error is below 0.1 and 2000 sequences in a row have all outputs off by
    less than 0.3. HS97's LSTM needed 31,390 sequences for 6a and failed on 1 of 2560; for 6b it needed
    571,100 and failed on 2 (table 9, means of 20 and of 10 trials).

    Args:
        steps: the length by which the places are drawn. 6a: from T/10 to T/5 and from T/2 to 3T/5; 6b: from
            T/10 to T/5, 33T/100 to 43T/100 and 66T/100 to 76T/100.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.
        relevant: how many X or Y there are, 2 for 6a or 3 for 6b.

    Returns:
        x [T,N,8] float32, one-hot over E, B, a, b, c, d, X, Y: E, then random letters a to d with an X or Y
        at each of the places, then B. target [N] int64: the class 0 to 3 (XX, XY, YX, YY), or 0 to 7.
    """
    E, B, A, X = 0, 1, 2, 6
    symbols = rng.integers(A, X, size=(length, n))  # [T, N]
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


_SOLVED = Criterion("mean error < 0.1 and 2000 sequences with every output off by < 0.3", 0.3, 2000, 0, 0.1)

PROBLEMS = (
    Problem(
        "temporal-order", "classification", 8, 4, temporal_order, log(4), min_steps=10, criterion=_SOLVED,
        source="HS97, experiment 6a", published={100: 31_390},
    ),
    Problem(
        "temporal-order-3", "classification", 8, 8, partial(temporal_order, relevant=3), log(8), min_steps=10,
        criterion=_SOLVED, source="HS97, experiment 6b", published={100: 571_100},
    ),
)  # fmt: skip
