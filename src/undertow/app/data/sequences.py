"""Classification: a long table of labelled sequences, one row a step, lengths may differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from undertow.app.data import Baseline, Facts, Shape, order
from undertow.app.data.normalise import QUARTER, fit_normaliser
from undertow.app.data.table import ROW, choose, encode, read_table, require
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.objective import Batch, Objective

VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Sequences:
    """Sequences in the order in which the file first names them; labels are None where it has none."""

    table: pl.DataFrame  # rows of one sequence together, in its own order
    names: list[str]
    lengths: list[int]
    labels: list[str] | None
    time: str | None

    def split(self, x: NDArray[np.float32]) -> list[Tensor]:
        """The features of each sequence, [T_i, C], from those of every row [rows, C]."""
        return list(torch.split(torch.from_numpy(x), self.lengths))


def read_sequences(path: Path, config: DataConfig, labelled: bool = True) -> Sequences:
    """Read a long table; raises UserError naming the column and row that are wrong."""
    table, sequence, label = read_table(path), config.sequence, config.label
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
    time = order.find_time(table.drop(sequence, label, strict=False), config.time)
    if time is not None:
        table = order.parse_time(table, path, time, ROW)
    place = pl.col(ROW).min().over(sequence)  # of a sequence's first row
    table = table.sort(place, *([time] if time is not None else []), maintain_order=True)
    if config.gaps == "fill":
        table = table.with_columns(pl.all().exclude(ROW, sequence, label).forward_fill().over(sequence))
    runs = table[sequence].cast(pl.String).rle().struct.unnest()
    labels = labels_of(table, path, sequence, label) if label in table.columns else None
    return Sequences(table, runs["value"].to_list(), runs["len"].to_list(), labels, time)


def check_filled(table: pl.DataFrame, path: Path, columns: list[str]) -> None:
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
        columns = choose(data.table, path, [config.sequence, config.label, data.time], [])
        if not columns.width:
            raise UserError(f"{path}: no column is left as a feature")
        self.x = data.split(encode(data.table, path, columns, None))
        self.y = torch.tensor([classes.index(label) for label in data.labels])  # [sequences]
        self.train, self.validation = stratified(self.y, config.validation, seed)
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
            ],
            values={"columns": columns.to_dict(), "classes": classes, "time": data.time},
            baselines=[
                Baseline("commonest class", float((self.y[self.validation] == commonest).double().mean()))
            ],
        )

    def buffers(self) -> dict[str, Tensor]:
        centre, scale = fit_normaliser(torch.cat([self.x[k] for k in self.train.tolist()]), QUARTER)
        return {"centre": centre, "scale": scale}

    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, epoch])
        yield from self._batches(
            self.train[torch.from_numpy(rng.permutation(len(self.train)))], self.batch_size
        )

    def validation_batches(self) -> Iterator[Batch]:
        yield from self._batches(self.validation, VALIDATION_BATCH)

    def _batches(self, chosen: Tensor, size: int) -> Iterator[Batch]:
        for numbers in torch.split(chosen, size):
            x, lengths = pad([self.x[k] for k in numbers.tolist()])  # [T, N, C], [N]
            yield Batch(x, self.y[numbers], lengths)


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
