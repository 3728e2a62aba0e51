"""Classification: a long table of labelled sequences, one row a step, lengths may differ."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from undertow.app.data import Baseline, Facts, Shape, order
from undertow.app.data.normalise import QUARTER, fit_normaliser, with_centre
from undertow.app.data.reading import ROW, Reading
from undertow.app.data.sentinels import check_sentinels
from undertow.app.data.table import choose, encode, read_table, require
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, converted
from undertow.app.runs.model import normalise
from undertow.app.runs.objective import Batch, Objective

VALIDATION_BATCH = 64
MOST_NUMBERED = 20  # classes that are numbers, unless --task classify says that they are classes


@dataclass(frozen=True)
class Sequences:
    """Sequences in the order in which the file first names them; labels are None where it has none."""

    table: pl.DataFrame  # rows of one sequence together, in its own order
    names: list[str]
    lengths: list[int]
    labels: list[str] | None
    time: str | None
    reading: Reading
    absent: dict[str, NDArray[np.bool_]] = field(
        default_factory=dict
    )  # rows whose value was filled, by column

    def encode(self, path: Path, columns: Columns, gaps: str) -> NDArray[np.float32]:
        """The features of every row, [rows, C]; NaN only where ``--gaps flag`` has no value to repeat."""
        return encode(self.table, path, columns, None, self.absent if gaps == "flag" else None)

    def split(self, x: NDArray[np.float32]) -> list[Tensor]:
        """The features of each sequence, [T_i, C], from those of every row [rows, C]."""
        return list(torch.split(torch.from_numpy(x), self.lengths))


def read_sequences(
    path: Path, config: DataConfig, facts: dict[str, Any] | None = None, labelled: bool = True
) -> Sequences:
    """Read a long table; raises UserError naming the column and row that are wrong.

    ``facts`` are what the training found out, for further data to be read the same way.
    """
    kept = converted(facts["reading"], Reading, "facts.reading") if facts else None
    table, reading = read_table(path, config, kept)
    sequence, label = config.sequence, config.label
    if sequence is None or label is None:
        missing = "--sequence" if sequence is None else "--label"
        raise UserError(
            f"{path}: classification also needs {missing} COLUMN; columns: {one_of(table.columns[1:])}"
        )
    require(table, path, [sequence], "--sequence")
    require(table, path, [config.time], "--time")
    if labelled or label in table.columns:
        require(table, path, [label], "--label")
    check_filled(table, path, [sequence, label])
    searched = table.drop(sequence, label, strict=False)
    time = facts["time"] if facts else order.find_time(searched, config.time)
    if time is not None:
        require(table, path, [time], "--time")
        table = order.parse_time(table, path, time, ROW, config, reading, kept is not None)
    place = pl.col(ROW).min().over(sequence)  # of a sequence's first row
    table = table.sort(place, *([time] if time is not None else []), maintain_order=True)
    table, absent = without_gaps(table, [name for name in (ROW, sequence, label, time) if name], config)
    runs = table[sequence].rle().struct.unnest()
    labels = labels_of(table, path, sequence, label) if label in table.columns else None
    return Sequences(table, runs["value"].to_list(), runs["len"].to_list(), labels, time, reading, absent)


def without_gaps(
    table: pl.DataFrame, fixed: list[str], config: DataConfig
) -> tuple[pl.DataFrame, dict[str, NDArray[np.bool_]]]:
    """Missing values filled from the row before, or rows left out, as ``--gaps`` says; where they were."""
    counts = {name: table[name].null_count() for name in table.columns if name not in fixed}
    holed = [name for name, count in counts.items() if 0 < count < len(table)]
    if config.gaps == "split":
        return table.drop_nulls(holed), {}
    if config.gaps not in ("fill", "flag"):
        return table, {}
    absent = {name: table[name].is_null().to_numpy() for name in holed}
    return table.with_columns(pl.col(holed).forward_fill().over(str(config.sequence))), absent


def check_filled(table: pl.DataFrame, path: Path, columns: list[str]) -> None:
    """Raise UserError at the first missing value of the columns."""
    for name in columns:
        if name in table.columns and table[name].null_count():
            row = table.filter(pl.col(name).is_null())[ROW][0]
            raise UserError(f"{path}: column {name!r}, row {row}: the value is missing")


def labels_of(table: pl.DataFrame, path: Path, sequence: str, label: str) -> list[str]:
    """One label for each sequence; raises UserError where a sequence has two."""
    by_sequence = table.group_by(sequence, maintain_order=True).agg(
        pl.col(label).cast(pl.String).first().alias("first"), pl.col(label).n_unique().alias("different")
    )
    for name, _, different in by_sequence.filter(pl.col("different") > 1).iter_rows():
        raise UserError(
            f"{path}: sequence {name!r} has {different} different labels in {label!r}; expected one"
        )
    return by_sequence["first"].to_list()


def check_classes(classes: list[str], path: Path, label: str) -> None:
    """Raises UserError where the labels are a quantity rather than names: fractions or many numbers."""
    values = pl.Series(classes).cast(pl.Float64, strict=False)
    if values.null_count():
        return
    whole = bool((values == values.round()).all())
    if whole and len(classes) <= MOST_NUMBERED:
        return
    kind = "different whole numbers" if whole else "different numbers with fractions"
    raise UserError(
        f"{path}: column {label!r} holds {len(classes)} {kind}, which are no classes; label sequences with "
        f"names, such as low and high, or take each number for a class with --task classify"
    )


def pad(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """[T_i, C] each -> [T, N, C], zero past the end, and the lengths [N]."""
    return pad_sequence(sequences), torch.tensor([len(sequence) for sequence in sequences])


class SequenceTask:
    """Labelled sequences; every class keeps its share in the validation part."""

    evaluations = 1

    def __init__(self, config: DataConfig, batch_size: int, seed: int) -> None:
        path = Path(config.source)
        self.batch_size, self.seed = batch_size, seed
        data = read_sequences(path, config)
        assert data.labels is not None
        classes = sorted(set(data.labels))
        if len(classes) < 2:
            raise UserError(f"{path}: column {config.label!r} holds one class only: {classes[0]!r}")
        if not config.numbers_as_classes:
            check_classes(classes, path, str(config.label))
        columns = choose(data.table, path, [config.sequence, config.label, data.time], data.reading)
        if config.missing is None:
            check_sentinels(data.table, path, columns.numeric)
        if not columns.width:
            raise UserError(f"{path}: no column is left as a feature")
        if config.gaps == "flag":
            columns.flags.extend(name for name in columns.numeric if name in data.absent)
        x = data.encode(path, columns, config.gaps)
        self.y = torch.tensor([classes.index(label) for label in data.labels])  # [sequences]
        self.train, self.validation = stratified(self.y, config.validation, seed)
        parts = data.split(x)
        self.centre, self.scale = fit_normaliser(torch.cat([parts[k] for k in self.train.tolist()]), QUARTER)
        self.x = [normalise(with_centre(part, self.centre), self.centre, self.scale) for part in parts]
        if not len(self.validation):
            raise UserError(f"{path}: {len(self.x)} sequences leave none to validate; raise --validation")
        shortest, longest = min(data.lengths), max(data.lengths)
        self.shape = Shape(len(classes), readout="last", inputs=columns.width, longest=longest)
        self.objective = Objective("accuracy", "right")
        steps = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        ordered = f", ordered by {data.time}" if data.time else ", in the file's order"
        commonest = int(self.y[self.train].bincount().argmax())
        self.facts = Facts(
            lines=[
                f"{len(self.x)} sequences of {steps} steps{ordered}; {len(self.validation)} of them validate",
                f"{len(classes)} classes: {one_of(classes)}",
                columns.describe(),
                *data.reading.describe(),
            ],
            values={
                "columns": columns.to_dict(),
                "classes": classes,
                "time": data.time,
                "reading": msgspec.to_builtins(data.reading),
            },
            baselines=[
                Baseline("commonest class", float((self.y[self.validation] == commonest).double().mean()))
            ],
        )

    def buffers(self) -> dict[str, Tensor]:
        """Return the normaliser of the features, [C] each."""
        return {"centre": self.centre, "scale": self.scale}

    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps in one epoch."""
        return -(-len(self.train) // self.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same ones whenever the same epoch is asked for."""
        rng = np.random.default_rng([self.seed, epoch])
        yield from self._batches(
            self.train[torch.from_numpy(rng.permutation(len(self.train)))], self.batch_size
        )

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation part, in a fixed order."""
        yield from self._batches(self.validation, VALIDATION_BATCH)

    def _batches(self, chosen: Tensor, size: int) -> Iterator[Batch]:
        for numbers in torch.split(chosen, size):
            x, lengths = pad([self.x[k] for k in numbers.tolist()])  # [T, N, C], [N]
            yield Batch(x, self.y[numbers], lengths, normalised=True)


def stratified(y: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the sequences to train and to validate on; a class with one sequence only trains."""
    rng = np.random.default_rng(seed)
    train, validation = [], []
    for label in range(int(y.max()) + 1):
        numbers = rng.permutation(np.flatnonzero(y.numpy() == label))
        held_back = min(len(numbers) - 1, max(1, round(fraction * len(numbers))))
        validation.append(numbers[:held_back])
        train.append(numbers[held_back:])
    return torch.from_numpy(np.concatenate(train)), torch.from_numpy(np.concatenate(validation))
