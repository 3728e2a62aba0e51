"""Long lags without and with noise (HS97, experiment 2): remember the first symbol to predict the last.

Symbols are one-hot. There are always as many as in the published experiments, whatever the lag, so a network
fits any lag: 99 letters, x and y in 2a and 2b; 100 letters, e, b, x and y in 2c.
"""

from math import log, nan

import numpy as np
import numpy.typing as npt

from undertow.problems.problem import Array, Criterion, Problem, Rng, Sample, misplaced

LETTERS = 99  # a_1 to a_{p-1} at the published p = 100; then x and y
DISTRACTORS = 100  # p of 2c; then e, b, x and y
SUFFIX_ENDS = 0.1  # chance that no further distractor follows


def noise_free(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw (y, a_1, ..., a_{p-1}, y) or (x, a_1, ..., a_{p-1}, x), to predict every next symbol (HS97, 2a).

    It counts as solved when in 10,000 sequences no output is off by 0.25 or more at any step. HS97's LSTM, of
    one cell, always succeeded at p = 100, after 5,040 sequences (table 2, mean of 18 trials). RTRL and BPTT
    never did.

    Args:
        steps: p.
        length: not used.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,101] float32, T = p: the sequence without its last symbol. target [T,N] int64: the sequence
        without its first. After a_99 the letters start again at a_1.
    """
    letters = np.repeat(np.arange(steps - 1)[:, None] % LETTERS, n, axis=1)  # [p-1, N]
    return _framed(letters, rng)


def random_letters(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw the sequences of ``noise_free`` with random letters, which cannot be compressed (HS97, 2b).

    Only the last symbol can be predicted, and no symbol announces it: the network has to count. It counts as
    solved when in 10,000 sequences no output is off by 0.25 or more at the last step. HS97's LSTM always
    succeeded at p = 100, after 5,680 sequences (mean of 18 trials).

    Args:
        steps: p.
        length: not used.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x and target as of ``noise_free``, with letters drawn from a_1, ..., a_99.
    """
    return _framed(rng.integers(0, LETTERS, size=(steps - 1, n)), rng)


def distractors(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw sequences in which the trigger e asks for the symbol after b, long ago (HS97, 2c).

    It counts as solved when in 10,000 sequences no output is off by 0.2 or more. With as many letters as
    here, HS97's LSTM needed 31,000 sequences at q = 100 and 135,000 at q = 1000 (table 3, means of 20
    trials).

    Args:
        steps: q.
        length: not used.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,104] float32, T = q + k + 3: b, then x or y, then q + k of 100 letters, then e. k is drawn once
        for the sample and has the chance 0.9^k · 0.1. target [N] int64: 0 for x, 1 for y.
    """
    more = int(rng.geometric(SUFFIX_ENDS)) - 1  # k
    letters = rng.integers(0, DISTRACTORS, size=(steps + more, n))
    target = rng.integers(0, 2, size=n)  # [N]
    e, b, x = np.full(n, DISTRACTORS), np.full(n, DISTRACTORS + 1), DISTRACTORS + 2
    symbols = np.concatenate([[b, x + target], letters, [e]])  # [q + k + 3, N]
    return np.eye(DISTRACTORS + 4, dtype=np.float32)[symbols], target


def _framed(letters: npt.NDArray[np.int64], rng: Rng) -> Sample:
    """Put letters [p-1,N] between two x or two y."""
    frame = LETTERS + rng.integers(0, 2, size=(1, letters.shape[1]))
    symbols = np.concatenate([frame, letters, frame])  # [p + 1, N]
    return np.eye(LETTERS + 2, dtype=np.float32)[symbols[:-1]], symbols[1:]


def _at_the_end(scores: Array, target: Array) -> Array:
    """Return the error [N] of the last step alone."""
    return misplaced(scores[-1], target[-1])


PROBLEMS = (
    Problem(
        "lag-noise-free", "classification", LETTERS + 2, LETTERS + 2, noise_free, nan, min_steps=2,
        criterion=Criterion("10,000 sequences with every output off by < 0.25 at every step", 0.25, 10_000),
        source="HS97, experiment 2a", readout="every", published={100: 5_040},
    ),
    Problem(
        "lag-random", "classification", LETTERS + 2, LETTERS + 2, random_letters, nan, min_steps=2,
        criterion=Criterion("10,000 sequences with every output off by < 0.25 at the end", 0.25, 10_000),
        source="HS97, experiment 2b", readout="every", published={100: 5_680}, judge=_at_the_end,
    ),
    Problem(
        "lag-distractors", "classification", DISTRACTORS + 4, 2, distractors, log(2), min_steps=1,
        criterion=Criterion("10,000 sequences with both outputs off by < 0.2", 0.2, 10_000),
        source="HS97, experiment 2c", published={100: 31_000, 1000: 135_000},
    ),
)  # fmt: skip
