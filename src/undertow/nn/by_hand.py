"""``lstm.by_hand(x)``: a pass whose gradients the program asks for itself, without torch's graph.

    >>> found = lstm.by_hand(x)  # x [T,N,C]
    >>> found.backward(dy=2 * found.y / found.y.numel())  # of the mean of y²; into each weight's ``grad``

``found.head(...)`` does in one call what often follows: a readout, a linear layer, its loss, all gradients.
The kernels run as in ``lstm(x)`` and ``loss.backward()``, and the numbers are the same. In a training step of
a small network torch's graph takes longer than they do. Room for results and views of it take time, too:
``lstm.by_hand(x, memory=found)`` fills what an earlier pass has.
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from undertow.kernels import cpu, listening, tensors
from undertow.kernels.call import Call
from undertow.kernels.tensors import repeated

UNSCORED = -100  # torch's ignore_index: the class that is no target
Function = TypeVar("Function", bound=Callable[..., Any])
Mask = Callable[[Tensor, float], Tensor]  # of dropout: a tensor and the share that is zero -> factors


def _without_graph(function: Function) -> Function:
    """As ``torch.no_grad``, which takes time also where there is no graph already."""

    @wraps(function)
    def run(*given: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*given, **options)
        with torch.no_grad():
            return function(*given, **options)

    return cast(Function, run)


class _Layer:
    """A layer's call, the room for its results, and the arguments of the kernels for each direction.

    Args:
        call: the call; the kernels must serve it.
        keep: whether a backward pass can follow.
    """

    def __init__(self, call: Call, keep: bool) -> None:
        self.call = call
        self.mask: Tensor | None = None  # of dropout: the factors of the input
        self.outputs = tensors.outputs(call)
        tapes = [tensors.tape(call) if keep else () for _ in call.weights]
        kept = self.outputs[0], *(t for tape in tapes for t in tape)
        self.forwards = list(cpu.forward_arguments(call, self.outputs, tapes))
        self.backwards = [
            cpu.backward_arguments(call, d, kept, None, None) for d in range(call.D if keep else 0)
        ]
        self.dx: list[Tensor] = []  # of each direction, made by the first backward pass that wants them
        self.dy: Tensor | None = None  # made by the first head that wants it
        self.keep = keep

    def serves(self, call: Call, keep: bool) -> bool:
        """Return whether the room is that of such a call."""
        x, then = call.x, self.call.x
        return (
            self.keep is keep
            and x.shape == then.shape
            and x.dtype is then.dtype
            and _ids(call) == _ids(self.call)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs."""
        threads = torch.get_num_threads()
        for given in self.forwards:
            given[1], given[-1] = x, threads
            cpu.run(cpu.native.forward, cpu.FORWARD_READS, given)
        for given in self.backwards:
            given[1] = x
        return self.outputs

    def room_for_dy(self) -> Tensor:
        """Return memory for the gradient of y."""
        if self.dy is None:
            self.dy = tensors.empty(self.outputs[0], self.outputs[0].shape)
        return self.dy

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


class Found(NamedTuple):
    """What a head finds.

    Attributes:
        output: [N,O].
        loss: 0 where nothing is a target.
        scored: the number of targets.
        right: of how many classes the output is the largest.
    """

    output: Tensor
    loss: float
    scored: int
    right: int


