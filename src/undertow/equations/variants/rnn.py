"""The plain RNN with mask, reset, recurrent dropout and zoneout."""

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
from undertow.equations.rnn import rnn_step
from undertow.equations.variants.variant import (
    PLAIN,
    RNNVariantGradients,
    RNNVariantTape,
    Running,
    Variant,
    only,
)

FIELDS = ("mask", "reset", "reset_h", "recurrent", "zoneout_h")


def rnn(
    x: Array,
    h_0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
    variant: Variant = PLAIN,
) -> tuple[Array, RNNVariantTape]:
    """Run one layer in one direction with additions.

    h' is reset_h where reset[t], else h_{t−1}.

    h̃ = tanh(W x_t + U (h' ⊙ r) + b)        h_t = z_h ⊙ h' + (1 − z_h) ⊙ h̃ where mask[t], else h'

    Args:
        x: [T,N,C].
        h_0: [N,H].
        weight_ih: W, [H,C].
        weight_hh: U, [H,H].
        bias: b, [H]; None: zero.
        lengths: [N]; None: every sequence has T steps.
        reverse: run from each sequence's own end back to t = 0.
        variant: what is added.

    Returns:
        y [T,N,H] in the order of time, and the tape.

    Raises:
        ValueError: a shape does not fit, or the variant has a field that only an LSTM takes; the message
            names the argument or the field.
    """
    x, h_0, W, U = float64(x, h_0, weight_ih, weight_hh)
    (b,) = float64(np.zeros(len(U)) if bias is None else bias)
    check_layer("rnn", x, W, U, b, h_0=h_0)
    lengths = check_lengths(lengths, x)
    only(variant, *FIELDS)
    (T, N, _), H = x.shape, len(U)
    v = Running(variant, T, N, H, lengths, reverse)
    x, _ = processing_order(np.where(v.read, x, 0), lengths, reverse)
    h = np.stack([h_0] * (T + 1))  # [T+1, N, H]
    h_new = np.zeros_like(h[1:])  # [T, N, H]
    for t in range(T):
        h_prev = np.where(v.fresh[t], v.h_reset, h[t])
        h_new[t] = rnn_step(x[t], h_prev * v.r, W, U, b)
        h_t = v.z_h[t] * h_prev + (1 - v.z_h[t]) * h_new[t]
        h[t + 1] = np.where(v.live[t], h_t, h_prev)
    tape = RNNVariantTape(h, lengths, reverse, variant, added=variant.added, candidates=h_new)
    return outputs(tape), tape


def rnn_backward(
    tape: RNNVariantTape,
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
    dy: Array,
    dh_n: Array | None = None,
) -> RNNVariantGradients:
    """Back-propagate through time for the plain RNN with additions.

    da_t = (1 − z_h) ⊙ dh_t ⊙ (1 − h̃²)        dh' = z_h ⊙ dh_t + r ⊙ Uᵀ da_t

    At a masked step dh' = dh_t. Where reset[t], dh' goes to reset_h and nothing to h_{t−1}.

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
    T, N, H = tape.candidates.shape
    v = Running(tape.variant, T, N, H, tape.lengths, tape.reverse)
    x, _ = processing_order(np.where(v.read, x, 0), tape.lengths, tape.reverse)
    h_prev = np.where(v.fresh, v.h_reset, tape.h[:-1])  # [T, N, H]
    dh = final_gradient("dh_n", dh_n, tape.h)  # [T+1, N, H]
    dh[1:] += processing_order(dy, tape.lengths, tape.reverse)[0]
    da, dreset_h = np.zeros_like(dh[1:]), np.zeros_like(dh[0])
    for t in reversed(range(T)):
        da[t] = v.live[t] * ((1 - v.z_h[t]) * dh[t + 1]) * (1 - tape.candidates[t] ** 2)
        dh_before = np.where(v.live[t], v.z_h[t] * dh[t + 1] + v.r * (da[t] @ U), dh[t + 1])
        dh[t] += np.where(v.fresh[t], 0, dh_before)
        dreset_h += np.where(v.fresh[t], dh_before, 0)
    dgates = da[:, :, None]  # [T, N, 1, H]
    dx, dW, dU, db = sum_over_steps(dgates, x, h_prev * v.r, W, tape.reverse)
    return RNNVariantGradients(dx, dW, dU, db, dgates, dh, dreset_h)
