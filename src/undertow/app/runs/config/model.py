"""The configuration of the network."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from undertow.app.runs.config.kinds import LABELLED, SOUND, TABLES, Count, NotNegative, Place, Rate
from undertow.app.runs.options import LABELS, MODEL, SOUNDS, Option


@dataclass(frozen=True)
class ModelConfig:
    """The network; its weights are in ``model.safetensors``."""

    cell: Annotated[Literal["lstm", "rnn"], Option("lstm, or rnn (plain, tanh).", MODEL, "lstm")]
    hidden_size: Annotated[
        Count,
        Option(
            "Units a layer, H.",
            MODEL,
            {"text": 256, "forecast": 32, "classify": 64, "regress": 64, "problem": 64, "sound": 16},
        ),
    ]
    num_layers: Annotated[
        Count,
        Option(
            "Layers.",
            MODEL,
            {"text": 2, "forecast": 1, "classify": 1, "regress": 1, "problem": 1, "sound": 1},
        ),
    ]
    dropout: Annotated[
        Rate,
        Option(
            "Dropout between layers and before the head.",
            MODEL,
            {"text": 0.1, "forecast": 0.2, "classify": 0.2, "regress": 0.2, "problem": 0.0, "sound": 0.0},
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
            {"text": 0.0, "forecast": 0.0, "classify": 0.5, "regress": 0.5, "problem": 0.0, "sound": 0.0},
            (*TABLES, "problem"),
        ),
    ] = 0.0
    residual: tuple[Place, ...] = ()  # the targets: forecasts start from their last values; none: from 0
    autoregression: Annotated[int, Meta(ge=0, le=1_000_000_000)] = (
        0  # rows of a window that the linear part reads
    )
    panel: bool = False  # several series: forecasts are in units of how much their window moves
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
                "sound": "torch",
            },
        ),
    ] = "torch"
    linear: bool = False  # features are scaled, and not compressed: (x - centre) / scale
    skip: Annotated[bool, Option("Add the input to the output.", SOUNDS, False, SOUND)] = False
    max_lag: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0  # of chrono, in steps; 0 otherwise
    forget_bias: Annotated[
        Annotated[float, Meta(ge=-1e6, le=1e6)] | None,
        Option("Bias of the LSTM's forget gates at the start.", MODEL),
    ] = None

    @property
    def directions(self) -> int:
        """The directions in which the layers read, 1 or 2."""
        return 1 + self.bidirectional
