"""The LSTM, forward and backward: one step, then the loop over time."""

import numpy as np
import numpy.typing as npt

from undertow.equations.common import (
    Array,
    check_backward,
    check_layer,
    check_lengths,
    final_gradient,
    float64,
    outputs,
    processing_order,
    sum_over_steps,
)
from undertow.layout import gate, unpack
from undertow.tape import Gradients, Tape


def sigmoid(z: Array) -> Array:
    """Compute σ(z) = 1 / (1 + e^−z), written so that e^ never overflows."""
    (z,) = float64(z)
    e = np.exp(-np.abs(z))
    s: Array = np.where(z >= 0, 1, e) / (1 + e)
    return s


def lstm_step(x: Array, h: Array, c: Array, W: Array, U: Array, b: Array) -> tuple[Array, Array, Array]:
    """Compute one step (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i = σ(W_i x_t + U_i h_{t−1} + b_i)        c_t = i ⊙ g + f ⊙ c_{t−1}
    f = σ(W_f x_t + U_f h_{t−1} + b_f)        h_t = o ⊙ tanh(c_t)
    g = tanh(W_g x_t + U_g h_{t−1} + b_g)
    o = σ(W_o x_t + U_o h_{t−1} + b_o)

    Args:
        x: [N,C], x_t.
        h: [N,H], h_{t−1}.
        c: [N,H], c_{t−1}.
        W: [4H,C].
        U: [4H,H].
        b: [4H].

    Returns:
        h_t [N,H], c_t [N,H] and the gates i, f, g, o [N,4,H].
    """
    x, h, c, W, U, b = float64(x, h, c, W, U, b)
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
    """Go back through one step by the chain rule, line by line from h_t to the gates.

    dc_t += dh_t ⊙ o ⊙ (1 − tanh²c_t)                      h_t = o ⊙ tanh(c_t)
    do_pre = dh_t ⊙ tanh(c_t) ⊙ o(1 − o)
    di_pre = dc_t ⊙ g ⊙ i(1 − i)                           c_t = i ⊙ g + f ⊙ c_{t−1}
    df_pre = dc_t ⊙ c_{t−1} ⊙ f(1 − f)
    dg_pre = dc_t ⊙ i ⊙ (1 − g²)
    dc_{t−1} = dc_t ⊙ f                                    the constant error carousel

    Args:
        gates: [N,4,H].
        c_prev: [N,H], c_{t−1}.
        c: [N,H], c_t.
        dh: [N,H], the total ∂E/∂h_t.
        dc: [N,H], the part of ∂E/∂c_t that comes from step t+1.

    Returns:
        dgates [N,4,H] before the activation, the total dc_t [N,H], and dc_{t−1} [N,H].
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
    """Run one layer in one direction: ``lstm_step`` for every t, with the output y_t = h_t.

    Args:
        x: [T,N,C].
        h_0: [N,H].
        c_0: [N,H].
        weight_ih: W, [4H,C].
        weight_hh: U, [4H,H].
        bias: b, [4H]; None: zero.
        lengths: [N], whole numbers from 0 to T; None: every sequence has T steps.
        reverse: run from each sequence's own end back to t = 0.

    Returns:
        y [T,N,H] in the order of time, and the tape. h_n is ``tape.h[-1]``, c_n ``tape.c[-1]``.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
    """
    x, h_0, c_0, W, U = float64(x, h_0, c_0, weight_ih, weight_hh)
    (b,) = float64(np.zeros(len(U)) if bias is None else bias)
    check_layer("lstm", x, W, U, b, h_0=h_0, c_0=c_0)
    lengths = check_lengths(lengths, x)
    T, N, _ = x.shape
    x, alive = processing_order(x, lengths, reverse)
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
    """Back-propagate through time (Werbos 1990): ``lstm_step_backward`` from the last step to the first.

    dh_t = dy_t + Uᵀ dgates_{t+1}        dx_t = Wᵀ dgates_t
    ∂E/∂W = Σ_t dgates_t x_tᵀ        ∂E/∂U = Σ_t dgates_t h_{t−1}ᵀ        ∂E/∂b = Σ_t dgates_t

    Args:
        tape: of the forward pass.
        x: [T,N,C], as in the forward pass.
        weight_ih: W, [4H,C].
        weight_hh: U, [4H,H].
        dy: [T,N,H] in the order of time.
        dh_n: [N,H]; None: zero.
        dc_n: [N,H]; None: zero.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
    """
    x, W, U, dy = float64(x, weight_ih, weight_hh, dy)
    T, N, _, H = tape.gates.shape
    check_backward("lstm", tape, x, W, U, dy)
    x, alive = processing_order(x, tape.lengths, tape.reverse)
    dh = final_gradient("dh_n", dh_n, tape.h)  # [T+1, N, H]
    dc = final_gradient("dc_n", dc_n, tape.c)  # [T+1, N, H]
    dh[1:] += processing_order(dy, tape.lengths, tape.reverse)[0]
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
