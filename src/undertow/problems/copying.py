"""Copy memory: ten symbols, a long wait, and then all ten again."""

from math import nan

import numpy as np

from undertow.problems.problem import Criterion, Problem, Rng, Sample

COPIED, LETTERS = 10, 8
BLANK, GO = 8, 9  # categories after the letters


def copy_memory(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw ten symbols to repeat after ``steps`` blanks (Arjovsky, Shah & Bengio 2016, after HS97).

    A network that knows the time but not the letters has a mean cross-entropy of 10 ln 8 / (steps + 20) nats.
    arXiv:1511.06464 gives curves and no criterion, at T = 100, 200, 300 and 500; its LSTM beat that baseline
    at 100 alone. Tallec & Ollivier 2018 (arXiv:1804.11188) show an LSTM with chrono initialisation far below
    it. It counts as solved here when in 99 of 100 sequences no output is off by 0.5 or more at any step.

    Args:
        steps: the wait.
        length: not used.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,10] float32, T = ``steps`` + 20, one-hot: ten of 8 letters, ``steps`` - 1 blanks, a delimiter
        that says go, ten blanks. target [T,N] int64 over 9 categories: blank at ``steps`` + 10 steps, then
        the ten letters. All steps are scored.
    """
    letters = rng.integers(0, LETTERS, size=(COPIED, n))
    symbols = np.full((steps + 2 * COPIED, n), BLANK)
    target = symbols.copy()
    symbols[:COPIED] = target[-COPIED:] = letters
    symbols[COPIED + steps - 1] = GO
    return np.eye(LETTERS + 2, dtype=np.float32)[symbols], target


PROBLEMS = (
    Problem(
        "copy-memory", "classification", LETTERS + 2, LETTERS + 1, copy_memory, nan, min_steps=1,
        criterion=Criterion("990 of 1000 sequences with no output off by 0.5 at any step", 0.5, 1000, 10),
        source="Arjovsky, Shah & Bengio 2016", readout="every",
    ),
)  # fmt: skip
