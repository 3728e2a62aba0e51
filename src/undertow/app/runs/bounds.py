"""Prediction intervals: the bounds between which a forecast's truth is to lie with a given probability.

A linear layer reads what the network's head reads. For each forecast it gives two distances, to the lower and
to the upper bound, in units of the window's size. The network itself does not change, so its
forecasts are those of a run without intervals.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from undertow.app.runs import interval, shapes
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.weights import load_weights, read_state, write_state


class Bounds(nn.Module):
    """The distances from a forecast to the bounds of its interval.

    Args:
        features: F, what the head reads.
        outputs: O, the numbers that the network forecasts at once.
        rows: The steps at which the head reads features: those of a decoder.
    """

    def __init__(self, features: int, outputs: int, rows: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * outputs // rows)
        self.register_buffer("unit", torch.ones(outputs))  # [O], the size of the errors in training
        self.register_buffer("correction", torch.zeros(outputs))  # [O], of the calibration

    def distances(self, features: Tensor) -> Tensor:
        """Compute the distances before the calibration.

        Args:
            features: [N,F], or [N,rows,F].

        Returns:
            [N,O,2] to the lower and to the upper bound, at least 0, in units of the size of the window.
        """
        relative = functional.softplus(self.linear(features)).reshape(features.shape[0], -1, 2)
        return self.get_buffer("unit")[:, None] * relative

    def forward(self, features: Tensor) -> Tensor:
        """Compute the calibrated distances, as of ``distances``."""
        return corrected(self.distances(features), self.get_buffer("correction"))


def corrected(distances: Tensor, correction: Tensor) -> Tensor:
    """Add the correction [O] of a calibration to distances [N,O,2]; no bound passes the forecast."""
    return (distances + correction[:, None]).clamp(min=0)


@dataclass
class Heard:
    """What a network reads, call by call.

    Args:
        features: [N,F], of a decoder [N,ahead,F]: what the head reads.
        sizes: [N,O], how much each window moves.
    """

    features: list[Tensor] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)


@contextmanager
def listening(model: SequenceModel) -> Iterator[Heard]:
    """Collect what a network reads during the block.

    Args:
        model: The network.

    Yields:
        What was heard, which grows with each call of the network.
    """
    found = Heard()
    handles = [
        model.register_forward_pre_hook(
            lambda _, inputs: found.sizes.append(model.sizes(inputs[0], *inputs[5:]))
        ),
        model.head.register_forward_pre_hook(lambda _, inputs: found.features.append(inputs[0].detach())),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def write(folder: Path, tensors: dict[str, Tensor], about: interval.About) -> None:
    """Write the intervals of a run.

    Args:
        folder: The run folder.
        tensors: Those of ``Bounds``; of an ensemble the correction alone, since its members have the bounds.
        about: What they are.
    """
    write_state(folder / interval.FILE, tensors, asdict(about))


def read_correction(folder: Path, outputs: int) -> Tensor | None:
    """Read the correction of a run's intervals.

    Args:
        folder: The run folder, also of an ensemble.
        outputs: O, the numbers that the network forecasts at once.

    Returns:
        [O]; None if the run has no intervals.

    Raises:
        UserError: The file is damaged or does not fit the network.
    """
    path = folder / interval.FILE
    if interval.about(folder) is None:
        return None
    found = read_state(path)[0]
    shapes.check(
        {name: value.shape for name, value in found.items() if name == "correction"},
        {"correction": [outputs]},
        path,
    )
    return found["correction"]


def read(folder: Path, model: SequenceModel) -> Bounds | None:
    """Read the intervals of a run.

    Args:
        folder: The run folder.
        model: Its network.

    Returns:
        The layer; None if the run has no intervals.

    Raises:
        UserError: The file is damaged or does not fit the network.
    """
    path = folder / interval.FILE
    if interval.about(folder) is None:
        return None
    rows = model.config.ahead or 1
    bounds = Bounds(model.head.in_features, model.head.out_features * rows, rows)
    load_weights(bounds, read_state(path)[0], path)
    return bounds.requires_grad_(False)
