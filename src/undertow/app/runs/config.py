"""What a run is made of: data, model and training options, as they stand in ``config.json``.

Unknown keys and missing keys fail: a typing error must never train another model than was meant.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

from undertow.app.errors import UserError

Config = TypeVar("Config", "DataConfig", "ModelConfig", "TrainConfig")


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from and how they are cut up."""

    source: str  # a path, absolute, or the name of a built-in problem
    task: str  # text, forecast, classify or problem
    validation: float  # fraction held back: the last part in time, or whole sequences
    steps: int  # T: window of a text or a forecast, lag of a problem; 0 where sequences set it
    horizon: int = 1  # rows forecast after the window
    target: str | None = None
    time: str | None = None
    group: str | None = None
    sequence: str | None = None
    label: str | None = None
    gaps: str = "error"  # missing values and missing rows: error, fill or ignore
    as_bytes: bool = False  # text as bytes, not characters


@dataclass(frozen=True)
class ModelConfig:
    """Enough to rebuild the network; its weights are in ``model.safetensors``."""

    cell: str  # lstm or rnn
    hidden_size: int  # H
    num_layers: int
    dropout: float  # between layers and before the head
    outputs: int  # classes, symbols, or horizon
    readout: str  # what the head reads: every step, or the last one
    inputs: int = 0  # C, features a step; 0 with an embedding
    symbols: int = 0  # size of the embedding table; 0 without
    width: int = 0  # of the embedding
    noise: float = 0.0  # deviation of noise on the normalised features while training
    residual: int = -1  # forecasts start from the last value of this feature; -1: from nothing
    init: str = "torch"  # how the layers start: torch, chrono or orthogonal
    max_lag: int = 0  # of chrono, in steps; 0 otherwise
    forget_bias: float | None = None  # of the LSTM's forget gates at the start; None: as init has it


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    lr: float  # peak of a cosine that ends at 5% of it
    batch_size: int  # N
    epochs: int
    patience: int  # evaluations without improvement before it stops early
    clip: float  # largest norm of the whole gradient; 0 never clips
    seed: int
    device: str = "auto"
    precision: str = "32-true"  # as Lightning Fabric names them
    minutes: float = 0.0  # time budget; 0: none
    weight_decay: float = 0.01


# What each task gets where nothing is said. Chosen by measurement.
DEFAULTS: dict[str, dict[str, Any]] = {
    "text": {
        "validation": 0.1,
        "steps": 64,
        "hidden_size": 256,
        "num_layers": 2,
        "lr": 3e-3,
        "batch_size": 32,
        "dropout": 0.1,
        "patience": 6,  # half epochs
    },
    "forecast": {
        "validation": 0.2,
        "steps": 32,
        "hidden_size": 32,
        "lr": 3e-3,
        "batch_size": 64,
        "dropout": 0.2,
        "epochs": 60,
        "patience": 12,
    },
    "classify": {
        "validation": 0.2,
        "steps": 0,
        "hidden_size": 64,
        "noise": 0.5,  # labelled sequences are few: without it seeds differ widely
        "lr": 5e-3,
        "batch_size": 8,
        "dropout": 0.2,
        "epochs": 100,
        "patience": 100,  # a handful of validation sequences is too noisy to stop by
    },
    "problem": {
        "validation": 0.0,  # freshly drawn
        "steps": 100,
        "hidden_size": 64,
        "lr": 5e-3,
        "batch_size": 64,
        "dropout": 0.0,
        "init": "chrono",  # at T=100 two-sequence and temporal-order learn nothing from torch's start
        "epochs": 50,  # of 100 batches
        "patience": 50,
    },
}
COMMON: dict[str, Any] = {
    "cell": "lstm", "num_layers": 1, "noise": 0.0, "clip": 1.0, "seed": 0, "init": "torch",
    "forget_bias": None,
}  # fmt: skip
TEXT_BUDGET = 5_000_000  # symbols: a text gets enough epochs to see about this many
TEXT_EPOCHS = (1, 50)  # ... but never fewer or more passes than this


def with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Every option that ``task`` needs, with the value it has unless ``given`` says otherwise."""
    options = COMMON | DEFAULTS[task] | given
    sets_no_gates = options["cell"] == "rnn" or options["forget_bias"] is not None or options["steps"] <= 2
    if options["init"] == "chrono" and "init" not in given and sets_no_gates:
        options["init"] = "torch"
    return options


def text_epochs(symbols: int) -> int:
    """Epochs for a text of so many training symbols."""
    fewest, most = TEXT_EPOCHS
    return min(most, max(fewest, round(TEXT_BUDGET / max(1, symbols))))


def to_dict(config: "DataConfig | ModelConfig | TrainConfig") -> dict[str, Any]:
    return asdict(config)


def from_dict(kind: type[Config], values: Any, where: str) -> Config:
    """Build ``kind`` from what a file holds; raises UserError on unknown, missing or mistyped keys."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a table of options, got {type(values).__name__}")
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{where}: unknown option {unknown[0]!r}")
    required = [name for name, field in known.items() if field.default is MISSING]
    if missing := [name for name in required if name not in values]:
        raise UserError(f"{where}: option {missing[0]!r} is missing")
    return kind(**values)


def check_options(data: DataConfig, options: dict[str, Any]) -> None:
    """Ranges; raises UserError naming the option, what was given and what was expected."""
    whole = ["hidden_size", "num_layers", "batch_size", "epochs", "patience"]
    whole += ["horizon"] * ("horizon" in options) + ["steps"] * (data.task != "classify")
    for name in whole:
        if options[name] < 1:
            raise UserError(f"--{name.replace('_', '-')} {options[name]}: expected 1 or more")
    if not options["lr"] > 0:
        raise UserError(f"--lr {options['lr']}: expected more than 0")
    if not 0 <= options["dropout"] < 1:
        raise UserError(f"--dropout {options['dropout']}: expected 0 or more and less than 1")
    for name in ("noise", "clip", "minutes", "seed"):
        if options.get(name, 0) < 0:
            raise UserError(f"--{name} {options[name]}: expected 0 or more")
    if options["cell"] == "rnn" and (options["forget_bias"] is not None or options["init"] == "chrono"):
        option = "--init chrono" if options["init"] == "chrono" else "--forget-bias"
        raise UserError(f"{option}: sets gates, and --cell rnn has none")
    if options["init"] == "chrono" and options["forget_bias"] is not None:
        raise UserError("--forget-bias: --init chrono sets it already; leave out one of them")
    if data.task != "problem" and not 0 < data.validation < 1:
        raise UserError(f"--validation {data.validation}: expected a fraction between 0 and 1")
