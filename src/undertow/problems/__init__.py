"""Long-lag problems of the literature, generated: nothing to download, nothing to overfit.

In each, something seen early decides what is right much later, with noise in between, so a network
solves it only if error reaches back over the whole lag. Most are from Hochreiter & Schmidhuber 1997 (HS97 in
this package), Neural Computation 9(8), 1735-1780; each generator says what its source has, when that calls
it solved, and what its LSTM needed. NumPy alone, no torch.

    >>> adding = get("adding")
    >>> x, target = adding.sample(np.random.default_rng(0), n=32, steps=100)
    >>> x.shape, target.shape
    ((100, 32, 2), (32, 1))

Published numbers of sequences are for learning after each one; answers here are made by a linear layer, and
where there are classes by a softmax, in place of the papers' sigmoid outputs.
"""

from undertow.problems import copying, lags, markers, order, reber, two_sequence
from undertow.problems.problem import UNSCORED, Criterion, Problem, Sample

__all__ = ["UNSCORED", "Criterion", "Problem", "Sample", "get", "names"]

_FAMILIES = (markers, order, two_sequence, lags, reber, copying)
_PROBLEMS: dict[str, Problem] = {problem.name: problem for family in _FAMILIES for problem in family.PROBLEMS}


def names() -> list[str]:
    """The problems there are."""
    return list(_PROBLEMS)


def get(name: str) -> Problem:
    """The problem of this name. Raises ValueError listing the names there are."""
    if name not in _PROBLEMS:
        raise ValueError(f"problem: expected one of {', '.join(names())}, got {name!r}")
    return _PROBLEMS[name]
