"""The facts of a run: what its data hold, and how to read further data the same way."""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from undertow.app.errors import UserError
from undertow.app.runs import vocabulary
from undertow.app.runs.config import DataConfig, ModelConfig
from undertow.app.runs.config.kinds import FORECAST, LABELLED, SOUND
from undertow.app.words import counted


@dataclass(frozen=True)
class Columns:
    """The columns that are features, in the order in which the model reads them. Kept in config.json."""

    numeric: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)  # one-hot, a feature for each word
    calendar: list[str] = field(default_factory=list)  # cycles of the time column: year, week, day
    flags: list[str] = field(default_factory=list)  # numeric columns with a second feature: 1 if missing
    ignored: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """C, the number of features."""
        words = sum(map(len, self.categories.values()))
        return len(self.numeric) + words + 2 * len(self.calendar) + len(self.flags)

    @property
    def names(self) -> list[str]:
        """The C names of the features, in order."""
        words = [f"{name}={word}" for name, found in self.categories.items() for word in found]
        cycles = [f"{wave} of {cycle}" for cycle in self.calendar for wave in ("sine", "cosine")]
        return self.numeric + words + cycles + [f"{name} missing" for name in self.flags]

    def describe(self) -> str:
        """Say in a line how many features there are, which, and which columns are not used."""
        parts = [f"{name} ({counted(len(words), 'word')})" for name, words in self.categories.items()]
        parts += [f"time of {cycle}" for cycle in self.calendar]
        parts += [f"{name} missing" for name in self.flags]
        ignored = f"; not used: {', '.join(self.ignored)}" if self.ignored else ""
        return f"{counted(self.width, 'feature')}: {', '.join(self.numeric + parts)}{ignored}"

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as JSON holds them."""
        return asdict(self)


# -- what config.json says of the data, checked ---------------------------------------------------

Step = Annotated[float, Meta(ge=0, le=1e18)]
CYCLES = ("year", "week", "day")


class _TextFacts(TypedDict):
    symbols: vocabulary.Kind
    vocabulary: list[str]
    encoding: str


class _ForecastFacts(TypedDict):
    columns: Columns
    time: str | None
    group: tuple[str, ...]
    step: Step
    frequency: dict[str, Any]  # this and ``reading`` are checked by the code that reads further data
    reading: dict[str, Any]
    seasons: dict[str, dict[str, dict[str, float]]]  # means by target, series and season
    means: dict[str, float]  # of the training part, by target
    series: list[str]  # the names of those that are embedded, in the order of the embedding
    known: list[str]  # columns whose future is known: those of --known, and static ones
    season: Annotated[int, Meta(ge=1, le=100_000)]  # of the seasonal naive forecast, in rows
    scales: dict[str, dict[str, Step]]  # of MASE, by target and series


class _ClassifyFacts(TypedDict):
    columns: Columns
    classes: list[str]
    time: str | None
    reading: dict[str, Any]


class _RegressFacts(TypedDict):
    columns: Columns
    time: str | None
    reading: dict[str, Any]


class _ProblemFacts(TypedDict):
    pass


class _SoundFacts(TypedDict):
    sample_rate: Annotated[int, Meta(ge=1, le=10**9)]


KINDS = {
    "text": _TextFacts, "forecast": _ForecastFacts, "classify": _ClassifyFacts, "regress": _RegressFacts,
    "problem": _ProblemFacts, "sound": _SoundFacts,
}  # fmt: skip

ONLY: dict[str, tuple[str, ...]] = {  # entries of the network that only networks of some tasks have
    "linear": SOUND,
    "skip": SOUND,
    "bidirectional": LABELLED,
    "quantity": (*FORECAST, *SOUND, "regress"),
    **dict.fromkeys(("panel", "autoregression", "ahead", "known", "series"), FORECAST),
}


def check(facts: Any, data: DataConfig, model: ModelConfig, where: str) -> None:
    """Check the facts of a run.

    Args:
        facts: The entry of config.json.
        data: Its data configuration, whose task says which facts there are.
        model: Its network, which the facts must fit.
        where: The file, for the error message.

    Raises:
        UserError: A fact is missing, has another type, or does not fit the network.
    """
    found = converted(facts, KINDS[data.task], f"{where}: facts")
    checks: dict[str, Any] = {
        "text": _text, "forecast": _forecast, "classify": _classify, "regress": _regress,
        "problem": _problem, "sound": _sound,
    }  # fmt: skip
    holding = {
        f"model.{name}": data.task in tasks or not getattr(model, name) for name, tasks in ONLY.items()
    }
    holding["model.max_lag"] = model.max_lag > 2 if model.init == "chrono" else not model.max_lag
    for name, holds in (*checks[data.task](found, data, model).items(), *holding.items()):
        if not holds:
            raise UserError(f"{where}: damaged: {name} and the other entries do not fit each other")


def converted(value: Any, kind: Any, where: str) -> Any:
    """Convert what JSON holds to a type.

    Args:
        value: What JSON holds.
        kind: A type as msgspec reads it.
        where: The file and place, for the error message.

    Returns:
        A ``kind``.

    Raises:
        UserError: ``value`` has another type, is out of range or not finite.
    """
    try:
        found = msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UserError(f"{where}: damaged: {error}") from None
    if not _is_finite(value):
        raise UserError(f"{where}: damaged: a number is not finite")
    return found


def _is_finite(value: Any) -> bool:
    """Whether all numbers in what JSON holds are finite, as JSON demands."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _text(facts: _TextFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    size = _size(facts)
    return {
        "facts.vocabulary": size > 0,
        "facts.symbols": data.symbols in (facts["symbols"], None),
        "facts.encoding": _is_encoding(facts["encoding"]),
        "model.symbols": model.symbols == size and model.width > 0 and not model.inputs,
        "model.outputs": model.outputs == size,
        "model.readout": model.readout == "every",
        "model.residual": not model.residual,
        "data.steps": data.steps > 0,
        "data.validation": data.validation > 0,
    }


