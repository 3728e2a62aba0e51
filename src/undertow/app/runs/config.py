"""The configuration of a run: data, model and training, as in ``config.json``.

A field with an ``Option`` is an option of ``undertow train``. The defaults were chosen by measurement.
"""

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from undertow.app.errors import UserError
from undertow.app.runs.options import (
    AHEAD,
    DATA,
    FILES,
    LABELS,
    MODEL,
    TEXTS,
    TRAINING,
    Declared,
    Option,
    checked,
    declared,
)
from undertow.app.runs.vocabulary import Kind

FORECAST, TEXT = ("forecast",), ("text",)
LABELLED = ("classify", "regress")  # whose labels decide which; so their defaults are the same
TABLES = ("forecast", *LABELLED)

Count = Annotated[int, Meta(ge=1, le=1_000_000)]  # of units, layers, sequences, passes
Rate = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Column = str | None
Several = tuple[str, ...]
Place = Annotated[int, Meta(ge=0, le=1_000_000)]  # of a feature


@dataclass(frozen=True)
class DataConfig:
    """The source of the data, and how they are split and cut into windows."""

    source: str  # a path, absolute, or the name of a built-in problem
    task: Annotated[
        Literal["text", "forecast", "classify", "regress", "problem"],
        Option("text, forecast, classify, regress or problem. (default: guessed)", DATA),
    ]
    validation: Annotated[  # 0: freshly drawn
        float,
        Meta(ge=0, lt=1),
        Option(
            "Fraction held back to validate: the end, or whole sequences.",
            DATA,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "regress": 0.2, "problem": 0.0},
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
            {"text": 64, "forecast": 32, "classify": 0, "regress": 0, "problem": 100},
            ("text", "forecast", "problem"),
            given=Annotated[int, Meta(ge=1, le=1_000_000_000)],
        ),
    ]
    horizon: Annotated[Count, Option("Rows to forecast after each window.", AHEAD, 1, FORECAST)] = 1
    target: Annotated[
        Several,
        Option("Column to forecast; several may be forecast together.", AHEAD, (), FORECAST, "COLUMN"),
    ] = ()
    group: Annotated[
        Several,
        Option("Column that tells series apart; several may together.", AHEAD, (), FORECAST, "COLUMN"),
    ] = ()
    sequence: Annotated[
        Column, Option("Column that tells sequences apart.", LABELS, None, LABELLED, "COLUMN")
    ] = None
    label: Annotated[
        Column,
        Option("Column with classes or numbers, of sequences or steps.", LABELS, None, LABELLED, "COLUMN"),
    ] = None
    per: Annotated[
        Literal["sequence", "step"] | None,
        Option("What has a label: sequence or step. (default: found in the table)", LABELS, None, LABELLED),
    ] = None
    known: Annotated[
        Several,
        Option("Column whose future is known, such as a planned price.", AHEAD, (), FORECAST, "COLUMN"),
    ] = ()
    simulate: Annotated[
        bool,
        Option("Compute the target from the other columns, up to and with its row.", AHEAD, False, FORECAST),
    ] = False
    embed_group: Annotated[
        bool, Option("Learn an embedding of each series of --group, and read it.", AHEAD, False, FORECAST)
    ] = False
    head: Annotated[
        Literal["direct", "decoder"],
        Option(
            "direct, or decoder: reads what is known of each row of the horizon. (with --known: decoder)",
            AHEAD,
            "direct",
            FORECAST,
        ),
    ] = "direct"
    class_weights: Annotated[
        Literal["none", "balanced"],
        Option(
            "How classes count in the loss: none (each prediction alike) or balanced (rare classes more).",
            LABELS,
            "none",
            ("classify",),
        ),
    ] = "none"
    time: Annotated[Column, Option("Column that orders the rows.", FILES, None, TABLES, "COLUMN")] = None
    gaps: Annotated[
        Literal["error", "fill", "flag", "split", "ignore"],
        Option(
            "Missing values or rows: error, fill (from the row before), flag (fill, and a feature that says"
            " so), split (these rows out, no window across) or ignore (missing rows only).",
            FILES,
            "error",
            TABLES,
        ),
    ] = "error"
    duplicates: Annotated[
        Literal["error", "mean", "first", "last"],
        Option("Rows of a series with the same time: error, mean, first or last.", FILES, "error", FORECAST),
    ] = "error"
    missing: Annotated[
        Column,
        Option(
            "Further values that mean missing, such as -9999,-99; none: no others.",
            FILES,
            None,
            TABLES,
            "VALUES",
        ),
    ] = None
    time_format: Annotated[
        Column,
        Option("How times are written, as for strptime, or unix or excel.", FILES, None, TABLES, "FORMAT"),
    ] = None
    time_zone: Annotated[
        Column,
        Option("Zone of local times, such as Europe/London.", FILES, None, TABLES, "ZONE"),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None,
        Option(
            "Decimal sign of the numbers, . or , (default: found in the table).",
            FILES,
            None,
            TABLES,
            "SIGN",
        ),
    ] = None
    no_header: Annotated[
        bool, Option("The first line holds values; columns are column_1, column_2, ...", FILES, False, TABLES)
    ] = False
    sheet: Annotated[Column, Option("Sheet of a workbook.", FILES, None, TABLES, "NAME")] = None
    encoding: Annotated[
        Column,
        Option("Encoding of texts or tables. (default: found)", FILES, None, ("text", *TABLES), "NAME"),
    ] = None
    symbols: Annotated[
        Kind | None,
        Option(
            "bytes, characters, words or bpe (byte pairs). (default: characters, bytes where they are many)",
            TEXTS,
            None,
            TEXT,
            "KIND",
        ),
    ] = None
    vocabulary: Annotated[
        Annotated[int, Meta(ge=2, le=1_000_000)] | None,
        Option("Most symbols, of words or bpe. (default: 10,000 and 2,000)", TEXTS, None, TEXT, "N"),
    ] = None
    before: float | None = (
        None  # of a backtest's training: rows at this time, as a number, or later are left out
    )
    further: tuple[str, ...] = ()  # files read with the source, absolute
    infer: bool = False  # whether the labels decide between classify and regress

    @property
    def first(self) -> int:
        """Where the forecast rows begin, counted from a window's first row: after it, or at its last row."""
        return self.steps - self.simulate


