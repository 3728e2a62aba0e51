"""Text as a sequence of symbols: predict the next one at every step.

The text is cut into N lanes that are read side by side, T symbols at a time, with the state carried
from one window to the next (truncated back-propagation through time). A document starts from a zero state.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertow.app.data import Facts, Known, Shape
from undertow.app.data.tasks import long_text
from undertow.app.data.tasks.long_text import LongText
from undertow.app.data.texts.alphabet import Alphabet, Bytes, Characters, Words
from undertow.app.data.texts.documents import MANY, Documents, read_documents, split
from undertow.app.data.texts.streams import Stream
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.near import fits, moved
from undertow.app.runs.objective import Batch, Objective
from undertow.app.words import counted
from undertow.problems import UNSCORED

MOST_CHARACTERS = 1000  # more distinct ones than this: bytes serve better
MOST_WORDS, MOST_PAIRS = 10_000, 2_000  # of the vocabulary, if --vocabulary is not given
RELEASED_EVERY = 64  # windows: what was read of a file is then given back
VALIDATION_LANES = 16  # each lane starts from a zero state, so few of them
VALIDATION_WINDOW = 256  # T when measuring; the state is carried, so it changes nothing


def stream(alphabet: Alphabet, documents: Sequence[str | bytes], given_as: str) -> Stream:
    """Number the symbols of documents, as of Alphabet.encode."""
    parts = [
        np.frombuffer(each, np.uint8).astype(np.int64)
        if isinstance(each, bytes)
        else alphabet.encode(each, given_as)
        for each in documents
    ]
    begins = np.zeros(sum(map(len, parts)), np.bool_)
    begins[np.cumsum([0, *map(len, parts)])[:-1][[len(part) > 0 for part in parts]]] = True
    return Stream(np.concatenate([np.empty(0, np.int64), *parts]), begins)


class Moved:
    """A stream on a device.

    Args:
        text: In memory.
        device: The device.
    """

    def __init__(self, text: Stream, device: torch.device) -> None:
        self.symbols = moved(torch.from_numpy(text.symbols.astype(np.int32)), device)
        self.begins = moved(torch.from_numpy(text.begins), device)

    def lanes(self, n: int, start: int, stop: int, ahead: int) -> tuple[Tensor, Tensor]:
        """Cut a window, as of Stream."""
        length = (len(self.symbols) - 1) // n
        both = (each[ahead : ahead + n * length].view(n, length) for each in (self.symbols, self.begins))
        symbols, begins = (each[:, start:stop].T.contiguous() for each in both)
        return symbols.long(), begins


def lanes(text: Stream, n: int, steps: int, there: Moved | None = None) -> Iterator[Batch]:
    """Windows of ``steps`` symbols from ``n`` lanes read side by side, state carried.

    The first symbol of a document is no target, and is read from a zero state.

    Args:
        text: The text.
        n: N, the lanes.
        steps: T.
        there: The text on a device, if the windows are to be cut there.

    Yields:
        x and y [T,N].
    """
    length, several = (len(text) - 1) // n, bool(text.begins[1:].any())
    for count, start in enumerate(range(0, length, steps)):
        window = start, start + steps
        cut = ((there or text).lanes(n, *window, ahead) for ahead in (0, 1))
        (x, reset), (y, begins) = ((torch.as_tensor(a), torch.as_tensor(b)) for a, b in cut)
        y.masked_fill_(begins, UNSCORED)
        yield Batch(x, y, carried=start > 0, reset=reset if several else None)
        if count % RELEASED_EVERY == RELEASED_EVERY - 1:
            text.release()


def excerpts(text: Stream, n: int, steps: int) -> Batch:
    """Up to ``n`` sequences of ``steps`` symbols, spread over the text, each within a document.

    Fewer where they would overlap, and shorter where no document is longer.
    """
    begins = np.flatnonzero(text.begins)
    lengths = np.diff([*begins, len(text)]) - 1  # of the inputs: the last symbol is a target only
    steps = min(steps, int(lengths.max()))
    places = np.concatenate(
        [np.arange(a, a + max(0, k - steps + 1)) for a, k in zip(begins, lengths, strict=True)]
    )
    n = min(n, int((lengths // steps).sum()))
    starts = places[np.linspace(0, len(places) - 1, n).round().astype(np.int64)]
    x, y = (torch.from_numpy(text.symbols[starts + np.arange(steps)[:, None] + k]) for k in (0, 1))  # [T, N]
    return Batch(x, y)


class TextTask:
    """A language model over the symbols of one or several files."""

    evaluations = 2
    _there: Sequence[Moved | None] = (None, None)  # training and validation part

    def __init__(self, config: DataConfig, batch_size: int, seed: int, known: Known | None = None) -> None:
        path = Path(config.source)
        kept = alphabet_of(known.facts) if known is not None else None
        self.steps, self.batch_size = config.steps, batch_size
        if long_text.is_wanted(path, config):
            self._take(path, long_text.read(path, config, seed, kept, MOST_CHARACTERS), config)
        else:
            self._read(path, config, seed, kept)

    def _read(self, path: Path, config: DataConfig, seed: int, kept: Alphabet | None) -> None:
        found = read_documents(path, config.symbols == "bytes", config)
        train, validation = parts(found, config.validation, seed)
        self.alphabet, why = (kept, kept.kind) if kept is not None else chosen(config, found, train)
        self.train, self.validation = (stream(self.alphabet, part, str(path)) for part in (train, validation))
        self._check_length(path)
        characters, extra = measure(self.alphabet, found, validation)
        self._describe(characters, extra)
        lengths = [list(map(len, part)) for part in (train, validation)]
        unit, files = "byte" if found.raws else "character", len(found.raws or found.texts)
        lines = [self._extent(unit, files, *lengths), self._symbols(why)]
        if found.encoding != "utf-8":
            lines.append(f"read with encoding {found.encoding}")
        self.facts = Facts(lines=lines, values=self.alphabet.facts())

    def _take(self, path: Path, found: LongText, config: DataConfig) -> None:
        self.alphabet, self.train, self.validation = found.alphabet, found.train, found.validation
        self._check_length(path)
        self._describe(found.characters, 0.0)
        unit = "byte" if config.symbols == "bytes" else "character"
        extent = self._extent(unit, found.files, found.train_lengths, found.validation_lengths)
        lines = [extent, self._symbols(self.alphabet.kind), "kept on disk until the end of the training"]
        self.facts = Facts(lines=lines, values=self.alphabet.facts())

    def _describe(self, characters: int, extra: float) -> None:
        per_symbol = len(self.validation) / (characters or len(self.validation))
        unit = "bits/char" if characters else "bits/byte"
        self.objective = Objective("bits", unit, per_symbol, extra)
        self.shape = Shape(outputs=self.alphabet.size, readout="every", symbols=self.alphabet.size)

    def _check_length(self, path: Path) -> None:
        length, needed = len(self.train) + len(self.validation), self.batch_size * (self.steps + 1)
        if len(self.train) < needed:
            raise UserError(
                f"{path}: {counted(length, 'symbol')}, too few: --batch-size {self.batch_size} lanes of "
                f"--steps {self.steps} need {needed} for training, there are {len(self.train)}; lower one"
            )
        if not (~self.validation.begins).any():
            raise UserError(f"{path}: {counted(length, 'symbol')}, none left to validate; raise --validation")

    def _extent(self, unit: str, files: int, train: list[int], validation: list[int]) -> str:
        """How much text there is, and which part validates."""
        held_back, whole = sum(validation), sum(train) + sum(validation)
        several = f" in {files:,} files, each from a zero state" if files > 1 else ""
        which = f"the last {held_back:,} validate"
        if files > 1:
            which = f"the end of each validates, {held_back:,} in all"
        if files >= MANY and len(train) + len(validation) == files:
            which = f"{len(validation)} whole files validate, with {held_back:,}"
        return f"{counted(whole, unit)}{several}; {which}"

    def _symbols(self, why: str) -> str:
        """What the symbols are, and how many."""
        alphabet, count = self.alphabet, len(self.train) + len(self.validation)
        if type(alphabet) is Bytes:
            return f"symbols: {why}"
        if isinstance(alphabet, Characters):
            return f"symbols: {why}, {alphabet.size} different"
        line = f"symbols: {count:,} {alphabet.symbol}s, {alphabet.size:,} different ({alphabet.kind})"
        if isinstance(alphabet, Words):
            share = np.isin(self.validation.symbols, alphabet.unwritten).mean()
            line += f"; {100 * share:.1f}% of those that validate are unknown"
        return line

    def buffers(self) -> dict[str, Tensor]:
        """Return nothing: symbols are not normalised."""
        return {}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return -(-((len(self.train) - 1) // self.batch_size) // self.steps)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        return lanes(self.train, self.batch_size, self.steps, self._there[0])

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        n = min(VALIDATION_LANES, len(self.validation) - 1)
        return lanes(self.validation, n, VALIDATION_WINDOW, self._there[1])

    def to(self, device: torch.device | None) -> None:
        """Keep a copy of the text on a device, if it is in memory and has room there; None: keep none."""
        both = self.train, self.validation
        self._there = None, None
        if device is None or any(each.mapped for each in both):
            return
        if fits(device, *(torch.from_numpy(each.symbols) for each in both)):
            self._there = [Moved(each, device) for each in both]


def parts(found: Documents, fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """The documents, or parts of them, to train and to validate on."""
    whole = found.raws or found.texts
    places = split([len(each) for each in whole], fraction, seed)
    cut = list(zip(whole, places, strict=True))
    return [each[:k] for each, k in cut if k], [each[k:] for each, k in cut if k < len(each)]


def chosen(config: DataConfig, found: Documents, train: list[str]) -> tuple[Alphabet, str]:
    """The symbols that ``--symbols`` asks for, or those that suit the text; and what they are, in words."""
    kind = config.symbols
    if kind == "bytes":
        return Bytes([], found.encoding), "bytes"
    if kind == "words":
        words = Words.of(train, config.vocabulary or MOST_WORDS)
        if words.size < 2:
            raise UserError(f"{config.source}: --symbols words: no word occurs twice in the training part")
        return words, kind
    if kind == "bpe":
        from undertow.app.data.texts.bpe import BytePairs

        return BytePairs.of(train, config.vocabulary or MOST_PAIRS), kind
    characters = Characters.of("".join(found.texts), found.encoding)
    if kind is None and characters.size > MOST_CHARACTERS:
        return Bytes([]), f"bytes, since {characters.size:,} characters are different (--symbols overrides)"
    return characters, "characters"


def measure(alphabet: Alphabet, found: Documents, validation: list[Any]) -> tuple[int, float]:
    """The characters of the validation part, 0 if it is no text, and what is added to its bits per character.

    The letters of unknown words count: each letter, and the end of the word, as if any of the vocabulary's
    characters were equally likely. Otherwise a smaller vocabulary would seem better.
    """
    if not found.texts:
        return 0, 0.0
    texts = [
        each.decode(found.encoding, "replace") if isinstance(each, bytes) else each for each in validation
    ]
    characters = sum(map(len, texts))
    if not isinstance(alphabet, Words):
        return characters, 0.0
    letters = len(set("".join(alphabet.vocabulary[1:])))
    spelt = sum(len(word) + 1 for text in texts for word in alphabet.unknown(text))
    return characters, spelt * math.log2(letters + 1) / max(1, characters)


def alphabet_of(facts: dict[str, Any]) -> Alphabet:
    """The alphabet that a run's config.json keeps."""
    kinds: dict[str, type[Alphabet]] = {"characters": Characters, "bytes": Bytes, "words": Words}
    if facts["symbols"] == "bpe":
        from undertow.app.data.texts.bpe import BytePairs

        kinds["bpe"] = BytePairs
    return kinds[facts["symbols"]](facts["vocabulary"], facts["encoding"])
