"""What the column of ``--label`` holds: names, which are classes, or numbers, which are quantities."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from undertow.app.data.columns import interpret
from undertow.app.data.reading import ROW, ColumnReading, Reading
from undertow.app.data.table import check_words, numbers
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

MOST_NUMBERED = 20  # whole numbers that are taken for classes


def settle(
    table: pl.DataFrame, path: Path, config: DataConfig, reading: Reading
) -> tuple[pl.DataFrame, DataConfig, list[str]]:
    """Decide between classes and quantities where the command line leaves it open.

    Args:
        table: The table, with its labels as texts if the task is to classify.
        path: Its file, for error messages.
        config: The options; ``infer`` says that the labels decide about the task.
        reading: How the table was read. The entry of the labels becomes that of a number, if they are.

    Returns:
        The table, in which quantities are numbers; the options with the task that the labels ask for; and
        lines that say what was decided.

    Raises:
        UserError: A quantity is no number, or its text has two readings.
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
    return table, replace(config, infer=False), said


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


def of_sequences(table: pl.DataFrame, path: Path, sequence: str, label: str) -> pl.Series:
    """One label for each sequence, in their order; raises UserError where a sequence has two."""
    by_sequence = table.group_by(sequence, maintain_order=True).agg(
        pl.col(label).first(), pl.col(label).n_unique().alias("different")
    )
    for name, _, different in by_sequence.filter(pl.col("different") > 1).iter_rows():
        raise UserError(
            f"{path}: sequence {name!r} has {different} different labels in {label!r}; expected one"
        )
    return by_sequence[label]
