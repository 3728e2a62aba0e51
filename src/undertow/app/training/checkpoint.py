"""The contents of last.safetensors, checked before a training is resumed from it."""

from typing import Any

import torch
from torch import Tensor

from undertow.app.data import Task
from undertow.app.errors import UserError
from undertow.app.runs import shapes
from undertow.app.runs.folder import Run, header
from undertow.app.runs.model import SequenceModel

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW, beside step


def check_weights(run: Run) -> None:
    """Check the weights of last.safetensors before the network is built.

    Args:
        run: The run.

    Raises:
        UserError: They are not those of the network in config.json.
    """
    path = run.path("last.safetensors")
    found = {name: shape for name, shape in header(path).items() if name.startswith("model.")}
    wanted = {f"model.{name}": shape for name, shape in shapes.expected(run.model).items()}
    shapes.check(found, wanted, path)


def check(run: Run, task: Task, model: SequenceModel) -> None:
    """Check the state and all tensors of last.safetensors but the weights.

    Args:
        run: The run.
        task: Its data.
        model: Its network.

    Raises:
        UserError: The state or a tensor is damaged, not finite or does not fit the run.
    """
    tensors, state = run.read_last()
    path, stepped = run.path("last.safetensors"), state["step"] > 0
    wanted = _moments(model) | _carried(run) if stepped else {}
    wanted |= {"random.cpu": list(torch.get_rng_state().shape)}
    found = {name: list(tensor.shape) for name, tensor in tensors.items() if not name.startswith("model.")}
    found.pop("random.cuda", None)
    for name in list(found) if run.data.task != "text" else []:
        if name.startswith("carry.") and name in wanted and len(found[name]) == 3:
            wanted[name][1] = found[name][1]  # N of the last batch, which may be smaller than the others
    shapes.check(found, wanted, path)
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating_point == name.startswith("random."):
            raise UserError(f"{path}: damaged: {name} has the type {tensor.dtype}")
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} is not finite: training cannot go on from it")
    check_random(tensors, str(path))
    check_position(state, run.read_metrics(), task.steps_per_epoch(), str(path))


def _moments(model: SequenceModel) -> dict[str, list[int]]:
    """Names and shapes of the optimiser's tensors."""
    found: dict[str, list[int]] = {}
    for index, parameter in enumerate(model.parameters()):
        found |= {f"optimizer.{index}.{name}": list(parameter.shape) for name in MOMENTS}
        found[f"optimizer.{index}.step"] = []
    return found


def _carried(run: Run) -> dict[str, list[int]]:
    """Names and shapes of the state that is carried to the next batch."""
    layers = run.model.num_layers * run.model.directions
    shape = [layers, run.training.batch_size, run.model.hidden_size]
    return {f"carry.{index}": list(shape) for index in range(2 if run.model.cell == "lstm" else 1)}


def check_random(tensors: dict[str, Tensor], path: str) -> None:
    """Check the state of the random numbers.

    Args:
        tensors: The tensors of last.safetensors, with ``random.cpu``.
        path: The file, for the error message.

    Raises:
        UserError: It is no state of torch's random numbers.
    """
    try:
        torch.Generator().set_state(tensors["random.cpu"])
    except (RuntimeError, TypeError):
        raise UserError(f"{path}: damaged: random.cpu is no state of torch's random numbers") from None


def check_position(state: dict[str, Any], rows: list[dict[str, Any]], steps: int, path: str) -> None:
    """Check that epochs, batches and evaluations fit each other.

    Args:
        state: A ``Position``, as plain values.
        rows: The metrics.
        steps: Optimiser steps of an epoch.
        path: The file, for the error message.

    Raises:
        UserError: They do not.
    """
    best, seen = state["best"], [row["step"] for row in rows if row["step"] <= state["step"]]
    last_best = seen.index(best["step"]) if best and best["step"] in seen else None
    for name, holds in (
        ("step", state["step"] == state["epoch"] * steps + state["batch"] and state["batch"] < steps),
        ("best", (last_best is not None) if seen else not best),
        ("stale", state["stale"] == (0 if last_best is None else len(seen) - 1 - last_best)),
    ):
        if not holds:
            raise UserError(f"{path}: damaged: {name} and the other entries do not fit each other")