@dataclass(frozen=True)
class ModelConfig:
    """The network; its weights are in ``model.safetensors``."""

    cell: Annotated[Literal["lstm", "rnn"], Option("lstm, or rnn (plain, tanh).", MODEL, "lstm")]
    hidden_size: Annotated[
        Count,
        Option(
            "Units a layer, H.",
            MODEL,
            {"text": 256, "forecast": 32, "classify": 64, "regress": 64, "problem": 64},
        ),
    ]
    num_layers: Annotated[
        Count, Option("Layers.", MODEL, {"text": 2, "forecast": 1, "classify": 1, "regress": 1, "problem": 1})
    ]
    dropout: Annotated[
        Rate,
        Option(
            "Dropout between layers and before the head.",
            MODEL,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "regress": 0.2, "problem": 0.0},
        ),
    ]
    outputs: Count  # classes, symbols, or the targets of each row of the horizon
    readout: Annotated[  # what the head reads
        Literal["every", "last", "mean", "max", "attention", "mean-max"],
        Option(
            "What a sequence's label is read from: the last step, or all steps, pooled. (default: mean-max)",
            LABELS,
            {},
            LABELLED,
            given=Literal["last", "mean", "max", "attention", "mean-max"],
        ),
    ]
    inputs: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # C, features a step; 0 with an embedding
    symbols: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # size of the embedding table; 0 without
    width: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # of the embedding
    noise: Annotated[  # labelled sequences are few: without noise seeds differ widely
        NotNegative,
        Option(
            "Standard deviation of noise on the normalised features in training.",
            MODEL,
            {"text": 0.0, "forecast": 0.0, "classify": 0.5, "regress": 0.5, "problem": 0.0},
            (*TABLES, "problem"),
        ),
    ] = 0.0
    residual: tuple[Place, ...] = ()  # the targets: forecasts start from their last values; none: from 0
    quantity: bool = False  # of labels: the head gives numbers around their mean, in units of their spread
    ahead: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # steps of the decoder; 0 without
    known: tuple[Place, ...] = ()  # the features that the decoder reads
    series: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # size of their embedding table; 0 without
    bidirectional: Annotated[
        bool,
        Option(
            "Read labelled sequences in both directions, so also from their end.",
            LABELS,
            {"classify": True, "regress": True},
            LABELLED,
        ),
    ] = False
    init: Annotated[  # at T=100 two-sequence and temporal-order learn nothing from torch's start
        Literal["torch", "chrono", "orthogonal"],
        Option(
            "torch, orthogonal, or chrono: forget gates that hold for 1 to --steps steps at the start.",
            MODEL,
            {
                "text": "torch",
                "forecast": "torch",
                "classify": "torch",
                "regress": "torch",
                "problem": "chrono",
            },
        ),
    ] = "torch"
    max_lag: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0  # of chrono, in steps; 0 otherwise
    forget_bias: Annotated[
        Annotated[float, Meta(ge=-1e6, le=1e6)] | None,
        Option("Bias of the LSTM's forget gates at the start.", MODEL),
    ] = None

    @property
    def directions(self) -> int:
        """The directions in which the layers read, 1 or 2."""
        return 1 + self.bidirectional


