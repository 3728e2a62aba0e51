"""The configuration of the training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from undertow.app.runs.config.kinds import FORECAST, Count, NotNegative, Positive, Rate
from undertow.app.runs.options import AHEAD, TASKS, TRAINING, Option


@dataclass(frozen=True)
class TrainConfig:
    """The training."""

    lr: Annotated[  # a cosine that ends at 5% of it
        Positive,
        Option(
            "Peak learning rate.",
            TRAINING,
            {
                "text": 3e-3,
                "forecast": 3e-3,
                "classify": 5e-3,
                "regress": 5e-3,
                "problem": 5e-3,
                "sound": 1e-2,
            },
        ),
    ]
    batch_size: Annotated[
        Count,
        Option(
            "Sequences a step, N.",
            TRAINING,
            {"text": 32, "forecast": 64, "classify": 8, "regress": 8, "problem": 64, "sound": 32},
        ),
    ]
    epochs: Annotated[  # of a text, a sound and a forecast what BUDGETS allows; of a problem 100 batches each
        Count,
        Option(
            "Passes over the training part.",
            TRAINING,
            {"classify": 100, "regress": 100, "problem": 50},
        ),
    ]
    patience: (
        Annotated[  # a text is evaluated twice an epoch; few sequences to classify are too noisy to stop by
            Count,
            Option(
                "Evaluations without improvement before the training stops.",
                TRAINING,
                {"text": 6, "forecast": 12, "classify": 100, "regress": 100, "problem": 50, "sound": 100},
            ),
        ]
    )
    clip: Annotated[NotNegative, Option("Largest gradient norm; 0: none.", TRAINING, 1.0)]
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1), Option("Seed of all random numbers.", TRAINING, 0)]
    select: Annotated[
        Literal["loss", "rmse", "mae", "accuracy", "f1", "last"],
        Option(
            "Measure on the validation part that chooses the weights to keep: loss; rmse or mae for numbers; "
            "accuracy or f1 (macro) for classes; or last: train all epochs, keep the last weights.",
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
            "Share of the true values that the intervals of forecasts should contain; 0: no intervals.",
            AHEAD,
            {"forecast": 0.9},
            FORECAST,
        ),
    ] = 0.0
    members: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Option(
            "Networks of an ensemble, from different seeds; their mean is the answer.",
            TRAINING,
            1,
            tuple(task for task in TASKS if task != "sound"),  # which is streamed and exported as one network
        ),
    ] = 1
    member: Annotated[int, Meta(ge=1, le=100)] = 1  # its number; the seeds of the networks are consecutive
    minutes: Annotated[NotNegative, Option("Time budget in minutes; 0: none.", TRAINING, 0.0)] = 0.0
    logger: Annotated[  # --log is ambiguous to torchrun, which has options of its own that begin so
        Literal["none", "tensorboard"],
        Option("none, or tensorboard: event files beside metrics.jsonl.", TRAINING, "none"),
    ] = "none"
    weight_decay: NotNegative = 0.01
