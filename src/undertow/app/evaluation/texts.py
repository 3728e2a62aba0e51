"""Bits of a text beside those of the training part's symbol frequencies."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from undertow.app.data.tasks.text import (
    VALIDATION_LANES,
    VALIDATION_WINDOW,
    alphabet_of,
    lanes,
    measure,
    parts,
    stream,
)
from undertow.app.data.texts.alphabet import Alphabet
from undertow.app.data.texts.documents import Documents, read_documents
from undertow.app.data.texts.streams import Stream
from undertow.app.errors import UserError
from undertow.app.evaluation.result import Result
from undertow.app.reading.predictions import is_training_table
from undertow.app.runs import members
from undertow.app.runs.device import placed
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Batch
from undertow.app.runs.together import network_of
from undertow.app.working import through
from undertow.problems import UNSCORED

PSEUDO = 2.0  # counts that a symbol's successors get from the frequencies of all symbols


def evaluate(run: Run, path: Path, held_back: bool) -> Result:
    """Evaluate a language model on a text.

    Args:
        run: A run whose task is text.
        path: The text, a file or a folder.
        held_back: Whether to score only the part that was held back in the training.

    Returns:
        Bits per character or byte and the perplexity of a symbol, of the network and of two baselines: the
        frequencies of the symbols in the training part, and of each symbol's successors.

    Raises:
        UserError: The text cannot be read, or holds symbols that the network does not know.
    """
    alphabet = alphabet_of(run.facts)
    found = read_documents(path, run.data.symbols == "bytes", run.data, alphabet.encoding)
    scored = (
        parts(found, run.data.validation, run.training.seed)[1] if held_back else found.raws or found.texts
    )
    text = stream(alphabet, scored, str(path))
    if text.begins.all():
        raise UserError(f"{path}: expected 2 symbols or more, got {len(text)}")
    batches = list(lanes(text, min(VALIDATION_LANES, len(text) - 1), VALIDATION_WINDOW))
    result = Result("text", str(path), what=alphabet.symbol)
    bits = {run.model.cell.upper(): _of_network(run, batches)}
    bits |= _of_frequencies(run, alphabet, batches, result.said)
    _add_rows(result, bits, _unit(alphabet, found, scored, text))
    return result


def _unit(alphabet: Alphabet, found: Documents, scored: list[Any], text: Stream) -> tuple[str, float, float]:
    """The name of the metric, symbols per character or byte, and the bits that unknown words add."""
    characters, extra = measure(alphabet, found, scored)
    return ("bits_char" if characters else "bits_byte"), len(text) / (characters or len(text)), extra


def _add_rows(result: Result, bits: dict[str, NDArray[np.float64]], unit: tuple[str, float, float]) -> None:
    """A row for each forecaster, from its bits at every target."""
    name, per_symbol, extra = unit
    for by, each in bits.items():
        mean = float(each.mean())
        row = {name: mean * per_symbol + extra, "perplexity": 2.0**mean}
        result.rows.append({"part": "all", "name": "", "by": by, "n": len(each)} | row)
    for row in result.rows[1:]:
        row["skill"] = 1 - result.rows[0][name] / row[name] if row[name] else math.nan


@torch.no_grad()
def _of_network(run: Run, batches: list[Batch]) -> NDArray[np.float64]:
    """The bits of every target; those of an ensemble come from the mean of its members' probabilities."""
    networks = [network_of(each) for each in members.of(run)]
    states: list[Any] = [None] * len(networks)
    found = []
    for batch in through(batches, len(batches), "text"):
        chances: Any = 0.0
        there = batch.to(placed(run.device))
        for k, network in enumerate(networks):
            output, states[k] = there.through(network, states[k])
            chances = chances + output.softmax(-1) / len(networks)
        nats = functional.nll_loss(chances.log().flatten(0, -2), there.y.flatten(), reduction="none")
        found.append(nats.cpu()[batch.y.flatten() != UNSCORED])
    return np.asarray(torch.cat(found).double().numpy()) / math.log(2)


def _of_frequencies(
    run: Run, alphabet: Alphabet, batches: list[Batch], said: list[str]
) -> dict[str, NDArray[np.float64]]:
    """The bits of every target by how often symbols occur, alone and after the one before."""
    source = Path(run.data.source)
    if not source.exists() or not is_training_table(run, source):
        said.append(f"no baselines: {source.name}, whose symbols they count, is gone or has changed")
        return {}
    found = read_documents(source, run.data.symbols == "bytes", run.data, alphabet.encoding)
    train = stream(alphabet, parts(found, run.data.validation, run.training.seed)[0], str(source))
    targets = [(batch.x[scored], batch.y[scored]) for batch in batches for scored in [batch.y != UNSCORED]]
    given, target = (torch.cat(each).numpy() for each in zip(*targets, strict=True))
    return {
        "symbol frequencies": alone(train, alphabet.size)[target],
        "pair frequencies": after_another(train, alphabet.size, given, target),
    }


def alone(train: Stream, size: int) -> NDArray[np.float64]:
    """Compute the bits of each symbol from how often it occurs.

    Args:
        train: The text whose symbols are counted; each count is one more, so that none is 0.
        size: The number of symbols.

    Returns:
        [size].
    """
    counts = np.bincount(train.symbols, minlength=size) + 1.0
    return np.asarray(-np.log2(counts / counts.sum()))


def after_another(
    train: Stream, size: int, given: NDArray[np.int64], target: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute the bits of symbols from how often they follow the one before.

    Args:
        train: The text whose pairs are counted. PSEUDO counts more are spread as the symbols occur alone.
        size: The number of symbols.
        given: The symbols before, [targets].
        target: The symbols that follow, [targets].

    Returns:
        [targets].
    """
    before, symbol = pairs(train)
    kinds, counts = np.unique(before * size + symbol, return_counts=True)
    wanted = given * size + target
    place = np.searchsorted(kinds, wanted).clip(max=len(kinds) - 1)
    seen = np.where(kinds[place] == wanted, counts[place], 0)
    total = np.bincount(before, minlength=size)[given]
    share = (seen + PSEUDO * 2.0 ** -alone(train, size)[target]) / (total + PSEUDO)
    return np.asarray(-np.log2(share))


def pairs(text: Stream) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair the symbols with those that follow them in the same document.

    Args:
        text: The documents.

    Returns:
        Symbols and their successors, [pairs] int64 each.
    """
    inside = ~text.begins[1:]
    return text.symbols[:-1][inside], text.symbols[1:][inside]
