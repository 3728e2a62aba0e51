"""The gradient of the usual networks without torch's graph.

In a step of a small network torch's modules and its graph take longer than the arithmetic. Here the layers
are called one after the other, then readout, head and loss at once, and the gradients in the opposite order.
Random numbers are drawn as the modules draw them, so both ways learn the same.

The usual network reads features, has LSTM layers, reads out the last step or all of them (``mean-max``), and
has one linear head, beside which a forecast has a linear part. Torch differentiates all others.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.app.runs import dropout
from undertow.app.runs.model import SequenceModel, State
from undertow.app.runs.objective import Batch, Objective


def is_usual(network: SequenceModel, objective: Objective) -> bool:
    """Whether a network is differentiated by hand, if it computes in float32 on the CPU.

    Args:
        network: The network.
        objective: What is minimised.

    Returns:
        True if it consists of the parts named above.
    """
    config = network.config
    further = config.symbols or config.series or config.ahead or config.quantity or config.skip
    return (
        config.cell == "lstm"
        and config.readout in ("last", "mean-max")
        and network.normalise
        and not further
        and not objective.emphasis
    )


def may_learn(network: SequenceModel, batch: Batch) -> bool:
    """Whether ``learn`` takes this batch of a usual network: alike in length, and no trace listens."""
    part, window = network.autoregression, batch.window
    if part is not None and (window is None or window.moves.shape[0] != part.weight.shape[-1]):
        return False
    alike = batch.lengths is None and batch.reset is None and not batch.carried
    return alike and batch.normalised and network.rnn.serves_by_hand()


class Learnt(NamedTuple):
    """What a step by hand returns, as ``SequenceModel``, ``Objective.loss`` and ``objective.counts`` do."""

    output: Tensor
    state: State
    loss: float
    counts: tuple[int, int]
    layers: Any  # the pass through them, for the memory of the next step


@torch.no_grad()
def learn(network: SequenceModel, batch: Batch, objective: Objective, memory: Any = None) -> Learnt:
    """Write the gradient of the loss into ``grad`` of each parameter, whatever is there.

    Args:
        network: A usual network, whose parameters have a ``grad``.
        batch: What it reads.
        objective: What is minimised.
        memory: The ``layers`` of an earlier step, whose state may be overwritten.

    Returns:
        What was learnt from. In evaluation no gradient is written, and the loss is in the objective's unit.
    """
    part, window, learning = network.autoregression, batch.window, network.training
    layers = network.rnn.by_hand(network.features_of(batch), dropout.mask, memory, keep=learning)
    p = network.dropout.p if learning else 0.0
    output, loss, *counts = layers.head(
        network.head,
        batch.y,
        objective.unit_of(network.head.bias) if batch.unit is None or not learning else batch.unit,
        pooled=network.config.readout == "mean-max",
        mask=partial(dropout.mask, p=p) if p else None,
        forecast=None if part is None or window is None else (*window, part.weight),
        learn=learning,
    )
    return Learnt(output, layers.state, loss, (counts[0], counts[1]), layers)
