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
    """Compute ŷ_k = e^{z_k} / Σ_j e^{z_j} over the last axis, shifted by max z so that e^ never overflows."""
    (z,) = float64(z)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y_hat: Array = e / e.sum(axis=-1, keepdims=True)
    return y_hat


def cross_entropy(z: Array, y: Array) -> Array:
    """Compute E_t = −Σ_k y_{t,k} log ŷ_{t,k} with ŷ = softmax(z).

    log ŷ is computed as z − log Σ e^z, which stays finite where ŷ itself rounds to zero.

    Args:
        z: [T,N,K], scores.
        y: [T,N,K], one-hot or a distribution. A row of zeros means that there is no error at that step.

    Returns:
        E_t [T,N], in nats.

    Raises:
        ValueError: ``y`` has another shape than ``z``.
    """
    z, y = float64(z, y)
    check_shape("y", y, *z.shape)
    z = z - z.max(axis=-1, keepdims=True)
    log_y_hat = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    E_t: Array = -(y * log_y_hat).sum(axis=-1)
    return E_t


def cross_entropy_backward(z: Array, y: Array) -> Array:
    """Compute dz_t = ŷ_t Σ_k y_{t,k} − y_t, which is ŷ_t − y_t where y_t sums to one.

    Args:
        z: [T,N,K], scores.
        y: [T,N,K], as of ``cross_entropy``.

    Returns:
        [T,N,K].

    Raises:
        ValueError: ``y`` has another shape than ``z``.
    """
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
    """∂E/∂(everything) of a network: the ``Gradients`` of each layer, and those of the output layer."""

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
    """Run LSTM layers, each reading the one below, and an output at every step: z_t = V h_t + b_v.

    ŷ_t = softmax(z_t), and the total error is E = Σ_t E_t = ``cross_entropy(z, y).sum()``.

    Args:
        x: [T,N,C].
        layers: from the lowest to the highest.
        V: [K,H].
        b_v: [K].
        h_0: [N,H] of each layer.
        c_0: [N,H] of each layer.
        lengths: [N]; None: every sequence has T steps.

    Returns:
        z [T,N,K], and a tape of each layer.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
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
    """Go back from the top to the bottom: dh_t = Vᵀ dz_t for the last layer, and each dx is the dy below.

    ∂E/∂V = Σ_t dz_t h_tᵀ        ∂E/∂b_v = Σ_t dz_t

    Args:
        tapes: of the forward pass.
        x: [T,N,C].
        layers: from the lowest to the highest.
        V: [K,H].
        dz: [T,N,K], from ``cross_entropy_backward``.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
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
