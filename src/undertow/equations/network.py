"""The error, and the whole network: LSTM layers in a stack and an output at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.equations.common import Array, float64, outputs
from undertow.equations.lstm import lstm, lstm_backward
from undertow.layout import check_shape
from undertow.tape import Gradients, Tape


def softmax(z: Array) -> Array:
    """ŷ_k = e^{z_k} / Σ_j e^{z_j} over the last axis; shifted by max z so that e^ never overflows."""
    (z,) = float64(z)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y_hat: Array = e / e.sum(axis=-1, keepdims=True)
    return y_hat


def cross_entropy(z: Array, y: Array) -> Array:
    """E_t = −Σ_k y_{t,k} log ŷ_{t,k} with ŷ = softmax(z): z, y [T,N,K] -> E_t [T,N], in nats.

    y is one-hot or a distribution; a row of zeros means that no error is taken at that step.
    log ŷ is z − log Σ e^z, which stays finite where ŷ itself would round to zero.
    """
    z, y = float64(z, y)
    check_shape("y", y, *z.shape)
    z = z - z.max(axis=-1, keepdims=True)
    log_y_hat = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    E_t: Array = -(y * log_y_hat).sum(axis=-1)
    return E_t


def cross_entropy_backward(z: Array, y: Array) -> Array:
    """dz_t = ŷ_t Σ_k y_{t,k} − y_t, which is ŷ_t − y_t where y_t sums to one: [T,N,K]."""
    z, y = float64(z, y)
    check_shape("y", y, *z.shape)
    dz: Array = softmax(z) * y.sum(axis=-1, keepdims=True) - y
    return dz


class Layer(NamedTuple):
    """The weights of one LSTM layer."""

    weight_ih: Array  # [4H, C]
    weight_hh: Array  # [4H, H]
    bias: Array | None = None  # [4H]


@dataclass(frozen=True)
class NetworkGradients:
    """∂E/∂(everything) of a network: one ``Gradients`` per layer, and the output layer's own."""

    layers: list[Gradients]
    dV: Array  # [K, H]
    db_v: Array  # [K]


def network(
    x: Array,
    layers: Sequence[Layer],
    V: Array,
    b_v: Array,
    h_0: Sequence[Array],
    c_0: Sequence[Array],
    *,
    lengths: npt.ArrayLike | None = None,
) -> tuple[Array, list[Tape]]:
    """LSTM layers, each reading the one below, and an output at every step: z_t = V h_t + b_v.

    x [T,N,C], V [K,H], b_v [K]; h_0 and c_0 hold one [N,H] per layer -> z [T,N,K], a tape per layer.
    ŷ_t = softmax(z_t), and the error of the whole is E = Σ_t E_t = ``cross_entropy(z, y).sum()``.
    """
    tapes, (y, V, b_v) = [], float64(x, V, b_v)
    for name, states in (("h_0", h_0), ("c_0", c_0)):
        if len(states) != len(layers):
            raise ValueError(
                f"{name}: expected one [N, H] for each of {len(layers)} layers, got {len(states)}"
            )
    for layer, h, c in zip(layers, h_0, c_0, strict=True):
        y, tape = lstm(y, h, c, *layer, lengths=lengths)
        tapes.append(tape)
    check_shape("V", V, len(b_v), y.shape[-1])
    return y @ V.T + b_v, tapes


def network_backward(
    tapes: Sequence[Tape], x: Array, layers: Sequence[Layer], V: Array, dz: Array
) -> NetworkGradients:
    """Top to bottom: dh_t = Vᵀ dz_t for the last layer, and each layer's dx is the dy of the one below.

    ∂E/∂V = Σ_t dz_t h_tᵀ        ∂E/∂b_v = Σ_t dz_t        dz [T,N,K] from ``cross_entropy_backward``.
    """
    x, V, dz = float64(x, V, dz)
    check_shape("dz", dz, *x.shape[:2], len(V))
    inputs = [x] + [outputs(tape) for tape in tapes]  # what each layer read; the last is read by V
    dV = np.einsum("tnk,tnh->kh", dz, inputs.pop())
    dy, gradients = dz @ V, []  # dy [T, N, H]
    for layer, tape, below in zip(layers[::-1], tapes[::-1], inputs[::-1], strict=True):
        gradients.append(lstm_backward(tape, below, layer.weight_ih, layer.weight_hh, dy))
        dy = gradients[-1].dx
    return NetworkGradients(gradients[::-1], dV, dz.sum(axis=(0, 1)))
