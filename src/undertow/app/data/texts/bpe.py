"""Byte pair encoding: frequent strings are one symbol, rare ones several, down to single bytes.

Sennrich et al. 2016 on bytes, as in GPT-2 (Radford et al. 2019). huggingface tokenizers does the work.
"""

import json
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.app.data.texts.alphabet import Bytes
from undertow.app.errors import UserError
from undertow.app.runs import vocabulary


class BytePairs(Bytes):
    """Bytes and pairs of them; the vocabulary holds the merges, as of ``runs.vocabulary``."""

    kind = "bpe"
    symbol = "token"

    @classmethod
    def of(cls, texts: list[str], size: int) -> "BytePairs":
        """Find the merges for a text.

        Args:
            texts: The training part.
            size: The number of symbols; fewer if the text gives no more.

        Returns:
            The symbols.

        Raises:
            UserError: The package is missing.
        """
        tokenizer, trainers = _tokenizer([]), _library().trainers
        alphabet = sorted(vocabulary.letters())
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
        lines = (line for text in texts for line in text.splitlines(keepends=True))
        tokenizer.train_from_iterator(lines, trainer)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        return cls([" ".join(merge) for merge in merges])

    @cached_property
    def symbols(self) -> list[bytes]:
        """The bytes of each symbol."""
        return [vocabulary.as_bytes(symbol) for symbol in vocabulary.pairs(self.vocabulary)]

    @property
    def names(self) -> list[str]:
        r"""The symbols as text; bytes that form no character as \xff."""
        return [symbol.decode(errors="backslashreplace") for symbol in self.symbols]

    @cached_property
    def _encoder(self) -> Any:
        return _tokenizer(self.vocabulary)

    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Number the symbols, as of Alphabet. Lines are encoded one by one."""
        self._raw(text, given_as)
        found = self._encoder.encode_batch_fast(text.splitlines(keepends=True))
        return np.array([number for line in found for number in line.ids], np.int64)

    def _bytes_of(self, number: int) -> bytes:
        return self.symbols[number]


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError("--symbols bpe: needs the package tokenizers: pip install 'undertow[bpe]'") from None
    return tokenizers


def _tokenizer(merges: list[str]) -> Any:
    library = _library()
    numbers = {symbol: number for number, symbol in enumerate(vocabulary.pairs(merges))}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = library.Tokenizer(library.models.BPE(vocab=numbers, merges=pairs))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
