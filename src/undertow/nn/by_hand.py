"""``lstm.by_hand(x)``: a pass whose gradients the program asks for itself, without torch's graph.

    >>> found = lstm.by_hand(x)  # x [T,N,C]
    >>> found.backward(dy=2 * found.y / found.y.numel())  # of the mean of y²; into each weight's ``grad``

The kernels run as in ``lstm(x)`` and ``loss.backward()``, and the numbers are the same. In a training step of
a small network torch's graph takes longer than they do. Room for results and views of it take time, too:
``lstm.by_hand(x, memory=found)`` fills what an earlier pass has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import cpu, listening, tensors
from undertow.kernels.call import Call
from undertow.kernels.tensors import repeated

Mask = Callable[[Tensor, float], Tensor]  # of dropout: a tensor and the share that is zero -> factors


class _Layer:
    """A layer's call, the room for its results, and the arguments of the kernels for each direction.

    Args:
        call: the call; the kernels must serve it.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.mask: Tensor | None = None  # of dropout: the factors of the input
        self.outputs = tensors.outputs(call)
        tapes = [tensors.tape(call) for _ in call.weights]
        kept = self.outputs[0], *(t for tape in tapes for t in tape)
        self.forwards = list(cpu.forward_arguments(call, self.outputs, tapes))
        self.backwards = [cpu.backward_arguments(call, d, kept, None, None) for d in range(call.D)]
        self.dx: list[Tensor] = []  # of each direction, made by the first backward pass that wants them

    def serves(self, call: Call) -> bool:
        """Return whether the room is that of such a call."""
        x, then = call.x, self.call.x
        return x.shape == then.shape and x.dtype is then.dtype and _ids(call) == _ids(self.call)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs."""
        threads = torch.get_num_threads()
        for given in self.forwards:
            given[1], given[-1] = x, threads
            cpu.run(cpu.native.forward, cpu.FORWARD_READS, given)
        for given in self.backwards:
            given[1] = x
        return self.outputs

    def backward(self, dy: Tensor | None, dh_n: Tensor | None, inner: bool) -> Tensor | None:
        """Write the gradients of the weights, and return that of x if the layer is an inner one."""
        D, threads = self.call.D, torch.get_num_threads()
        dy, (dh_n, _) = cpu.received((dy, dh_n))
        if inner and not self.dx:
            self.dx = [tensors.empty(self.call.x, self.call.x.shape) for _ in self.backwards]
        for d, given in enumerate(self.backwards):
            sums = _gradients(self.call.weights[d])
            given[6] = tensors.features(dy, d, D), tensors.of_direction(dh_n, d), None
            given[7] = self.dx[d] if inner else None, None, None, *sums
            given[-1] = threads
            cpu.run(cpu.native.backward, cpu.BACKWARD_READS, given)
            _keep(self.call.weights[d], sums)
        if not inner:
            return None
        return self.dx[0] if D == 1 else self.dx[1].add_(self.dx[0])


def _ids(call: Call) -> list[int]:
    return [id(weight) for each in call.weights for weight in each]


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
        and all(weight is None or weight.is_cpu for weight in module._parameters.values())
        and not listening.watches(module)
    )


class ByHand:
    """A forward pass through all layers from zero states, and its backward pass.

    Args:
        module: an ``LSTM`` or ``RNN`` that ``serves`` takes.
        x: [T,N,C], of the dtype of the parameters.
        mask: draws the factors of dropout between layers, as of ``Mask``.
        memory: an earlier pass, whose y, state and tape are overwritten if x has the same shape. None: none.
            Its ``backward`` then raises RuntimeError.

    Attributes:
        y: [T,N,D*H].
        state: (h_n, c_n), for the RNN (h_n,), each [L*D,N,H].

    Raises:
        ValueError: the module or x is of a kind that is not taken.
    """

    @torch.no_grad()
    def __init__(self, module: Any, x: Tensor, mask: Mask, memory: "ByHand | None" = None) -> None:
        cell, D = "lstm" if module.mode == "LSTM" else "rnn", 1 + module.bidirectional
        weights = [module._weights(names) for names in module._all_weights]
        self._layers: list[_Layer] = []
        rooms: list[_Layer] = []
        for k in range(module.num_layers):
            factors = mask(x, module.dropout) if k and module.dropout and module.training else None
            call = Call(cell, x if factors is None else x * factors, None, None, weights[k * D : (k + 1) * D])
            if not (k or (serves(module) and x.dim() == 3 and cpu.ENGINE.serves(call))):
                raise ValueError(f"by_hand: expected x [T,N,C] and a module that the kernels serve: {module}")
            if not k and memory is not None and memory._layers and memory._layers[0].serves(call):
                rooms, memory._layers = memory._layers, []
            fits = k < len(rooms) and rooms[k].serves(call)
            layer = rooms[k] if fits else repeated(partial(_Layer, call))
            x = repeated(partial(layer.forward, call.x))[0]
            layer.mask = factors
            self._layers.append(layer)
        self.y = x
        ends = zip(*(layer.outputs[1:] for layer in self._layers), strict=True)
        self.state = tuple(each[0] if len(each) == 1 else torch.cat(each) for each in ends)

    @torch.no_grad()
    def backward(self, dy: Tensor | None = None, dh_n: Tensor | None = None) -> None:
        """Write the gradient of a loss into ``grad`` of each weight, in place of what is there.

        Args:
            dy: its gradient with respect to y, [T,N,D*H]; None: it does not depend on y.
            dh_n: its gradient with respect to h_n of the last layer, [D,N,H]; None: as for ``dy``.

        Raises:
            RuntimeError: a later pass has overwritten what this one kept.
        """
        if not self._layers:
            raise RuntimeError("by_hand: expected a pass whose memory no later pass has taken (``memory``)")
        for layer in reversed(self._layers):
            inner = layer is not self._layers[0]
            dx = repeated(partial(layer.backward, dy, dh_n, inner))
            dy, dh_n = dx if dx is None or layer.mask is None else dx.mul_(layer.mask), None


def _gradients(weights: Sequence[Any]) -> list[Any]:
    """Room for the gradients of W, U and a bias: their ``grad``, where a kernel may write to it."""
    own = [None if weight is None else weight.grad for weight in weights[:3]]
    plain = tensors.are_plain(weights[0], *own)
    return [
        grad if plain and grad is not None and grad.is_contiguous() else tensors.like(weight)
        for weight, grad in zip(weights, own, strict=False)
    ]


def _keep(weights: Sequence[Any], found: Sequence[Any]) -> None:
    """Let each of W, U and both biases have its gradient as ``grad``."""
    for weight, grad in zip(weights, (*found, found[2]), strict=False):
        if weight is None or weight.grad is grad:
            continue
        if weight.grad is None:
            weight.grad = grad if weight is not weights[3] else grad.clone()  # each has its own
        else:
            weight.grad.copy_(grad)
