"""What the bytes of a file hold: which format, compressed or not, and text in which encoding."""

import gzip
import re
from pathlib import Path

from undertow.app.errors import UserError, must_be_unicode
from undertow.app.runs.config import DataConfig

MAGIC = {  # the first bytes of formats that are read, and of common ones that are not
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow stream",
    b"\xd0\xcf\x11\xe0": "excel",
    b"\x89HDF": "netcdf",
    b"CDF": "netcdf",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2 archive",
    b"\xfd7zXZ": "xz archive",
    b"7z\xbc\xaf": "7z archive",
    b"FEA1": "Feather file of version 1",
    b"SQLite format 3": "SQLite database",
    b"%PDF": "PDF",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"GIF8": "picture",
    b"\x93NUMPY": "NumPy array",
    b"RIFF": "sound or film",
}
READ = ("parquet", "arrow", "arrow stream", "excel", "netcdf", "text")
SHEETS = (".xlsx", ".xlsm", ".xlsb", ".ods")  # zip archives that hold sheets
ENDINGS = {  # endings of tables; what a file holds is decided by its first bytes
    ".csv", ".tsv", ".tab", ".psv", ".parquet", ".pq", ".feather", ".arrow", ".ipc",
    ".jsonl", ".ndjson", ".json", ".xls", *SHEETS, ".nc", ".nc4", ".cdf",
}  # fmt: skip
RECORDINGS = (".wav", ".wave", ".flac", ".aif", ".aiff")  # endings of formats without loss
LOSSY = (".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma")
COMPRESSED = (".gz", ".zst")
MARKS = {  # byte order marks; UTF-32 first, whose mark begins with that of UTF-16
    b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
CONTROL = bytes(k for k in range(32) if k not in (*range(9, 14), 27))  # that hardly any text holds
MOST_CONTROL = 0.05  # share of them in a text; of random bytes they are a tenth
SAMPLE = 200_000  # bytes from which an encoding is guessed


def ending(path: Path) -> str:
    """The ending of a name, in lower case, without that of the compression."""
    name = path.name.lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether the name or the first bytes of a file say that it is a table."""
    if ending(path) in ENDINGS:
        return True
    with path.open("rb") as file:
        return magic(file.read(16), path) in READ[:-1]


def is_recording(path: Path) -> bool:
    """Whether the name of a file is that of a recording; what it holds is decided by libsndfile.

    Raises:
        UserError: The name is that of a format with loss, whose samples are not those of the sound.
    """
    ending = path.suffix.lower()
    if ending in LOSSY:
        raise UserError(f"{path}: {ending[1:]} loses samples; expected WAV, FLAC or AIFF")
    return ending in RECORDINGS


def magic(raw: bytes, path: Path) -> str:
    """The format that the first bytes stand for; ``text`` where they stand for none."""
    if raw.startswith(b"PK\x03\x04") and ending(path) in SHEETS:
        return "excel"
    return next((name for start, name in MAGIC.items() if raw.startswith(start)), "text")


def unpacked(path: Path) -> tuple[bytes, str]:
    """What a file holds, without compression, and its format. Raises UserError for what cannot be read."""
    try:
        raw = path.read_bytes()
        kind = magic(raw, path)
        if kind == "gzip":
            raw = gzip.decompress(raw)
        elif kind == "zstd":
            import zstandard

            raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (EOFError, ValueError, ArithmeticError) as error:
        raise UserError(f"{path}: damaged: {error}") from None
    except Exception as error:  # zstandard and zlib have errors of their own
        raise UserError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    if not raw:
        raise UserError(f"{path}: the file is empty")
    kind = magic(raw, path)
    if kind not in READ:
        raise UserError(f"{path}: expected a text or a table, and it is a {kind}")
    return raw, kind


def decoded(raw: bytes, path: Path, asked: str | None = None, before: str | None = None) -> tuple[str, str]:
    """The text that ``raw`` holds, and its encoding.

    Args:
        raw: The bytes.
        path: The file, for error messages.
        asked: What ``--encoding`` says; nothing else is tried.
        before: The encoding of the training, preferred where the bytes are no UTF-8.

    Raises:
        UserError: The bytes are no text, or are not in the encoding asked for.
    """
    if asked is not None:
        try:
            return raw.decode(asked).removeprefix("\ufeff"), asked
        except (UnicodeDecodeError, LookupError) as error:
            raise UserError(f"--encoding {asked}: {path}: {error}") from None
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
    encoding = encoding or without_mark(raw)
    if encoding is None:
        encoding = before if before is not None and decodes(raw, before) else guessed(raw)
    try:
        text = raw.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise no_text(path) from None
    if encoding is None or "\0" in text or controls(text) > MOST_CONTROL * len(text):
        raise no_text(path)
    return text, {"utf-8-sig": "utf-8"}.get(encoding, encoding)


def controls(text: str) -> int:
    """How many control characters a text holds, other than those for lines, tabs and escapes."""
    raw = text.encode(errors="replace")
    return len(raw) - len(raw.translate(None, CONTROL))


def no_text(path: Path) -> UserError:
    """Make the error for binary content, for the caller to raise."""
    return UserError(
        f"{path}: binary content, neither a text nor a table", "--encoding NAME reads it as text"
    )


def decodes(raw: bytes, encoding: str) -> bool:
    """Tell whether the bytes are text in the encoding."""
    try:
        raw.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def without_mark(raw: bytes) -> str | None:
    """UTF-8, or UTF-16 by the zeros of its ASCII characters; None for neither."""
    if raw.count(b"\0", 0, SAMPLE):
        zeros = [raw[k:SAMPLE:2].count(0) / max(1, len(raw[k:SAMPLE:2])) for k in (0, 1)]
        if max(zeros) > 0.4 and min(zeros) < 0.05:
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8" if decodes(raw, "utf-8") else None


def guessed(raw: bytes) -> str | None:
    """An encoding with one byte a letter, or an Asian one; None where the bytes are no text.

    Where only some letters are accented, and none of them stands where western text has none, the encoding is
    western: a statistical guess from a few letters is often wrong.
    """
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", raw):
        return None
    found = re.findall(rb"[\x80-\xff]+", raw[: 10 * SAMPLE])
    in_long_runs = sum(len(run) for run in found if len(run) > 2) / max(1, sum(map(len, found)))
    western = "cp1252" if re.search(rb"[\x80-\x9f]", raw) else "latin-1"
    if in_long_runs < 0.2 and decodes(raw, western):
        text = raw[: 10 * SAMPLE].decode(western)
        if not re.search(r"[A-Za-z][\xa1-\xb1\xb3-\xb6\xb8-\xbf€†‡ˆ‰‹›˜™Ÿ][a-z]", text):
            return western
    from charset_normalizer import from_bytes

    best = from_bytes(b"\n".join(line for line in raw.splitlines() if not line.isascii())[:SAMPLE]).best()
    return best.encoding if best is not None and decodes(raw, best.encoding) else None


def in_folder(path: Path) -> list[Path]:
    """The files of a folder in the order of their names: its tables, or its texts where it has none."""
    must_be_unicode(path)
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return [path]
    inside = [each.relative_to(path) for each in sorted(path.rglob("*")) if each.is_file()]
    there = [path / each for each in inside if not any(part[0] in "._" for part in each.parts)]
    found = [each for each in there if is_table(each)] or there
    if not found:
        raise UserError(f"{path}: the folder holds no files")
    return found


def files_of(path: Path, config: DataConfig) -> list[Path]:
    """The files that ``path`` stands for, with those that the command names beside it."""
    further = [Path(each) for each in config.further] if str(path) == config.source else []
    return [file for each in (path, *further) for file in in_folder(each)]
