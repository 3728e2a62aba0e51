"""Texts larger than memory: their symbols are numbered piece by piece, into files that are mapped."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.app import working
from undertow.app.data.files import content, disk
from undertow.app.data.files.content import CONTROL, MARKS, MOST_CONTROL, SAMPLE, files_of, without_mark
from undertow.app.data.files.disk import Mapped
from undertow.app.data.texts.alphabet import Alphabet, Bytes, Characters
from undertow.app.data.texts.documents import split
from undertow.app.data.texts.streams import Stream
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

SPACE = 24  # bytes of memory that a byte of text takes while it is read and numbered
PIECE = 16_000_000  # bytes read at once
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # in hardly any text
WHOLE = "is read into memory as a whole, and may not fit"


@dataclass
class LongText:
    """A text on disk, cut into the part to train on and the part that validates.

    Args:
        alphabet: Its symbols.
        train: Their numbers in the training part.
        validation: Their numbers in the validation part.
        train_lengths: [documents], characters, or bytes where these are the symbols.
        validation_lengths: [documents], as ``train_lengths``.
        characters: Of the validation part; 0 if it is no text.
        files: How many there are.
    """

    alphabet: Alphabet
    train: Stream
    validation: Stream
    train_lengths: list[int]
    validation_lengths: list[int]
    characters: int
    files: int


@dataclass
class _Surveyed:
    """What a first reading finds: the symbols of each file, whether all is text, and its characters."""

    lengths: list[int]
    is_text: bool
    vocabulary: list[str]


def is_wanted(path: Path, config: DataConfig) -> bool:
    """Whether the text is to be kept on disk. UserError if ``--cache`` asks for what is not."""
    known = config.symbols in (None, "characters", "bytes")
    if config.cache is not None and not known:
        raise UserError(f"--cache: --symbols {config.symbols} reads all of the text into memory")
    return known and disk.is_wanted(path, config, SPACE)


def read(path: Path, config: DataConfig, seed: int, kept: Alphabet | None, most: int) -> LongText:
    """Number the symbols of a text that does not fit into memory.

    Args:
        path: A file, or a folder whose files are documents.
        config: The options.
        seed: Of the choice of documents that validate.
        kept: The symbols of another training. None: those that are found.
        most: Characters that may differ, unless they are asked for.

    Returns:
        The text, equal to what is read into memory.

    Raises:
        UserError: It is not in UTF-8, is compressed, or has too many characters.
    """
    files = files_of(path, config)
    as_bytes = config.symbols == "bytes"
    found = _survey(files, as_bytes, config)
    alphabet: Alphabet = kept or (Bytes([]) if as_bytes else Characters(found.vocabulary))
    if not as_bytes and config.symbols is None and (alphabet.size > most or isinstance(alphabet, Bytes)):
        raise UserError(f"{path}: more than {most:,} different characters; --symbols bytes")
    places = split(found.lengths, config.validation, seed)
    train, validation = places, [n - k for n, k in zip(found.lengths, places, strict=True)]
    dtype = np.uint8 if alphabet.size <= 256 else np.uint16 if alphabet.size <= 65536 else np.uint32
    parts = [_Part(disk.room(config), sum(each), np.dtype(dtype)) for each in (train, validation)]
    characters = 0
    for number, (file, place) in enumerate(zip(files, places, strict=True)):
        at = 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in _pieces(file, as_bytes):
            symbols = _numbered(piece, alphabet, str(path))
            cut = min(max(place - at, 0), len(symbols))
            for part, some, k in ((parts[0], symbols[:cut], at), (parts[1], symbols[cut:], at + cut - place)):
                part.add(some, k == 0)
            if found.is_text and as_bytes:
                characters += len(decoder.decode(symbols[cut:].astype(np.uint8).tobytes()))
            at += len(symbols)
        characters += len(decoder.decode(b"", final=True))
        if at != found.lengths[number]:
            raise UserError(f"{file}: changed while it was read; start again")
    characters = characters if as_bytes else sum(validation)
    first, second = (part.stream() for part in parts)
    learnt, held_back = ([n for n in each if n] for each in (train, validation))
    return LongText(alphabet, first, second, learnt, held_back, characters, len(files))


class _Part:
    """Symbols that are being written, and where documents begin."""

    def __init__(self, folder: Path, length: int, dtype: "np.dtype[Any]") -> None:
        self.symbols, self.begins = Mapped(folder, (length,), dtype), Mapped(folder, (length,), np.bool_)
        self.length = 0

    def add(self, symbols: NDArray[Any], begins: bool) -> None:
        if not len(symbols):
            return
        self.symbols.array[self.length : self.length + len(symbols)] = symbols
        self.begins.array[self.length] |= begins
        self.length += len(symbols)
        self.symbols.release()

    def stream(self) -> Stream:
        return Stream(self.symbols.array, self.begins.array, (self.symbols, self.begins))


def _raws(file: Path) -> Iterator[bytes]:
    """The bytes of a file, piece by piece."""
    with file.open("rb") as opened:
        raws = iter(lambda: opened.read(PIECE), b"")
        yield from working.through(raws, 1 + file.stat().st_size // PIECE, "reading pieces of text")


def _pieces(file: Path, as_bytes: bool) -> Iterator[str | bytes]:
    """A file, piece by piece: as bytes, or as a text in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for raw in _raws(file):
        yield raw if as_bytes else decoder.decode(raw)


def _numbered(piece: str | bytes, alphabet: Alphabet, given_as: str) -> NDArray[Any]:
    if isinstance(piece, bytes):
        return np.frombuffer(piece, np.uint8)
    return alphabet.encode(piece, given_as)


def _survey(files: list[Path], as_bytes: bool, config: DataConfig) -> _Surveyed:
    """Read all files once: are they text in UTF-8, how long are they, which characters do they hold."""
    if config.encoding not in (None, "utf-8"):
        raise UserError(f"--encoding {config.encoding}: such a text {WHOLE}; convert it to UTF-8")
    lengths, vocabulary, is_text = [], set[str](), True
    for file in files:
        with file.open("rb") as opened:
            head = opened.read(SAMPLE)
        kind = content.magic(head, file)
        if any(map(head.startswith, MARKS)) or (not as_bytes and kind != "text"):
            what = f"{kind} file" if kind != "text" else "text with a byte order mark"
            raise UserError(f"{file}: a {what} {WHOLE}")
        decoder, controls, count, utf8, binary = codecs.getincrementaldecoder("utf-8")(), 0, 0, True, False
        size = 0
        for raw in [*_raws(file), b""]:
            size += len(raw)
            controls += len(raw) - len(raw.translate(None, CONTROL))
            binary = binary or BINARY.search(raw) is not None
            try:
                text = decoder.decode(raw, final=not raw) if utf8 else ""
            except UnicodeDecodeError:
                utf8 = False
                continue
            count += len(text)
            vocabulary |= set(text) if not as_bytes else set()
        plain = utf8 and b"\0" not in head and controls <= MOST_CONTROL * count
        if not plain and not (as_bytes and binary and without_mark(head) in (None, "utf-8")):
            hint = "" if as_bytes else " or read its bytes with --symbols bytes"
            raise UserError(f"{file}: a text that is not in UTF-8 {WHOLE}; convert it to UTF-8{hint}")
        is_text = is_text and plain
        lengths.append(size if as_bytes else count)
    return _Surveyed(lengths, is_text, sorted(vocabulary))
