"""Whether a training fits into memory: asked before it begins."""

import math
import os
from pathlib import Path

from undertow import problems
from undertow.app.errors import UserError
from undertow.app.runs import shapes
from undertow.app.runs.config import DataConfig, ModelConfig

FLOAT = 4  # bytes
COPIES = 4  # of a weight: itself, its gradient, two moments of AdamW
KEPT = 6  # values a unit that a layer keeps of each step for the way back: four gates, c and h
DRAWN = 8  # bytes of a number while a problem draws it
AT_ONCE = 250  # sequences of a problem that are drawn to validate


def check_problem(data: DataConfig, batch_size: int) -> None:
    """Raises UserError where the sequences of a problem alone would not fit."""
    drawn = max(AT_ONCE, batch_size) * data.steps * problems.get(data.source).input_size
    _refuse(DRAWN * drawn, f"--steps {data.steps} and --batch-size {batch_size}", "a batch of sequences")


def check_model(data: DataConfig, model: ModelConfig, batch_size: int) -> None:
    """Raises UserError where the network, or what it keeps of a batch, would not fit. Low estimates."""
    weights = sum(math.prod(shape) for shape in shapes.expected(model).values())
    sizes = f"--hidden-size {model.hidden_size} and --num-layers {model.num_layers}"
    _refuse(FLOAT * COPIES * weights, sizes, f"a network of {weights:,} parameters")
    if data.task in ("text", "problem"):  # elsewhere the data may have fewer or shorter sequences
        kept = batch_size * data.steps * model.num_layers * KEPT * model.hidden_size
        batch = f"--batch-size {batch_size}, --steps {data.steps}, {sizes}"
        _refuse(FLOAT * kept, batch, "what the network keeps of a batch")


def _refuse(needed: int, options: str, what: str) -> None:
    there = _available()
    if needed > there:
        raise UserError(
            f"{options}: {what} needs about {_gib(needed)}, and this machine has {_gib(there)} of memory"
        )


def _available() -> int:
    """Bytes of memory that a process may have here at most; a number larger than all where it is unknown."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63
    try:  # of a container
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return found


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
