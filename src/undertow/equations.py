"""The LSTM and the plain RNN as the papers write them: NumPy, float64, forward and backward.

This file is the truth that everything faster is tested against, so it is written to be read.

    T steps, N sequences, C inputs, H hidden units, K outputs; ⊙ is the elementwise product.
    x_t [N,C]   input               W  weight_ih [4H,C]
    h_t [N,H]   hidden state        U  weight_hh [4H,H]
    c_t [N,H]   cell state          b  bias      [4H]    (torch's bias_ih + bias_hh)
    E           the error           da stands for ∂E/∂a

Each weight stacks four blocks of H rows, one per gate: input i, forget f, input modulation g,
output o. Arrays of any float type are accepted and taken to float64. A sequence may be shorter
than T (``lengths`` [N]): past its own end h and c are carried unchanged, y is zero and so is dx,
whatever the padding holds. ``reverse`` runs from each sequence's own end back to t = 0.

Sources: Hochreiter & Schmidhuber 1997, Neural Computation 9(8) (the LSTM); Gers, Schmidhuber &
Cummins 2000, Neural Computation 12(10) (its forget gate); Elman 1990, Cognitive Science 14(2) (the
plain RNN); Werbos 1990, Proceedings of the IEEE 78(10) (back-propagation through time).
docs/equations.md derives the backward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.layout import N_GATES, check_shape, check_weights, unpack
from undertow.layout import gate as gate  # public here too: who reads weights needs it
from undertow.tape import Gradients, Lengths, RNNGradients, RNNTape, Tape

Array = npt.NDArray[np.float64]

# ---------------------------------------------------------------------------------------- LSTM


def sigmoid(z: Array) -> Array:
    """σ(z) = 1 / (1 + e^−z), written so that e^ never overflows."""
    (z,) = _float64(z)
    e = np.exp(-np.abs(z))
    s: Array = np.where(z >= 0, 1, e) / (1 + e)
    return s


def lstm_step(x: Array, h: Array, c: Array, W: Array, U: Array, b: Array) -> tuple[Array, Array, Array]:
    """One step (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i = σ(W_i x_t + U_i h_{t−1} + b_i)        c_t = i ⊙ g + f ⊙ c_{t−1}
    f = σ(W_f x_t + U_f h_{t−1} + b_f)        h_t = o ⊙ tanh(c_t)
    g = tanh(W_g x_t + U_g h_{t−1} + b_g)
    o = σ(W_o x_t + U_o h_{t−1} + b_o)

    x [N,C], h = h_{t−1} and c = c_{t−1} [N,H] -> h_t [N,H], c_t [N,H], gates [N,4,H].
    """
    x, h, c, W, U, b = _float64(x, h, c, W, U, b)
    H = h.shape[-1]

    def pre(k: str) -> Array:
        z: Array = x @ gate(W, k, H).T + h @ gate(U, k, H).T + gate(b, k, H)  # [N, H]
        return z

    i, f, g, o = sigmoid(pre("i")), sigmoid(pre("f")), np.tanh(pre("g")), sigmoid(pre("o"))
    c = i * g + f * c
    h = o * np.tanh(c)
    return h, c, np.stack([i, f, g, o], axis=-2)


def lstm_step_backward(
    gates: Array, c_prev: Array, c: Array, dh: Array, dc: Array
) -> tuple[Array, Array, Array]:
    """The same step backward: the chain rule, line by line from h_t to the gates.

    dc_t += dh_t ⊙ o ⊙ (1 − tanh²c_t)                      h_t = o ⊙ tanh(c_t)
    do_pre = dh_t ⊙ tanh(c_t) ⊙ o(1 − o)
    di_pre = dc_t ⊙ g ⊙ i(1 − i)                           c_t = i ⊙ g + f ⊙ c_{t−1}
    df_pre = dc_t ⊙ c_{t−1} ⊙ f(1 − f)
    dg_pre = dc_t ⊙ i ⊙ (1 − g²)
    dc_{t−1} = dc_t ⊙ f                                    the constant error carousel

    gates [N,4,H]; c_prev, c, dh, dc [N,H], where dc holds what comes from step t+1
    -> dgates [N,4,H] before the activation, the total dc_t [N,H], dc_{t−1} [N,H].
    """
    i, f, g, o = unpack(gates)
    tanh_c = np.tanh(c)
    dc = dc + dh * o * (1 - tanh_c**2)
    do = dh * tanh_c * o * (1 - o)
    di = dc * g * i * (1 - i)
    df = dc * c_prev * f * (1 - f)
    dg = dc * i * (1 - g**2)
    return np.stack([di, df, dg, do], axis=-2), dc, dc * f


def lstm(
    x: Array,
    h_0: Array,
    c_0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Array, Tape]:
    """One layer, one direction: ``lstm_step`` for every t, with an output y_t = h_t at each.

    x [T,N,C], h_0 and c_0 [N,H], weight_ih [4H,C], weight_hh [4H,H], bias [4H], lengths [N]
    -> y [T,N,H] in time order, tape. h_n is ``tape.h[-1]``, c_n ``tape.c[-1]``.
    Raises ValueError naming the argument whose shape does not fit.
    """
    x, h_0, c_0, W, U = _float64(x, h_0, c_0, weight_ih, weight_hh)
    (b,) = _float64(np.zeros(len(U)) if bias is None else bias)
    _check_layer("lstm", x, W, U, b, h_0=h_0, c_0=c_0)
    lengths = _check_lengths(lengths, x)
    T, N, _ = x.shape
    x, alive = _processing_order(x, lengths, reverse)
    gates = np.zeros((T, N, 4, U.shape[1]))
    h = np.stack([h_0] * (T + 1))  # [T+1, N, H]
    c = np.stack([c_0] * (T + 1))  # [T+1, N, H]
    for t in range(T):
        h_t, c_t, gates_t = lstm_step(x[t], h[t], c[t], W, U, b)
        h[t + 1] = np.where(alive[t], h_t, h[t])
        c[t + 1] = np.where(alive[t], c_t, c[t])
        gates[t] = np.where(alive[t, :, None], gates_t, 0)
    tape = Tape(gates, h, c, lengths, reverse)
    return outputs(tape), tape


def lstm_backward(
    tape: Tape,
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
    dy: Array,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
) -> Gradients:
    """Back-propagation through time (Werbos 1990): ``lstm_step_backward`` from the last step to the first.

    dh_t = dy_t + Uᵀ dgates_{t+1}        dx_t = Wᵀ dgates_t
    ∂E/∂W = Σ_t dgates_t x_tᵀ        ∂E/∂U = Σ_t dgates_t h_{t−1}ᵀ        ∂E/∂b = Σ_t dgates_t

    dy [T,N,H] in time order, dh_n and dc_n [N,H] (None: zero) -> Gradients.
    Raises ValueError naming the argument whose shape does not fit.
    """
    x, W, U, dy = _float64(x, weight_ih, weight_hh, dy)
    T, N, _, H = tape.gates.shape
    _check_backward("lstm", tape, x, W, U, dy)
    x, alive = _processing_order(x, tape.lengths, tape.reverse)
    dh = _final_gradient("dh_n", dh_n, tape.h)  # [T+1, N, H]
    dc = _final_gradient("dc_n", dc_n, tape.c)  # [T+1, N, H]
    dh[1:] += _processing_order(dy, tape.lengths, tape.reverse)[0]
    dgates = np.zeros((T, N, 4, H))
    for t in reversed(range(T)):
        dgates[t], dc[t + 1], dc_prev = lstm_step_backward(
            tape.gates[t], tape.c[t], tape.c[t + 1], dh[t + 1], dc[t + 1]
        )
        # zero gates make dgates and dc_prev zero past the end; there the state was only carried
        dc[t] = dc_prev + ~alive[t] * dc[t + 1]
        dh[t] += dgates[t].reshape(N, 4 * H) @ U + ~alive[t] * dh[t + 1]
    dx, dW, dU, db = sum_over_steps(dgates, x, tape.h[:-1], W, tape.reverse)
    return Gradients(dx, dW, dU, db, dgates, dh, dc)


# ----------------------------------------------------------------------------------- plain RNN


def rnn_step(x: Array, h: Array, W: Array, U: Array, b: Array) -> Array:
    """One step of the plain RNN (Elman 1990): h_t = tanh(W x_t + U h_{t−1} + b).

    x [N,C], h = h_{t−1} [N,H], W [H,C], U [H,H], b [H] -> h_t [N,H].
    """
    x, h, W, U, b = _float64(x, h, W, U, b)
    h_t: Array = np.tanh(x @ W.T + h @ U.T + b)
    return h_t


def rnn(
    x: Array,
    h_0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Array, RNNTape]:
    """One layer, one direction: ``rnn_step`` for every t.

    x [T,N,C], h_0 [N,H], weight_ih [H,C], weight_hh [H,H], bias [H], lengths [N]
    -> y [T,N,H] in time order, tape. h_n is ``tape.h[-1]``.
    Raises ValueError naming the argument whose shape does not fit.
    """
    x, h_0, W, U = _float64(x, h_0, weight_ih, weight_hh)
    (b,) = _float64(np.zeros(len(U)) if bias is None else bias)
    _check_layer("rnn", x, W, U, b, h_0=h_0)
    lengths = _check_lengths(lengths, x)
    x, alive = _processing_order(x, lengths, reverse)
    h = np.stack([h_0] * (len(x) + 1))  # [T+1, N, H]
    for t in range(len(x)):
        h[t + 1] = np.where(alive[t], rnn_step(x[t], h[t], W, U, b), h[t])
    tape = RNNTape(h, lengths, reverse)
    return outputs(tape), tape


def rnn_backward(
    tape: RNNTape, x: Array, weight_ih: Array, weight_hh: Array, dy: Array, dh_n: Array | None = None
) -> RNNGradients:
    """Back-propagation through time (Werbos 1990) for the plain RNN.

    da_t = dh_t ⊙ (1 − h_t²)        dh_t = dy_t + Uᵀ da_{t+1}        dx_t = Wᵀ da_t
    ∂E/∂W = Σ_t da_t x_tᵀ        ∂E/∂U = Σ_t da_t h_{t−1}ᵀ        ∂E/∂b = Σ_t da_t

    with a_t = W x_t + U h_{t−1} + b, ``dgates`` [T,N,1,H] in the result.
    dy [T,N,H] in time order, dh_n [N,H] (None: zero) -> RNNGradients.
    Raises ValueError naming the argument whose shape does not fit.
    """
    x, W, U, dy = _float64(x, weight_ih, weight_hh, dy)
    _check_backward("rnn", tape, x, W, U, dy)
    x, alive = _processing_order(x, tape.lengths, tape.reverse)
    dh = _final_gradient("dh_n", dh_n, tape.h)  # [T+1, N, H]
    dh[1:] += _processing_order(dy, tape.lengths, tape.reverse)[0]
    da = np.zeros_like(dh[1:])  # [T, N, H]
    for t in reversed(range(len(x))):
        da[t] = alive[t] * dh[t + 1] * (1 - tape.h[t + 1] ** 2)
        dh[t] += da[t] @ U + ~alive[t] * dh[t + 1]
    dgates = da[:, :, None]  # [T, N, 1, H]
    dx, dW, dU, db = sum_over_steps(dgates, x, tape.h[:-1], W, tape.reverse)
    return RNNGradients(dx, dW, dU, db, dgates, dh)


# ------------------------------------------------------------- the error and the whole network


def softmax(z: Array) -> Array:
    """ŷ_k = e^{z_k} / Σ_j e^{z_j} over the last axis; shifted by max z so that e^ never overflows."""
    (z,) = _float64(z)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y_hat: Array = e / e.sum(axis=-1, keepdims=True)
    return y_hat


def cross_entropy(z: Array, y: Array) -> Array:
    """E_t = −Σ_k y_{t,k} log ŷ_{t,k} with ŷ = softmax(z): z, y [T,N,K] -> E_t [T,N], in nats.

    y is one-hot or a distribution; a row of zeros means that no error is taken at that step.
    log ŷ is z − log Σ e^z, which stays finite where ŷ itself would round to zero.
    """
    z, y = _float64(z, y)
    check_shape("y", y, *z.shape)
    z = z - z.max(axis=-1, keepdims=True)
    log_y_hat = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    E_t: Array = -(y * log_y_hat).sum(axis=-1)
    return E_t


def cross_entropy_backward(z: Array, y: Array) -> Array:
    """dz_t = ŷ_t Σ_k y_{t,k} − y_t, which is ŷ_t − y_t where y_t sums to one: [T,N,K]."""
    z, y = _float64(z, y)
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
    tapes, (y, V, b_v) = [], _float64(x, V, b_v)
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
    x, V, dz = _float64(x, V, dz)
    check_shape("dz", dz, *x.shape[:2], len(V))
    inputs = [x] + [outputs(tape) for tape in tapes]  # what each layer read; the last is read by V
    dV = np.einsum("tnk,tnh->kh", dz, inputs.pop())
    dy, gradients = dz @ V, []  # dy [T, N, H]
    for layer, tape, below in zip(layers[::-1], tapes[::-1], inputs[::-1], strict=True):
        gradients.append(lstm_backward(tape, below, layer.weight_ih, layer.weight_hh, dy))
        dy = gradients[-1].dx
    return NetworkGradients(gradients[::-1], dV, dz.sum(axis=(0, 1)))


# ------------------------------------------------------- time order, sums over steps and checks


def outputs(tape: Tape | RNNTape) -> Array:
    """y_t = h_t in time order, zero past a sequence's own end: [T,N,H]."""
    y = tape.h[1:][::-1] if tape.reverse else tape.h[1:]
    return _processing_order(y, tape.lengths, reverse=False)[0]


def _processing_order(
    a: Array, lengths: Lengths | None, reverse: bool
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """``a`` [T,N,*] in the order of processing with its padding zeroed, and which steps live [T,N,1]."""
    T, N = a.shape[:2]
    ends = np.full(N, T) if lengths is None else lengths
    alive = np.arange(T)[:, None, None] < ends[:, None]  # [T, N, 1]
    a = np.where(alive, a, 0)
    return (a[::-1], alive[::-1]) if reverse else (a, alive)


def sum_over_steps(
    dgates: Array, x: Array, h_prev: Array, W: Array, reverse: bool
) -> tuple[Array, Array, Array, Array]:
    """dx = Wᵀ dgates_t in time order; dW, dU and db summed over t (and over the batch)."""
    d = dgates.reshape(*dgates.shape[:2], W.shape[0])  # [T, N, G*H]
    dx = d @ W  # [T, N, C]
    dW = np.tensordot(d, x, axes=((0, 1), (0, 1)))  # [G*H, C]
    dU = np.tensordot(d, h_prev, axes=((0, 1), (0, 1)))  # [G*H, H]
    return (dx[::-1] if reverse else dx), dW, dU, d.sum(axis=(0, 1))


def _final_gradient(name: str, d_n: Array | None, states: Array) -> Array:
    """Zeros like ``states`` [T+1,N,H] with the gradient of the final state in the last place."""
    d = np.zeros(states.shape)
    if d_n is not None:
        check_shape(name, d_n, *d[-1].shape)
        d[-1] = d_n
    return d


def _float64(*arrays: Array) -> list[Array]:
    return [np.asarray(a, dtype=np.float64) for a in arrays]


def _check_layer(kind: str, x: Array, W: Array, U: Array, b: Array, **states: Array) -> None:
    if x.ndim != 3:
        raise ValueError(f"x: expected shape [T, N, C], got {list(x.shape)}")
    H = check_weights(N_GATES[kind], x.shape[2], W, U, b)
    for name, state in states.items():
        check_shape(name, state, x.shape[1], H)


def _check_backward(kind: str, tape: Tape | RNNTape, x: Array, W: Array, U: Array, dy: Array) -> None:
    T, N, H = tape.h[1:].shape
    check_shape("x", x, T, N, x.shape[-1])
    check_shape("dy", dy, T, N, H)
    check_shape("weight_hh", U, N_GATES[kind] * H, H)
    check_weights(N_GATES[kind], x.shape[2], W, U)


def _check_lengths(lengths: npt.ArrayLike | None, x: Array) -> Lengths | None:
    if lengths is None:
        return None
    given, (T, N, _) = np.asarray(lengths), x.shape
    check_shape("lengths", given, N)
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"lengths: expected whole numbers, got {given.dtype}")
    if np.any((given < 0) | (given > T)):
        raise ValueError(f"lengths: expected 0 to T={T}, got {given.min()} to {given.max()}")
    return given.astype(np.int64)
