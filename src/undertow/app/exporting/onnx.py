"""ONNX models of runs and files, compared in ONNX Runtime where it is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import undertow
from undertow.app.errors import UserError
from undertow.app.reading.forecaster import ROUNDING
from undertow.app.runs import bounds, facts, records
from undertow.app.runs.folder import Run
from undertow.networks import Network

UNCHECKED = "not compared with the network: pip install 'undertow[onnx]' brings ONNX Runtime"
N = 3  # sequences of an example


def write(network: Network, path: Path) -> list[str]:
    """Write a network.

    Args:
        network: The network.
        path: The file.

    Returns:
        Lines on the inputs, the outputs and the comparison.

    Raises:
        Unsupported: ONNX has no operator for a part of the network.
        UserError: The outputs in ONNX Runtime differ from the network's.
    """
    try:
        found = undertow.onnx.write(network, path, verify=installed("onnxruntime"))
    except RuntimeError as error:
        raise UserError(f"{path}: {error}") from None
    own = [each for layer in network.recurrent() for each in (layer.h_0, layer.c_0) if each is not None]
    begins = "the network begins with states that are not zero: initial_states in the model's metadata"
    told = [begins] if "h_0_l0" in found.inputs and any(map(np.any, own)) else []
    return [*_about(found.inputs, found.outputs), *told, _compared(found.error)]


class Forecast(nn.Module):
    """A forecast with its interval, as one program."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.load_model()
        self.layer = bounds.read(run.folder, self.model)
        self.targets = len(self.model.config.residual)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Forecast after windows x [T,N,C].

        Returns the forecasts and, with intervals, their lower and upper bounds, [N,horizon,K] each, in
        the targets' own units.
        """
        with bounds.listening(self.model) as heard:
            y, _ = self.model(x)
        if self.layer is None:
            return (self._by_target(y),)
        sides = self.layer(heard.features[0]) * heard.sizes[0][..., None]
        sides = sides + ROUNDING * (y.abs()[..., None] + sides)
        return tuple(map(self._by_target, (y, y - sides[..., 0], y + sides[..., 1])))

    def _by_target(self, y: Tensor) -> Tensor:
        return y.reshape(y.shape[0], -1, self.targets)


def write_forecast(run: Run, path: Path) -> list[str]:
    """Write a forecast, which a Network cannot represent.

    Args:
        run: The run.
        path: The file.

    Returns:
        As of ``write``.

    Raises:
        UserError: ONNX has no operator for a part of it, the outputs in ONNX Runtime differ, or a library is
            missing.
    """
    program = Forecast(run)
    config = program.model.config
    rows, width = run.data.steps + config.ahead, config.inputs + (config.series > 0)
    x = torch.randn(rows, N, width)
    if config.series:
        x[..., -1] = torch.arange(N) % config.series
    outputs = ["y", "lower", "upper"][: 1 if program.layer is None else 3]
    try:
        found = undertow.onnx.export(
            program,
            (x,),
            dynamic_shapes={"x": {1: torch.export.Dim("N")}},
            input_names=["x"],
            output_names=outputs,
            verify=installed("onnxruntime"),
        )
    except (ModuleNotFoundError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    found.program.model.metadata_props["features"] = records.dump(features(run))
    found.save(path)
    return [
        *_about(found.inputs, found.outputs),
        f"a window has {rows} rows"
        + (f", the last {config.ahead} of them those to forecast" if config.ahead else ""),
        _compared(found.error),
    ]


def features(run: Run) -> list[str]:
    """Return what the network reads of a table, in order; empty if it reads no table."""
    if "columns" not in run.facts:
        return []
    names = facts.Columns(**run.facts["columns"]).names
    return [*names, "number of the series, -1: another"] if run.model.series else names


def _about(inputs: dict[str, Any], outputs: dict[str, Any]) -> list[str]:
    return [f"{word} {_described(values)}" for word, values in (("reads", inputs), ("gives", outputs))]


def _described(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} [{','.join(map(str, shape))}]" for name, shape in values.items())


def installed(library: str) -> bool:
    """Return whether a library can be imported."""
    return find_spec(library) is not None


def _compared(error: float | None) -> str:
    return UNCHECKED if error is None else f"ONNX Runtime differs from the network by at most {error:.1e}"
