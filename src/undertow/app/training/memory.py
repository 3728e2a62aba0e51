"""The memory that a training needs, estimated before it begins."""

import math

from undertow import problems
from undertow.app.data.files.disk import memory as available
from undertow.app.errors import UserError
from undertow.app.runs import shapes
from undertow.app.runs.config import DataConfig, ModelConfig

FLOAT = 4  # bytes
COPIES = 4  # of a weight: the weight, its gradient, two moments of AdamW
KEPT = 6  # values that a layer keeps for backward, by step and unit: four gates, c and h
DRAWN = 8  # bytes of a number in a problem's sequences
AT_ONCE = 250  # sequences of a problem that are drawn for validation


def check_problem(data: DataConfig, batch_size: int) -> None:
    """Check that the sequences of a problem fit into memory.

    Args:
        data: The problem and its lag.
        batch_size: N.

    Raises:
        UserError: They do not.
    """
    drawn = max(AT_ONCE, batch_size) * data.steps * problems.get(data.source).input_size
    refuse(DRAWN * drawn, f"--steps {data.steps} and --batch-size {batch_size}", "a batch of sequences")


def check_model(data: DataConfig, model: ModelConfig, batch_size: int) -> None:
    """Check that the network fits into memory, and what it keeps for backward. The estimates are low.

    Args:
        data: The task and its window.
        model: The network.
        batch_size: N.

    Raises:
        UserError: It does not fit.
    """
    weights = sum(math.prod(shape) for shape in shapes.expected(model).values())
    sizes = f"--hidden-size {model.hidden_size} and --num-layers {model.num_layers}"
    refuse(FLOAT * COPIES * weights, sizes, f"a network of {weights:,} parameters")
    if data.task in (
        "text",
        "problem",
        "sound",
    ):  # in other tasks the data may have fewer or shorter sequences
        kept = batch_size * data.steps * model.num_layers * KEPT * model.hidden_size
        batch = f"--batch-size {batch_size}, --steps {data.steps}, {sizes}"
        refuse(FLOAT * kept, batch, "what the network keeps of a batch")


def refuse(needed: int, options: str, what: str) -> None:
    """Check that the machine has enough memory.

    Args:
        needed: Bytes.
        options: The options that ask for it, for the error message.
        what: What it is for.

    Raises:
        UserError: It has less.
    """
    there = available()
    if needed > there:
        raise UserError(
            f"{options}: {what} needs about {_gib(needed)}, and this machine has {_gib(there)} of memory"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
