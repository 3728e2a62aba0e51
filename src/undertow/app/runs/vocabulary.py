"""The vocabulary of a text model as config.json keeps it: its size, and the symbols of byte pair encoding.

Byte pair encoding (Sennrich et al. 2016) begins with the 256 bytes; each merge adds a symbol. Bytes are
written as printable characters, as GPT-2 (Radford et al. 2019) and huggingface tokenizers do, so a merge is
text: ``"Ġ t"`` joins a space and a t.
"""

from functools import cache
from typing import Literal

Kind = Literal["bytes", "characters", "words", "bpe"]

UNKNOWN = "<unk>"  # number 0 of words: any word that the vocabulary does not hold
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))


def size(kind: Kind, vocabulary: list[str]) -> int:
    """Count the symbols.

    Args:
        kind: bytes, characters, words or bpe.
        vocabulary: Nothing for bytes, the characters in order, the words after <unk>, or the merges.

    Returns:
        The number of symbols.

    Raises:
        ValueError: The vocabulary is none of this kind.
    """
    different = len(set(vocabulary)) == len(vocabulary)
    holds = {
        "bytes": not vocabulary,
        "characters": sorted(set(vocabulary)) == vocabulary and all(len(each) == 1 for each in vocabulary),
        "words": different and vocabulary[:1] == [UNKNOWN] and all(vocabulary),
        "bpe": different,
    }
    if not holds[kind]:
        raise ValueError(f"no vocabulary of {kind}")
    if kind == "bytes":
        return 256
    return len(pairs(vocabulary) if kind == "bpe" else vocabulary)


def pairs(merges: list[str]) -> list[str]:
    """List the symbols of byte pair encoding in the order of their numbers.

    Args:
        merges: Pairs of symbols with a space between, in the order in which they are applied.

    Returns:
        The symbols, in printable form.

    Raises:
        ValueError: A merge is no pair of symbols that are there before it.
    """
    found = dict.fromkeys(sorted(letters()))
    for merge in merges:
        left, right = merge.split(" ")
        if left not in found or right not in found:
            raise ValueError(f"no pair of symbols: {merge!r}")
        found[left + right] = None
    return list(found)


@cache
def letters() -> list[str]:
    """Return the character that stands for each of the 256 bytes, by byte."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return [chr(byte if byte in _PRINTABLE else 256 + others.index(byte)) for byte in range(256)]


def as_bytes(symbol: str) -> bytes:
    """Return the bytes that a symbol in printable form stands for."""
    return bytes(letters().index(letter) for letter in symbol)
