"""What the column of ``--label`` holds: classes or quantities, one for each sequence or one at every step."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from undertow.app.data.reading import ROW, ColumnReading, Reading
from undertow.app.data.tables.table import check_words, numbers
from undertow.app.data.values.columns import interpret
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

MOST_NUMBERED = 20  # whole numbers that are taken for classes


def settle(
    table: pl.DataFrame, path: Path, config: DataConfig, reading: Reading
) -> tuple[pl.DataFrame, DataConfig, list[str]]:
    """Decide between classes and quantities, by sequence or step, where the command line leaves it open.

    Args:
        table: The table, with its labels as texts if the task is to classify.
        path: Its file, for error messages.
        config: The options; ``infer`` says that the labels decide about the task, and ``per`` None that they
            decide what one of them belongs to.
        reading: How the table was read. The entry of the labels becomes that of a number, if they are.

    Returns:
        The table, in which quantities are numbers; the options as the labels ask for them; and lines that
        say what was decided.

    Raises:
        UserError: There are no labels, a quantity is no number, or its text has two readings.
    """
    label, said = str(config.label), []
    if config.infer:
        found = as_numbers(table, path, label, config, reading)
        if found is not None and is_quantity(found):
            table, config = table.with_columns(found), replace(config, task="regress")
            said = [f"{label} holds {_kind(found)}: a number is learnt; --task classify makes each a class"]
        else:
            reading.columns[label] = ColumnReading()
            if found is not None:
                said = [f"{label} holds {_kind(found)}: classes are learnt; --task regress learns a number"]
    if config.task == "regress":
        if table.schema[label] == pl.String:
            check_words(table, path, label, reading)
        values = pl.Series(label, numbers(table, path, label, with_gaps=True), nan_to_null=True)
        table = table.with_columns(values)
    if config.per is None:
        config = replace(config, per="step" if _changes(table, config) else "sequence")
        if config.per == "step":
            said.append(f"{label} changes within a sequence: it is learnt at every step (--per step)")
    return table, replace(config, infer=False), said


def _changes(table: pl.DataFrame, config: DataConfig) -> bool:
    """Whether a sequence has two labels; rows without one do not count."""
    different = table.group_by(str(config.sequence)).agg(pl.col(str(config.label)).drop_nulls().n_unique())
    return bool((different[str(config.label)] > 1).any())


def as_numbers(
    table: pl.DataFrame, path: Path, label: str, config: DataConfig, reading: Reading
) -> pl.Series | None:
    """The labels as numbers, noted in ``reading``; None if one of them is no number."""
    alone = replace(config, sequence=None, label=None, time=None)
    apart = Reading(format=reading.format, separator=reading.separator)
    found = interpret(table.select(ROW, label), path, alone, apart)
    if apart.columns.get(label, ColumnReading()).decimal == "?":
        check_words(table, path, label, apart)
    if not found.schema[label].is_numeric() or not found[label].count():
        return None
    reading.columns[label] = apart.columns[label]
    reading.said.extend(apart.said)
    return found[label]


def is_quantity(values: pl.Series) -> bool:
    """Whether numbers are quantities rather than classes: some have fractions, or many differ."""
    return not _whole(values) or values.drop_nulls().n_unique() > MOST_NUMBERED


def _whole(values: pl.Series) -> bool:
    return bool((values == values.round()).all())


def _kind(values: pl.Series) -> str:
    whole = "whole numbers" if _whole(values) else "numbers with fractions"
    return f"{values.drop_nulls().n_unique()} different {whole}"


def of_sequences(table: pl.DataFrame, path: Path, sequence: str, label: str, needed: bool) -> pl.Series:
    """One label for each sequence, in their order.

    Args:
        table: The table.
        path: Its file, for error messages.
        sequence: The column that tells sequences apart.
        label: The column of the labels; rows without one do not count.
        needed: Whether each sequence must have one.

    Returns:
        The labels, null for a sequence without one.

    Raises:
        UserError: A sequence has two labels, or none where it must have one.
    """
    values = pl.col(label).drop_nulls()
    by_sequence = table.group_by(sequence, maintain_order=True).agg(
        values.first(), values.n_unique().alias("different"), pl.col(ROW).min()
    )
    for name, _, different, row in by_sequence.iter_rows():
        if different > 1:
            other = "or --per step for a label at every step" if needed else "as in the training"
            raise UserError(
                f"{path}: sequence {name!r} has {different} different labels in {label!r}; "
                f"expected one, {other}"
            )
        if not different and needed:
            raise UserError(f"{path}: column {label!r}, row {row}: sequence {name!r} has no label")
    return by_sequence[label]
