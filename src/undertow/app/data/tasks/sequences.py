"""Labelled sequences: a long table, one row a step, lengths may differ; a class or a number is learnt."""

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

from undertow.app.data import Facts, Known, Shape
from undertow.app.data.reading import ROW, Reading
from undertow.app.data.tables.table import choose, encode, read_table, require
from undertow.app.data.tasks import labels
from undertow.app.data.tasks.normalise import QUARTER, normaliser, with_centre
from undertow.app.data.tasks.targets import targets_of
from undertow.app.data.times import order
from undertow.app.data.values.sentinels import check_sentinels
from undertow.app.errors import UserError, one_of
from undertow.app.runs.config import DataConfig
from undertow.app.runs.facts import Columns, columns_of, converted
from undertow.app.runs.model import normalise
from undertow.app.runs.near import fits, moved
from undertow.app.runs.objective import Batch
from undertow.app.runs.shapes import UNITS
from undertow.app.words import counted
from undertow.problems import UNSCORED

VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Sequences:
    """Sequences in the order in which the file first names them; labels are None where it has none."""

    table: pl.DataFrame  # rows of one sequence together, in its own order
    names: list[str]
    lengths: list[int]
    labels: pl.Series | None  # names or numbers: [sequences], or [rows] where each step has one
    time: str | None
    reading: Reading
    config: DataConfig  # with the task that the labels ask for
    said: list[str] = field(default_factory=list)  # about the labels
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
    sequence, label = named_columns(table, path, config, labelled)
    check_filled(table, path, sequence)
    said: list[str] = []
    if label in table.columns:
        if labelled and not table[label].count():
            raise UserError(f"{path}: column {label!r} is empty")
        table, config, said = labels.settle(table, path, config, reading)
    searched = table.drop(sequence, label, strict=False)
    time = facts["time"] if facts else order.find_time(searched, config.time)
    if time is not None:
        require(table, path, [time], "--time")
        table = order.parse_time(table, path, time, ROW, config, reading, kept is not None)
    place = pl.col(ROW).min().over(sequence)  # of a sequence's first row
    table = table.sort(place, *([time] if time is not None else []), maintain_order=True)
    table, absent = without_gaps(table, [name for name in (ROW, sequence, label, time) if name], config)
    runs = table[sequence].rle().struct.unnest()
    found = None
    if label in table.columns:
        by_step = config.per == "step"
        found = table[label] if by_step else labels.of_sequences(table, path, sequence, label, labelled)
    names, lengths = runs["value"].to_list(), runs["len"].to_list()
    return Sequences(table, names, lengths, found, time, reading, config, said, absent)


def named_columns(table: pl.DataFrame, path: Path, config: DataConfig, labelled: bool) -> tuple[str, str]:
    """The columns of sequences and labels; raises UserError if a column that an option names is not there."""
    sequence, label = config.sequence, config.label
    if sequence is None or label is None:
        missing = "--sequence" if sequence is None else "--label"
        raise UserError(
            f"{path}: labelled sequences also need {missing} COLUMN; columns: {one_of(table.columns[1:])}"
        )
    require(table, path, [sequence], "--sequence")
    require(table, path, [config.time], "--time")
    if labelled or label in table.columns:
        require(table, path, [label], "--label")
    return sequence, label


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


def check_filled(table: pl.DataFrame, path: Path, name: str) -> None:
    """Raise UserError at the first missing value of a column."""
    if table[name].null_count():
        row = table.filter(pl.col(name).is_null())[ROW][0]
        raise UserError(f"{path}: column {name!r}, row {row}: the value is missing")


