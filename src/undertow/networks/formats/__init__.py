"""Files of trained networks: one table of formats, which says what reads and what writes each.

A file is recognised by what it holds, a run by being a folder; only ONNX has no mark and goes by its suffix.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from undertow import atomic
from undertow.networks.formats import (
    c,
    hdf5,
    keras,
    nam,
    onnx,
    pickled,
    policies,
    proteus,
    rtneural,
    run,
    state_dict,
    tensors,
    torch_source,
)
from undertow.networks.formats.content import Archive, array, load_bytes, load_json
from undertow.networks.network import Assumed, Bidirectional, Network, Recurrent, Unsupported


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: What people call it.
        suffixes: Of files that are written, and of those that have no mark inside.
        read: Makes a network of the file's bytes. None: it is not read.
        write: Makes the file's bytes of a network; ONNX takes ``states`` and ``lengths``,
            safetensors ``dtype``. None: it is not
            written.
        save: Writes a network to a path and beside it, where a format has more than one file.
        beside: How the names of the further files go on after the stem of the first.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[bytes], Network] | None = None
    write: Callable[..., bytes] | None = None
    save: Callable[[Network, Path], None] | None = None
    beside: tuple[str, ...] = ()


def _json(data: bytes) -> Network:
    """The network of a JSON file, whose entries tell the program that wrote it."""
    content = load_json(data)
    for holds, made in (
        (nam.is_nam, nam.from_json),
        (rtneural.is_rtneural, rtneural.from_json),
        (proteus.is_proteus, proteus.from_json),
    ):
        if holds(content):
            return made(content)
    names = content if isinstance(content, dict) else {}
    if any("weight_ih_l0" in name for name in names):
        torchs: dict[str, Any] = {name.rpartition(".")[0]: {} for name in names}  # as RTNeural reads it
        return state_dict.from_tensors({k: array(value, k) for k, value in names.items()}, noted=torchs)
    raise ValueError(
        "JSON of no known program: expected architecture and weights (.nam), in_shape and layers (RTNeural), "
        "model_data and state_dict (Proteus), or weight_ih_l0 (a state dict)"
    )


def _saved(data: bytes) -> Network:
    """The network of a state dict in a file of ``torch.save``."""
    tensors, noted = pickled.read(data)
    return state_dict.from_tensors(tensors, noted=noted)


FORMATS = (
    Format(".nam", (".nam",), _json, lambda network: nam.to_json(network).encode()),
    Format("RTNeural JSON", (".json", ".aidax"), _json, lambda network: rtneural.to_json(network).encode()),
    Format("safetensors", (".safetensors",), tensors.from_bytes, tensors.to_bytes),
    Format("state dict", (".pt", ".pth"), _saved),
    Format("ONNX", (".onnx",), onnx.from_bytes, onnx.to_bytes),
    Format("sb3-contrib policy", (".zip",), policies.from_archive),
    Format("Keras", (".keras",), keras.from_archive),
    Format("Keras HDF5", (".h5", ".hdf5"), keras.from_hdf5),
    Format("PyTorch program", (".py",), save=torch_source.write, beside=(torch_source.WEIGHTS,)),
    Format("C", (".c",), save=c.write, beside=(".h",)),
)
BY_SUFFIX = {suffix: each for each in FORMATS for suffix in each.suffixes}


def read(path: str | Path, part: str = "") -> Network:
    """Read a trained network, whichever program wrote it.

    Args:
        path: The file, or the folder of a run of ``undertow train``.
        part: For a policy of sb3-contrib, ``actor`` (the default) or ``critic``. Other files have no parts.

    Returns:
        The network.

    Raises:
        Unsupported: The file holds what a Network cannot represent; the message names it.
        ValueError: The file cannot be read, is damaged, or is of no known format.

    Warns:
        Assumed: The file does not say what its network computes, as state dicts do not.
    """
    path = Path(path)
    try:
        found = _read(path, part)
    except Unsupported as error:
        raise Unsupported(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if assumed := found.metadata.get("assumed"):
        warnings.warn(f"{path}: assumed {assumed}, which a state dict does not say", Assumed, stacklevel=2)
    return found


def write(
    network: Network,
    path: str | Path,
    *,
    states: bool = False,
    lengths: bool = False,
    dtype: str = "float32",
) -> None:
    """Write a network in the format that the file's suffix names.

    A file appears complete or not at all; an existing one is replaced.

    Args:
        network: The network.
        path: The file: ``.safetensors``, which keeps everything, ``.nam``, ``.json``, ``.aidax``, ``.onnx``,
            ``.py``, a program for PyTorch alone with its weights beside it, or ``.c``, a source of C99 with
            its header beside it.
        states: For ``.onnx``: whether the states of the layers are inputs and outputs of the model.
        lengths: For ``.onnx``: whether the steps of each sequence are an input, ``lengths`` [N].
        dtype: For ``.safetensors``, the type of the matrices: ``float32``, ``int16``, which halves the file,
            or for a classifier ``int8``. They are read as float32 again.

    Raises:
        Unsupported: The format has no place for a part of the network; the message names it.
        ValueError: The suffix is none of these, or the format has no such states, lengths or dtype.
        OSError: The file cannot be written.
    """
    path = Path(path)
    found = BY_SUFFIX.get(path.suffix.lower())
    if found is None or not (found.write or found.save):
        known = ", ".join(suffix for suffix, each in BY_SUFFIX.items() if each.write or each.save)
        raise ValueError(f"{path}: expected a file name that ends in {known}")
    options: dict[str, Any] = {
        name: True for name, given in (("states", states), ("lengths", lengths)) if given
    }
    if options and ".onnx" not in found.suffixes:
        raise ValueError(f"{next(iter(options))}: expected for a name that ends in .onnx, got {path}")
    if dtype != "float32":
        options["dtype"] = dtype
        if ".safetensors" not in found.suffixes:
            raise ValueError(f"dtype: expected float32 but for a name that ends in .safetensors, got {dtype}")
    try:
        if found.save is not None:
            found.save(network, path)
            return
        assert found.write is not None
        data = found.write(network, **options)
    except Unsupported as error:
        raise Unsupported(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    atomic.write(path, lambda beside: beside.write_bytes(data))


def files(path: str | Path) -> list[Path]:
    """Return the files that ``write`` makes for a path: the file and, of some formats, one beside it."""
    path = Path(path)
    found = BY_SUFFIX.get(path.suffix.lower())
    return [path, *(path.with_name(path.stem + ending) for ending in (found.beside if found else ()))]


def _read(path: Path, part: str) -> Network:
    if path.is_dir():
        return run.from_folder(path)
    if path.name == run.MODEL and (path.parent / run.CONFIG).is_file():
        raise ValueError(f"the weights of a run alone; expected its folder, {path.parent}")
    data = load_bytes(path)
    if data.startswith(pickled.BEGIN) and policies.is_policy(Archive(data)):
        return _checked(lambda held: policies.from_archive(held, part or "actor"), data)
    if part:
        raise ValueError(f"part: expected none, since this is no policy of sb3-contrib, got {part}")
    reader = _by_content(data) or (BY_SUFFIX[path.suffix.lower()].read if _marked(path) else None)
    if reader is None:
        names = ", ".join(each.name for each in FORMATS if each.read)
        raise ValueError(f"expected a network as {names}, got a file of another kind")
    return _checked(reader, data)


def _checked(reader: Callable[[bytes], Network], data: bytes) -> Network:
    """What a reader makes of a file. Raises ValueError for whatever a tampered one makes it raise."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            found = reader(data)
    except (ValueError, MemoryError):  # Unsupported too
        raise
    except Exception as error:
        raise ValueError(f"damaged: {type(error).__name__}: {error}") from None
    for k, stage in enumerate(found.stages):
        for part in stage.directions() if isinstance(stage, Recurrent | Bidirectional) else [stage]:
            for each in fields(part):
                value = getattr(part, each.name)
                if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                    where = f"stage {k} ({type(stage).__name__})"
                    raise ValueError(f"{where}: {each.name}: a number is not finite in float32")
    return found


def _marked(path: Path) -> bool:
    return path.suffix.lower() in BY_SUFFIX


def _by_content(data: bytes) -> Callable[[bytes], Network] | None:
    """The reader that a file's first bytes or an archive's entries call for."""
    if data.startswith(pickled.BEGIN):
        return _archived
    if tensors.is_safetensors(data):
        return tensors.from_bytes
    if data.startswith(hdf5.BEGIN):
        return keras.from_hdf5
    if data[:100].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _json
    return None


def _archived(data: bytes) -> Network:
    """The network of a zip file, whose entries tell the program that wrote it."""
    archive = Archive(data)
    if pickled.is_torch(archive):
        return _saved(data)
    if keras.is_keras(archive):
        return keras.from_archive(data)
    raise ValueError("an archive of no known program")


__all__ = ["FORMATS", "Format", "files", "read", "write"]
