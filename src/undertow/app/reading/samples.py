"""What other people's networks read: plain tables of numbers or symbols, and sound, as arrays.

Nothing is inferred here but the separator and whether there is a heading: the network of a file says how many
inputs it has, and not what they mean.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from undertow.app.data.files import content, recordings
from undertow.app.errors import UserError
from undertow.app.inputs import no_column
from undertow.app.words import counted
from undertow.networks import Network

QUIET = 0.01  # of the largest sample: sound begins above it
SEPARATORS = ",;\t "


@dataclass(frozen=True)
class Samples:
    """All steps of a file.

    Attributes:
        x: [rows,C] float32, or [rows] int64 symbols.
        names: C names of the inputs; of symbols one for each.
        start: The step at which something begins: of sound the first that is not silent.
        about: What the file holds, beyond its name; may be empty.
    """

    x: npt.NDArray[np.float32] | npt.NDArray[np.int64]
    names: list[str]
    start: int = 0
    about: str = ""


def read_samples(path: Path, network: Network, columns: Sequence[str] = ()) -> Samples:
    """Read what a network is to read.

    Args:
        path: A table of separated values, or a recording for a network with one input.
        network: The network, whose inputs decide how many columns there are.
        columns: The names of the columns, in the order of the inputs. Empty: all columns, in their order.

    Returns:
        The steps of the file.

    Raises:
        UserError: The file is no such table or sound, or does not fit the network.
    """
    if content.is_recording(path):
        return _sound(path, network)
    return _table(path, network, columns)


def _sound(path: Path, network: Network) -> Samples:
    if network.symbols or network.input_size != 1:
        what = "symbols" if network.symbols else counted(network.input_size, "input")
        raise UserError(f"{path}: sound has one value a step, and the network reads {what}")
    found = recordings.read(path)
    rate, channels, x = found.rate, found.samples.shape[1], found.samples[:, :1]
    loud = np.abs(x[:, 0]) > QUIET * np.abs(x).max()
    about = f"{rate:,} Hz" + (f", the first of {channels} channels" if channels > 1 else "")
    if network.sample_rate and abs(network.sample_rate - rate) > 1e-6 * rate:
        about += f" (the network was trained at {network.sample_rate:,.0f} Hz)"
    return Samples(x, ["sound"], int(loud.argmax()) if loud.any() else 0, about)


def _table(path: Path, network: Network, columns: Sequence[str]) -> Samples:
    known = dict(zip(_alphabet(network), range(network.symbols), strict=True))
    heading, rows = _cells(path, (lambda cell: _symbol(cell, known) is not None) if known else _is_number)
    width = 1 if network.symbols else network.input_size
    places = _places(path, heading, len(rows[0]), width, columns)
    chosen = [[row[k] for k in places] for row in rows]
    first = 1 + bool(heading)
    if network.symbols:
        return Samples(_symbols(path, [row[0] for row in chosen], known, first), list(known))
    x = np.empty((len(rows), width), np.float32)
    for k, row in enumerate(chosen):
        for column, cell in enumerate(row):
            x[k, column] = _number(cell, f"{path}: line {k + first}, column {places[column] + 1}")
    names = [heading[k] for k in places] if heading else [f"x{k}" for k in range(width)]
    return Samples(x, names)


def _cells(path: Path, is_value: Callable[[str], bool]) -> tuple[list[str], list[list[str]]]:
    """The heading, empty if there is none, and the rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: expected a table of separated values as text, or a recording such as .wav"
        ) from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: the file is empty")
    counts = [lines[-1].strip().count(sign) for sign in SEPARATORS]
    separator = SEPARATORS[int(np.argmax(counts))] if any(counts) else ","
    if separator == " ":
        rows = [line.split() for line in lines]
    else:
        reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        rows = [[cell.strip() for cell in row] for row in reader]
    heading = [] if all(is_value(cell) for cell in rows[0]) or len(rows) == 1 else rows.pop(0)
    wanted = len(heading or rows[0])
    for k, row in enumerate(rows, 1 + bool(heading)):
        if len(row) != wanted:
            raise UserError(f"{path}: line {k} has {counted(len(row), 'value')}, expected {wanted}")
    return heading, rows


def _places(path: Path, heading: list[str], found: int, width: int, columns: Sequence[str]) -> list[int]:
    """The places of the columns that are the network's inputs."""
    if columns:
        missing = [name for name in columns if name not in heading]
        if missing:
            raise no_column(path, missing[0], "--column", heading)
        if len(columns) != width:
            raise UserError(f"--column: the network reads {counted(width, 'column')}, got {len(columns)}")
        return [heading.index(name) for name in columns]
    if found != width:
        hint = "; --column NAME picks them, in the order of the inputs" if found > width else ""
        raise UserError(f"{path}: has {counted(found, 'column')}, and the network reads {width}{hint}")
    return list(range(width))


def _symbols(path: Path, cells: list[str], known: dict[str, int], first: int) -> npt.NDArray[np.int64]:
    found = [_symbol(cell, known) for cell in cells]
    for k, place in enumerate(found):
        if place is None:
            said = f"expected a symbol's number from 0 to {len(known) - 1}, got {cells[k]!r}"
            raise UserError(f"{path}: line {k + first}: {said}")
    return np.array(found, np.int64)


def _symbol(cell: str, known: dict[str, int]) -> int | None:
    """The number of a symbol, given by its name or as a number; None if it is none."""
    number = int(cell) if cell.isdecimal() and len(cell) < 10 else -1
    return known.get(cell, number if 0 <= number < len(known) else None)


def _alphabet(network: Network) -> list[str]:
    """The names of the symbols: those of the outputs if there is one for each and no two are the same."""
    labels = network.labels
    return list(labels) if len(set(labels)) == network.symbols else [str(k) for k in range(network.symbols)]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _number(cell: str, where: str) -> float:
    if not _is_number(cell) or abs(float(cell)) > 1e38:
        raise UserError(f"{where}: expected a number, got {cell!r}")
    return float(cell)
