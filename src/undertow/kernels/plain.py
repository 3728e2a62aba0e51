"""The LSTM and the plain RNN in differentiable torch operations, one loop over time.

Slow and general: any device, dtype and transform that torch's own operations know, projections,
double backward. ``ops`` says when this path serves. The equations are those of ``equations``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

States = tuple[Tensor, ...]


def lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_hr: Tensor | None = None,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer, one direction; arguments and results as in ``ops.lstm``.

    c_t = i ⊙ g + f ⊙ c_{t-1};  h_t = o ⊙ tanh(c_t), with a projection h_t = W_hr (o ⊙ tanh(c_t))
    """

    def step(pre_x: Tensor, h: Tensor, c: Tensor) -> States:
        i, f, g, o = (pre_x + linear(h, weight_hh, bias_hh)).chunk(4, dim=-1)  # each [n,H]
        c = i.sigmoid() * g.tanh() + f.sigmoid() * c
        h = o.sigmoid() * c.tanh()
        return h if weight_hr is None else linear(h, weight_hr), c

    y, (h_n, c_n) = _unroll(step, linear(x, weight_ih, bias_ih), (h_0, c_0), reverse, batch_sizes)
    return y, h_n, c_n


def rnn(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer, one direction: h_t = φ(W x_t + U h_{t-1} + b), φ tanh or relu."""
    phi = {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity]

    def step(pre_x: Tensor, h: Tensor) -> States:
        return (phi(pre_x + linear(h, weight_hh, bias_hh)),)  # [n,H]

    y, (h_n,) = _unroll(step, linear(x, weight_ih, bias_ih), (h_0,), reverse, batch_sizes)
    return y, h_n


def _unroll(
    step: Callable[..., States], pre_x: Tensor, states: States, reverse: bool, batch_sizes: Tensor | None
) -> tuple[Tensor, States]:
    """Apply ``step`` to pre_x [T,N,G*H] along time; ``states`` [N,·] keep their rows where n < N are active.

    So a sequence that has ended holds its last state, and one that has not begun (reverse) its first.
    """
    T, N = pre_x.shape[:2]
    active = [N] * T if batch_sizes is None else batch_sizes.tolist()
    inputs = pre_x.unbind(0)  # one node in the graph; indexing by t would cost a [T,N,·] gradient per step
    y: list[Tensor] = [pre_x] * T
    for t in reversed(range(T)) if reverse else range(T):
        n = active[t]
        if n == N:
            states = step(inputs[t], *states)
            y[t] = states[0]
        else:
            new = step(inputs[t][:n], *(s[:n] for s in states))
            y[t] = pad(new[0], (0, 0, 0, N - n))
            states = tuple(torch.cat((a, b[n:])) for a, b in zip(new, states, strict=True))
    return torch.stack(y), states
