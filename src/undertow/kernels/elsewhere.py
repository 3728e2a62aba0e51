"""Sight on other devices: torch's own operator layer by layer, and the CPU kernels with the same numbers.

On a GPU torch's operator (cuDNN) computes a whole module and shows neither gates nor cell states. A traced
call is computed layer by layer instead, by the same operator. Then the CPU kernels compute each layer again,
from copies of its input, initial states and weights, and the recording is theirs. In backward the recording
takes copies of the gradients that reach the layer's outputs.

The outputs and gradients of the program are torch's own. The recording differs from them by rounding, and by
the device's arithmetic: tf32 is torch's default for cuDNN's products.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from undertow.kernels import cpu, tensors
from undertow.kernels.call import PLAIN, Call, Ragged
from undertow.kernels.engine import Engine, Outputs
from undertow.kernels.recording import Recording
from undertow.kernels.tensors import are_batched, transformed

_RUNS: dict[str, Any] = {"lstm": torch._VF.lstm, "tanh": torch._VF.rnn_tanh, "relu": torch._VF.rnn_relu}


def is_elsewhere(x: Tensor) -> bool:
    """Return whether a tensor lies on another device than the CPU; meta tensors lie nowhere."""
    return not (x.is_cpu or x.is_meta)


class Elsewhere(Engine):
    """torch's own operator for one layer: on other devices, for the torch equations without ``lengths``."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``."""
        plain = call.variant is PLAIN and call.ragged.lengths is None
        return plain and is_elsewhere(call.x) and not transformed()

    def layer(self, call: Call) -> Outputs:
        """See ``Engine.layer``."""
        weights = [w for each in call.weights for w in each if w is not None]
        _, batch_sizes, order = call.ragged
        states = [_picked(s, order) for s in _states(call)]
        hx = tuple(states) if call.cell == "lstm" else states[0]
        biased, train, both = call.weights[0][2] is not None, torch.is_grad_enabled(), call.D == 2
        options = (biased, 1, 0.0, train, both)  # one layer, no dropout
        run = _RUNS[call.cell if call.cell == "lstm" else call.nonlinearity]
        with warnings.catch_warnings():  # the weights of one layer of several are part of a larger chunk
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
            if batch_sizes is None:
                y, *last = run(call.x, hx, weights, *options, False)
            else:
                y, *last = run(call.x, batch_sizes, hx, weights, *options)
        inverse = None if order is None else order.argsort()
        return (y, *(_picked(s, inverse) for s in last))


ENGINE = Elsewhere()


def _states(call: Call) -> Sequence[Tensor]:
    """h_0 and, LSTM, c_0; zeros where the call has none."""
    U, projection = call.weights[0][1], call.weights[0][4]
    sizes = (U.shape[1], U.shape[1] if projection is None else projection.shape[1])
    zeros = (call.x.new_zeros(call.D, call.N, size) for size in sizes)
    return [zero if s is None else s for s, zero in zip(call.states, zeros, strict=False)]


def _picked(state: Tensor, order: Tensor | None) -> Tensor:
    return state if order is None else state.index_select(1, order.to(state.device))


def recorded(engine: Engine, call: Call) -> Outputs:
    """Compute a call, and record what the CPU kernels make of the same numbers.

    Args:
        engine: what computes the call.
        call: a call on another device, with a recording.

    Returns:
        The engine's outputs, with their graph.
    """
    recording = call.recording
    assert recording is not None
    outputs = engine.layer(call._replace(recording=None, checkpoint=None))
    here = _here(call)
    if not cpu.ENGINE.serves(here):
        recording.missing = cpu.ENGINE.why_not(here)
        return outputs
    with torch.no_grad():
        _, kept = cpu.ENGINE.forward(here)
    grad = any(each.requires_grad for each in outputs)
    recording.forward(cpu.ENGINE, here, kept, grad=grad)
    if grad:
        _listen(recording, outputs)
    return outputs


def _here(call: Call) -> Call:
    """The call on the CPU; half precision becomes float32, which has kernels and holds its values."""

    def moved(t: Any) -> Any:
        if t is None:
            return None
        return t.detach().to("cpu", torch.float32 if t.dtype == torch.float16 else t.dtype)

    lengths, *packing = (None if t is None else t.cpu() for t in call.ragged)
    own = call.filled([moved(t) for t in call.tensors])
    dtype = own.weights[0][0].dtype  # autocast may have made an input of another one
    own = own.filled([t.to(dtype) if t is not None and t.is_floating_point() else t for t in own.tensors])
    ragged = (
        call.ragged
        if call.ragged.lengths is None and call.ragged.batch_sizes is None
        else Ragged(lengths, *packing)
    )
    return own._replace(ragged=ragged, recording=None, checkpoint=None)


def _listen(recording: Recording, outputs: Outputs) -> None:
    """Tell the recording the gradients that reach the outputs, in every backward pass."""
    dtype = recording.weights[0][0].dtype

    def heard(douts: Sequence[Tensor | None]) -> None:
        here = [None if d is None else tensors.made_plain(d.detach()).to("cpu", dtype) for d in douts]
        recording.backward(here, transformed() or are_batched(douts))

    torch.autograd.graph.register_multi_grad_hook(outputs, heard)