def _size(facts: _TextFacts) -> int:
    """The number of symbols; 0 for a damaged vocabulary."""
    try:
        return vocabulary.size(facts["symbols"], facts["vocabulary"])
    except ValueError:
        return 0


def _is_encoding(name: str) -> bool:
    try:
        return bool("".encode(name) is not None)
    except (LookupError, ValueError):
        return False


def _forecast(facts: _ForecastFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    columns, targets = facts["columns"], data.target
    return _table(columns, facts["time"], data, model) | {
        "data.target": bool(targets) and all((name in columns.numeric) != data.simulate for name in targets),
        "model.residual": [columns.numeric[k : k + 1] for k in model.residual]
        == [[name] for name in targets if not data.simulate],
        "model.outputs": model.outputs == len(targets) * (1 if model.ahead else data.horizon),
        "data.steps": data.steps > 0,
        "model.panel": model.panel == (bool(facts["group"]) and not data.simulate),
        "model.autoregression": model.autoregression == (data.steps if model.residual else 0),
        "model.ahead": model.ahead == (data.horizon if data.head == "decoder" else 0),
        "facts.series": len(set(facts["series"])) == len(facts["series"]) == model.series,
        "data.embed_group": data.embed_group == (model.series > 0) == (model.width > 0),
        "facts.known": set(data.known) <= set(facts["known"]) <= {*columns.numeric, *columns.categories},
        "model.known": all(k < columns.width for k in model.known),
        "data.horizon": data.horizon == 1 or not data.simulate,
        "model.quantity": model.quantity == data.simulate,
        "facts.means": set(facts["means"]) == set(targets),
        "facts.seasons": all(
            "" in means for series in facts["seasons"].values() for means in series.values()
        ),
    }


def _classify(facts: _ClassifyFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    classes = facts["classes"]
    return _table(facts["columns"], facts["time"], data, model) | {
        "data.sequence": bool(data.sequence) and bool(data.label),
        "facts.classes": len(classes) == model.outputs > 1 and classes == sorted(set(classes)),
        "model.residual": not model.residual,
    }


def _regress(facts: _RegressFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    return _table(facts["columns"], facts["time"], data, model) | {
        "data.sequence": bool(data.sequence) and bool(data.label),
        "model.outputs": model.outputs == 1,
        "model.quantity": model.quantity,
        "model.residual": not model.residual,
    }


def _table(columns: Columns, time: str | None, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    names = [*columns.numeric, *columns.categories]
    return {
        "facts.columns": len(set(names)) == len(names) and all(columns.categories.values()),
        "facts.columns.calendar": set(columns.calendar) <= set(CYCLES if time else ()),
        "model.inputs": model.inputs == columns.width > 0 and not model.symbols,
        "model.readout": (model.readout == "every") == (data.per == "step"),
        "data.validation": data.validation > 0,
    }


def _problem(facts: _ProblemFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    from undertow import problems  # which imports NumPy, of no use for other tasks

    known = data.source in problems.names()
    problem = problems.get(data.source) if known else None
    return {
        "data.source": known,
        "model.inputs": problem is not None and model.inputs == problem.input_size and not model.symbols,
        "model.outputs": problem is not None and model.outputs == problem.output_size,
        "model.readout": problem is not None and model.readout == problem.readout,
        "model.residual": not model.residual,
        "data.steps": data.steps > 0,
    }


def _sound(facts: _SoundFacts, data: DataConfig, model: ModelConfig) -> dict[str, bool]:
    return {
        "data.further": len(data.further) == 1,
        "model.inputs": model.inputs == 1 and not model.symbols,
        "model.outputs": model.outputs == 1,
        "model.readout": model.readout == "every",
        "model.linear": model.linear and model.quantity,
        "model.residual": not model.residual,
        "data.steps": data.steps > 1,
        "data.validation": data.validation > 0,
        "data.delay": data.delay is not None,
    }


def columns_of(facts: dict[str, Any]) -> Columns:
    """Return the columns that a run's config.json keeps.

    Args:
        facts: Its facts.

    Returns:
        The columns; entries of a later version are passed over.

    Raises:
        UserError: An entry has another type.
    """
    found: Columns = converted(facts["columns"], Columns, "facts.columns")
    return found
