"""One table from a file, several files or a folder, whatever format they have; texts stay texts.

Polars reads most formats. Columns that a format has typed keep their type.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl

from undertow.app.data.files import content
from undertow.app.data.files.content import files_of
from undertow.app.data.files.delimited import read_delimited
from undertow.app.data.files.disk import check_fits
from undertow.app.data.files.lines import named
from undertow.app.data.reading import ColumnReading, Reading
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig

FILE = "file"  # the column that tells several files apart


def load(path: Path, config: DataConfig, reading: Reading, kept: bool) -> pl.DataFrame:
    """All rows, each column as the format has it; notes in ``reading`` what was found."""
    check_fits(path, config)
    files = files_of(path, config)
    frames: list[pl.DataFrame] = []
    for number, file in enumerate(files):
        said = list(reading.said)
        frame = plain(read_file(file, config, reading, kept or number > 0))
        reading.said = said if number else reading.said
        frame, named_by = with_places(frame, file, path, len(files), reading)
        reading.columns.update({name: ColumnReading() for name in named_by})  # texts, whatever they look like
        check_columns(frame, file, frames, files[0])
        frames.append(frame)
    if len(files) > 1:
        reading.said.insert(0, f"{len(files)} files")
    try:
        return pl.concat([frame.select(frames[0].columns) for frame in frames], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: the files do not fit together: {str(error).splitlines()[0]}") from None


def with_places(
    frame: pl.DataFrame, file: Path, path: Path, count: int, reading: Reading
) -> tuple[pl.DataFrame, list[str]]:
    """The rows of a file with what its place says: the keys of a partition, or its name among several files.

    Returns:
        The rows, and the names of these columns.
    """
    parts = [part for part in file.relative_to(path).parts if "=" in part] if path.is_dir() else []
    pairs = [part.split("=", 1) for part in parts]
    if (count > 1 or FILE in reading.columns) and not pairs and FILE not in frame.columns:
        pairs = [[FILE, stem(file)]]
    return frame.with_columns(pl.lit(value, pl.String).alias(name) for name, value in pairs), [
        name for name, _ in pairs
    ]


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Records within a column as columns of their own; categories and clock times as texts."""
    while nested := [name for name, dtype in frame.schema.items() if dtype == pl.Struct]:
        for name in nested:
            inner = frame[name].struct.unnest()
            frame = frame.drop(name).hstack(
                inner.rename({field: f"{name}.{field}" for field in inner.columns})
            )
    texts = [name for name, dtype in frame.schema.items() if dtype in (pl.Categorical, pl.Enum, pl.Time)]
    return frame.with_columns(pl.col(texts).cast(pl.String))


def stem(file: Path) -> str:
    """The name of a file without its endings."""
    name = file.name
    for end in content.COMPRESSED:
        name = name.removesuffix(end)
    return Path(name).stem


def check_columns(frame: pl.DataFrame, file: Path, before: list[pl.DataFrame], first: Path) -> None:
    """Raise UserError unless a file has the columns of the files before it."""
    if before and (other := set(frame.columns) ^ set(before[0].columns)):
        raise UserError(f"{file}: column {sorted(other)[0]!r} is not in this file and in {first} alike")


def read_file(path: Path, config: DataConfig, reading: Reading, kept: bool) -> pl.DataFrame:
    """One file. Raises UserError for what is no table."""
    raw, kind = content.unpacked(path)
    if kind == "text" and content.ending(path) in (".jsonl", ".ndjson", ".json"):
        kind = "json"
    if kind != "text":
        reading.format = kind
        return polars(path, lambda: READERS[kind](raw, path, config, reading))
    if content.ending(path) in content.ENDINGS - {".csv", ".tsv", ".tab", ".psv"}:
        raise UserError(f"{path}: not a readable table: not in the format that its ending stands for")
    text, encoding = content.decoded(raw, path, config.encoding, reading.encoding or None)
    raw = b""  # a table may be large
    if encoding not in ("utf-8", "ascii") and config.encoding is None:
        reading.said.append(f"encoding {encoding}")
    reading.encoding = encoding
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise UserError(f"{path}: the table has no rows")
    return read_delimited(text, path, reading, config.no_header, kept)


def polars(path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Call a reader of Polars. Raises UserError in place of its errors, and of missing packages."""
    try:
        return read()
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: needs the package {error.name}: pip install {error.name}") from None
    except Exception as error:  # each format has errors of its own
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable table: {text}") from None


def json_rows(raw: bytes, path: Path, config: DataConfig, reading: Reading) -> pl.DataFrame:
    """Read a list of JSON records, or JSON lines."""
    text, reading.encoding = content.decoded(raw, path, config.encoding, reading.encoding or None)
    if text.lstrip().startswith("["):
        return pl.read_json(text.encode(), infer_schema_length=None)
    return pl.read_ndjson(text.encode(), infer_schema_length=None)


def sheet(raw: bytes, path: Path, config: DataConfig, reading: Reading) -> pl.DataFrame:
    """One sheet of a workbook: the only one that holds rows, or the one that ``--sheet`` names."""
    import fastexcel

    logging.getLogger("fastexcel").setLevel(logging.ERROR)  # it warns of every empty column
    book = fastexcel.read_excel(raw)
    wanted = config.sheet or reading.sheet
    if wanted and wanted not in book.sheet_names:
        raise UserError(f"{path}: no sheet {wanted!r} (--sheet); sheets: {one_of(book.sheet_names)}")
    filled = (
        [wanted] if wanted else [n for n in book.sheet_names if book.load_sheet(n, header_row=None).height]
    )
    if len(filled) != 1:
        raise UserError(f"{path}: --sheet NAME: which of the sheets? {one_of(filled or book.sheet_names)}")
    reading.sheet = filled[0]
    top = book.load_sheet(filled[0], header_row=None, n_rows=50, dtypes="string").to_polars()
    counts = [len(top.columns) - row.count(None) for row in top.iter_rows()]
    heading = next((k for k, count in enumerate(counts) if count >= max(1, max(counts) - 1)), 0)
    if heading and not config.no_header:
        reading.said.append(f"{heading} lines before the heading skipped")
    header_row = None if config.no_header else heading
    table: pl.DataFrame = book.load_sheet(
        filled[0], header_row=header_row, schema_sample_rows=None
    ).to_polars()
    names = ["" if name.startswith("__UNNAMED__") else name for name in table.columns]
    table.columns = named(names, len(names))
    return table.drop([name for name in table.columns if table.schema[name] == pl.Null])


def net_cdf(raw: bytes, path: Path, config: DataConfig, reading: Reading) -> pl.DataFrame:
    """Read a NetCDF file; imports what that needs."""
    from undertow.app.data.files.netcdf import read_netcdf

    return read_netcdf(raw, path)


READERS: dict[str, Callable[[bytes, Path, DataConfig, Reading], pl.DataFrame]] = {
    "parquet": lambda raw, *_: pl.read_parquet(raw),
    "arrow": lambda raw, *_: pl.read_ipc(raw),
    "arrow stream": lambda raw, *_: pl.read_ipc_stream(raw),
    "json": json_rows,
    "excel": sheet,
    "netcdf": net_cdf,
}
