"""Numbers go by and two of them are marked: their sum, or their product, is wanted at the end."""

import numpy as np
import numpy.typing as npt

from undertow.problems.problem import Criterion, Problem, Rng, Sample

Floats = npt.NDArray[np.float32]

#: HS97 call a real-valued answer correct when it is off by less than this.
TOLERANCE = 0.04
HEAD = 10  # the first marker is at one of this many first steps


def adding(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw numbers to add two marked ones, in today's usual form (Arjovsky, Shah & Bengio 2016).

    A network that answers with the mean, 1, has a mean squared error of 1/6. arXiv:1511.06464 trains at T =
    100, 200, 400 and 750 and gives curves, no criterion; the criterion here is HS97's of ``adding_1997``.

    Args:
        steps: the length by which the first half is counted.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,2] float32: a value uniform in [0, 1), and a marker that is 1 at two steps, one in each half of
        the sequence, and 0 elsewhere. target [N,1]: the sum of the two marked values.
    """
    x = _values(rng.random((length, n), dtype=np.float32))
    each, half = np.arange(n), steps // 2
    first = rng.integers(0, half, size=n)  # [N]
    second = rng.integers(half, length, size=n)  # [N]
    x[first, each, 1] = x[second, each, 1] = 1
    return x, (x[first, each, 0] + x[second, each, 0])[:, None]


def adding_1997(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw numbers to add two marked ones (HS97, experiment 4).

    The answer waits for at least T/2 steps. It counts as solved when the mean error is below 0.01 and 2000
    sequences in a row are off by less than 0.04. HS97's LSTM of 4 cells needed 74,000 sequences at T = 100,
    209,000 at 500 and 853,000 at 1000 (table 7, means of 10 trials), and was then wrong on at most 1 of 2560.

    Args:
        steps: the length by which the markers are drawn.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,2] float32: a value uniform in [-1, 1), and a marker. The marker is 1 at two steps, one of the
        first ten and another one of the first T/2 - 1; it is -1 at the first and the last step, unless one of
        the two falls there, and 0 elsewhere. target [N,1]: 0.5 + (X1 + X2)/4; a marked first step counts as
        0.
    """
    x, first, second = _marked(rng.uniform(-1, 1, (length, n)), steps, rng, first_is=0.0)
    return x, (0.5 + (first + second) / 4)[:, None]


def multiplication(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw numbers to multiply two marked ones; integrating alone does not solve it (HS97, experiment 5).

    It counts as solved when fewer than 13 of 2000 sequences in a row are off by 0.04 or more. HS97's LSTM
    needed 1,273,000 sequences at T = 100 (table 8, mean of 10 trials) and was then wrong on 14 of 2560.

    Args:
        steps: the length by which the markers are drawn.
        length: T.
        n: N, the number of sequences.
        rng: the source of randomness.

    Returns:
        x [T,N,2] float32 as of ``adding_1997``, with values uniform in [0, 1). target [N,1]: X1 X2; a marked
        first step counts as 1.
    """
    x, first, second = _marked(rng.random((length, n)), steps, rng, first_is=1.0)
    return x, (first * second)[:, None]


def _values(values: npt.NDArray[np.floating]) -> Floats:
    """Return x [T,N,2] with these values [T,N] and no marker."""
    x = np.zeros((*values.shape, 2), dtype=np.float32)
    x[..., 0] = values
    return x


def _marked(
    values: npt.NDArray[np.floating], steps: int, rng: Rng, first_is: float
) -> tuple[Floats, Floats, Floats]:
    """Return x [T,N,2] marked as in HS97, and the two marked values [N]; the first step has ``first_is``."""
    x = _values(values)
    each, n = np.arange(x.shape[1]), x.shape[1]
    first = rng.integers(0, min(HEAD, steps // 2 - 1), size=n)  # [N]
    second = rng.integers(0, steps // 2 - 2, size=n)  # [N], counted among those still unmarked
    second += second >= first
    x[0, :, 1] = x[-1, :, 1] = -1
    x[first, each, 1] = x[second, each, 1] = 1
    marked = [np.where(at == 0, np.float32(first_is), x[at, each, 0]) for at in (first, second)]
    return x, marked[0], marked[1]


_SUM = Criterion("mean error < 0.01 and 2000 sequences each off by < 0.04", TOLERANCE, 2000, mean_error=0.01)
_PRODUCT = Criterion("fewer than 13 of 2000 sequences off by 0.04 or more", TOLERANCE, 2000, wrong=12)

# the chance, at the published T = 100, that one of HS97's marks is at the first step, whose value is fixed
_EDGE = 0.1 + 0.9 / 48
_PRODUCT_VARIANCE = _EDGE / 3 + (1 - _EDGE) / 9 - (_EDGE / 2 + (1 - _EDGE) / 4) ** 2

PROBLEMS = (
    Problem(
        "adding", "regression", 2, 1, adding, baseline=1 / 6, min_steps=2, criterion=_SUM,
        source="Arjovsky, Shah & Bengio 2016",
    ),
    Problem(
        "adding-1997", "regression", 2, 1, adding_1997, baseline=(2 - _EDGE) / 48, min_steps=6,
        criterion=_SUM, source="HS97, experiment 4", published={100: 74_000, 500: 209_000, 1000: 853_000},
    ),
    Problem(
        "multiplication", "regression", 2, 1, multiplication, baseline=_PRODUCT_VARIANCE, min_steps=6,
        criterion=_PRODUCT, source="HS97, experiment 5", published={100: 1_273_000},
    ),
)  # fmt: skip
