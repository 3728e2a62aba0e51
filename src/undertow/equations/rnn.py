"""The plain RNN, forward and backward."""

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
from undertow.tape import RNNGradients, RNNTape


def rnn_step(x: Array, h: Array, W: Array, U: Array, b: Array) -> Array:
    """Compute one step of the plain RNN (Elman 1990): h_t = tanh(W x_t + U h_{t−1} + b).

    Args:
        x: [N,C], x_t.
        h: [N,H], h_{t−1}.
        W: [H,C].
        U: [H,H].
        b: [H].

    Returns:
        h_t [N,H].
    """
    x, h, W, U, b = float64(x, h, W, U, b)
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
    """Run one layer in one direction: ``rnn_step`` for every t.

    Args:
        x: [T,N,C].
        h_0: [N,H].
        weight_ih: W, [H,C].
        weight_hh: U, [H,H].
        bias: b, [H]; None: zero.
        lengths: [N], whole numbers from 0 to T; None: every sequence has T steps.
        reverse: run from each sequence's own end back to t = 0.

    Returns:
        y [T,N,H] in the order of time, and the tape. h_n is ``tape.h[-1]``.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
    """
    x, h_0, W, U = float64(x, h_0, weight_ih, weight_hh)
    (b,) = float64(np.zeros(len(U)) if bias is None else bias)
    check_layer("rnn", x, W, U, b, h_0=h_0)
    lengths = check_lengths(lengths, x)
    x, alive = processing_order(x, lengths, reverse)
    h = np.stack([h_0] * (len(x) + 1))  # [T+1, N, H]
    for t in range(len(x)):
        h[t + 1] = np.where(alive[t], rnn_step(x[t], h[t], W, U, b), h[t])
    tape = RNNTape(h, lengths, reverse)
    return outputs(tape), tape


def rnn_backward(
    tape: RNNTape, x: Array, weight_ih: Array, weight_hh: Array, dy: Array, dh_n: Array | None = None
) -> RNNGradients:
    """Back-propagate through time (Werbos 1990) for the plain RNN.

    da_t = dh_t ⊙ (1 − h_t²)        dh_t = dy_t + Uᵀ da_{t+1}        dx_t = Wᵀ da_t
    ∂E/∂W = Σ_t da_t x_tᵀ        ∂E/∂U = Σ_t da_t h_{t−1}ᵀ        ∂E/∂b = Σ_t da_t

    Here a_t = W x_t + U h_{t−1} + b. The result has da as ``dgates``, [T,N,1,H].

    Args:
        tape: of the forward pass.
        x: [T,N,C], as in the forward pass.
        weight_ih: W, [H,C].
        weight_hh: U, [H,H].
        dy: [T,N,H] in the order of time.
        dh_n: [N,H]; None: zero.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
    """
    x, W, U, dy = float64(x, weight_ih, weight_hh, dy)
    check_backward("rnn", tape, x, W, U, dy)
    x, alive = processing_order(x, tape.lengths, tape.reverse)
    dh = final_gradient("dh_n", dh_n, tape.h)  # [T+1, N, H]
    dh[1:] += processing_order(dy, tape.lengths, tape.reverse)[0]
    da = np.zeros_like(dh[1:])  # [T, N, H]
    for t in reversed(range(len(x))):
        da[t] = alive[t] * dh[t + 1] * (1 - tape.h[t + 1] ** 2)
        dh[t] += da[t] @ U + ~alive[t] * dh[t + 1]
    dgates = da[:, :, None]  # [T, N, 1, H]
    dx, dW, dU, db = sum_over_steps(dgates, x, tape.h[:-1], W, tape.reverse)
    return RNNGradients(dx, dW, dU, db, dgates, dh)
