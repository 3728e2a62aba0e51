"""The gradient of the usual networks without torch's graph.

In a step of a small network torch's modules and its graph take longer than the arithmetic. Here the layers,
the readout, the head and the loss are called one after the other, and their gradients in the opposite order.
Random numbers are drawn as the modules draw them, so both ways learn the same.

The usual network reads features, has LSTM layers, reads out the last step or all of them (``mean-max``), and
has one linear head, beside which a forecast has a linear part. Torch differentiates all others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.app.runs import dropout
from undertow.app.runs.model import SequenceModel, State
from undertow.app.runs.objective import Batch, Objective
from undertow.app.runs.readouts import share_out
from undertow.kernels import cpu, listening
from undertow.kernels.call import Call


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
        cpu.native is not None
        and config.cell == "lstm"
        and config.readout in ("last", "mean-max")
        and network.normalise
        and not further
        and not objective.emphasis
    )


def may_learn(network: SequenceModel, batch: Batch) -> bool:
    """Whether ``learn`` takes this batch of a usual network: alike in length, and no trace listens."""
    part, window = network.autoregression, batch.window
    if part is not None and (window is None or len(window.moves) != part.weight.shape[-1]):
        return False
    alike = batch.lengths is None and batch.reset is None and not batch.carried
    return alike and batch.normalised and not listening.watches(network.rnn)


class _Layer(NamedTuple):
    """A layer's call, what it keeps for the gradient, and the dropout of its input."""

    call: Call
    kept: tuple[Tensor, ...]
    mask: Tensor | None


@torch.no_grad()
def learn(network: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, State, Tensor]:
    """Write the gradient of the loss into ``grad`` of each parameter, whatever is there.

    Args:
        network: A usual network, in training, whose parameters have a ``grad``.
        batch: What it reads.
        objective: What is minimised.

    Returns:
        The output, the state after the last step and the loss, as ``SequenceModel`` and ``Objective.loss``
        return them.
    """
    layers, hidden, state = _read(network, batch)
    features = network.read_out(hidden, state[0], None)
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
    _learn_layers(layers, _slopes(network, hidden, features, slope))
    return output, state, loss


def _read(network: SequenceModel, batch: Batch) -> tuple[list[_Layer], Tensor, State]:
    """All layers; the states of the last one [T,N,D*H], and the last states of all."""
    rnn, found, ends = network.rnn, [], []
    hidden = network.features_of(batch)
    weights, D = [rnn._weights(names) for names in rnn._all_weights], network.config.directions
    for k in range(rnn.num_layers):
        mask = dropout.mask(hidden, rnn.dropout) if k and rnn.dropout else None
        call = Call(
            "lstm", hidden if mask is None else hidden * mask, None, None, weights[k * D : (k + 1) * D]
        )
        (hidden, *last), kept = cpu.ENGINE.forward(call)
        found.append(_Layer(call, kept, mask))
        ends.append(last)
    state = tuple(each[0] if len(each) == 1 else torch.cat(each) for each in zip(*ends, strict=True))
    return found, hidden, state


def _slopes(
    network: SequenceModel, hidden: Tensor, features: Tensor, slope: Tensor
) -> Sequence[Tensor | None]:
    """The gradients of y and h_n of the last layer, from that of what the head reads."""
    D = network.config.directions
    if network.config.readout == "mean-max":
        return share_out(slope, hidden, features[:, features.shape[1] // 2 :], len(hidden)), None, None
    return None, slope[None] if D == 1 else torch.stack(slope.chunk(2, dim=-1)), None


def _learn_layers(layers: list[_Layer], slopes: Sequence[Tensor | None]) -> None:
    """Write the gradients of all weights, from those of y, h_n and c_n of the last layer."""
    for layer in reversed(layers):
        inner = layer is not layers[0]
        weights = [each for direction in layer.call.weights for each in direction]
        wanted = [inner, False, False, *(each is not None for each in weights)]
        found: list[Any] = cpu.ENGINE.backward(layer.call, layer.kept, slopes, wanted)
        for weight, gradient in zip(weights, found[3:], strict=True):
            if weight is not None:
                weight.grad.copy_(gradient)
        if inner:
            slopes = found[0] if layer.mask is None else found[0].mul_(layer.mask), None, None
