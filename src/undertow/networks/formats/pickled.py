"""torch's ``.pt`` files, read without torch and without running what a pickle asks for.

``torch.save`` writes a zip file (since torch 1.6, 2020): ``data.pkl``, a pickle that names tensors by the
keys of their storages, and the storages' bytes in ``data/0``, ``data/1``, ... (torch/serialization.py). The
pickle is read by a machine that knows four callables, and they make arrays and dictionaries: any other name
is refused before anything is called, as in torch.load(weights_only=True).
"""

import io
import pickle
import sys
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from undertow.networks.formats.content import Archive
from undertow.networks.network import Unsupported

DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
NESTED = ("state_dict", "model_state_dict", "model")  # where training programs put it in a checkpoint
BEGIN = b"PK\x03\x04"


class _Kind(NamedTuple):
    name: str


class _Size(NamedTuple):
    """Stands for what is not needed, such as torch.device."""

    values: tuple[Any, ...]


def is_torch(archive: Archive) -> bool:
    """Tell whether an archive is a file of ``torch.save``."""
    return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.names)


def read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the state dict in a file of ``torch.save``.

    Args:
        data: The file.

    Returns:
        Arrays by name; bfloat16 as float32. What torch and undertow noted of each module, by its name.

    Raises:
        Unsupported: The file holds a whole module, a TorchScript program, or what is no state dict.
        ValueError: It is damaged.
    """
    if not data.startswith(BEGIN):
        raise Unsupported("saved in the format of torch before 1.6, or no file of torch.save; save it again")
    archive = Archive(data)
    name = next((each for each in archive.names if each.rpartition("/")[2] == "data.pkl"), None)
    if name is None:
        raise ValueError("damaged: data.pkl is missing from the archive")
    folder = name[: -len("data.pkl")]
    if any(each.startswith(f"{folder}code/") for each in archive.names):
        raise Unsupported("a TorchScript program; save its state_dict()")
    if f"{folder}byteorder" in archive.names and archive.read(f"{folder}byteorder") != b"little":
        raise Unsupported("byteorder: expected little")
    found = _Machine(archive, folder).load()
    for nested in NESTED:
        if isinstance(found, dict) and isinstance(found.get(nested), dict):
            found = found[nested]
    if not isinstance(found, dict):
        raise Unsupported(f"expected a state dict, got {type(found).__name__}")
    tensors = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise Unsupported("expected a state dict, got a dictionary without tensors")
    said = getattr(found, "_metadata", None)
    of_modules = {k: v for k, v in said.items() if isinstance(v, dict)} if isinstance(said, dict) else {}
    return {name: value for name, value in tensors.items() if value.dtype.kind == "f"}, of_modules


class _Machine(pickle.Unpickler):
    """A machine for pickles that makes arrays, and calls nothing else."""

    def __init__(self, archive: Archive, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive, self._folder = archive, folder
        self._kept: dict[str, Any] = {}

    def load(self) -> Any:
        """Run the pickle. Raises ValueError if it is damaged, Unsupported if it asks for anything else."""
        try:
            return super().load()
        except (Unsupported, MemoryError):
            raise
        except Exception as error:  # a tampered pickle raises anything
            raise ValueError(f"data.pkl: damaged ({error})") from None

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the known names."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if (module, name) in (("torch", "Size"), ("torch", "device")):
            return _size
        if module in ("torch", "torch.storage") and name in DTYPES:
            return _Kind(name)
        raise Unsupported(f"data.pkl: {module}.{name}: expected a state dict of tensors; save state_dict()")

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage, [n]."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise ValueError("a storage is not described as torch does")
        _, kind, key, _, count = pid
        if not isinstance(kind, _Kind) or not isinstance(key, str):
            raise ValueError("a storage is not described as torch does")
        if key not in self._kept:
            data = self._archive.read(f"{self._folder}data/{key}")
            dtype = DTYPES[kind.name]
            if dtype == "bfloat16":
                bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
                self._kept[key] = bits.view(np.float32)
            else:
                self._kept[key] = np.frombuffer(data, dtype)
        found = self._kept[key]
        if not isinstance(count, int) or not 0 <= count <= len(found):
            raise ValueError(f"data/{key} holds {len(found)} numbers, and {count} are expected")
        return found[:count]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """An array of a storage; nothing outside it can be reached."""
    if not isinstance(storage, np.ndarray) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor is not described as torch does")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and 0 <= n < sys.maxsize for n in numbers):
        raise ValueError("a tensor is not described as torch does")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = 1
    for n in size:
        count *= n
    if count > len(storage):  # torch's parameters repeat no number
        raise ValueError("a tensor has more numbers than its storage")
    if count and last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    if not count:
        return np.zeros(size, storage.dtype)
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False).copy()


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _size(*values: Any) -> _Size:
    return _Size(values)
