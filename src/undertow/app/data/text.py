"""Text as a sequence of symbols: predict the next one at every step.

The text is cut into N lanes that are read side by side, T symbols at a time, with the state carried
from one window to the next (truncated back-propagation through time). The last part validates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.app.data import Facts, Shape
from undertow.app.data.content import decoded, files_of, in_folder, unpacked
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.objective import Batch, Objective

MOST_CHARACTERS = 1000  # more distinct ones than this: bytes serve better
VALIDATION_LANES = 16  # each lane starts from a zero state, so few of them
VALIDATION_WINDOW = 256  # T when measuring; the state is carried, so it changes nothing


@dataclass(frozen=True)
class Alphabet:
    """Symbols and their numbers: characters in code point order, or the 256 bytes (characters None)."""

    characters: str | None
    encoding: str = (
        "utf-8"  # of the text that was read: the one of prompts and output where bytes are symbols
    )

    @property
    def size(self) -> int:
        """The number of symbols."""
        return 256 if self.characters is None else len(self.characters)

    @property
    def unit(self) -> str:
        """The name of a symbol: byte or char."""
        return "byte" if self.characters is None else "char"

    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Numbers of the symbols of ``text``; raises UserError for a character never seen in training.

        Of bytes also for what is no Unicode, such as an argument in another encoding than the terminal's.
        """
        if self.characters is None:
            try:
                return np.frombuffer(text.encode(self.encoding), np.uint8).astype(np.int64)
            except UnicodeEncodeError:
                wanted = "Unicode text" if self.encoding == "utf-8" else f"text that {self.encoding} can hold"
                raise UserError(f"{given_as}: expected {wanted}, got {text!r}") from None
        number = {character: k for k, character in enumerate(self.characters)}
        for place, character in enumerate(text):
            if character not in number:
                raise UserError(
                    f"{given_as}: character {character!r} at position {place + 1} is not in the text "
                    f"that the model learnt"
                )
        return np.array([number[character] for character in text], np.int64)


def read_text(
    path: Path, as_bytes: bool, config: DataConfig | None = None, before: str | None = None
) -> tuple[Alphabet, NDArray[np.int64]]:
    """The alphabet of a text and its symbols, numbered; bytes where it has very many characters.

    Args:
        path: A file, or a folder whose files are read as one text.
        as_bytes: Whether symbols are bytes.
        config: The options for reading; None stands for none.
        before: The encoding of the training's text.

    Raises:
        UserError: The content is binary and ``as_bytes`` does not ask for it.
    """
    files = files_of(path, config) if config is not None else in_folder(path)
    asked = config.encoding if config is not None else None
    raws = [bytes_of(file, as_bytes) for file in files]
    encoding, texts = "utf-8", []
    for file, raw in zip(files, raws, strict=True):
        try:
            text, encoding = decoded(raw, file, asked, before)
        except UserError:
            if not as_bytes:
                raise
            text, encoding = "", "utf-8"
        texts.append(text)
    if as_bytes:
        return Alphabet(None, encoding), np.frombuffer(b"".join(raws), np.uint8).astype(np.int64)
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    distinct, symbols = np.unique(points, return_inverse=True)
    if len(distinct) <= MOST_CHARACTERS:
        return Alphabet("".join(map(chr, distinct)), encoding), symbols.astype(np.int64)
    return Alphabet(None), np.frombuffer("".join(texts).encode(), np.uint8).astype(np.int64)


def bytes_of(path: Path, as_bytes: bool) -> bytes:
    """What a file holds: as it stands for bytes, else a text, which may be compressed."""
    if as_bytes:
        return path.read_bytes()
    raw, kind = unpacked(path)
    if kind != "text":
        raise UserError(
            f"{path}: expected a text, and it is a table or workbook ({kind}); --bytes reads its bytes"
        )
    return raw


def lanes(symbols: NDArray[np.int64], n: int, steps: int) -> Iterator[Batch]:
    """Windows of ``steps`` symbols from ``n`` lanes read side by side, state carried."""
    length = (len(symbols) - 1) // n
    x = torch.from_numpy(symbols[: n * length].reshape(n, length).T)  # [length, N]
    y = torch.from_numpy(symbols[1 : n * length + 1].reshape(n, length).T)  # [length, N]
    for start in range(0, length, steps):
        yield Batch(x[start : start + steps], y[start : start + steps], carried=start > 0)


class TextTask:
    """A language model over the characters or bytes of one file."""

    evaluations = 2

    def __init__(self, config: DataConfig, batch_size: int, seed: int) -> None:
        path = Path(config.source)
        self.alphabet, symbols = read_text(path, config.as_bytes, config)
        self.steps, self.batch_size = config.steps, batch_size
        held_back = int(len(symbols) * config.validation)
        self.train, self.validation = np.split(symbols, [len(symbols) - held_back])
        self._check_length(path, len(symbols))
        self.shape = Shape(outputs=self.alphabet.size, readout="every", symbols=self.alphabet.size)
        unit = self.alphabet.unit
        self.objective = Objective("bits", f"bits/{unit}")
        self.facts = Facts(
            lines=[
                f"{len(symbols):,} {unit}s, {len(np.unique(symbols))} different; "
                f"the last {held_back:,} validate",
                *(f"read with encoding {name}" for name in [self.alphabet.encoding] if name != "utf-8"),
            ],
            values={"characters": self.alphabet.characters, "encoding": self.alphabet.encoding},
        )

    def _check_length(self, path: Path, length: int) -> None:
        needed = self.batch_size * (self.steps + 1)
        if len(self.train) < needed:
            raise UserError(
                f"{path}: {length} symbols are too few: --batch-size {self.batch_size} lanes of "
                f"--steps {self.steps} need {needed} for training, there are {len(self.train)}; lower one"
            )
        if len(self.validation) < 2:
            raise UserError(f"{path}: {length} symbols leave nothing to validate; raise --validation")

    def buffers(self) -> dict[str, Tensor]:
        """Return nothing: symbols are not normalised."""
        return {}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return -(-((len(self.train) - 1) // self.batch_size) // self.steps)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        return lanes(self.train, self.batch_size, self.steps)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        n = min(VALIDATION_LANES, len(self.validation) - 1)
        return lanes(self.validation, n, VALIDATION_WINDOW)


def alphabet_of(facts: dict[str, Any]) -> Alphabet:
    """The alphabet that a run's config.json keeps."""
    return Alphabet(facts["characters"], facts.get("encoding", "utf-8"))
