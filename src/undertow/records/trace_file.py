"""Traces in safetensors files: arrays as in ``Layer.tape`` and ``Layer.gradients``, everything else as JSON.

An array's name is module.call.layer.direction.field, the first four as numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import undertow
from undertow.records.layer import Layer, NotRecorded, StepGradients
from undertow.tape import Array, Gradients, RNNGradients, RNNTape, Tape

FORMAT = 1  # a newer one is refused
Layers = Sequence[Layer | str]  # of a call; a string says why there is none


def write(path: str | PathLike[str], modules: Mapping[str, Sequence[Layers]], loss: Array | None) -> None:
    """Write the calls of each module.

    Args:
        path: the file.
        modules: the calls of each module by its name.
        loss: E_t, [T] or [T,N], or None.

    Raises:
        OSError: the file cannot be written.
    """
    tensors: dict[str, Array] = {} if loss is None else {"loss_per_step": loss}
    found = [
        {"name": name, "calls": [_write_call(f"{m}.{k}", call, tensors) for k, call in enumerate(calls)]}
        for m, (name, calls) in enumerate(modules.items())
    ]
    about = {"format": FORMAT, "undertow": undertow.__version__, "modules": found}
    arrays = {key: np.ascontiguousarray(a) for key, a in tensors.items()}
    save_file(arrays, path, {"trace": json.dumps(about)})


def read(path: str | PathLike[str]) -> tuple[dict[str, list[list[Layer | str]]], Array | None]:
    """Read what ``write`` wrote.

    Args:
        path: the file.

    Returns:
        The calls of each module by its name, and E_t or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or of a newer version of undertow.
    """
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})["trace"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"path: expected a trace that undertow saved, got {path}") from error
    if about["format"] > FORMAT:
        raise ValueError(
            f"path: expected a trace of format {FORMAT}, got {about['format']}, of a newer undertow"
        )
    modules = {
        module["name"]: [_read_call(f"{m}.{k}", call, tensors) for k, call in enumerate(module["calls"])]
        for m, module in enumerate(about["modules"])
    }
    return modules, tensors.get("loss_per_step")


_WORDS = ("reverse", "added")  # fields of a tape that are not arrays


@dataclass(frozen=True)
class Saved:
    """One direction read from a file; ``reason`` says why gradients are missing."""

    cell: str
    weights: tuple[Array, Array]
    tape: Tape | RNNTape
    arrays: Mapping[str, Array]  # the gradients, by name
    reason: str
    dtype: str

    @property
    def steps(self) -> StepGradients:
        """The gradients at each step. Raises NotRecorded if they are missing."""
        if "dgates" not in self.arrays:
            raise NotRecorded(self.reason)
        return self._steps

    @property
    def gradients(self) -> RNNGradients:
        """The gradients at each step, and their sums. Raises NotRecorded if they are missing."""
        if "dx" not in self.arrays:
            raise NotRecorded(self.reason)
        return (Gradients if self.cell == "lstm" else RNNGradients)(**self.arrays)

    @cached_property
    def _steps(self) -> StepGradients:
        return StepGradients(self.arrays["dgates"], self.arrays["dh"], self.arrays.get("dc"))


def _write_call(key: str, call: Layers, tensors: dict[str, Array]) -> list[Any]:
    """Put the call's arrays into ``tensors``; return the rest of each layer and direction."""
    return [
        layer
        if isinstance(layer, str)
        else [_write_way(f"{key}.{k}.{d}", way, tensors) for d, way in enumerate(layer.directions)]
        for k, layer in enumerate(call)
    ]


def _write_way(key: str, way: Layer, tensors: dict[str, Array]) -> dict[str, Any]:
    arrays: dict[str, Any] = {"weight_ih": way.weight_ih, "weight_hh": way.weight_hh}
    arrays |= {f"tape.{name}": array for name, array in vars(way.tape).items() if name not in _WORDS}
    reason = ""
    try:
        arrays |= {f"gradients.{name}": array for name, array in vars(way.source.steps).items()}
        arrays |= {f"gradients.{name}": array for name, array in vars(way.gradients).items()}
    except NotRecorded as error:
        reason = str(error)
    tensors |= {f"{key}.{name}": array for name, array in arrays.items() if array is not None}
    return {"cell": way.cell, "dtype": way.dtype, "reason": reason} | {
        name: getattr(way.tape, name) for name in _WORDS
    }


def _read_call(key: str, call: Sequence[Any], tensors: Mapping[str, Array]) -> list[Layer | str]:
    found: list[Layer | str] = []
    for k, about in enumerate(call):
        if isinstance(about, str):
            found.append(about)
        else:
            found.append(
                Layer.of([_read_way(f"{key}.{k}.{d}.", way, tensors) for d, way in enumerate(about)])
            )
    return found


def _read_way(key: str, about: Mapping[str, Any], tensors: Mapping[str, Array]) -> Saved:
    def fields(prefix: str) -> dict[str, Any]:
        start = key + prefix
        return {name.removeprefix(start): a for name, a in tensors.items() if name.startswith(start)}

    tape = (Tape if about["cell"] == "lstm" else RNNTape)(
        **fields("tape."), reverse=about["reverse"], added=tuple(about.get("added", ()))
    )
    weights = tensors[key + "weight_ih"], tensors[key + "weight_hh"]
    dtype = about["dtype"] if "dtype" in about else _guessed_dtype(*weights, tape.h)
    return Saved(about["cell"], weights, tape, fields("gradients."), about["reason"], dtype)


def _guessed_dtype(*arrays: Array) -> str:
    """Guess the dtype for a file that does not name it: bfloat16 has 16 low bits of zero in float32."""
    rounded = all(a.dtype == np.float32 and not np.any(a.view(np.uint32) & 0xFFFF) for a in arrays)
    return "bfloat16" if rounded and any(map(np.any, arrays)) else str(arrays[0].dtype)
