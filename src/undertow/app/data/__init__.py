"""What a task offers to the training loop, and which task a source stands for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from undertow.app.runs.objective import Batch, Objective

if TYPE_CHECKING:  # a table's heading is read before torch is imported
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What the data ask of the model; see ModelConfig."""

    outputs: int
    readout: Literal["every", "last"]
    inputs: int = 0
    symbols: int = 0
    residual: tuple[int, ...] = ()
    panel: bool = False
    quantity: bool = False  # of labels: the head gives numbers around their mean, in units of their spread
    ahead: int = 0
    known: tuple[int, ...] = ()
    series: int = 0
    linear: bool = False  # features are scaled, not compressed
    longest: int = 0  # steps of the longest sequence, where --steps does not set them


@dataclass(frozen=True)
class Baseline:
    """A forecast or guess that needs no learning, and its error in the objective's unit."""

    name: str
    value: float


@dataclass(frozen=True)
class Facts:
    """What the data turned out to hold, for config.json: how to read further data the same way."""

    lines: list[str] = field(default_factory=list)  # said to the user
    values: dict[str, Any] = field(default_factory=dict)  # vocabulary, columns, classes ...
    baselines: list[Baseline] = field(default_factory=list)
    settled: dict[str, Any] = field(default_factory=dict)  # options that the data decided, of DataConfig


@dataclass(frozen=True)
class Known:
    """What another training found out: data are then read the same way, and not looked at for it.

    Args:
        facts: Those of its run.
        buffers: The buffers of its model: the normaliser.
    """

    facts: dict[str, Any]
    buffers: "dict[str, Tensor]" = field(default_factory=dict)


class Task(Protocol):
    """Data ready for training: what ``loop`` needs and nothing else."""

    objective: Objective
    shape: Shape
    facts: Facts
    evaluations: int  # an epoch

    def buffers(self) -> dict[str, "Tensor"]:
        """The model's normaliser, fitted on the training part alone."""

    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, the same ones whenever the same epoch is asked for."""

    def validation_batches(self) -> Iterator[Batch]:
        """All of the validation part, in a fixed order."""

    def to(self, device: "torch.device | None") -> None:
        """Keep a copy of the data on a device, if it has room: batches then lie there. None: keep none."""
