"""HDF5 files, read with limits and without links to other files. h5py is needed."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from undertow.networks.formats.content import LIMIT, RATIO
from undertow.networks.network import Unsupported

BEGIN = b"\x89HDF\r\n\x1a\n"


class Hdf5:
    """An HDF5 file in memory, of which only what lies in it is read: no links to other files.

    Args:
        data: The file.
        name: What it is called in error messages; empty for the file that the user named.

    Raises:
        ValueError: It is damaged, or h5py is missing.
    """

    def __init__(self, data: bytes, name: str) -> None:
        try:
            import h5py
        except ModuleNotFoundError:
            raise ValueError("needs h5py: pip install 'undertow[formats]'") from None
        self._h5py, self._name = h5py, f"{name}: " if name else ""
        self._limit = min(LIMIT, max(1 << 20, RATIO * len(data)))
        self._file = self._try(lambda: h5py.File(io.BytesIO(data), "r"))

    def _try(self, do: Callable[[], Any]) -> Any:
        """Call ``do``. Raises ValueError for whatever h5py raises of a damaged file."""
        try:
            return do()
        except (Unsupported, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"{self._name}damaged: not a complete HDF5 file ({error})") from None

    def _at(self, path: str) -> Any:
        """The group or dataset at a path; None if there is none."""
        found = self._file
        for part in filter(None, path.split("/")):
            if not isinstance(found, self._h5py.Group) or part not in found:
                return None
            if not isinstance(found.get(part, getlink=True), self._h5py.HardLink):
                raise Unsupported(f"{self._name}{path}: a link, expected the data")
            found = found[part]
        return found

    def has(self, path: str) -> bool:
        """Tell whether something lies at a path."""
        return self._try(lambda: self._at(path)) is not None

    def attribute(self, path: str, name: str) -> Any:
        """Read an attribute: a text, or a list of texts; None if there is none."""

        def read() -> Any:
            found = self._at(path)
            value = None if found is None else found.attrs.get(name)
            if isinstance(value, np.ndarray):
                return [each.decode() if isinstance(each, bytes) else str(each) for each in value.ravel()]
            return value.decode() if isinstance(value, bytes) else value

        return self._try(read)

    def array(self, path: str) -> Any:
        """Read a dataset. Raises ValueError if there is none."""

        def read() -> Any:
            found = self._at(path)
            if not isinstance(found, self._h5py.Dataset):
                raise ValueError(f"{path} is missing")
            if found.is_virtual or found.external:
                raise Unsupported(f"{self._name}{path}: a link, expected the data")
            if found.size * found.dtype.itemsize > self._limit:
                raise ValueError(f"{path} has {found.size:,} numbers, more than the file can hold")
            return found[()]

        return self._try(read)

    def arrays(self, path: str) -> list[Any]:
        """Read the datasets ``0``, ``1``, ... of a group."""
        names = sorted(self._try(lambda: list(self._at(path))), key=lambda name: (len(name), name))
        return [self.array(f"{path}/{name}") for name in names]
