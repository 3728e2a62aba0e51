"""Inputs in the form in which the page shows them: numbers, or categories with a word for each value."""

from typing import Any

import numpy as np

from undertow.report.networks import Sequence


def input_rows(sequence: Sequence) -> list[dict[str, Any]]:
    """List the inputs in order, with the columns of a category as one input.

    Columns form a category if they are named ``category=word`` with the same category, hold only zeros and
    ones, and no step has two ones: weather=fog and weather=sun become weather.

    Args:
        sequence: the sequence that was read, with ``inputs`` [T,C].

    Returns:
        For each input its ``name`` and its ``columns`` among C; for a category also its ``words``, one for
        each column.
    """
    rows = {name: [column] for column, name in enumerate(sequence.input_names)}
    if len(rows) < len(sequence.input_names):  # two inputs with the same name
        return [{"name": name, "columns": [k]} for k, name in enumerate(sequence.input_names)]
    for category, columns in _named_alike(sequence.input_names).items():
        if _one_hot(sequence, columns) and category not in rows:
            names = [sequence.input_names[column] for column in columns]
            rows[names[0]] = columns
            for name in names[1:]:
                del rows[name]
    return [_row(sequence.input_names, columns) for columns in rows.values()]


def _named_alike(names: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        category, equals, _ = name.partition("=")
        if equals:
            found.setdefault(category, []).append(column)
    return {category: columns for category, columns in found.items() if len(columns) > 1}


def _one_hot(sequence: Sequence, columns: list[int]) -> bool:
    values = np.asarray(sequence.inputs)[:, columns]
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) <= 1).all())


def _row(names: list[str], columns: list[int]) -> dict[str, Any]:
    if len(columns) == 1:
        return {"name": names[columns[0]], "columns": columns}
    category = names[columns[0]].partition("=")[0]
    return {
        "name": category,
        "columns": columns,
        "words": [names[column].partition("=")[2] for column in columns],
    }
