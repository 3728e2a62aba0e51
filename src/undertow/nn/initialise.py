"""How a recurrent layer starts: what may follow torch's own initial values.

``forget_bias``: the forget gate's bias, by default near 0, set so high that the cell holds from the start
(Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015). torch keeps two biases that are
added, b_ih and b_hh, for each layer and direction; set here is their sum, in all of them.

``init="chrono"``: forget gates that hold for 1 to ``max_lag`` steps, each unit for a time of its own: where
the input's pull on the gates is small, σ(log u) = 1 - 1/(1 + u) forgets within about u steps. b_f = log u
with u uniform in [1, max_lag - 1], b_i = -b_f, and no other bias (Tallec & Ollivier 2018, arXiv:1804.11188).

``init="orthogonal"``: each gate's recurrent weights orthogonal, so that U keeps the length of what it is
multiplied with (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). Biases stay torch's.
"""

import math
from typing import Any

import torch
from torch import Tensor

from undertow import layout
from undertow.layout import N_GATES

KINDS = ("chrono", "orthogonal")


def check(lstm: bool, forget_bias: Any, init: Any, max_lag: Any) -> None:
    """Raises TypeError or ValueError, naming the option, unless the three fit each other and the cell."""
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
    """Give ``layer``, an LSTM or RNN that holds torch's initial values, the start its options ask for."""
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
    """The forget gate's part of b_ih + b_hh, each [4*H], becomes ``value``."""
    H = len(b_ih) // 4
    layout.gate(b_ih, "f", H).zero_()
    layout.gate(b_hh, "f", H).fill_(value)


def chrono(b_ih: Tensor, b_hh: Tensor, max_lag: float) -> None:
    """b_f = log u, u uniform in [1, max_lag - 1], b_i = -b_f, the others 0; b_ih and b_hh are [4*H]."""
    H = len(b_ih) // 4
    b_ih.zero_()
    b_hh.zero_()
    hold = layout.gate(b_hh, "f", H).uniform_(1, max_lag - 1).log_()
    layout.gate(b_hh, "i", H).copy_(-hold)


def orthogonal(U: Tensor, hidden_size: int) -> None:
    """The rows of each gate of U [G*H, R] orthonormal, or its columns where R < H."""
    dtype = torch.promote_types(U.dtype, torch.float32)  # no decomposition at half precision
    for k in range(0, len(U), hidden_size):
        block = U[k : k + hidden_size]
        block.copy_(torch.nn.init.orthogonal_(torch.empty_like(block, dtype=dtype)))
