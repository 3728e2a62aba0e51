"""The gradient of the usual networks without torch's graph.

In a step of a small network torch's modules and its graph take longer than the arithmetic. Here the layers,
the readout, the head and the loss are called one after the other, and their gradients in the opposite order.
Random numbers are drawn as the modules draw them, so both ways learn the same.

The usual network reads features, has LSTM layers, reads out the last step or all of them (``mean-max``), and
has one linear head, beside which a forecast has a linear part. Torch differentiates all others.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.app.runs import dropout
from undertow.app.runs.model import SequenceModel, State
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.readouts import final, share_out


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
    """What a step by hand returns: output, state and loss, as ``SequenceModel`` and ``Objective.loss`` do."""

    output: Tensor
    state: State
    loss: Tensor
    layers: Any  # the pass through them, for the memory of the next step


@torch.no_grad()
def learn(network: SequenceModel, batch: Batch, objective: Objective, memory: Any = None) -> Learnt:
    """Write the gradient of the loss into ``grad`` of each parameter, whatever is there.

    Args:
        network: A usual network, in training, whose parameters have a ``grad``.
        batch: What it reads.
        objective: What is minimised.
        memory: The ``layers`` of an earlier step, whose state may be overwritten.

    Returns:
        What was learnt from.
    """
    layers = network.rnn.by_hand(network.features_of(batch), dropout.mask, memory)
    features = _read_out(network, layers)
    head, part, window = network.head, network.autoregression, batch.window
    mask = dropout.mask(features, network.dropout.p) if network.dropout.p else None
    held = features if mask is None else features * mask
    output = torch.addmm(head.bias, held, head.weight.t())
    if part is not None and window is not None:
        output = network.in_units(output, window)
    loss, slope = objective.slope(output, batch.y, batch.unit)
    if part is not None and window is not None:
        slope = part.learn(window, slope)
    torch.mm(slope.t(), held, out=head.weight.grad)
    torch.sum(slope, 0, out=head.bias.grad)
    slope = slope @ head.weight
    slope = slope if mask is None else slope.mul_(mask)
    layers.backward(*_slopes(network, layers.y, features, slope))
    return Learnt(output, layers.state, loss, layers)


def _read_out(network: SequenceModel, layers: Any) -> Tensor:
    """What the head reads, as of ``SequenceModel.read_out``."""
    if network.config.readout == "mean-max":
        return torch.cat([layers.y.mean(0), layers.y.amax(0)], dim=-1)
    return final(layers.state[0], network.config.directions)


def _slopes(
    network: SequenceModel, hidden: Tensor, features: Tensor, slope: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of y and h_n of the last layer, from that of what the head reads."""
    D = network.config.directions
    if network.config.readout == "mean-max":
        return share_out(slope, hidden, features[:, features.shape[1] // 2 :], hidden.shape[0]), None
    return None, slope[None] if D == 1 else torch.stack(slope.chunk(2, dim=-1))
