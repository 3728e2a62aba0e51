"""The embedded Reber grammar: predict which symbols may come next, and close with the letter that opened.

Reber's grammar (Reber 1967; Smith & Zipser 1989), each branch taken with probability 1/2:

    B ─► 1    1: T ─► 2, P ─► 3    2: S ─► 2, X ─► 4    3: T ─► 3, V ─► 5
              4: X ─► 3, S ─► 6    5: P ─► 4, V ─► 6    6: E, the end

An embedded string is B, then T or P, then a string of that grammar, then the same T or P, then E.
"""

from math import nan

import numpy as np
import numpy.typing as npt

from undertow.problems.problem import UNSCORED, Array, Criterion, Problem, Rng, Sample

SYMBOLS = "BTPSXVE"
_INNER = {
    "0": "B1", "1": "T2 P3", "2": "S2 X4", "3": "T3 V5", "4": "X3 S6", "5": "P4 V6", "6": "E7",
}  # fmt: skip


def _embedded() -> dict[str, list[tuple[str, str]]]:
    """Return state -> [(symbol, next state)] of the embedded grammar; after "close" comes "start"."""
    arrows = {"start": [("B", "choice")], "choice": [("T", "T0"), ("P", "P0")]}
    for branch in "TP":
        for state, following in _INNER.items():
            arrows[branch + state] = [(word[0], branch + word[1]) for word in following.split()]
        arrows[branch + "7"] = [(branch, "close")]
    return arrows | {"close": [("E", "start")]}


def _tables() -> tuple[npt.NDArray[np.int64], ...]:
    """Return the symbol and the next state by state and coin, and the next state by state and symbol."""
    arrows = _embedded()
    number = {state: k for k, state in enumerate(arrows)}
    symbol, after = np.zeros((2, len(arrows), 2), np.int64)
    follow = np.full((len(arrows), len(SYMBOLS)), -1, np.int64)
    for state, found in arrows.items():
        for coin in range(2):
            letter, following = found[coin % len(found)]
            a, s = SYMBOLS.index(letter), number[state]
            symbol[s, coin], after[s, coin], follow[s, a] = a, number[following], number[following]
    return symbol, after, follow


_SYMBOL, _AFTER, _FOLLOW = _tables()
_START = 0
_ONE_HOT = np.eye(len(SYMBOLS), dtype=np.float32)


def reber(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw embedded Reber strings, one for each sequence (HS97, experiment 1).

    The lag is at least 7 steps and has no bound. A string of more than ``steps`` symbols is drawn again; with
    100 that happens to one string in millions.

    It counts as solved when, at every step of 512 strings, the symbols that may come next are the most active
    outputs. HS97 ask that of 256 training strings and 256 others; here all are fresh. Their LSTM needed 8,440
    strings (table 1, the fastest that always succeeded: 3 blocks of 2 cells; mean of 30 trials).

    Args:
        steps: the longest string.
        length: not used.
        n: N, the number of strings.
        rng: the source of randomness.

    Returns:
        x [T,N,7] float32, one-hot over B, T, P, S, X, V, E: each string without its last symbol, zero after
        its end. target [T,N] int64: the next symbol, UNSCORED after the end. T is the length of the sample's
        longest string, less 1.
    """
    streams = _walk(steps, n, rng)  # [steps, N]
    while len(late := np.flatnonzero(_ends(streams) == steps)):
        streams[:, late] = _walk(steps, len(late), rng)
    lengths = _ends(streams) + 1  # [N]
    T = int(lengths.max()) - 1
    inside = np.arange(1, T + 1)[:, None] < lengths  # [T, N]: a next symbol there is
    x = _ONE_HOT[streams[:T]] * inside[..., None].astype(np.float32)
    return x, np.where(inside, streams[1 : T + 1], UNSCORED)


def continual_reber(steps: int, length: int, n: int, rng: Rng) -> Sample:
    """Draw endless streams of embedded Reber strings, with no end marked and no state reset.

    Gers, Schmidhuber & Cummins 2000, Neural Computation 12(10), 2451-2471. Without a forget gate the cell
    state grows until the network breaks down. A perfect solution predicts 1,000,000 symbols of a test stream
    without a mistake. 18 of 100 LSTMs with forget gates found one, and 62 of 100 with a decaying learning
    rate; none did without forget gates (table 2). It counts as solved here with no mistake, by HS97's rule,
    in ten streams of 100,000 symbols, a million in all, without a reset within a stream.

    Args:
        steps: T, the symbols of each stream.
        length: not used.
        n: N, the number of streams.
        rng: the source of randomness.

    Returns:
        x [T,N,7] float32 and target [T,N] int64, as of ``reber``; each stream starts with a string.
    """
    streams = _walk(steps + 1, n, rng)
    return _ONE_HOT[streams[:-1]], streams[1:]


def possible(target: Array) -> npt.NDArray[np.bool_]:
    """Return which symbols may come next at each step, bool [T,N,7], of strings with the targets [T,N]."""
    state = np.full(target.shape[1], _FOLLOW[_START, SYMBOLS.index("B")])
    found = np.empty((*target.shape, len(SYMBOLS)), bool)
    for t, symbol in enumerate(target):
        found[t] = _FOLLOW[state] >= 0
        state = np.where(symbol == UNSCORED, state, _FOLLOW[state, np.maximum(symbol, 0)])
    return found


def misjudged(scores: Array, target: Array) -> Array:
    """Return 1 for each sequence with a step at which an impossible symbol is as active as a possible one.

    Args:
        scores: [T,N,7].
        target: int64 [T,N].

    Returns:
        float64 [N].
    """
    may = possible(target)
    least = np.where(may, scores, np.inf).min(axis=-1)
    most = np.where(may, -np.inf, scores).max(axis=-1)
    wrong = ~(least > most) & (target != UNSCORED)  # [T, N]
    return np.asarray(wrong.any(axis=0), np.float64)


def _walk(steps: int, n: int, rng: Rng) -> npt.NDArray[np.int64]:
    """Return streams of strings, [steps,N], each starting with a string's B."""
    coins = rng.integers(0, 2, size=(steps, n))
    symbols = np.empty((steps, n), np.int64)
    state = np.full(n, _START)
    for t in range(steps):
        symbols[t] = _SYMBOL[state, coins[t]]
        state = _AFTER[state, coins[t]]
    return symbols


def _ends(streams: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the index of each stream's second E, which ends its first string, [N]; len(streams) if none."""
    closed = (streams == SYMBOLS.index("E")).cumsum(axis=0) == 2
    return np.where(closed.any(axis=0), closed.argmax(axis=0), len(streams))


PROBLEMS = (
    Problem(
        "reber", "classification", 7, 7, reber, nan, min_steps=9, readout="every", judge=misjudged,
        criterion=Criterion("at every step of 512 strings, possible symbols the most active", 0.5, 512),
        source="HS97, experiment 1", published={100: 8_440},
    ),
    Problem(
        "continual-reber", "classification", 7, 7, continual_reber, nan, min_steps=1, readout="every",
        criterion=Criterion("1,000,000 symbols, possible ones the most active, no reset", 0.5, 10),
        source="Gers et al. 2000", judge=misjudged,
    ),
)  # fmt: skip
