"""A table in batches of rows, for tables that do not fit into memory: Polars reads them lazily."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from undertow.app.data.files import content
from undertow.app.data.files.content import files_of
from undertow.app.data.files.delimited import Layout, layout, without_row_numbers
from undertow.app.data.files.formats import check_columns, plain, polars, with_places
from undertow.app.data.reading import ColumnReading, Reading
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

CELLS = 2_000_000  # of a batch
HEAD = 4_000_000  # bytes from which the heading and the separator are known
SCANNED: dict[str, Callable[[Path], pl.LazyFrame]] = {
    "parquet": lambda file: pl.scan_parquet(file, glob=False),
    "arrow": lambda file: pl.scan_ipc(file, glob=False),
}
WHOLE = "without --cache a table that fits into memory is read as a whole"


def batches(path: Path, config: DataConfig, reading: Reading, kept: bool) -> Iterator[pl.DataFrame]:
    """Yield all rows in order, as ``formats.load`` reads them; notes in ``reading`` what was found.

    Args:
        path: A file or folder.
        config: The options.
        reading: Filled in, or that of the training.
        kept: Whether it is that of the training.

    Raises:
        UserError: A file is no table, or of a kind that is read as a whole only.
    """
    files = files_of(path, config)
    first: list[pl.DataFrame] = []
    for number, file in enumerate(files):
        said = list(reading.said)
        for frame in _of_file(file, config, reading, kept or number > 0):
            frame, named_by = with_places(frame, file, path, len(files), reading)
            reading.columns.update({name: ColumnReading() for name in named_by})
            check_columns(frame, file, first, files[0])
            first = first or [frame[:0]]
            yield frame.select(first[0].columns)
        reading.said = said if number else reading.said
    if len(files) > 1:
        reading.said.insert(0, f"{len(files)} files")


def expected(path: Path, config: DataConfig) -> int:
    """About how many batches there are, to show how far their reading is."""
    cells = 0.0
    for file in files_of(path, config):
        with file.open("rb") as opened:
            raw = opened.read(HEAD)
        kind = content.magic(raw, file)
        if kind in SCANNED:
            lazy = SCANNED[kind](file)
            rows = polars(file, lazy.select(pl.len()).collect)
            cells += int(rows.item()) * len(lazy.collect_schema())
        else:
            separators = max(raw.count(each) for each in (b",", b";", b"\t", b"|"))
            cells += (separators + raw.count(b"\n")) / max(1, len(raw)) * file.stat().st_size
    return 1 + int(cells / CELLS)


def columns_of(path: Path, config: DataConfig) -> list[str]:
    """The names of the columns, of a table that is not read otherwise."""
    rows = batches(path, config, Reading(), kept=False)
    return next(rows, pl.DataFrame()).columns


def _of_file(file: Path, config: DataConfig, reading: Reading, kept: bool) -> Iterator[pl.DataFrame]:
    with file.open("rb") as opened:
        raw = opened.read(HEAD)
    if not raw:
        raise UserError(f"{file}: the file is empty")
    kind = content.magic(raw, file)
    if kind in SCANNED:
        reading.format = kind
        yield from _collected(file, SCANNED[kind](file), None, reading)
        return
    if kind != "text" or content.ending(file) in content.ENDINGS - {".csv", ".tsv", ".tab", ".psv"}:
        kind = kind if kind != "text" else content.ending(file).removeprefix(".")
        raise UserError(
            f"{file}: {kind} is read into memory as a whole; expected CSV, Parquet or Arrow; {WHOLE}"
        )
    found = _layout(file, raw, config, reading, kept)
    lazy = pl.scan_csv(
        file,
        has_header=False,
        skip_lines=found.start,
        separator=reading.separator,
        comment_prefix=reading.comment or None,
        schema=dict.fromkeys(found.names, pl.String),
        glob=False,
    )
    yield from _collected(file, lazy, found, reading)


def _layout(file: Path, raw: bytes, config: DataConfig, reading: Reading, kept: bool) -> Layout:
    """Heading and separator, from whole lines at the beginning; UserError for what is not read in batches."""
    raw = raw[: raw.rfind(b"\n") + 1] or raw
    text, encoding = content.decoded(raw, file, config.encoding, reading.encoding or None)
    reading.encoding = encoding
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{file}: the table has no rows")
    found = layout(text, file, reading, config.no_header, kept)
    unusual = {
        f"encoding {encoding}": encoding not in ("utf-8", "ascii"),
        "a byte order mark": raw.startswith(b"\xef\xbb\xbf") and not found.start,
        "lines that end with carriage returns": "\r" in text,
        "fields separated by blanks": reading.separator == " ",
    }
    for what, there in unusual.items():
        if there:
            raise UserError(f"{file}: a table with {what} is read into memory as a whole; {WHOLE}")
    return found


def _collected(
    file: Path, lazy: pl.LazyFrame, found: Layout | None, reading: Reading
) -> Iterator[pl.DataFrame]:
    """The batches of a file, in order; the errors of Polars as UserError."""
    width = max(1, len(polars(file, lambda: lazy.head(0).collect()).columns))
    rows = lazy.collect_batches(
        chunk_size=max(1, CELLS // width), maintain_order=True, lazy=True, engine="streaming"
    )
    counted = None if found is not None and found.counted else False
    while (batch := polars(file, lambda: next(rows, pl.DataFrame()))).width:
        if batch.is_empty():
            continue
        if counted is not False:
            told = Reading()
            uncounted = without_row_numbers(batch, told)
            if counted and uncounted.width == batch.width:
                raise UserError(f"{file}: the first column has no name and numbers only the first rows")
            counted, batch = uncounted.width < batch.width, uncounted
            reading.said.extend(each for each in told.said if each not in reading.said)
        yield plain(batch)
