"""What each unit follows: the characters or inputs that correlate most with the unit over the sequence.

A correlation over one sequence is a hint and no proof. Short sequences, and slow units with slow inputs,
match well by chance.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.tape import Array

MOST_SYMBOLS = 100  # that are matched, the most frequent ones
FEWEST = 2  # times that a symbol must occur to be matched
SMOOTHED = (10, 100)  # time constants of the means of inputs, in steps
BEST = 3  # matches for each unit
KINDS = {  # of characters
    "vowels": r"[aeiouAEIOU]",
    "capitals": r"[A-Z]",
    "digits": r"[0-9]",
    "punctuation": r"[!-/:-@\[-`{-~]",
    "white space": r"\s",
}


@dataclass(frozen=True)
class Followed:
    """The best matches of every unit, strongest first.

    Attributes:
        names: F names of features.
        match: int64 [H,best], indices into ``names``.
        r: [H,best], correlations from -1 to 1.
    """

    names: list[str]
    match: npt.NDArray[np.int64]
    r: Array


def follow(state: Array, features: dict[str, Array]) -> Followed:
    """Correlate each unit with each feature over one sequence. O(T H F).

    Args:
        state: [T,H], c or h of every unit.
        features: F features by name, [T] each, as ``features_of`` makes them.

    Returns:
        The ``BEST`` features of every unit by the absolute value of Pearson's correlation.
    """
    names = list(features)
    if not names:
        return Followed([], np.zeros((state.shape[1], 0), np.int64), np.zeros((state.shape[1], 0)))
    r = _standard(np.asarray(state, np.float64)).T @ _standard(np.stack(list(features.values()), axis=1))
    best = np.argsort(-np.abs(r), axis=1, kind="stable")[:, :BEST]
    return Followed(names, best, np.take_along_axis(r, best, axis=1))


def features_of(
    T: int, symbols: list[str] | None, inputs: Array | None, names: list[str]
) -> dict[str, Array]:
    """List everything that a unit may follow: symbols and their kinds; inputs, their means and their sums.

    Args:
        T: the number of steps.
        symbols: [T] symbols, or None.
        inputs: [T,C] numbers, or None.
        names: C names of the inputs.

    Returns:
        Features by name, float64 [T] each, without those that never change.
    """
    found = {} if symbols is None else _of_symbols(symbols)
    if inputs is not None:
        found |= _of_inputs(np.asarray(inputs, np.float64), names)
    found["the step's number"] = np.arange(T, dtype=np.float64)
    return {name: values for name, values in found.items() if np.ptp(values) > 0}


def _of_symbols(symbols: list[str]) -> dict[str, Array]:
    read = np.array(symbols, dtype=object)
    distinct, counts = np.unique(read.astype(str), return_counts=True)
    common = distinct[np.argsort(-counts, kind="stable")][:MOST_SYMBOLS]
    found = {shown(s): (read == s) * 1.0 for s in common if counts[distinct == s][0] >= FEWEST}
    if all(len(symbol) == 1 for symbol in symbols):
        kinds = {
            name: np.array([bool(re.match(kind, s)) for s in symbols]) * 1.0 for name, kind in KINDS.items()
        }
        found |= {name: values for name, values in kinds.items() if values.sum() >= FEWEST}
        found |= {
            "steps since a space": _since(symbols, " "),
            "steps since a line's start": _since(symbols, "\n"),
        }
    return found


def _since(symbols: list[str], mark: str) -> Array:
    """Steps since ``mark`` was read; all zero if it never was."""
    count = np.zeros(len(symbols))
    for t, symbol in enumerate(symbols[1:], 1):
        count[t] = 0 if symbol == mark else count[t - 1] + 1
    return count if mark in symbols else np.zeros(len(symbols))


def _of_inputs(inputs: Array, names: list[str]) -> dict[str, Array]:
    found = dict(zip(names, inputs.T, strict=True))
    for steps in SMOOTHED:
        if len(inputs) > steps:
            for name, x in zip(names, inputs.T, strict=True):
                found[f"{name}, mean of {steps} steps"] = _smooth(x, steps)
    for name, total in zip(names, np.cumsum(inputs, axis=0).T, strict=True):
        if not _is_straight(total):  # a straight line is the step's number under another name
            found[f"{name}, sum so far"] = total
    return found


def _is_straight(x: Array) -> bool:
    both = _standard(np.stack([x, np.arange(len(x))], axis=1))
    return bool(abs(both[:, 0] @ both[:, 1]) > 0.95)


def _smooth(x: Array, steps: int) -> Array:
    """Exponential mean with the time constant ``steps``."""
    mean = np.empty(len(x))
    mean[0] = x[0]
    for t in range(1, len(x)):
        mean[t] = mean[t - 1] + (x[t] - mean[t - 1]) / steps
    return mean


def _standard(a: Array) -> Array:
    """Scale columns to mean 0 and length 1; a constant column becomes 0."""
    a = a - a.mean(axis=0)
    length = np.linalg.norm(a, axis=0)
    return np.asarray(np.divide(a, length, out=np.zeros_like(a), where=length > 1e-12))


def shown(symbol: str) -> str:
    """Return a symbol for display: the name of white space, any other symbol in quotation marks."""
    named = {" ": "space", "\n": "new line", "\t": "tab", "\r": "return"}
    return named.get(symbol, f"“{symbol}”")
