"""Lyapunov exponents: the rate at which small changes of the state grow or fade, in the long run."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.flow.steps import Array, steps_of
from undertow.tape import RNNTape, Tape


@dataclass(frozen=True)
class Lyapunov:
    """The k leading exponents, and the growth at every step whose mean they are. Natural logarithms."""

    exponents: Array  # [N, k], per step, leading first; NaN for a sequence with no step to average
    growth: Array  # [T, N, k], of each step; NaN where none was taken or it was skipped


def lyapunov(
    tape: Tape | RNNTape, weight_hh: npt.ArrayLike, k: int = 1, *, skip: int = 0, seed: int = 0
) -> Lyapunov:
    """Return the k leading Lyapunov exponents of the state's dynamics along each recorded sequence.

    k orthonormal vectors are carried through every step's full Jacobian and made orthonormal again by QR. The
    logarithms of R's diagonal are the growth, and their means the exponents (Benettin, Galgani, Giorgilli &
    Strelcyn 1980, Meccanica 15, 9-30; for driven recurrent networks Vogt et al. 2022, Front. Appl. Math.
    Stat. 8, 818799). If the leading exponent λ is below 0, gradients fade in the long run, by a factor of e
    every −1/λ steps; above 0 they explode. The exponents hold for the recorded input.

    O(T N (k H² + k² H)) in time, O(N k H + T N k) in memory. Nothing under- or overflows.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        k: how many exponents; at most the state's size, 2H or H.
        skip: how many of a sequence's first steps are left out of the means. The vectors start in random
            directions and need some steps to turn towards the leading ones.
        seed: draws the first directions.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = steps_of(tape, weight_hh)
    if not 1 <= k <= steps.D:
        raise ValueError(f"k: expected 1 to the state's size {steps.D}, got {k}")
    if skip < 0:
        raise ValueError(f"skip: expected at least 0 steps, got {skip}")
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(steps.D, k)))[0]
    v = np.broadcast_to(Q.T, (steps.N, k, steps.D))  # a vector in each row
    growth = np.zeros((steps.T, steps.N, k))
    for t in range(steps.T):
        Qs, Rs = np.linalg.qr(steps.push(t, v).swapaxes(1, 2))
        v = Qs.swapaxes(1, 2)
        with np.errstate(divide="ignore"):  # log 0 = −inf: a direction lost altogether
            growth[t] = np.log(np.abs(np.diagonal(Rs, axis1=1, axis2=2)))
    counted = (steps.alive & (np.arange(steps.T)[:, None] >= steps.first + skip))[..., None]  # [T, N, 1]
    with np.errstate(invalid="ignore"):  # 0/0 is NaN: nothing to average
        exponents = np.where(counted, growth, 0).sum(axis=0) / counted.sum(axis=0)
    return Lyapunov(exponents, np.where(counted, growth, np.nan))