@dataclass(frozen=True)
class TrainConfig:
    """The training."""

    lr: Annotated[  # a cosine that ends at 5% of it
        Positive,
        Option(
            "Peak learning rate.",
            TRAINING,
            {"text": 3e-3, "forecast": 3e-3, "classify": 5e-3, "regress": 5e-3, "problem": 5e-3},
        ),
    ]
    batch_size: Annotated[
        Count,
        Option(
            "Sequences a step, N.",
            TRAINING,
            {"text": 32, "forecast": 64, "classify": 8, "regress": 8, "problem": 64},
        ),
    ]
    epochs: Annotated[  # of a text what TEXT_BUDGET allows; of a problem 100 batches each
        Count,
        Option(
            "Passes over the training part.",
            TRAINING,
            {"forecast": 60, "classify": 100, "regress": 100, "problem": 50},
        ),
    ]
    patience: (
        Annotated[  # a text is evaluated twice an epoch; few sequences to classify are too noisy to stop by
            Count,
            Option(
                "Evaluations without improvement before it stops.",
                TRAINING,
                {"text": 6, "forecast": 12, "classify": 100, "regress": 100, "problem": 50},
            ),
        ]
    )
    clip: Annotated[NotNegative, Option("Largest gradient norm; 0 never clips.", TRAINING, 1.0)]
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1), Option("Seed of all random numbers.", TRAINING, 0)]
    select: Annotated[
        Literal["loss", "rmse", "mae", "accuracy", "f1", "last"],
        Option(
            "Measure on the validation part that chooses the weights to keep: loss; rmse or mae of numbers; "
            "accuracy or f1 (macro) of classes; or last, the last evaluation.",
            TRAINING,
            "loss",
        ),
    ] = "loss"
    device: Annotated[Literal["auto", "cpu", "cuda"], Option("auto, cpu or cuda.", TRAINING, "auto")] = "auto"
    precision: Annotated[  # as Lightning Fabric names them
        Literal["32-true", "64-true", "bf16-mixed", "16-mixed"],
        Option("32-true, 64-true, bf16-mixed or 16-mixed.", TRAINING, "32-true"),
    ] = "32-true"
    interval: Annotated[  # the network is the same with and without
        Rate,
        Option(
            "Share of the truths that a forecast's interval is to hold; 0: no intervals.",
            AHEAD,
            {"text": 0.0, "forecast": 0.9, "classify": 0.0, "problem": 0.0},
            FORECAST,
        ),
    ] = 0.0
    members: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Option(
            "Networks of an ensemble, which start from different seeds and answer with their mean.",
            TRAINING,
            1,
            given=Annotated[int, Meta(ge=2, le=100)],
        ),
    ] = 1
    member: Annotated[int, Meta(ge=1, le=100)] = 1  # its number; the seeds of the networks are consecutive
    minutes: Annotated[NotNegative, Option("Time budget in all, in minutes; 0: none.", TRAINING, 0.0)] = 0.0
    weight_decay: NotNegative = 0.01


POOLED = "mean-max"  # readout of labelled sequences
TEXT_BUDGET = 5_000_000  # symbols: a text gets enough epochs to see about this many
TEXT_EPOCHS = (1, 50)  # ... but never fewer or more passes than this
MAY_CHANGE = ("epochs", "minutes", "patience", "device")  # on --resume


