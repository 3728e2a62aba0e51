"""What a run is made of: data, model and training options, as they stand in ``config.json``.

A field with an ``Option`` is an option of ``undertow train``. Its defaults were chosen by measurement.
"""

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from undertow.app.errors import UserError
from undertow.app.runs.options import DATA, MODEL, TRAINING, Declared, Option, checked, declared

FORECAST, CLASSIFY, TEXT = ("forecast",), ("classify",), ("text",)
TABLES = ("forecast", "classify")

Count = Annotated[int, Meta(ge=1, le=1_000_000)]  # of units, layers, sequences, passes
Rate = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Column = str | None


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from and how they are cut up."""

    source: str  # a path, absolute, or the name of a built-in problem
    task: Annotated[
        Literal["text", "forecast", "classify", "problem"],
        Option("text, forecast, classify or problem; guessed otherwise.", DATA),
    ]
    validation: Annotated[  # 0: freshly drawn
        float,
        Meta(ge=0, lt=1),
        Option(
            "Fraction held back: the end, or whole sequences.",
            DATA,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "problem": 0.0},
            ("text", *TABLES),
            given=Annotated[float, Meta(gt=0, lt=1)],
        ),
    ]
    steps: Annotated[  # T; 0 where sequences set it
        int,
        Meta(ge=0, le=1_000_000_000),
        Option(
            "Window of a text or forecast, lag of a problem.",
            DATA,
            {"text": 64, "forecast": 32, "classify": 0, "problem": 100},
            ("text", "forecast", "problem"),
            given=Annotated[int, Meta(ge=1, le=1_000_000_000)],
        ),
    ]
    horizon: Annotated[Count, Option("Rows to forecast after each window.", DATA, 1, FORECAST)] = 1
    target: Annotated[Column, Option("Column to forecast.", DATA, None, FORECAST, "COLUMN")] = None
    time: Annotated[Column, Option("Column that orders the rows.", DATA, None, TABLES, "COLUMN")] = None
    group: Annotated[
        Column, Option("Column that tells several series apart.", DATA, None, FORECAST, "COLUMN")
    ] = None
    sequence: Annotated[
        Column, Option("Column that tells sequences apart.", DATA, None, CLASSIFY, "COLUMN")
    ] = None
    label: Annotated[Column, Option("Column with each sequence's class.", DATA, None, CLASSIFY, "COLUMN")] = (
        None
    )
    gaps: Annotated[
        Literal["error", "fill", "flag", "split", "ignore"],
        Option(
            "Missing values or rows: error, fill (from the row before), flag (fill, and a feature that says"
            " so), split (these rows out, no window across) or ignore (missing rows only).",
            DATA,
            "error",
            TABLES,
        ),
    ] = "error"
    duplicates: Annotated[
        Literal["error", "mean", "first", "last"],
        Option("Rows of one series with the same time: error, mean, first or last.", DATA, "error", FORECAST),
    ] = "error"
    missing: Annotated[
        Column,
        Option(
            "Further values that stand for none, as in -9999,-99; none: no others.",
            DATA,
            None,
            TABLES,
            "VALUES",
        ),
    ] = None
    time_format: Annotated[
        Column,
        Option("How times are written, as for strptime, or unix or excel.", DATA, None, TABLES, "FORMAT"),
    ] = None
    time_zone: Annotated[
        Column,
        Option("Zone of local times, as in Europe/London.", DATA, None, TABLES, "ZONE"),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None,
        Option(
            "Decimal sign of the numbers, . or , as a table's texts show otherwise.",
            DATA,
            None,
            TABLES,
            "SIGN",
        ),
    ] = None
    no_header: Annotated[
        bool, Option("The first line holds values; columns are column_1, column_2, ...", DATA, False, TABLES)
    ] = False
    sheet: Annotated[Column, Option("Sheet of a workbook.", DATA, None, TABLES, "NAME")] = None
    encoding: Annotated[
        Column, Option("Encoding of a text or table; found otherwise.", DATA, None, ("text", *TABLES), "NAME")
    ] = None
    as_bytes: Annotated[
        bool, Option("Read text as bytes, not characters.", DATA, False, TEXT, flag="bytes")
    ] = False
    further: tuple[str, ...] = ()  # files read with the source, absolute
    numbers_as_classes: bool = False  # --task classify was given: also many or fractional ones are classes


@dataclass(frozen=True)
class ModelConfig:
    """Enough to rebuild the network; its weights are in ``model.safetensors``."""

    cell: Annotated[Literal["lstm", "rnn"], Option("lstm, or rnn (plain, tanh).", MODEL, "lstm")]
    hidden_size: Annotated[
        Count,
        Option("Units a layer, H.", MODEL, {"text": 256, "forecast": 32, "classify": 64, "problem": 64}),
    ]
    num_layers: Annotated[
        Count, Option("Layers.", MODEL, {"text": 2, "forecast": 1, "classify": 1, "problem": 1})
    ]
    dropout: Annotated[
        Rate,
        Option(
            "Between layers and before the head.",
            MODEL,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "problem": 0.0},
        ),
    ]
    outputs: Count  # classes, symbols, or horizon
    readout: Literal["every", "last"]  # what the head reads: every step, or the last one
    inputs: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # C, features a step; 0 with an embedding
    symbols: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # size of the embedding table; 0 without
    width: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # of the embedding
    noise: Annotated[  # labelled sequences are few: without noise seeds differ widely
        NotNegative,
        Option(
            "Deviation of noise on the normalised features while training.",
            MODEL,
            {"text": 0.0, "forecast": 0.0, "classify": 0.5, "problem": 0.0},
            ("forecast", "classify", "problem"),
        ),
    ] = 0.0
    residual: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1  # forecasts start from its last value; -1: 0
    init: Annotated[  # at T=100 two-sequence and temporal-order learn nothing from torch's start
        Literal["torch", "chrono", "orthogonal"],
        Option(
            "torch, orthogonal, or chrono: forget gates that hold for 1 to --steps steps at the start.",
            MODEL,
            {"text": "torch", "forecast": "torch", "classify": "torch", "problem": "chrono"},
        ),
    ] = "torch"
    max_lag: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0  # of chrono, in steps; 0 otherwise
    forget_bias: Annotated[
        Annotated[float, Meta(ge=-1e6, le=1e6)] | None,
        Option("Of the LSTM's forget gates at the start.", MODEL),
    ] = None


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    lr: Annotated[  # a cosine that ends at 5% of it
        Positive,
        Option(
            "Peak learning rate.",
            TRAINING,
            {"text": 3e-3, "forecast": 3e-3, "classify": 5e-3, "problem": 5e-3},
        ),
    ]
    batch_size: Annotated[
        Count,
        Option("Sequences a step, N.", TRAINING, {"text": 32, "forecast": 64, "classify": 8, "problem": 64}),
    ]
    epochs: Annotated[  # of a text what TEXT_BUDGET allows; of a problem 100 batches each
        Count,
        Option("Passes over the training part.", TRAINING, {"forecast": 60, "classify": 100, "problem": 50}),
    ]
    patience: (
        Annotated[  # a text is evaluated twice an epoch; few sequences to classify are too noisy to stop by
            Count,
            Option(
                "Evaluations without improvement before it stops.",
                TRAINING,
                {"text": 6, "forecast": 12, "classify": 100, "problem": 50},
            ),
        ]
    )
    clip: Annotated[NotNegative, Option("Largest gradient norm; 0 never clips.", TRAINING, 1.0)]
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1), Option("Of all random numbers.", TRAINING, 0)]
    device: Annotated[Literal["auto", "cpu", "cuda"], Option("auto, cpu or cuda.", TRAINING, "auto")] = "auto"
    precision: Annotated[  # as Lightning Fabric names them
        Literal["32-true", "64-true", "bf16-mixed", "16-mixed"],
        Option("32-true, 64-true, bf16-mixed or 16-mixed.", TRAINING, "32-true"),
    ] = "32-true"
    minutes: Annotated[NotNegative, Option("Time budget in all, in minutes; 0: none.", TRAINING, 0.0)] = 0.0
    weight_decay: NotNegative = 0.01


TEXT_BUDGET = 5_000_000  # symbols: a text gets enough epochs to see about this many
TEXT_EPOCHS = (1, 50)  # ... but never fewer or more passes than this
MAY_CHANGE = ("epochs", "minutes", "patience", "device")  # on --resume


def options() -> Iterator[Declared]:
    """The options of ``undertow train``."""
    return declared(DataConfig, ModelConfig, TrainConfig)


def check_given(given: dict[str, Any]) -> None:
    """Raise UserError for a value of an option that fits no task, before anything is read."""
    for option in options():
        if option.name in given:
            checked(option, given[option.name])


def check_meant(task: str, why: str, given: dict[str, Any]) -> None:
    """Raise UserError for an option that means nothing for ``task``, which was chosen because of ``why``."""
    for option in options():
        if option.name in given and task not in option.option.tasks:
            raise UserError(
                f"{option.flag} means nothing for task {task} ({why}); --task overrides the guess"
            )


def check_gaps(task: str, gaps: str | None) -> None:
    """Raise UserError for a value of ``--gaps`` that means nothing for labelled sequences."""
    if task == "classify" and gaps == "ignore":
        raise UserError("--gaps ignore: means nothing for task classify; expected error or fill")


def with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Every option that ``task`` needs, with the value it has unless ``given`` says otherwise."""
    found = {option.name: option.option.default_of(task) for option in options()}
    found = {name: value for name, value in found.items() if value is not MISSING} | given | {"task": task}
    sets_no_gates = found["cell"] == "rnn" or found["forget_bias"] is not None or found["steps"] <= 2
    if found["init"] == "chrono" and "init" not in given and sets_no_gates:
        found["init"] = "torch"
    return found


def check_together(found: dict[str, Any], where: str) -> None:
    """Raise UserError, naming them, where options exclude each other. ``where`` names a file, if any."""
    chrono, flag = found["init"] == "chrono", "" if where else "--"
    if found["cell"] == "rnn" and (found["forget_bias"] is not None or chrono):
        option = f"{flag}init chrono" if chrono else f"{flag}forget-bias"
        raise UserError(f"{where}{option}: sets gates, and {flag}cell rnn has none")
    if chrono and found["forget_bias"] is not None:
        raise UserError(f"{where}{flag}forget-bias: {flag}init chrono sets it already; leave out one of them")


def text_epochs(symbols: int) -> int:
    """Epochs for a text of so many training symbols."""
    fewest, most = TEXT_EPOCHS
    return min(most, max(fewest, round(TEXT_BUDGET / max(1, symbols))))


def to_dict(config: "DataConfig | ModelConfig | TrainConfig") -> dict[str, Any]:
    """The configuration as JSON holds it."""
    return asdict(config)
