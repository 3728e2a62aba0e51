"""The tensors that a model's file must hold, by name and shape, known without torch."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from undertow.app.errors import UserError
from undertow.app.runs.config import ModelConfig

OF_WINDOW = 2  # features of each target that tell of its window: see windows.py
GATES = {"lstm": 4, "rnn": 1}
FEATURES = ("centre", "scale")  # of the normaliser, [C] each
UNITS = ("units.centre", "units.scale")  # of numbers that labels are, [outputs] each
BUFFERS = (*FEATURES, *UNITS)  # no parameters


def expected(config: ModelConfig) -> dict[str, list[int]]:
    """Tell the tensors of a network.

    Args:
        config: The network.

    Returns:
        The shape of every tensor of ``model.SequenceModel``, by name.
    """
    H, width = config.hidden_size, config.width if config.symbols else config.inputs
    rows = GATES[config.cell] * H
    found = (
        {"embedding.weight": [config.symbols, width]} if config.symbols else {n: [width] for n in FEATURES}
    )
    found |= {name: [config.outputs] for name in UNITS} if config.quantity else {}
    own = config.width if config.series else 0  # inputs from the embedding of the series
    found |= {"series.weight": [config.series, own]} if own else {}
    own += OF_WINDOW * len(config.residual)
    if targets := len(config.residual):
        horizon = config.ahead or config.outputs // targets
        found |= {"autoregression.weight": [targets, horizon, config.autoregression]}
    ends = ("", "_reverse")[: config.directions]
    stacks = {"rnn": width + own} | ({"decoder": len(config.known) + own + 1} if config.ahead else {})
    for name, k, end in product(stacks, range(config.num_layers), ends):
        found |= {f"{name}.weight_ih_l{k}{end}": [rows, H * config.directions if k else stacks[name]]}
        found |= {f"{name}.weight_hh_l{k}{end}": [rows, H]}
        found |= {f"{name}.bias_ih_l{k}{end}": [rows], f"{name}.bias_hh_l{k}{end}": [rows]}
    states = H * config.directions
    found |= {"readout.query": [states]} if config.readout == "attention" else {}
    pooled = 2 * states if config.readout == "mean-max" else states
    return found | {"head.weight": [config.outputs, pooled], "head.bias": [config.outputs]}


def count(config: ModelConfig) -> int:
    """Count the parameters of a network."""
    return sum(math.prod(shape) for name, shape in expected(config).items() if name not in BUFFERS)


def check(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]], path: Path) -> None:
    """Check the tensors of a file.

    Args:
        found: Their shapes, by name.
        wanted: The shapes that they should have.
        path: The file, for the error message.

    Raises:
        UserError: A tensor is missing, not expected or has another shape.
    """
    for name in sorted(set(wanted) ^ set(found)):
        raise UserError(f"{path}: damaged: {name} is {'missing' if name in wanted else 'not expected'}")
    for name, shape in wanted.items():
        if list(shape) != list(found[name]):
            raise UserError(
                f"{path}: damaged: {name} has shape {list(found[name])}, config.json asks for {list(shape)}"
            )
