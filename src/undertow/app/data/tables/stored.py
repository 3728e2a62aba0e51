"""A table on disk: read once in batches, kept typed, and given back a column or a batch at a time.

Every batch is interpreted for itself. All must be read alike: what the whole table would decide in memory,
the batches decide together, or the table is refused.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from undertow.app import working
from undertow.app.data.files.batches import WHOLE, batches, expected
from undertow.app.data.reading import ROW, ColumnReading, Reading
from undertow.app.data.tables.table import check_words, without_footer, without_units
from undertow.app.data.times.parts import joined
from undertow.app.data.values.columns import interpret, say
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

READING = "reading.json"
AT_ONCE = 20_000  # rows that are given back together
TAIL, JOINED = 1000, 1_000_000  # rows: a smaller batch is joined to the one before it, up to so many


class Stored:
    """The rows of a table in files of a folder, in the order of the source.

    Args:
        folder: Where ``store`` has written them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.glob("*.arrow"))
        self.reading = msgspec.json.decode((folder / READING).read_bytes(), type=Reading)
        self.head = pl.read_ipc(self.files[0], n_rows=0)  # no rows
        self.columns: list[str] = self.head.columns
        self.schema: dict[str, pl.DataType] = dict(self.head.schema)
        self.numbers = np.asarray(self._whole(ROW), np.uint32)  # of the rows in the source

    def __len__(self) -> int:
        return len(self.numbers)

    def _whole(self, name: str) -> pl.Series:
        return pl.scan_ipc(self.files, glob=False).select(name).collect().to_series()

    def select(self, *names: str, coded: Iterable[str] = ()) -> pl.DataFrame:
        """Read columns into memory.

        Args:
            names: Of the columns.
            coded: Those of them whose texts repeat: as categories these take 4 bytes a row.
        """
        texts = [name for name in coded if name in names and self.schema[name] == pl.String]
        lazy = pl.scan_ipc(self.files, glob=False).select(*names)
        return lazy.with_columns(pl.col(name).cast(pl.Categorical) for name in texts).collect()

    def __getitem__(self, name: str) -> pl.Series:
        return self._whole(name)

    def places(self, rows: pl.Series) -> NDArray[np.int64]:
        """Where rows stand, which are given by their numbers in the source, [rows]."""
        return np.searchsorted(self.numbers, rows.to_numpy())

    def without(self, names: list[str]) -> "Stored":
        """The table without some columns."""
        fewer = copy(self)
        fewer.columns = [name for name in self.columns if name not in names]
        fewer.schema = {name: self.schema[name] for name in fewer.columns}
        return fewer

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows, some at a time."""
        for file in working.through(self.files, len(self.files), "preparing batches of rows"):
            yield from pl.read_ipc(file).iter_slices(AT_ONCE)


class Beside:
    """A table whose rows are in order in memory, with the columns that only the stored one has.

    Args:
        stored: The table on disk.
        table: Some columns of some of its rows; those with their numbers among them.
    """

    def __init__(self, stored: Stored, table: pl.DataFrame) -> None:
        self.stored, self.table = stored, table
        self.columns = stored.columns
        self.schema = stored.schema | dict(table.schema)
        alike = len(table) == len(stored) and np.array_equal(table[ROW].to_numpy(), stored.numbers)
        self.places = None if alike else stored.places(table[ROW])  # [rows], in the source

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, name: str) -> pl.Series:
        if name in self.table.columns:
            return self.table[name]
        values = self.stored[name]
        return values if self.places is None else values.gather(self.places)

    def select(self, *names: str) -> pl.DataFrame:
        """Read columns into memory."""
        return pl.DataFrame([self[name] for name in names])


def store(path: Path, config: DataConfig, kept: Reading | None, folder: Path) -> None:
    """Write a table into a folder, typed.

    Args:
        path: A file or folder.
        config: The options.
        kept: How the table of another training was read; None: nothing is known.
        folder: Where it is written.

    Raises:
        UserError: It is no table, or one that is to be read as a whole.
    """
    base = Reading() if kept is None else msgspec.structs.replace(kept, said=[], columns=dict(kept.columns))
    found: dict[str, ColumnReading] = {}
    types: dict[str, pl.DataType | None] = {}
    files: list[Path] = []
    parts = _prepared(path, config, base, kept is not None)
    for frame in working.through(parts, expected(path, config), "reading batches of rows"):
        own = msgspec.structs.replace(base, said=[], columns=dict(base.columns))
        frame = interpret(frame.select(ROW, pl.exclude(ROW)), path, config, own)
        for name, dtype in frame.schema.items():
            _settle(path, frame, name, own, found, config)
            if frame[name].count():
                types[name] = _common(types.get(name), dtype, path, name)
            types.setdefault(name, None)
        files.append(folder / f"{len(files):06}.arrow")
        frame.write_ipc(files[-1], compression="lz4")
    if not files:
        raise UserError(f"{path}: the table has no rows")
    _rewrite(files, types, found)
    new = [name for name in types if name in found and name not in base.columns]
    base.columns = base.columns | found
    say(base, new)
    base.said = [each for each in base.said if kept is None or each not in kept.said]
    (folder / READING).write_bytes(msgspec.json.encode(base))


def _prepared(path: Path, config: DataConfig, reading: Reading, kept: bool) -> Iterator[pl.DataFrame]:
    """The batches with the numbers of their rows, without a row of units and notes at the end."""
    held, rows, seen = pl.DataFrame(), 0, kept

    def ready(frame: pl.DataFrame) -> pl.DataFrame:
        nonlocal seen
        own = msgspec.structs.replace(reading, said=[])
        frame = joined(frame, own, seen)
        if not seen:
            reading.time_parts, seen = own.time_parts, True
            reading.said.extend(own.said)
        return frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))  # blank lines

    for batch in batches(path, config, reading, kept):
        frame = batch.with_row_index(ROW, offset=1 + rows)
        if not rows:
            frame = without_units(frame, reading)
        rows += len(batch)
        if held.width and len(batch) < TAIL and len(held) < JOINED:  # notes at the end belong to rows
            held = pl.concat([held, frame], how="vertical_relaxed")
            continue
        if held.width:
            yield ready(held)
        held = frame
    if held.width:
        yield ready(without_footer(held, reading))


def _settle(
    path: Path,
    frame: pl.DataFrame,
    name: str,
    own: Reading,
    found: dict[str, ColumnReading],
    config: DataConfig,
) -> None:
    """Compare how a batch reads a column with the batches before it. UserError if they differ."""
    if name not in own.columns or not frame[name].count():
        return
    how = own.columns[name]
    if name not in (*config.group, config.time) and frame.schema[name] == pl.String:
        check_words(frame, path, name, own)
    before = found.setdefault(name, how)
    missing = [*before.missing, *(each for each in how.missing if each not in before.missing)]
    if msgspec.structs.replace(how, missing=missing) != msgspec.structs.replace(before, missing=missing):
        raise UserError(
            f"{path}: column {name!r}, row {frame[ROW][0]} and after: read as {_words(how)}, and before "
            f"that as {_words(before)}; {WHOLE}"
        )
    found[name] = msgspec.structs.replace(before, missing=missing)


def _words(how: ColumnReading) -> str:
    """How a column is read, for people."""
    told = {"decimal": how.decimal, "thousands": how.thousands, "sign": how.sign, "format": how.format}
    signs = [f"{name} {value!r}" for name, value in told.items() if value and value != "."]
    return ", ".join([{"truth": "true and false"}.get(how.kind, how.kind), *signs])


def _common(before: pl.DataType | None, dtype: pl.DataType, path: Path, name: str) -> pl.DataType:
    """The type that holds the values of several batches."""
    if before is None or before == dtype:
        return dtype
    try:
        both = [pl.DataFrame(schema={name: each}) for each in (before, dtype)]
        return pl.concat(both, how="vertical_relaxed").schema[name]
    except pl.exceptions.PolarsError:
        raise UserError(f"{path}: column {name!r}: {before} in some rows and {dtype} in others") from None


def _rewrite(files: list[Path], types: dict[str, Any], found: dict[str, ColumnReading]) -> None:
    """Give all batches the same types. An empty column is one of numbers; without a name it is left out."""
    kept = {
        name: dtype for name, dtype in types.items() if dtype is not None or not name.startswith("column_")
    }
    schema = {name: dtype or pl.Float64() for name, dtype in kept.items()}
    for name, dtype in kept.items():
        if dtype is None:
            found.setdefault(name, ColumnReading("number"))
    for file in files:
        frame = pl.read_ipc(file)
        if dict(frame.schema) != schema:
            wrong = [name for name, dtype in schema.items() if frame.schema[name] != dtype]
            beside = file.with_suffix(".new")
            frame = frame.select(list(schema)).cast({name: schema[name] for name in wrong})
            frame.write_ipc(beside, compression="lz4")
            beside.replace(file)
