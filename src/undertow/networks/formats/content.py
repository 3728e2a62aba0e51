"""What readers of all formats share: bytes, JSON and archives, with limits; what they hold, checked.

Readers raise ValueError for a file that is damaged or foreign, and Unsupported for what a Network cannot
represent. Both say the place and the thing; ``formats.read`` adds the file's name.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.networks.network import Array, Recurrent, Unsupported

LIMIT = 4 << 30  # bytes of a file, and of what an archive unpacks to
RATIO = 200  # the most by which an archive's entry may grow; weights hardly shrink
MEMBERS = 10_000  # of an archive

Object = dict[str, Any]


def load_bytes(path: Path) -> bytes:
    """Read a file. Raises ValueError if it cannot be read, or is larger than any network."""
    try:
        size = path.stat().st_size
        if size > LIMIT:
            raise ValueError(f"expected at most {LIMIT >> 30} GiB, got {size >> 30} GiB")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None


def load_json(data: bytes | str, where: str = "") -> Any:
    """Parse JSON. Raises ValueError with ``where`` in front if it is none."""
    place = f"{where}: " if where else ""
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{place}damaged: not JSON ({said})") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def dump_json(value: Any) -> str:
    """Write JSON. Raises ValueError if a number is not finite, or the value is none that JSON holds."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected what JSON holds: {error}") from None


class Archive:
    """A zip file, whose entries are read only within limits.

    Args:
        data: Its bytes.

    Raises:
        ValueError: It is damaged, or its entries are too many or too large.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            found = self._zip.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise ValueError(f"damaged: not a complete archive ({error})") from None
        if len(found) > MEMBERS:
            raise ValueError(f"expected an archive of at most {MEMBERS} entries, got {len(found)}")
        self.sizes = {each.filename: each.file_size for each in found}
        for each in found:
            if each.file_size > max(1 << 20, RATIO * each.compress_size):
                raise ValueError(f"{each.filename}: unpacks to {each.file_size:,} bytes, which is refused")
        if sum(self.sizes.values()) > LIMIT:
            raise ValueError(f"unpacks to more than {LIMIT >> 30} GiB")

    @property
    def names(self) -> list[str]:
        """The names of the entries."""
        return list(self.sizes)

    def read(self, name: str) -> bytes:
        """Read an entry. Raises ValueError if it is missing or damaged."""
        if name not in self.sizes:
            raise ValueError(f"damaged: {name} is missing from the archive")
        try:
            return self._zip.read(name)
        except Exception as error:  # also those of the compression, such as zlib.error
            raise ValueError(f"{name}: damaged ({error})") from None


def object_at(value: Any, where: str) -> Object:
    """Return ``value``, an object of JSON. Raises ValueError if it is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {kind_of(value)}")
    return value


def list_at(value: Any, where: str) -> list[Any]:
    """Return ``value``, a list of JSON. Raises ValueError if it is none."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, got {kind_of(value)}")
    return value


def entry(value: Mapping[str, Any], name: str, where: str) -> Any:
    """Return an entry of an object. Raises ValueError if it is missing."""
    if name not in value:
        raise ValueError(f"{where}: {name!r} is missing" if where else f"{name!r} is missing")
    return value[name]


def whole(value: Any, where: str, least: int = 0, most: int = 1_000_000) -> int:
    """Return ``value``, a whole number. Raises ValueError if it is none or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{where}: expected a whole number, got {shown(value)}")
    if not least <= value <= most:
        raise ValueError(f"{where}: expected {least} to {most}, got {shown(value)}")
    return int(value)


def number(value: Any, where: str) -> float:
    """Return ``value``, a finite number, also as text. Raises ValueError if it is none."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None or not np.isfinite(found):
        raise ValueError(f"{where}: expected a number, got {shown(value)}")
    return found


def frequency(value: Any, where: str) -> float | None:
    """Return ``value``, a number of Hz above 0, or None for None or "". Raises ValueError for all else."""
    if value in (None, ""):
        return None
    if (found := number(value, where)) <= 0:
        raise ValueError(f"{where}: expected more than 0 Hz, got {shown(value)}")
    return found


def text(value: Any, where: str) -> str:
    """Return ``value``, a text. Raises ValueError if it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected a text, got {kind_of(value)}")
    return value


def array(value: Any, where: str, *shape: int | None) -> Array:
    """Make float32 numbers of nested lists or an array.

    Args:
        value: The lists or array.
        where: The place, for the error message.
        *shape: The expected shape; None for any length. Empty: any shape.

    Returns:
        The numbers.

    Raises:
        ValueError: Something is no finite number, or the shape is another.
    """
    try:
        found = np.asarray(value)
    except (ValueError, RecursionError):  # lists of different lengths
        raise ValueError(f"{where}: expected rows of equal length") from None
    if found.size == 0:
        found = np.zeros(found.shape, np.float32)
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{where}: expected numbers, got {found.dtype}")
    with np.errstate(over="ignore"):
        found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{where}: a number is not finite in float32")
    fits = len(shape) == found.ndim and all(
        n is None or n == got for n, got in zip(shape, found.shape, strict=True)
    )
    if shape and not fits:
        wanted = ", ".join("?" if n is None else str(n) for n in shape)
        raise ValueError(f"{where}: expected shape [{wanted}], got {list(found.shape)}")
    return found


def kind_of(value: Any) -> str:
    """Name the type of what JSON holds."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def shown(value: Any) -> str:
    """Show a value in an error message, cut short."""
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def plain(value: Any) -> Any:
    """Return what JSON holds of a value: numbers of NumPy as Python's, anything strange as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return str(value)


def from_order(value: npt.NDArray[Any], order: str, axis: int = -1) -> npt.NDArray[Any]:
    """Bring stacked gates into the order i, f, g, o.

    Args:
        value: The four gates stacked along ``axis``.
        order: Their order there, such as ``ifgo``; c is another name of g.
        axis: The axis.

    Returns:
        The same with the gates in undertow's order.
    """
    parts = dict(zip(order.replace("c", "g"), np.split(value, 4, axis), strict=True))
    return np.concatenate([parts[k] for k in "ifgo"], axis)


def to_order(value: npt.NDArray[Any], order: str, axis: int = -1) -> npt.NDArray[Any]:
    """Bring stacked gates from the order i, f, g, o into another; the reverse of ``from_order``."""
    parts = dict(zip("ifgo", np.split(value, 4, axis), strict=True))
    return np.concatenate([parts[k] for k in order.replace("c", "g")], axis)


def only_plain(layer: Recurrent, what: str, *allowed: str) -> None:
    """Refuse a layer with options that a format has no place for.

    Args:
        layer: The layer.
        what: The format, for the error message.
        *allowed: Options that the format does hold.

    Raises:
        Unsupported: The layer has another option.
    """
    options = {
        "weight_hr": layer.weight_hr is not None,
        "peepholes": layer.peepholes is not None,
        "coupled": layer.coupled,
        "layer norm": layer.gain_x is not None,
        "zoneout": layer.zoneout != (0.0, 0.0),
        "initial state": bool(np.any(layer.h_0)) or (layer.cell == "lstm" and bool(np.any(layer.c_0))),
        "relu": layer.nonlinearity != "tanh",
        "reverse": layer.reverse,
    }
    for name, given in options.items():
        if given and name not in allowed:
            raise Unsupported(f"{what}: no place for {name}")


def join(words: Iterable[str], limit: int = 8) -> str:
    """Join words for an error message, and cut a long list short."""
    found = list(words)
    return ", ".join(found[:limit]) + (f", ... ({len(found)} in all)" if len(found) > limit else "")
