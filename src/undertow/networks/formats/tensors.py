"""safetensors files: the package's own file of a Network, and state dicts of torch.

A Network's own file holds each array of each stage in float32, named ``0.weight`` after stage and field, and
in its metadata under ``undertow_network`` a description in JSON: everything else. It is read back exactly.
Matrices may be in 16 or 8 bits, each with a scale for every row beside it (``0.weight.scale``).
"""

import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import safetensors
from safetensors.numpy import save

from undertow.networks import network as stages
from undertow.networks.formats import narrow, state_dict
from undertow.networks.formats.content import (
    Object,
    array,
    dump_json,
    entry,
    frequency,
    join,
    list_at,
    load_json,
    number,
    object_at,
    plain,
    text,
    whole,
)
from undertow.networks.network import Network, Recurrent, Stage, Unsupported

KEY, VERSION = "undertow_network", 1
KINDS = {
    each.__name__: each
    for each in (
        stages.Embedding, stages.Normalise, stages.Scale, stages.Recurrent, stages.Bidirectional,
        stages.Dense, stages.Pool,
    )
}  # fmt: skip
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
NARROW = {"I16": np.int16, "I8": np.int8}
HEADER = 100_000_000  # bytes, the limit of the safetensors library


def is_safetensors(data: bytes) -> bool:
    """Tell whether a file begins as a safetensors file does: the header's length, then the header."""
    return len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= HEADER


def from_bytes(data: bytes) -> Network:
    """Make the network of a safetensors file.

    Args:
        data: The file.

    Returns:
        The network that ``to_bytes`` wrote, or that of a state dict of torch.

    Raises:
        Unsupported: A tensor has a type without floating point, or the state dict forms no clear chain.
        ValueError: The file is damaged, or its tensors do not fit its description.
    """
    tensors, metadata = read(data)
    if KEY in metadata:
        return _described(load_json(metadata[KEY], KEY), tensors)
    for name, each in tensors.items():
        if each.dtype.kind == "i":
            raise Unsupported(f"{name}: expected floating point, got {each.dtype}")
    return state_dict.from_tensors(tensors, {"safetensors": plain(metadata)} if metadata else {})


def read(data: bytes) -> tuple[dict[str, Any], Object]:
    """Read all tensors of a safetensors file.

    Args:
        data: The file.

    Returns:
        Arrays by name, those in bfloat16 as float32, and the metadata.

    Raises:
        Unsupported: A tensor has another type than float64, float32, float16, bfloat16, int16 and int8.
        ValueError: The file is damaged.
    """
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        length = int.from_bytes(data[:8], "little")
        header = object_at(load_json(data[8 : 8 + length], "header"), "header")
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"damaged: no complete safetensors file ({error})") from None
    tensors = {}
    for name, each in found:
        kind, shape = each["dtype"], each["shape"]
        if kind == "BF16":  # the upper half of a float32
            bits = np.frombuffer(each["data"], "<u2").astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32).reshape(shape)
        elif kind in FLOATS:
            tensors[name] = np.frombuffer(each["data"], FLOATS[kind]).reshape(shape)
        elif kind in NARROW:
            tensors[name] = np.frombuffer(each["data"], NARROW[kind]).reshape(shape)
        elif kind in ("I64", "I32", "U8", "BOOL"):  # counters, such as num_batches_tracked
            continue
        else:
            raise Unsupported(f"{name}: expected floating point, got {kind}")
    return tensors, object_at(header.get("__metadata__") or {}, "__metadata__")


def to_bytes(network: Network, dtype: str = "float32") -> bytes:
    """Write a network as the package's own file.

    Args:
        network: Any network.
        dtype: Of its matrices: ``float32``, ``int16``, or for a classifier ``int8``.

    Returns:
        The file.

    Raises:
        Unsupported: int8, and it is no classifier; or not float32, and a weight is not finite.
        ValueError: Its metadata hold what JSON cannot, or there is no such dtype.
    """
    narrow.check(network, dtype)
    tensors: dict[str, Any] = {}
    described = [_describe(stage, f"{k}.", tensors) for k, stage in enumerate(network.stages)]
    content = {
        "format": VERSION,
        "stages": described,
        "skip": network.skip,
        "once": network.once,
        "sample_rate": network.sample_rate,
        "labels": list(network.labels),
        "metadata": network.metadata,
    }
    for name in [each for each in tensors if each.rpartition(".")[2] in narrow.NAMES]:
        if dtype != "float32":
            tensors[name], tensors[name + narrow.SCALE] = narrow.narrowed(tensors[name], dtype)
    return save(tensors, {KEY: dump_json(content)})


