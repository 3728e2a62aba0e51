"""The rows of metrics.jsonl and the state in last.safetensors: their types and ranges, and their JSON.

JSON has no NaN: a number that is not finite is written as null, and null is read as NaN.
"""

import json
import math
import re
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from undertow.app.errors import UserError
from undertow.app.runs.facts import converted

UNITS = {  # of a run's errors
    "text": re.compile("bits/(char|byte)"),
    "forecast": re.compile("N?RMSE"),
    "classify": re.compile("right"),
    "regress": re.compile("RMSE"),
    "problem": re.compile("RMSE|right"),
    "sound": re.compile("ESR"),
}
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Amount = Annotated[float, Meta(ge=0, le=1e30)]  # of a loss, an error, a norm
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]


class _Source(TypedDict):
    """The fingerprint of a data file."""

    path: str
    bytes: Whole
    sha256: str


class _Rest(TypedDict):
    """The entries of config.json beside data, model, training and facts."""

    created: str
    versions: dict[str, str]
    source: dict[str, Any]
    unit: str
    baselines: dict[str, Amount | None]
    init_from: dict[str, str]


class _Row(TypedDict):
    """One evaluation."""

    step: Whole
    epoch: Annotated[float, Meta(ge=0, le=1e12)]
    train: Amount | None
    validation: Amount | None
    train_loss: Amount | None
    validation_loss: Amount | None
    cost: Amount | None  # what --select minimises
    seconds: Seconds
    lr: Amount
    grad_norm: Amount | None
    clipped: Share


class _Sums(TypedDict):
    """A ``Score``."""

    loss_sum: Amount
    count: Whole
    hits: Whole


class _State(TypedDict):
    """A ``Position``."""

    epoch: Whole
    batch: Whole
    step: Whole
    seconds: Seconds
    best: dict[str, Any]  # a Row, or empty
    stale: Whole
    due: bool
    finished: str
    train: _Sums
    norms: Annotated[list[Amount | None], Meta(min_length=3, max_length=3)]


def dump(value: Any, indent: int | None = None) -> str:
    """Write JSON, with null for numbers that are not finite.

    Args:
        value: Plain values, in dictionaries and lists.
        indent: Spaces by level. None: all on one line.

    Returns:
        The JSON text.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(text: str) -> Any:
    """Read JSON.

    Args:
        text: The JSON text.

    Returns:
        What it holds.

    Raises:
        ValueError: It is no JSON, is nested too deeply, or holds half of a Unicode character.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found


def check_rest(content: dict[str, Any], task: str, where: str) -> dict[str, Any]:
    """Check the entries of config.json that are a ``_Rest``.

    Args:
        content: All of config.json.
        task: The task of its data.
        where: The file, for the error message.

    Returns:
        The entries; those that are missing are empty.

    Raises:
        UserError: An entry is damaged.
    """
    empty = {"created": "", "versions": {}, "source": {}, "unit": "", "baselines": {}, "init_from": {}}
    rest = {name: _plain(content.get(name, value)) for name, value in empty.items()}
    converted(rest, _Rest, where)
    if task != "problem":
        converted(rest["source"], _Source, f"{where}: source")
    if not UNITS[task].fullmatch(rest["unit"]):
        raise UserError(f"{where}: damaged: unit: {rest['unit']!r} is none of task {task}")
    rest["baselines"] = _known(rest["baselines"])
    return rest


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """NaN in place of None, which JSON's null becomes."""
    return {name: math.nan if value is None else value for name, value in values.items()}


def check_rows(found: list[Any], where: str) -> list[dict[str, Any]]:
    """Check the rows of metrics.jsonl.

    Args:
        found: What its lines hold.
        where: The file, for the error message.

    Returns:
        The rows, with NaN in place of null.

    Raises:
        UserError: A line is damaged.
    """
    rows, before = [], -1
    for number, row in enumerate(found, 1):
        rows.append(_check_row(row, f"{where}: line {number}"))
        if row["step"] <= before:
            raise UserError(f"{where}: line {number}: damaged: step {row['step']} comes after step {before}")
        before = row["step"]
    return rows


def _check_row(row: Any, where: str) -> dict[str, Any]:
    row = _plain(row)
    converted(row, _Row, where)
    return _known(row)


def check_state(state: Any, where: str) -> dict[str, Any]:
    """Check where training stood.

    Args:
        state: The state in last.safetensors.
        where: The file, for the error message.

    Returns:
        The state, with NaN in place of null.

    Raises:
        UserError: An entry is damaged.
    """
    state = _plain(state)
    converted(state, _State, where)
    state["norms"] = [math.nan if value is None else value for value in state["norms"]]
    if state["best"]:
        state["best"] = _check_row(state["best"], f"{where}: best")
    steps, _, clipped = state["norms"]
    for name, holds in (
        ("train", state["train"]["hits"] <= state["train"]["count"]),
        ("norms", clipped <= steps <= state["step"]),
        ("best", not state["best"] or state["best"]["step"] <= state["step"]),
    ):
        if not holds:
            raise UserError(f"{where}: damaged: {name} and the other entries do not fit each other")
    return dict(state)
