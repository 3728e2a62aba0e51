"""Classes of labelled sequences beside the truth: which are taken for which."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from undertow.app import metrics
from undertow.app.data.tasks.targets import stratified
from undertow.app.errors import UserError
from undertow.app.evaluation.result import Result
from undertow.app.reading.predictions import Places, labels
from undertow.app.runs.folder import Run


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each other.

    Args:
        classes: The K classes: those of the training, then those that only the table has.
        counts: [K,K], row true class, column predicted class.
    """

    classes: list[str]
    counts: NDArray[np.int64]


def evaluate(run: Run, path: Path, held_back: bool) -> Result:
    """Evaluate the classes of a table's sequences.

    Args:
        run: A run whose task is to classify.
        path: The table.
        held_back: Whether to score only the sequences that were held back in the training.

    Returns:
        The metrics of the network and of the commonest class.

    Raises:
        UserError: The table does not fit the run, or has no labels.
    """
    found = labels(run, path)
    if found.truth is None or all(label is None for label in found.truth):
        raise UserError(f"{path}: no classes in {run.data.label!r} (--label): the truth is not known")
    result = Result(run.data.task, str(path), said=list(found.said), what=str(run.data.per))
    labelled = np.array([label is not None for label in found.truth])
    given = [str(label) for label in found.truth if label is not None]
    classes = found.classes + sorted(set(given) - set(found.classes))
    if unknown := classes[len(found.classes) :]:
        result.said.append(f"classes that the training did not have, always wrong: {', '.join(unknown)}")
    truth = np.array([classes.index(label) for label in given], dtype=np.int64)
    chosen = held_back_places(run, found.places, truth)[labelled] if held_back else np.ones(len(truth), bool)
    taken = found.chances.argmax(axis=1)[labelled]
    counts = metrics.confusion(truth[chosen], taken[chosen], len(classes))
    result.rows.extend(rows(run.model.cell.upper(), Confusion(classes, counts)))
    return Result(result.task, result.file, result.said, result.rows, Confusion(classes, counts), result.what)


def held_back_places(run: Run, places: pl.DataFrame, classes: Places | None = None) -> NDArray[np.bool_]:
    """Tell which predictions are of sequences that validated the training.

    Args:
        run: The run.
        places: [predictions], as of ``predictions.Labels``, of the training's own table.
        classes: [sequences], the number of the class of each; of use where each sequence has one.

    Returns:
        [predictions].
    """
    lengths = places[places.columns[0]].rle().struct.field("len").to_numpy()
    by_class = classes is not None and run.data.per == "sequence"
    groups = torch.from_numpy(classes) if by_class else torch.zeros(len(lengths), dtype=torch.int64)
    chosen = stratified(groups, run.data.validation, run.training.seed)[1].numpy()
    return np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths)


def rows(by: str, found: Confusion) -> list[dict[str, Any]]:
    """Make the rows of a Result from a confusion matrix.

    Args:
        by: The network's name.
        found: The matrix.

    Returns:
        Rows over all, for the network and the commonest class; for each class; and for each pair of classes
        that occurs.
    """
    counts, classes = found.counts, found.classes
    commonest = int(counts.sum(axis=1).argmax())
    always = np.zeros_like(counts)
    always[:, commonest] = counts.sum(axis=1)
    made = [
        {"part": "all", "name": "", "by": name, "n": int(matrix.sum())} | overall(matrix)
        for name, matrix in ((by, counts), (f"always {classes[commonest]}", always))
    ]
    each = metrics.precision(counts), metrics.recall(counts), metrics.f1(counts)
    for k, (name, n) in enumerate(zip(classes, counts.sum(axis=1).tolist(), strict=True)):
        values = {key: float(v[k]) for key, v in zip(("precision", "recall", "f1"), each, strict=True)}
        made.append({"part": "class", "name": name, "by": by, "n": n} | values)
    for true, taken in np.argwhere(counts).tolist():
        pair = {"part": "confusion", "name": classes[true], "by": by, "n": int(counts[true, taken])}
        made.append(pair | {"predicted": classes[taken]})
    return made


def overall(counts: NDArray[np.int64]) -> dict[str, float]:
    """Compute the metrics over all classes.

    Args:
        counts: [K,K], as of Confusion.

    Returns:
        The metrics by name.
    """
    return {
        "accuracy": metrics.accuracy(counts),
        "balanced_accuracy": metrics.balanced_accuracy(counts),
        "macro_f1": metrics.macro_f1(counts),
    }
