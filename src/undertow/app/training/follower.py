"""A run whose folder belongs to another process: what is read was sent, and what is written goes nowhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from undertow.app.runs.folder import Run

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Follower(Run):
    """A run as the processes see it that do not write.

    Args:
        last: What ``read_last`` returns.
        rows: What ``read_metrics`` returns.
    """

    last: "tuple[dict[str, Tensor], dict[str, Any]]" = field(default_factory=lambda: ({}, {}))
    rows: list[dict[str, Any]] = field(default_factory=list)

    def read_last(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """Return the state that the leader read."""
        return self.last

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the metrics that the leader read."""
        return self.rows

    def write_config(self) -> None:
        """Write nothing."""

    def write_model(self, best: "Mapping[str, Tensor]") -> None:
        """Write nothing."""

    def write_last(self, tensors: "dict[str, Tensor]", state: dict[str, Any]) -> None:
        """Write nothing."""

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write nothing."""
