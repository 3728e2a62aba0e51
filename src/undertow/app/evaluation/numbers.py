"""Numbers of labelled sequences, or at each of their steps, beside the truth."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from undertow.app import metrics
from undertow.app.errors import UserError
from undertow.app.evaluation.labels import held_back_places
from undertow.app.evaluation.result import Result
from undertow.app.reading.predictions import Floats, quantities
from undertow.app.runs.folder import Run

METRICS = {"rmse": metrics.rmse, "mae": metrics.mae, "r2": metrics.nse, "bias": metrics.bias}  # R² is the NSE


@dataclass(frozen=True)
class Pairs:
    """Predicted numbers beside the true ones.

    Args:
        label: Their column.
        what: What has a number: sequence or step.
        truth: [n].
        predicted: [n].
    """

    label: str
    what: str
    truth: Floats
    predicted: Floats


def evaluate(run: Run, path: Path, held_back: bool) -> Result:
    """Evaluate the numbers of a table's sequences.

    Args:
        run: A run whose task is to regress.
        path: The table.
        held_back: Whether to score only the sequences that were held back in the training.

    Returns:
        The metrics of the network and of the training part's mean.

    Raises:
        UserError: The table does not fit the run, or has no numbers.
    """
    found = quantities(run, path)
    if found.truth is None or not np.isfinite(found.truth).any():
        raise UserError(f"{path}: no numbers in {run.data.label!r} (--label): the truth is not known")
    chosen = np.isfinite(found.truth)
    if held_back:
        chosen &= held_back_places(run, found.places)
    truth, what = found.truth[chosen], str(run.data.per)
    result = Result("regress", str(path), said=list(found.said), what=what)
    mean = np.full(len(truth), found.mean)
    for by, predicted in ((run.model.cell.upper(), found.predicted[chosen]), ("training mean", mean)):
        each = {name: metric(truth, predicted) for name, metric in METRICS.items()}
        result.rows.append({"part": "all", "name": "", "by": by, "n": len(truth)} | each)
    mine, other = (row["rmse"] for row in result.rows)
    result.rows[1]["skill"] = 1 - mine / other if other else np.nan
    return replace(result, pictured=Pairs(str(run.data.label), what, truth, found.predicted[chosen]))
