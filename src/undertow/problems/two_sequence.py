"""The two-sequence problem of Bengio, Simard & Frasconi 1994: signal and noise on the same line."""

from functools import partial
from math import log

import numpy as np

from undertow.problems.problem import Array, Criterion, Problem, Rng, Sample

SHOWN = 3  # values that show the class, at the start
NOISE = 0.2  # variance of everything after them
LOW, HIGH = 0.2, 0.8  # expected targets of 3c
TARGET_NOISE = 0.1  # variance of its targets


def two_sequence(steps: int, length: int, n: int, rng: Rng, noisy: bool = False) -> Sample:
    """Draw sequences whose first three values show one of two classes (HS97, experiments 3a and 3b).

    3a counts as solved when none of 256 test sequences is off by 0.2 or more and their mean error is below
    0.01; 3b when fewer than 6 are off by that much and the mean error is below 0.04 (ST2 in the paper).
    HS97's LSTM needed 39,850 sequences for 3a at T = 100 and 452,460 at 1000, and 43,250 for 3b (tables 4 and
    5, means of 10 trials). They note that guessing weights at random solves 3a faster, so 3a alone proves
    little.

    Args:
        steps: not used.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.
        noisy: False for 3a. True for 3b, where the first three values have noise too.

    Returns:
        x [T,N,1] float32: three times +1 for class 1 or -1 for class 0, then Gaussian noise of variance 0.2.
        target [N] int64: the class.
    """
    target = rng.integers(0, 2, size=n)  # [N]
    x = rng.normal(0.0, np.sqrt(NOISE), size=(length, n, 1)).astype(np.float32)
    shown = (2 * target - 1)[:, None]
    x[:SHOWN] = x[:SHOWN] + shown if noisy else shown
    return x, target


def expected_target(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw sequences of 3a with noisy targets, whose expectation is wanted (HS97, experiment 3c).

    It cannot be solved by guessing weights. It counts as solved when none of 256 test sequences is further
    than 0.1 from the target without noise, and the mean distance is below 0.015. HS97's LSTM needed 269,650
    sequences at T = 100 (table 6, mean of 10 trials).

    Args:
        steps: not used.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,1] float32 as in 3a. target [N,1] float32: 0.2 if x starts with +1 and 0.8 if with -1, plus
        Gaussian noise of variance 0.1. ``Problem.truth`` gives it without noise.
    """
    x, _ = two_sequence(steps, length, n, rng)
    noise = rng.normal(0.0, np.sqrt(TARGET_NOISE), size=(n, 1))
    return x, (_without_noise(x) + noise).astype(np.float32)


def _without_noise(x: Array) -> Array:
    """Return the expected target of 3c, [N,1]."""
    return np.where(x[0] > 0, np.float32(LOW), np.float32(HIGH))


PROBLEMS = (
    Problem(
        "two-sequence", "classification", 1, 2, two_sequence, log(2), min_steps=4,
        criterion=Criterion("mean error < 0.01 and 256 sequences each off by < 0.2", 0.2, 256, 0, 0.01),
        source="HS97, experiment 3a", published={100: 39_850, 1000: 452_460},
    ),
    Problem(
        "two-sequence-noisy", "classification", 1, 2, partial(two_sequence, noisy=True), log(2), min_steps=4,
        criterion=Criterion("mean error < 0.04 and under 6 of 256 off by 0.2 or more", 0.2, 256, 5, 0.04),
        source="HS97, experiment 3b", published={100: 43_250},
    ),
    Problem(
        "expected-target", "regression", 1, 1, expected_target, (HIGH - LOW) ** 2 / 4 + TARGET_NOISE,
        min_steps=4, source="HS97, experiment 3c", published={100: 269_650}, truth=_without_noise,
        criterion=Criterion(
            "mean distance to the noise-free target < 0.015, none of 256 beyond 0.1", 0.1, 256, 0, 0.015
        ),
    ),
)  # fmt: skip
