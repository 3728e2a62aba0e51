"""Initial values of a recurrent layer that differ from torch's.

``forget_bias`` sets the forget gate's bias, which torch starts near 0. A high value lets the cell keep its
content from the start (Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015). torch adds
two biases, b_ih and b_hh. The option sets their sum, in every layer and direction.

``init="chrono"`` gives each unit its own time constant between 1 and ``max_lag`` steps. While inputs move the
gates little, a forget gate at σ(log u) = 1 - 1/(1 + u) forgets within about u steps. So b_f = log u with u
uniform in [1, max_lag - 1], b_i = -b_f, and all other biases are 0 (Tallec & Ollivier 2018,
arXiv:1804.11188).

``init="orthogonal"`` makes each gate's recurrent weights orthogonal, so that multiplication by U keeps a
vector's length (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). Biases stay torch's.
"""

import math
from typing import Any

import torch
from torch import Tensor

from undertow import layout
from undertow.layout import N_GATES

KINDS = ("chrono", "orthogonal")


def check(lstm: bool, forget_bias: Any, init: Any, max_lag: Any) -> None:
    """Check the options about initial values.

    Args:
        lstm: whether the module is an LSTM and not a plain RNN.
        forget_bias: a finite number or None.
        init: ``"chrono"``, ``"orthogonal"`` or None.
        max_lag: the longest lag in steps, for ``init="chrono"``; otherwise None.

    Raises:
        TypeError: an option has the wrong type. The message names it.
        ValueError: an option has the wrong value, or does not fit the others or the module.
    """
    for name, value in (("forget_bias", forget_bias), ("max_lag", max_lag)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name}: expected a number or None, got {type(value).__name__}")
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    if init is not None and init not in KINDS:
        raise ValueError(f"init: expected None or one of {', '.join(map(repr, KINDS))}, got {init!r}")
    if forget_bias is not None and not lstm:
        raise ValueError(f"forget_bias: expected None for the RNN, which has no gates, got {forget_bias}")
    if init == "chrono":
        _check_chrono(lstm, forget_bias, max_lag)
    elif max_lag is not None:
        raise ValueError(f"max_lag: expected None without init='chrono', got {max_lag}")


def _check_chrono(lstm: bool, forget_bias: Any, max_lag: Any) -> None:
    if not lstm:
        raise ValueError("init: 'chrono' sets gates, and the RNN has none; expected None or 'orthogonal'")
    if max_lag is None:
        raise ValueError("max_lag: init='chrono' needs the longest lag in steps, got None")
    if max_lag <= 2:
        raise ValueError(f"max_lag: expected more than 2 steps, got {max_lag}")
    if forget_bias is not None:
        raise ValueError(f"forget_bias: init='chrono' sets it already; expected None, got {forget_bias}")


@torch.no_grad()
def start(layer: Any) -> None:
    """Change torch's initial values into those that the module's options ask for, in place.

    Args:
        layer: an ``LSTM`` or ``RNN`` with torch's initial values.

    Raises:
        ValueError: an option sets biases, and the module has none.
    """
    if (layer.forget_bias is not None or layer.init == "chrono") and not layer.bias:
        option = "forget_bias" if layer.init != "chrono" else "init: 'chrono'"
        raise ValueError(f"{option} needs biases to set: expected bias=True, got bias=False")
    for k in range(len(layer._all_weights)):
        named = dict(zip(("W", "U", "b_ih", "b_hh"), layer._all_weights[k], strict=False))
        if layer.init == "orthogonal":
            U = getattr(layer, named["U"])
            orthogonal(U, len(U) // N_GATES["lstm" if layer.mode == "LSTM" else "rnn"])
        if layer.init == "chrono":
            chrono(getattr(layer, named["b_ih"]), getattr(layer, named["b_hh"]), layer.max_lag)
        if layer.forget_bias is not None:
            open_forget_gate(getattr(layer, named["b_ih"]), getattr(layer, named["b_hh"]), layer.forget_bias)


def open_forget_gate(b_ih: Tensor, b_hh: Tensor, value: float) -> None:
    """Set the forget gate's bias, in place.

    Args:
        b_ih: [4*H]; the forget gate's part becomes 0.
        b_hh: [4*H]; the forget gate's part becomes ``value``.
        value: the sum of both biases.
    """
    H = len(b_ih) // 4
    layout.gate(b_ih, "f", H).zero_()
    layout.gate(b_hh, "f", H).fill_(value)


def chrono(b_ih: Tensor, b_hh: Tensor, max_lag: float) -> None:
    """Draw chrono biases, in place (Tallec & Ollivier 2018).

    Args:
        b_ih: [4*H]; becomes 0.
        b_hh: [4*H]; b_f = log u with u uniform in [1, max_lag - 1], b_i = -b_f, all others 0.
        max_lag: the longest lag in steps, above 2.
    """
    H = len(b_ih) // 4
    b_ih.zero_()
    b_hh.zero_()
    hold = layout.gate(b_hh, "f", H).uniform_(1, max_lag - 1).log_()
    layout.gate(b_hh, "i", H).copy_(-hold)


def orthogonal(U: Tensor, hidden_size: int) -> None:
    """Draw orthogonal recurrent weights, in place.

    Args:
        U: [G*H,R], gates stacked. The rows of each gate become orthonormal; if R < H, its columns.
        hidden_size: H.
    """
    dtype = torch.promote_types(U.dtype, torch.float32)  # torch has no QR decomposition at half precision
    for k in range(0, len(U), hidden_size):
        block = U[k : k + hidden_size]
        block.copy_(torch.nn.init.orthogonal_(torch.empty_like(block, dtype=dtype)))