def _describe(stage: Any, prefix: str, tensors: dict[str, Any]) -> Object:
    """What a stage holds beside its arrays, which go into ``tensors``."""
    found: Object = {"stage": type(stage).__name__}
    for each in fields(stage):
        value = getattr(stage, each.name)
        if isinstance(value, np.ndarray):
            tensors[prefix + each.name] = value
        elif is_dataclass(value):
            found[each.name] = _describe(value, f"{prefix}{each.name}.", tensors)
        elif value is not None:
            found[each.name] = value
    return found


def _described(content: Any, tensors: dict[str, Any]) -> Network:
    content = object_at(content, KEY)
    version = whole(entry(content, "format", KEY), f"{KEY}.format")
    if version != VERSION:
        raise Unsupported(f"{KEY}.format: this version of undertow reads {VERSION}, got {version}")
    unused = dict(tensors)
    found = []
    for k, each in enumerate(list_at(entry(content, "stages", KEY), f"{KEY}.stages")):
        stage = _stage(each, f"{k}.", f"{KEY}.stages[{k}]", unused)
        found.append(stage)
    if unused:
        raise ValueError(f"damaged: {next(iter(unused))} belongs to no stage")
    labels = [text(each, f"{KEY}.labels") for each in list_at(content.get("labels", []), f"{KEY}.labels")]
    return Network(
        tuple(found),
        skip=whole(content.get("skip", 0), f"{KEY}.skip"),
        sample_rate=frequency(content.get("sample_rate"), f"{KEY}.sample_rate"),
        labels=tuple(labels),
        metadata=object_at(content.get("metadata", {}), f"{KEY}.metadata"),
        once=content.get("once", False) is True,
    )


def _stage(content: Any, prefix: str, where: str, tensors: dict[str, Any]) -> Stage:
    content = object_at(content, where)
    kind = text(entry(content, "stage", where), f"{where}.stage")
    if kind not in KINDS:
        raise Unsupported(f"{where}.stage: expected {', '.join(KINDS)}, got {kind}")
    made, hints = KINDS[kind], get_type_hints(KINDS[kind])
    known = {each.name for each in fields(made)}
    strange = set(content) - known - {"stage"}
    if strange:
        raise Unsupported(f"{where}: no field {min(strange)}")
    given: Object = {}
    for name in sorted(known):
        if prefix + name in tensors:
            found = tensors.pop(prefix + name)
            if found.dtype.kind == "i":
                found = narrow.widened(found, tensors.pop(prefix + name + narrow.SCALE, None), prefix + name)
            given[name] = array(found, prefix + name)
        elif name in content and hints[name] is Recurrent:
            given[name] = _stage(content[name], f"{prefix}{name}.", f"{where}.{name}", tensors)
        elif name in content:
            given[name] = _value(content[name], hints[name], f"{where}.{name}")
    try:
        return made(**given)
    except TypeError:
        missing = [name for name in _required(made) if name not in given]
        raise ValueError(f"damaged: {prefix}{join(missing)} is missing") from None


def _required(made: Any) -> Iterator[str]:
    return (each.name for each in fields(made) if each.default is MISSING and each.default_factory is MISSING)


def _value(value: Any, hint: Any, where: str) -> Any:
    """A value of JSON as the field's type."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint) or isinstance(value, bool):
            raise Unsupported(f"{where}: expected {', '.join(map(str, get_args(hint)))}, got {value!r}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int:
        return whole(value, where, 1)
    if get_origin(hint) is tuple:
        pair = list_at(value, where)
        if len(pair) != len(get_args(hint)):
            raise ValueError(f"{where}: expected {len(get_args(hint))} numbers, got {len(pair)}")
        return tuple(number(each, where) for each in pair)
    if get_origin(hint) in (Union, types.UnionType) or hint is Any or hint is bool:
        raise ValueError(f"{where}: damaged: got {value!r}")
    return value
