"""The result of an evaluation: rows of metrics, and the files that hold them."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undertow.app.outputs import atomically
from undertow.app.runs.records import dump


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Args:
        task: The task of the run.
        file: What was read.
        said: Lines for people: which part was scored, and what was left out.
        rows: One row for each part of the data and each forecaster: ``part`` (all, series, ahead, class,
            confusion or origin), ``name`` within the part, ``by`` (who predicted), ``n`` and the metrics;
            of a forecast also ``target``, and for a baseline ``skill``: 1 - RMSE of the network / RMSE of the
            baseline, or of their bits. A metric that is not defined is NaN.
        pictured: What the picture shows beside the rows.
        what: What is scored, if no forecast: sequence, step, or a text's symbol.
    """

    task: str
    file: str
    said: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictured: Any = None
    what: str = "sequence"

    def of(self, part: str, **values: Any) -> list[dict[str, Any]]:
        """Choose the rows of a part.

        Args:
            part: As in a row.
            **values: Values that further entries of the row must have.

        Returns:
            The rows, in their order.
        """
        wanted = values | {"part": part}
        return [row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())]


def write(result: Result, output: Path) -> None:
    """Write all rows to a file.

    Args:
        result: The evaluation.
        output: A name that ends in .json, for a record with the list ``rows``, or in .csv, for a table.

    Raises:
        UserError: The file cannot be written.
    """
    made = _csv(result.rows) if output.suffix.lower() == ".csv" else _json(result)
    atomically(output, lambda path: path.write_text(made, "utf-8"))


def _json(result: Result) -> str:
    return (
        dump({"task": result.task, "file": result.file, "said": result.said, "rows": result.rows}, 2) + "\n"
    )


def _csv(rows: list[dict[str, Any]]) -> str:
    """The rows as a table; empty where a metric is not defined or has no meaning."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    made = io.StringIO(newline="")
    table = csv.DictWriter(made, columns, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: "" if value != value else value for name, value in row.items()})
    return made.getvalue()