def options() -> Iterator[Declared]:
    """Yield the options of ``undertow train``, in the order of the fields."""
    return declared(DataConfig, ModelConfig, TrainConfig)


def check_given(given: dict[str, Any]) -> None:
    """Check the values of options against their types and ranges, before anything is read.

    Args:
        given: Values by option.

    Raises:
        UserError: A value is out of range, whatever the task.
    """
    for option in options():
        if option.name in given:
            checked(option, given[option.name])


def check_meant(task: str, why: str, given: dict[str, Any]) -> None:
    """Check that all options given mean something for the task.

    Args:
        task: text, forecast, classify, regress or problem.
        why: The reason for this task, for the error message.
        given: Values by option.

    Raises:
        UserError: An option belongs to other tasks only.
    """
    for option in options():
        if option.name in given and task not in option.option.tasks:
            raise UserError(
                f"{option.flag}: has no meaning for task {task} ({why}); --task names another task"
            )
    for name in ("horizon", "known", "head"):
        if given.get("simulate") and name in given:
            raise UserError(
                f"--{name}: has no meaning with --simulate, which computes the last row of a window"
            )


def check_gaps(task: str, gaps: str | None) -> None:
    """Check ``--gaps``, which cannot be ignore for labelled sequences.

    Args:
        task: text, forecast, classify, regress or problem.
        gaps: The value, if given.

    Raises:
        UserError: It is ignore, and the task has labelled sequences.
    """
    if task in LABELLED and gaps == "ignore":
        raise UserError(f"--gaps ignore: has no meaning for task {task}; expected error, fill, flag or split")


def with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of a task to the options given.

    Args:
        task: text, forecast, classify, regress or problem.
        given: Values by option.

    Returns:
        A value for every option of the task; without epochs for a text, since the data decide.
    """
    found = {option.name: option.option.default_of(task) for option in options()}
    found = {name: value for name, value in found.items() if value is not MISSING} | given | {"task": task}
    if found["known"] and "head" not in given:
        found["head"] = "decoder"
    sets_no_gates = found["cell"] == "rnn" or found["forget_bias"] is not None or found["steps"] <= 2
    if found["init"] == "chrono" and "init" not in given and sets_no_gates:
        found["init"] = "torch"
    return found


def check_together(found: dict[str, Any], where: str) -> None:
    """Check that options do not exclude each other.

    Args:
        found: Values by option, of the model at least.
        where: The file that holds them, for the error message; empty for the command line.

    Raises:
        UserError: Two options exclude each other.
    """
    chrono, flag = found["init"] == "chrono", "" if where else "--"
    if (n := found.get("vocabulary")) is not None:
        if found["symbols"] not in ("words", "bpe"):
            raise UserError(f"--vocabulary {n}: expected with --symbols words or bpe")
        if found["symbols"] == "bpe" and n < 257:
            raise UserError(f"--vocabulary {n}: expected 257 or more, since the 256 bytes are symbols of bpe")
    if found.get("known") and found.get("head") == "direct":
        name = found["known"][0]
        raise UserError(f"--head direct: reads nothing of the horizon; leave out --head or --known {name}")
    if found["cell"] == "rnn" and (found["forget_bias"] is not None or chrono):
        option = f"{flag}init chrono" if chrono else f"{flag}forget-bias"
        raise UserError(f"{where}{option}: sets gates, and {flag}cell rnn has none")
    if chrono and found["forget_bias"] is not None:
        raise UserError(f"{where}{flag}forget-bias: {flag}init chrono sets it already; leave out one of them")


def text_epochs(symbols: int) -> int:
    """Choose the epochs for a text.

    Args:
        symbols: Its training symbols.

    Returns:
        Enough epochs to read about TEXT_BUDGET symbols, within TEXT_EPOCHS.
    """
    fewest, most = TEXT_EPOCHS
    return min(most, max(fewest, round(TEXT_BUDGET / max(1, symbols))))


def to_dict(config: "DataConfig | ModelConfig | TrainConfig") -> dict[str, Any]:
    """Return the configuration as JSON holds it."""
    return asdict(config)
