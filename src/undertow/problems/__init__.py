"""Long-lag problems of the literature, generated: nothing to download, nothing to overfit.

In each problem something seen early decides the right answer much later, with noise in between. A network
solves it only if the error reaches back over the whole lag. Most problems are from Hochreiter & Schmidhuber
1997 (HS97 in this package), Neural Computation 9(8), 1735-1780. Each generator names its source, the
published criterion, and how many sequences the published LSTM needed. It needs only NumPy.

    >>> adding = get("adding")
    >>> x, target = adding.sample(np.random.default_rng(0), n=32, steps=100)
    >>> x.shape, target.shape
    ((100, 32, 2), (32, 1))

The published numbers of sequences are for an update after each sequence. Here a linear layer gives the
answers, with a softmax for classes, in place of the papers' sigmoid outputs.
"""

from undertow.problems import copying, lags, markers, order, reber, two_sequence
from undertow.problems.problem import UNSCORED, Criterion, Problem, Sample

__all__ = ["UNSCORED", "Criterion", "Problem", "Sample", "get", "names"]

_FAMILIES = (markers, order, two_sequence, lags, reber, copying)
_PROBLEMS: dict[str, Problem] = {problem.name: problem for family in _FAMILIES for problem in family.PROBLEMS}


def names() -> list[str]:
    """List the names of the problems."""
    return list(_PROBLEMS)


def get(name: str) -> Problem:
    """Return the problem of this name. Raises ValueError listing the names if there is none."""
    if name not in _PROBLEMS:
        raise ValueError(f"problem: expected one of {', '.join(names())}, got {name!r}")
    return _PROBLEMS[name]
