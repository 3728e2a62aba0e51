"""One step of the LSTM with everything that may be added to it, forward and backward."""

import numpy as np

from undertow.equations.common import Array
from undertow.equations.lstm import sigmoid
from undertow.equations.variants.variant import Terms
from undertow.layout import GATES, gate, unpack

EPSILON = 1e-5  # torch's too


def normalise(v: Array) -> Array:
    """LN(v) = (v − mean v) / √(var v + ε) over the last axis, var biased (Ba, Kiros & Hinton 2016)."""
    v_hat: Array = (v - v.mean(-1, keepdims=True)) / _scale(v)
    return v_hat


def normalise_backward(v: Array, dv_hat: Array) -> Array:
    """Compute dv = (dv̂ − mean dv̂ − v̂ ⊙ mean(dv̂ ⊙ v̂)) / √(var v + ε), with v̂ = LN(v)."""
    v_hat = normalise(v)
    along = (dv_hat * v_hat).mean(-1, keepdims=True)
    dv: Array = (dv_hat - dv_hat.mean(-1, keepdims=True) - v_hat * along) / _scale(v)
    return dv


def _scale(v: Array) -> Array:
    scale: Array = np.sqrt(v.var(-1, keepdims=True) + EPSILON)
    return scale


def product(a: Array, W: Array) -> Array:
    """Compute W a, [N,...] -> [N,4H], gate by gate so that it rounds as the plain equations do."""
    H = len(W) // len(GATES)
    return np.concatenate([a @ gate(W, k, H).T for k in GATES], axis=-1)


def lstm_step(
    x: Array, h: Array, c: Array, W: Array, U: Array, b: Array, v: Terms
) -> tuple[Array, Array, Array]:
    """Compute one step from h' and c': h_{t−1} and c_{t−1}, or after a reset reset_h and reset_c.

    a = W x_t + U (h' ⊙ r) + b                           r: recurrent dropout (Gal & Ghahramani 2016)
    a = LN(W x_t) ⊙ gain_x + LN(U (h' ⊙ r)) ⊙ gain_h + b     with norms, over all 4H
    i = σ(a_i + p_i ⊙ c')                                p: peepholes (Gers & Schmidhuber 2000)
    f = σ(a_f + p_f ⊙ c'), or f = 1 − i                  coupled (Greff et al. 2017)
    g = tanh(a_g)
    c̃ = i ⊙ g + f ⊙ c'
    o = σ(a_o + p_o ⊙ c̃)
    h̃ = o ⊙ tanh(s), s = c̃, or s = LN(c̃) ⊙ gain_c + bias_c   with norms, over H
    c_t = z_c ⊙ c' + (1 − z_c) ⊙ c̃                       z: zoneout (Krueger et al. 2017)
    h_t = z_h ⊙ h' + (1 − z_h) ⊙ h̃

    Args:
        x: [N,C], x_t.
        h: [N,H], h'.
        c: [N,H], c'.
        W: [4H,C].
        U: [4H,H].
        b: [4H].
        v: what is added.

    Returns:
        h_t [N,H], c_t [N,H] and the gates i, f, g, o [N,4,H].
    """
    a_i, a_f, a_g, a_o = unpack(_sums(x, h, W, U, b, v).reshape(len(x), 4, -1))
    p_i, p_f, p_o = v.p
    i = sigmoid(a_i + p_i * c)
    f = 1 - i if v.coupled else sigmoid(a_f + p_f * c)
    g = np.tanh(a_g)
    c_new = i * g + f * c
    o = sigmoid(a_o + p_o * c_new)
    h_new = o * np.tanh(_seen(c_new, v))
    h_t = v.z_h * h + (1 - v.z_h) * h_new
    c_t = v.z_c * c + (1 - v.z_c) * c_new
    return h_t, c_t, np.stack([i, f, g, o], axis=-2)


def _sums(x: Array, h: Array, W: Array, U: Array, b: Array, v: Terms) -> Array:
    """a, [N,4H]."""
    Wx, Uh = product(x, W), product(h * v.r, U)
    if v.norms is not None:
        Wx, Uh = normalise(Wx) * v.norms.gain_x, normalise(Uh) * v.norms.gain_h
    return Wx + Uh + b


def _seen(c_new: Array, v: Terms) -> Array:
    """s, [N,H]: what h̃ sees of the cell."""
    return c_new if v.norms is None else normalise(c_new) * v.norms.gain_c + v.norms.bias_c


def lstm_step_backward(
    gates: Array, c: Array, dh: Array, dc: Array, v: Terms
) -> tuple[Array, Array, Array, Array, Array]:
    """Go back through the same step, down to the gates before their activation.

    dh̃ = (1 − z_h) ⊙ dh_t                                        h_t = z_h ⊙ h' + (1 − z_h) ⊙ h̃
    do_pre = dh̃ ⊙ tanh(s) ⊙ o(1 − o)                             h̃ = o ⊙ tanh(s)
    ds = dh̃ ⊙ o ⊙ (1 − tanh²s)
    dc̃ = (1 − z_c) ⊙ dc_t + LNᵀ(ds ⊙ gain_c) + do_pre ⊙ p_o      without norms LNᵀ(..) is ds
    di_pre = dc̃ ⊙ g ⊙ i(1 − i)                                   coupled: dc̃ ⊙ (g − c') ⊙ i(1 − i)
    df_pre = dc̃ ⊙ c' ⊙ f(1 − f)                                  coupled: 0
    dg_pre = dc̃ ⊙ i ⊙ (1 − g²)
    dc' = z_c ⊙ dc_t + dc̃ ⊙ f + di_pre ⊙ p_i + df_pre ⊙ p_f

    Args:
        gates: [N,4,H].
        c: [N,H], c'.
        dh: [N,H], the total ∂E/∂h_t.
        dc: [N,H], the part of ∂E/∂c_t that comes from step t+1.
        v: what is added.

    Returns:
        dgates [N,4,H], and dc̃, dc', c̃ and ds [N,H].
    """
    i, f, g, o = unpack(gates)
    p_i, p_f, p_o = v.p
    c_new = i * g + f * c
    tanh_s = np.tanh(_seen(c_new, v))
    dh_new = (1 - v.z_h) * dh
    do = dh_new * tanh_s * o * (1 - o)
    ds = dh_new * o * (1 - tanh_s**2)
    through_h = ds if v.norms is None else normalise_backward(c_new, ds * v.norms.gain_c)
    dc_new = (1 - v.z_c) * dc + through_h + do * p_o
    di = dc_new * (g - c if v.coupled else g) * i * (1 - i)
    df = np.zeros_like(di) if v.coupled else dc_new * c * f * (1 - f)
    dg = dc_new * i * (1 - g**2)
    dc_prev = v.z_c * dc + dc_new * f + di * p_i + df * p_f
    return np.stack([di, df, dg, do], axis=-2), dc_new, dc_prev, c_new, ds
