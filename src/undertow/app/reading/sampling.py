"""How the next symbol of a text is drawn from the network's output, and where the text ends.

The filters are applied in the order of huggingface transformers: temperature, top-k, top-p, min-p. Each keeps
the likeliest symbol.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.app.errors import UserError

HOTTEST = 1_000_000  # at this temperature all symbols are equally likely


@dataclass(frozen=True)
class Sampling:
    """The distribution of the next symbol: softmax(scores / temperature), cut to its likeliest part.

    Args:
        temperature: 0 to HOTTEST; 0 always takes the likeliest symbol.
        top_k: Keep the k likeliest symbols (Fan et al. 2018, section 5). None: all.
        top_p: Keep the fewest likeliest symbols whose probabilities sum to p or more (nucleus sampling,
            Holtzman et al. 2020, section 3.1). 1: all.
        min_p: Keep symbols with at least this fraction of the likeliest one's probability (Nguyen et al.
            2024, section 3). 0: all.

    Raises:
        UserError: A value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for flag, value, holds, wanted in (
            ("temperature", self.temperature, 0 <= self.temperature <= HOTTEST, f"from 0 to {HOTTEST:,}"),
            ("top-k", self.top_k, self.top_k is None or self.top_k >= 1, "from 1"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0, to 1"),
            ("min-p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1"),
        ):
            if not holds:
                kind = "whole number" if flag == "top-k" else "number"
                raise UserError(f"--{flag} {value}: expected a {kind} {wanted}")

    def draw(self, scores: NDArray[np.float64], rng: np.random.Generator) -> int:
        """Draw a symbol.

        The largest of log-probability + Gumbel noise is such a draw.

        Args:
            scores: [symbols] float64, log-probabilities up to a constant.
            rng: The random numbers.

        Returns:
            The number of the symbol.
        """
        if self.temperature == 0:
            return int(scores.argmax())
        with np.errstate(over="ignore"):  # a very small temperature: all but the likeliest become -inf
            scores = (scores - scores.max()) / self.temperature
        noisy = scores + rng.gumbel(size=scores.shape)
        kept = self._kept(scores)
        return int(kept[noisy[kept].argmax()])

    def _kept(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The numbers of the symbols that the filters keep: the first ones, with the likeliest first."""
        order = np.argsort(-scores, kind="stable")
        chances = np.exp(scores[order[: self.top_k]])  # [kept], up to a factor
        if self.top_p < 1:
            below = np.cumsum(chances) < self.top_p * chances.sum()
            chances = chances[: 1 + int(below.sum())]
        return order[: int((chances >= self.min_p * chances[0]).sum())]


def until(pieces: Iterable[str], stops: list[str]) -> Iterator[str]:
    """Pass text on as it comes, and end before the first of the stops.

    What may become a stop is held back until it is known not to be one. A stop may span several pieces.

    Args:
        pieces: The text.
        stops: Texts before which it ends; none of them empty.

    Yields:
        The text before the first stop, or all of it.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [place for stop in stops if (place := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)]
            return
        sure = len(held) - max((_begun(held, stop) for stop in stops), default=0)
        yield held[:sure]
        held = held[sure:]
    yield held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are a beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
