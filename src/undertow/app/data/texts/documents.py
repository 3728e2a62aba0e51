"""Texts as documents: each file is one. Which of them, or which part of each, validates."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undertow.app.data.files.content import decoded, files_of, in_folder, unpacked
from undertow.app.data.files.disk import check_fits
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

MANY = 20  # documents from which whole ones validate


@dataclass(frozen=True)
class Documents:
    """What files hold.

    Args:
        texts: By file; empty if the files are no texts, which only bytes may be.
        raws: By file, only if symbols are bytes.
        encoding: Of the last file.
    """

    texts: list[str]
    raws: list[bytes]
    encoding: str


def read_documents(
    path: Path, as_bytes: bool, config: DataConfig | None = None, before: str | None = None
) -> Documents:
    """Read texts.

    Args:
        path: A file, or a folder whose files are read.
        as_bytes: Whether symbols are bytes, and so the files may hold anything.
        config: The options for reading, and further files. None: none.
        before: The encoding of the training's text.

    Returns:
        The documents, in the order of the command line and of names within folders.

    Raises:
        UserError: A file cannot be read, or is no text and ``as_bytes`` does not allow that.
    """
    if config is not None:
        check_fits(path, config)
    files = files_of(path, config) if config is not None else in_folder(path)
    asked = config.encoding if config is not None else None
    raws = [_bytes_of(file, as_bytes) for file in files]
    encoding, texts = "utf-8", []
    for file, raw in zip(files, raws, strict=True):
        try:
            text, encoding = decoded(raw, file, asked, before)
        except UserError:
            if not as_bytes:
                raise
            return Documents([], raws, "utf-8")
        texts.append(text)
    return Documents(texts, raws if as_bytes else [], encoding)


def _bytes_of(path: Path, as_bytes: bool) -> bytes:
    """What a file holds: as it stands for bytes, else a text, which may be compressed."""
    if as_bytes:
        return path.read_bytes()
    raw, kind = unpacked(path)
    if kind != "text":
        raise UserError(
            f"{path}: expected a text, and it is a table or workbook ({kind}); "
            "--symbols bytes reads its bytes"
        )
    return raw


def split(lengths: list[int], fraction: float, seed: int) -> list[int]:
    """Choose where the validation part of each document begins.

    Whole documents validate where there are MANY and some of them make up about the fraction; otherwise the
    end of each.

    Args:
        lengths: Of the documents.
        fraction: Of all of them together that validates.
        seed: Of the choice of documents.

    Returns:
        For each document the place; its length if all of it is trained on.
    """
    wanted, total = fraction * sum(lengths), 0
    places = list(lengths)
    for k in np.random.default_rng(seed).permutation(len(lengths)):
        if total + lengths[k] <= wanted:
            places[k], total = 0, total + lengths[k]
    if len(lengths) >= MANY and total >= wanted / 2:
        return places
    return [length - int(length * fraction) for length in lengths]
