"""Temporal order: in which order did a few symbols come, far apart in noise?"""

from functools import partial
from math import log

import numpy as np

from undertow.problems.problem import Criterion, Problem, Rng, Sample


def temporal_order(steps: int, length: int, n: int, rng: Rng, relevant: int = 2) -> Sample:
    """In which order did X and Y come? (HS97, experiment 6a; 6b with ``relevant`` = 3.)

    x [T,N,8] float32, one-hot over E, B, a, b, c, d, X, Y: starts with E, ends with B, and between
    them random letters a to d, but for an X or Y at ``relevant`` places. target [N] int64: the class
    0 to 3 (XX, XY, YX, YY), or 0 to 7. In 6a the places are drawn from T/10 to T/5 and from T/2 to
    3T/5; in 6b from T/10 to T/5, 33T/100 to 43T/100 and 66T/100 to 76T/100.

    Solved when the mean error is below 0.1 and 2000 sequences in a row had all outputs off by less than 0.3.
    HS97's LSTM needed 31,390 sequences for 6a and failed on 1 of 2560; 571,100 and 2 for 6b (table 9, means
    of 20 and of 10 trials).
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
