"""What a FlowMonitor keeps of each sample, and how it is written to a file. No torch."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from undertow.flow import Summary

SUMMARY = tuple(field.name for field in fields(Summary))


def layer_name(module: str | None, layer: int, reverse: bool) -> str:
    """Name a layer as torch's parameters do: lstm.l0, lstm.l0_reverse.

    Args:
        module: as in ``model.named_modules()``; "" or None for a model that is the layer itself.
        layer: its number, from 0 for the lowest.
        reverse: whether the reverse direction is meant.
    """
    return f"{module or ''}.l{layer}".lstrip(".") + ("_reverse" if reverse else "")


@dataclass(frozen=True)
class FlowRecord:
    """One layer and direction at one training step; ``flow.Summary`` explains the numbers."""

    step: int  # training steps done before: 0 is the network as it was initialised
    module: str  # as in model.named_modules()
    layer: int
    reverse: bool
    cell: str  # "lstm" or "rnn"
    summary: Summary

    @property
    def name(self) -> str:
        """The layer as torch's parameters name it: lstm.l0, lstm.l0_reverse."""
        return layer_name(self.module, self.layer, self.reverse)

    def to_dict(self) -> dict[str, Any]:
        """Return a flat row of a table: the fields, then those of the summary."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "summary"}
        return row | asdict(self.summary)

    def scalars(self) -> dict[str, float]:
        """Return the numbers by tag, "flow/<layer>/<field>", for TensorBoard; None and NaN are left out."""
        found = {f"flow/{self.name}/{name}": value for name, value in asdict(self.summary).items()}
        return {tag: value for tag, value in found.items() if value is not None and value == value}


COLUMNS = (*(f.name for f in fields(FlowRecord) if f.name != "summary"), *SUMMARY)


def save(records: Sequence[FlowRecord], path: str | PathLike[str]) -> None:
    """Write records as a table.

    Args:
        records: one row each.
        path: ends in .csv or .json. JSON has null for what is not a finite number.

    Raises:
        ValueError: the path ends in something else.
        OSError: the file cannot be written.
    """
    path = Path(path)
    rows = [record.to_dict() for record in records]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows([row | {"reverse": str(row["reverse"]).lower()} for row in rows])
    elif path.suffix == ".json":  # which has neither inf nor NaN
        strict = [{name: _strict(value) for name, value in row.items()} for row in rows]
        path.write_text(json.dumps(strict, indent=1, allow_nan=False) + "\n")
    else:
        raise ValueError(f"path: expected one that ends in .csv or .json, got {path}")


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
