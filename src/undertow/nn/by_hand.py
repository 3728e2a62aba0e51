"""``lstm.by_hand(x)``: a pass whose gradients the program asks for itself, without torch's graph.

    >>> found = lstm.by_hand(x)  # x [T,N,C]
    >>> found.backward(dy=2 * found.y / found.y.numel())  # of the mean of y²; into each weight's ``grad``

The kernels run as in ``lstm(x)`` and ``loss.backward()``, and the numbers are the same. In a training step of
a small network torch's graph takes longer than they do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.kernels import cpu, listening
from undertow.kernels.call import Call

Mask = Callable[[Tensor, float], Tensor]  # of dropout: a tensor and the share that is zero -> factors


class _Layer(NamedTuple):
    """A layer's call, what it keeps for the gradient, and the dropout of its input."""

    call: Call
    kept: tuple[Tensor, ...]
    mask: Tensor | None


def serves(module: Any) -> bool:
    """Return whether ``by_hand`` takes a module.

    Args:
        module: an ``LSTM`` or ``RNN``.

    Returns:
        True if it is on the CPU, has none of the package's options and no projection, its activation is tanh,
        the native kernels were built, and no trace watches it.
    """
    return (
        cpu.native is not None
        and module.mode in ("LSTM", "RNN_TANH")
        and module._options is None
        and module._checkpoint is None
        and not module.proj_size
        and all(weight.is_cpu for weight in module.parameters())
        and not listening.watches(module)
    )


class ByHand:
    """A forward pass through all layers from zero states, and its backward pass.

    Args:
        module: an ``LSTM`` or ``RNN`` that ``serves`` takes.
        x: [T,N,C], of the dtype of the parameters.
        mask: draws the factors of dropout between layers, as of ``Mask``.

    Attributes:
        y: [T,N,D*H].
        state: (h_n, c_n), for the RNN (h_n,), each [L*D,N,H].

    Raises:
        ValueError: the module or x is of a kind that is not taken.
    """

    @torch.no_grad()
    def __init__(self, module: Any, x: Tensor, mask: Mask) -> None:
        cell, D = "lstm" if module.mode == "LSTM" else "rnn", 1 + module.bidirectional
        weights = [module._weights(names) for names in module._all_weights]
        self._layers: list[_Layer] = []
        ends = []
        for k in range(module.num_layers):
            factors = mask(x, module.dropout) if k and module.dropout and module.training else None
            call = Call(cell, x if factors is None else x * factors, None, None, weights[k * D : (k + 1) * D])
            if not (k or (serves(module) and x.dim() == 3 and cpu.ENGINE.serves(call))):
                raise ValueError(f"by_hand: expected x [T,N,C] and a module that the kernels serve: {module}")
            (x, *last), kept = cpu.ENGINE.forward(call)
            self._layers.append(_Layer(call, kept, factors))
            ends.append(last)
        self.y = x
        self.state = tuple(each[0] if len(each) == 1 else torch.cat(each) for each in zip(*ends, strict=True))

    @torch.no_grad()
    def backward(self, dy: Tensor | None = None, dh_n: Tensor | None = None) -> None:
        """Write the gradient of a loss into ``grad`` of each weight, in place of what is there.

        Args:
            dy: its gradient with respect to y, [T,N,D*H]; None: it does not depend on y.
            dh_n: its gradient with respect to h_n of the last layer, [D,N,H]; None: as for ``dy``.
        """
        ends: Any = (dy, dh_n, None)
        for layer in reversed(self._layers):
            inner = layer is not self._layers[0]
            weights = [each for direction in layer.call.weights for each in direction]
            wanted = [inner, False, False, *(each is not None for each in weights)]
            douts = ends[: 1 + len(layer.call.states)]
            found: list[Any] = cpu.ENGINE.backward(layer.call, layer.kept, douts, wanted)
            for weight, gradient in zip(weights, found[3:], strict=True):
                if weight is not None and weight.grad is None:
                    weight.grad = gradient
                elif weight is not None:
                    weight.grad.copy_(gradient)
            if inner:
                ends = found[0] if layer.mask is None else found[0].mul_(layer.mask), None, None