class ByHand:
    """A forward pass through all layers from zero states, and its backward pass.

    Args:
        module: an ``LSTM`` or ``RNN`` that ``serves`` takes.
        x: [T,N,C], of the dtype of the parameters.
        mask: draws the factors of dropout between layers, as of ``Mask``.
        memory: an earlier pass, whose y, state and tape are overwritten if x has the same shape. None: none.
            Its ``backward`` then raises RuntimeError.
        keep: whether to keep what ``backward`` needs.

    Attributes:
        y: [T,N,D*H].
        state: (h_n, c_n), for the RNN (h_n,), each [L*D,N,H].

    Raises:
        ValueError: the module or x is of a kind that is not taken.
    """

    @_without_graph
    def __init__(
        self, module: Any, x: Tensor, mask: Mask, memory: "ByHand | None" = None, keep: bool = True
    ) -> None:
        cell, D = "lstm" if module.mode == "LSTM" else "rnn", 1 + module.bidirectional
        weights = [module._weights(names) for names in module._all_weights]
        self._layers: list[_Layer] = []
        rooms: list[_Layer] = []
        for k in range(module.num_layers):
            factors = mask(x, module.dropout) if k and module.dropout and module.training else None
            call = Call(cell, x if factors is None else x * factors, None, None, weights[k * D : (k + 1) * D])
            if not (k or (serves(module) and x.dim() == 3 and cpu.ENGINE.serves(call))):
                raise ValueError(f"by_hand: expected x [T,N,C] and a module that the kernels serve: {module}")
            if not k and memory is not None and memory._layers and memory._layers[0].serves(call, keep):
                rooms, memory._layers = memory._layers, []
            fits = k < len(rooms) and rooms[k].serves(call, keep)
            layer = rooms[k] if fits else repeated(partial(_Layer, call, keep))
            x = repeated(partial(layer.forward, call.x))[0]
            layer.mask = factors
            self._layers.append(layer)
        self.y, self._keeps = x, keep
        ends = zip(*(layer.outputs[1:] for layer in self._layers), strict=True)
        self.state = tuple(each[0] if len(each) == 1 else torch.cat(each) for each in ends)

    @_without_graph
    def backward(self, dy: Tensor | None = None, dh_n: Tensor | None = None) -> None:
        """Write the gradient of a loss into ``grad`` of each weight, in place of what is there.

        Args:
            dy: its gradient with respect to y, [T,N,D*H]; None: it does not depend on y.
            dh_n: its gradient with respect to h_n of the last layer, [D,N,H]; None: as for ``dy``.

        Raises:
            RuntimeError: a later pass has overwritten what this one kept, or it kept nothing.
        """
        if not (self._layers and self._keeps):
            raise RuntimeError(_TAKEN if self._keeps else _NOT_KEPT)
        for layer in reversed(self._layers):
            inner = layer is not self._layers[0]
            dx = repeated(partial(layer.backward, dy, dh_n, inner))
            dy, dh_n = dx if dx is None or layer.mask is None else dx.mul_(layer.mask), None

    @_without_graph
    def head(
        self,
        layer: Any,
        target: Tensor,
        unit: Tensor | None = None,
        *,
        pooled: bool = False,
        mask: Callable[[Tensor], Tensor] | None = None,
        forecast: Sequence[Tensor] | None = None,
        learn: bool = True,
    ) -> Found:
        """Compute a linear layer on what is read of the last layer, its loss, and if ``learn`` all gradients.

        The loss of numbers is mean ((output - target) / unit)², of those that are not NaN. That of classes is
        the weighted mean of -log softmax(output), of those that are not -100. Gradients are written as by
        ``backward``; those of ``layer`` and ``linear`` must have a ``grad``.

        Args:
            layer: an ``nn.Linear`` from D*H features, or 2*D*H ``pooled``, to O outputs.
            target: numbers [N,O], or classes int64 [N].
            unit: of numbers [O] or [N,O]; of classes their weights [O], or None.
            pooled: read the mean and the largest of each unit over the steps, side by side; else h_n.
            mask: draws the factors of dropout before ``layer``, like the features it is given. None: none.
            forecast: last and size [N,K], moves [T,N,K] and linear [K,O/K,T], a parameter. Output r*K + k is
                last_k + size_k (that of the layer + sum over t of moves_tk linear_krt). Not if ``pooled``.
            learn: whether to compute the gradients.

        Returns:
            Output, loss and counts.

        Raises:
            RuntimeError: as ``backward``.
            TypeError, ValueError: an argument has another dtype or shape.
        """
        if not self._layers or (learn and not self._keeps):
            raise RuntimeError(_NOT_KEPT if self._layers else _TAKEN)
        y, h_n, D = self.y, self._layers[-1].outputs[1], self._layers[-1].call.D
        N, width = y.shape[1:]
        if pooled:
            features = y.new_empty(N, 2 * width)
        else:
            features = h_n.view(N, width) if D == 1 else torch.cat(list(h_n), dim=-1)
        output = y.new_empty(N, layer.weight.shape[0])
        slope, dy, sums = None, None, None
        if learn:
            slope = torch.empty_like(features)
            dy = self._layers[-1].room_for_dy() if pooled else None
            part = None if forecast is None else forecast[3].grad
            sums = dy, slope, layer.weight.grad, layer.bias.grad, part
        given = (
            y if pooled else None,
            features,
            None if mask is None else mask(features),
            (layer.weight, layer.bias),
            forecast,
            target,
            unit,
            UNSCORED,
            output,
            sums,
        )
        found = Found(output, *cpu.run(cpu.native.head, cpu.HEAD_READS, given))
        if slope is not None and pooled:
            self.backward(dy)
        elif slope is not None:
            self.backward(None, slope[None] if D == 1 else torch.stack(slope.chunk(2, dim=-1)))
        return found


_NOT_KEPT = "by_hand: expected a pass that keeps what backward needs (``keep``)"
_TAKEN = "by_hand: expected a pass whose memory no later pass has taken (``memory``)"


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
