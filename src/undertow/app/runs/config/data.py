"""The configuration of the data: what is read, and how it is split."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from undertow.app.runs.config.kinds import (
    FORECAST,
    LABELLED,
    SOUND,
    TABLES,
    TEXT,
    Column,
    Count,
    Rate,
    Several,
)
from undertow.app.runs.options import AHEAD, DATA, FILES, LABELS, SOUNDS, TEXTS, Option
from undertow.app.runs.vocabulary import Kind


@dataclass(frozen=True)
class DataConfig:
    """The source of the data, and how they are split and cut into windows."""

    source: str  # a path, absolute, or the name of a built-in problem
    task: Annotated[
        Literal["text", "forecast", "classify", "regress", "problem", "sound"],
        Option("text, forecast, classify, regress, problem or sound. (default: guessed)", DATA),
    ]
    validation: Annotated[  # 0: freshly drawn
        float,
        Meta(ge=0, lt=1),
        Option(
            "Fraction held back to validate: the end, or whole sequences.",
            DATA,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "regress": 0.2, "problem": 0.0, "sound": 0.1},
            ("text", *TABLES, "sound"),
            given=Annotated[float, Meta(gt=0, lt=1)],
        ),
    ]
    steps: Annotated[  # T; 0 where sequences set it
        int,
        Meta(ge=0, le=1_000_000_000),
        Option(
            "Window of a text, a sound or a forecast (default: by the season of its rows), lag of a problem.",
            DATA,
            {"text": 64, "forecast": 0, "classify": 0, "regress": 0, "problem": 100, "sound": 512},
            ("text", "forecast", "problem", "sound"),
            given=Annotated[int, Meta(ge=1, le=1_000_000_000)],
        ),
    ]
    horizon: Annotated[Count, Option("Rows to forecast after each window.", AHEAD, 1, FORECAST)] = 1
    target: Annotated[
        Several,
        Option("Column to forecast; may be given several times.", AHEAD, (), FORECAST, "COLUMN"),
    ] = ()
    group: Annotated[
        Several,
        Option("Column that tells series apart; may be given several times.", AHEAD, (), FORECAST, "COLUMN"),
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
        Option(
            "Column whose future is known, such as a planned price; may be given several times.",
            AHEAD,
            (),
            FORECAST,
            "COLUMN",
        ),
    ] = ()
    simulate: Annotated[
        bool,
        Option(
            "Compute the target from the other columns, up to and including its row.", AHEAD, False, FORECAST
        ),
    ] = False
    embed_group: Annotated[
        bool, Option("Learn an embedding of each series, as a further input.", AHEAD, False, FORECAST)
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
            " so), split (leave these rows out, no window crosses them) or ignore (missing rows only).",
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
    cache: Annotated[
        Column,
        Option(
            "Folder that keeps data on disk for this and further runs. (default: none; see docs/data.md)",
            FILES,
            None,
            ("text", "forecast"),
            "FOLDER",
        ),
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
        Option(
            "Largest number of symbols, for words or bpe. (default: 10,000 and 2,000)", TEXTS, None, TEXT, "N"
        ),
    ] = None
    delay: Annotated[
        Annotated[int, Meta(ge=-(10**9), le=10**9)] | None,
        Option(
            "Samples by which the target lags; it is shifted back. (default: found)", SOUNDS, None, SOUND, "N"
        ),
    ] = None
    channel: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Option("Channel of recordings that have several, from 1.", SOUNDS, None, SOUND, "N"),
    ] = None
    emphasis: Annotated[  # 0.85: Wright et al. 2019 and what their successors ship
        Rate,
        Option(
            "a of the pre-emphasis filter 1 - a/z, behind which half of the loss is measured; 0: no filter.",
            SOUNDS,
            0.85,
            SOUND,
            "A",
        ),
    ] = 0.85
    before: float | None = (
        None  # of a backtest's training: rows at this time, as a number, or later are left out
    )
    further: tuple[str, ...] = ()  # files read with the source, absolute
    infer: bool = False  # whether the labels decide between classify and regress

    @property
    def first(self) -> int:
        """Where the forecast rows begin, counted from a window's first row: after it, or at its last row."""
        return self.steps - self.simulate