def pad(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """[T_i, C] each -> [T, N, C], zero past the end, and the lengths [N]."""
    lengths = [len(sequence) for sequence in sequences]
    even = min(lengths) == max(lengths)
    return torch.stack(sequences, dim=1) if even else pad_sequence(sequences), torch.tensor(lengths)


def learnt(labels: pl.Series, known: Known | None) -> list[str] | None:
    """The classes of the run whose weights are taken, if these labels are among them."""
    classes: list[str] | None = known.facts.get("classes") if known is not None else None
    return classes if classes and set(labels.drop_nulls().cast(pl.String)) <= set(classes) else None


def check_weights(config: DataConfig) -> None:
    """Raise UserError if ``--class-weights`` is given for numbers."""
    if config.class_weights != "none" and config.task != "classify":
        raise UserError(f"--class-weights {config.class_weights}: {config.label} holds numbers, no classes")


def features_of(data: Sequences, path: Path, known: Known | None) -> Columns:
    """The columns that are features: those of the run whose weights are taken, or all that can be."""
    config = data.config
    if known is not None:
        columns = columns_of(known.facts)
    else:
        columns = choose(data.table, path, [config.sequence, config.label, data.time], data.reading)
    if config.missing is None:
        check_sentinels(data.table, path, columns.numeric)
    if not columns.width:
        raise UserError(f"{path}: no column is left as a feature")
    if config.gaps == "flag" and known is None:
        columns.flags.extend(name for name in columns.numeric if name in data.absent)
    return columns


class SequenceTask:
    """Labelled sequences; of classes every one keeps its share in the validation part."""

    evaluations = 1
    _there: "Moved | None" = None

    def __init__(self, config: DataConfig, batch_size: int, seed: int, known: Known | None = None) -> None:
        path = Path(config.source)
        self.batch_size, self.seed = batch_size, seed
        data = read_sequences(path, config, known.facts if known is not None else None)
        config = data.config
        assert data.labels is not None
        check_weights(config)
        classes = learnt(data.labels, known)
        self.targets = targets = targets_of(data.labels, data.lengths, path, config, classes)
        columns = features_of(data, path, known)
        self.train, self.validation = targets.split(config.validation, seed)
        self._check_parts(path)
        parts = data.split(data.encode(path, columns, config.gaps))
        self.centre, self.scale = normaliser(
            known, torch.cat([parts[k] for k in self.train.tolist()]), QUARTER
        )
        self.x = [normalise(with_centre(part, self.centre), self.centre, self.scale) for part in parts]
        self.whole = torch.stack(self.x) if min(data.lengths) == max(data.lengths) else None  # [n, T, C]
        if self.whole is not None:
            self.x = list(self.whole)  # views of it
        self.units = targets.units(self.train) if config.task == "regress" else None
        self.shape = Shape(
            targets.outputs,
            readout="every" if targets.every else "last",
            inputs=columns.width,
            longest=max(data.lengths),
            quantity=config.task == "regress",
        )
        self.objective = targets.objective(self.train, config.class_weights == "balanced")
        self.facts = self._facts(data, columns)

    def _check_parts(self, path: Path) -> None:
        """Raise UserError if nothing validates, or a part has no label."""
        targets = self.targets
        if not len(self.validation):
            of_class = " of one class" if targets.classes and not targets.every else ""
            raise UserError(
                f"{path}: {counted(len(targets.y), 'sequence')}, none of which can validate: "
                f"expected 2 or more{of_class}"
            )
        for part, name in ((self.train, "training"), (self.validation, "validation")):
            if not len(targets.known(part)):
                raise UserError(
                    f"{path}: the {name} part holds no label; try another --seed, which gives another split"
                )

    def _facts(self, data: Sequences, columns: Columns) -> Facts:
        """What the data hold, in lines for people and for config.json."""
        config, targets = data.config, self.targets
        shortest, longest = min(data.lengths), max(data.lengths)
        steps = counted(longest, "step") if shortest == longest else f"{shortest} to {longest} steps"
        ordered = f"ordered by {data.time}" if data.time else "in the file's order"
        validate = f"{len(self.validation)} of them validate"
        values = {
            "columns": columns.to_dict(),
            "time": data.time,
            "reading": msgspec.to_builtins(data.reading),
        }
        return Facts(
            lines=[
                f"{len(self.x)} sequences of {steps}, {ordered}; {validate}",
                *data.said,
                *targets.describe(config.label),
                columns.describe(),
                *data.reading.describe(),
            ],
            values=values | ({"classes": targets.classes} if targets.classes else {}),
            baselines=targets.baselines(self.train, self.validation),
            settled={"task": config.task, "per": config.per, "infer": False},
        )

    def buffers(self) -> dict[str, Tensor]:
        """Return the normaliser of the features, [C] each, and the units of a number, [1] each."""
        found = {"centre": self.centre, "scale": self.scale}
        if self.units is not None:
            found |= dict(zip(UNITS, self.units, strict=True))
        return found

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

    def to(self, device: torch.device | None) -> None:
        """Keep a copy of the sequences on a device, if they have room there; None: keep none."""
        self._there = None
        if device is not None and fits(device, *self.x, *self.targets.y):
            self._there = Moved(self, device)

    def _batches(self, chosen: Tensor, size: int) -> Iterator[Batch]:
        if self._there is not None:
            yield from self._there.batches(chosen, size)
            return
        for numbers in torch.split(chosen, size):
            y = self.targets.pad(numbers)
            if self.whole is not None:
                yield Batch(self.whole.index_select(0, numbers).transpose(0, 1), y, normalised=True)
                continue
            x, lengths = pad([self.x[k] for k in numbers.tolist()])  # [T, N, C], [N]
            differ = None if int(lengths.min()) == len(x) else lengths
            yield Batch(x, y, differ, normalised=True)


class Moved:
    """The sequences of a task on a device, one after another.

    Args:
        task: The task.
        device: The device.
    """

    def __init__(self, task: SequenceTask, device: torch.device) -> None:
        self.targets, self.device = task.targets, device
        self.lengths = torch.tensor([len(sequence) for sequence in task.x])
        self.rows = moved(torch.cat(task.x), device)  # [rows, C]
        self.y = moved((torch.cat if task.targets.every else torch.stack)(task.targets.y), device)
        self.ends = moved(self.lengths.cumsum(0), device)

    def batches(self, chosen: Tensor, size: int) -> Iterator[Batch]:
        """Make batches of the chosen sequences, as the task does."""
        order = moved(chosen, self.device)
        for start in range(0, len(chosen), size):
            yield self._batch(order[start : start + size], self.lengths[chosen[start : start + size]])

    def _batch(self, chosen: Tensor, lengths: Tensor) -> Batch:
        T = int(lengths.max())  # on the CPU
        ends, step = self.ends[chosen], torch.arange(T, device=self.device)[:, None]
        count = moved(lengths, self.device)
        within = step < count
        row = torch.where(within, ends - count + step, 0)  # [T, N]
        x = self.rows[row].masked_fill(~within[..., None], 0.0)
        if self.targets.every:
            y, no_target = self.y[row], UNSCORED if self.targets.classes else torch.nan
            y = y.masked_fill(~within.view(*within.shape, *[1] * (y.dim() - 2)), no_target)
        else:
            y = self.y[chosen]
        differ = None if int(lengths.min()) == T else lengths
        return Batch(x, y, differ, normalised=True)
