"""The tensors of a run folder: the best weights, and where training stands. This module needs torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from undertow.app.errors import UserError
from undertow.app.outputs import atomically
from undertow.app.runs import records, shapes
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel


def write_model(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the weights and the normaliser of a model, its ``state_dict``."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    atomically(path, lambda beside: beside.write_bytes(save(tensors)))


def read_model(path: Path, config: ModelConfig) -> SequenceModel:
    """Read a model.

    Args:
        path: The file of its weights.
        config: Its sizes and options.

    Returns:
        The model, in eval mode.

    Raises:
        UserError: The file is missing or damaged.
    """
    model = SequenceModel(config)
    load_weights(model, _read_tensors(path), path)
    return model.eval()


def write_state(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and plain values into one file, so that they cannot disagree.

    Args:
        path: The file.
        tensors: By name.
        state: Plain values.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"state": records.dump(state)}
    atomically(path, lambda beside: beside.write_bytes(save(tensors, metadata)))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_state`` wrote.

    Args:
        path: The file.

    Returns:
        The tensors by name, and the plain values.

    Raises:
        UserError: The file is missing or damaged.
    """
    tensors = _read_tensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    try:
        state: dict[str, Any] = records.load(metadata["state"])
    except (KeyError, ValueError):
        raise UserError(f"{path}: damaged: it does not say where training stood") from None
    return tensors, state


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises UserError if it is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path}: missing from the run folder")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error})") from None


def load_weights(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights into a model.

    Args:
        model: The model.
        tensors: Its weights, by name.
        path: Their file, for the error message.

    Raises:
        UserError: A tensor is missing, not expected or has another shape.
    """
    found, wanted = (
        {name: list(value.shape) for name, value in each.items()} for each in (tensors, model.state_dict())
    )
    shapes.check(found, wanted, path)
    model.load_state_dict(tensors)
