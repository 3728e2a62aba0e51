"""The symbols of a text: bytes, characters, words or pairs of bytes, and their numbers."""

import codecs
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.app.errors import UserError, one_of
from undertow.app.runs.vocabulary import UNKNOWN
from undertow.app.words import counted

WORD = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s")  # any text is a sequence of these


@dataclass(frozen=True)
class Alphabet(ABC):
    """Symbols and their numbers.

    Args:
        vocabulary: What config.json keeps, as of each kind.
        encoding: Of the text that was read: that of prompts and output where bytes are symbols.
    """

    vocabulary: list[str]
    encoding: str = "utf-8"
    kind = "characters"
    symbol = "character"

    @property
    def names(self) -> list[str]:
        """The symbols as text, by number."""
        return self.vocabulary

    @property
    def size(self) -> int:
        """The number of symbols."""
        return len(self.names)

    @property
    def unwritten(self) -> list[int]:
        """The symbols that are never written."""
        return []

    @abstractmethod
    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Number the symbols of a text.

        Args:
            text: The text.
            given_as: The option or file, for the error message.

        Returns:
            [symbols] int64.

        Raises:
            UserError: The text holds what no symbol stands for.
        """

    def unknown(self, text: str) -> list[str]:
        """List the parts of a text that are read as <unk>, in its order."""
        return []

    def write(self, numbers: Iterator[int]) -> Iterator[str]:
        """Turn symbols into text as they come."""
        return (self.vocabulary[number] for number in numbers)

    def facts(self) -> dict[str, Any]:
        """Return what config.json keeps."""
        return {"symbols": self.kind, "vocabulary": self.vocabulary, "encoding": self.encoding}


class Characters(Alphabet):
    """Characters, in the order of their code points."""

    @classmethod
    def of(cls, text: str, encoding: str = "utf-8") -> "Characters":
        """Return the characters of a text."""
        return cls(list(map(chr, np.unique(_points(text)))), encoding)

    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Number the characters, as of Alphabet; UserError names those that the training did not have."""
        points, known = _points(text), _points("".join(self.vocabulary))
        numbers = np.searchsorted(known, points).clip(max=len(known) - 1)
        wrong = np.flatnonzero(known[numbers] != points)
        if len(wrong):
            counts = Counter(text[place] for place in wrong)
            places = {character: text.index(character) + 1 for character in counts}
            each = [
                f"{c!r} ({counted(n, 'time')}, from position {places[c]})" for c, n in counts.most_common()
            ]
            raise UserError(f"{given_as}: not in the text that the model learnt: {one_of(each, 5)}")
        return numbers.astype(np.int64)


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Bytes(Alphabet):
    """The 256 bytes; the vocabulary is empty."""

    kind = "bytes"
    symbol = "byte"

    @property
    def names(self) -> list[str]:
        r"""The bytes: ASCII characters, and others as \xff."""
        return [chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in range(256)]

    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Number the bytes, as of Alphabet."""
        return np.frombuffer(self._raw(text, given_as), np.uint8).astype(np.int64)

    def _raw(self, text: str, given_as: str) -> bytes:
        """The bytes; UserError also for an argument in another encoding than the terminal's."""
        try:
            return text.encode(self.encoding)
        except UnicodeEncodeError:
            wanted = "Unicode text" if self.encoding == "utf-8" else f"text that {self.encoding} can hold"
            raise UserError(f"{given_as}: expected {wanted}, got {text!r}") from None

    def write(self, numbers: Iterator[int]) -> Iterator[str]:
        """Write as of Alphabet; bytes that form no character become the replacement character."""
        decoder = codecs.getincrementaldecoder(self.encoding)(errors="replace")
        for number in numbers:
            yield decoder.decode(self._bytes_of(number))
        yield decoder.decode(b"", final=True)

    def _bytes_of(self, number: int) -> bytes:
        return bytes([number])


@dataclass(frozen=True)
class Words(Alphabet):
    """Words, punctuation and white space, most frequent first, after <unk>.

    A space belongs to the word that follows it, so the symbols of a text, joined, are the text.
    """

    numbers: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    kind = "words"
    symbol = "word"

    def __post_init__(self) -> None:
        self.numbers.update({word: number for number, word in enumerate(self.vocabulary)})

    @classmethod
    def of(cls, texts: list[str], most: int) -> "Words":
        """Collect the words that occur twice or more: rarer ones teach what an unknown word is like.

        Args:
            texts: The training part.
            most: The largest vocabulary, <unk> included.

        Returns:
            The words, the most frequent ones if there are too many.
        """
        counts = Counter(word for text in texts for word in WORD.findall(text))
        often = sorted((-n, word) for word, n in counts.items() if n > 1 and word != UNKNOWN)
        return cls([UNKNOWN, *(word for _, word in often[: most - 1])])

    @property
    def unwritten(self) -> list[int]:
        """<unk>."""
        return [0]

    def encode(self, text: str, given_as: str = "--prompt") -> NDArray[np.int64]:
        """Number the words, as of Alphabet; those that the vocabulary does not hold become <unk>."""
        return np.array([self.numbers.get(word, 0) for word in WORD.findall(text)], np.int64)

    def unknown(self, text: str) -> list[str]:
        """List the words that the vocabulary does not hold, as of Alphabet."""
        return [word for word in WORD.findall(text) if not self.numbers.get(word, 0)]
