"""The engine for weights of torch.nn.utils._per_sample_grad, which keep gradients apart for each sequence.

Such a weight has to be told which dimension of each linear operation's input counts the sequences. torch's
decomposition of its own operator tells it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from undertow.kernels.call import PLAIN, Call
from undertow.kernels.engine import Engine, Outputs


class PerSample(Engine):
    """torch's operator, one layer at a time."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``. The class is known by its name, since importing it takes torch a second."""
        return any(type(t).__name__ == "ExpandedWeight" for t in call.tensors)

    def layer(self, call: Call) -> Outputs:
        """See ``Engine.layer``. Raises ValueError for what torch's operator does not have."""
        x, (lengths, batch_sizes, order) = call.x, call.ragged
        if lengths is not None or call.variant is not PLAIN:
            raise ValueError(
                "call_for_per_sample_grads: expected a call without lengths, mask and reset, of a module "
                "with torch's options alone; torch.func has per-sample gradients of the rest"
            )
        states: Any = call.states
        if states[0] is None:
            sizes = (call.weights[0][1].shape[1], call.H)[: len(states)]
            states = tuple(x.new_zeros(call.D, call.N, size) for size in sizes)
        elif order is not None:
            states = tuple(s.index_select(1, order) for s in states)
        lstm = call.cell == "lstm"
        operator: Any = torch.lstm if lstm else getattr(torch, f"rnn_{call.nonlinearity}")
        flat = [t for each in call.weights for t in each if t is not None]
        options = (call.weights[0][2] is not None, 1, 0.0, False, call.D == 2)
        given = (x,) if batch_sizes is None else (x, batch_sizes)
        last = (False,) if batch_sizes is None else ()  # batch_first
        with _without_onednn():
            y, *finals = operator(*given, states if lstm else states[0], flat, *options, *last)
        if order is None:
            return y, *finals
        inverse = order.argsort()
        return y, *(s.index_select(1, inverse) for s in finals)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Its operator knows no such weights. torch.backends.mkldnn.flags would set other flags too."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


ENGINE = PerSample()
