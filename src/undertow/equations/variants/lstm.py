"""The LSTM with what may be added to it: the loop over time, forward and backward."""

from typing import NamedTuple

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
)
from undertow.equations.variants.step import (
    lstm_step,
    lstm_step_backward,
    normalise,
    normalise_backward,
    product,
)
from undertow.equations.variants.variant import PLAIN, Norms, Running, Variant, VariantGradients, VariantTape


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
    variant: Variant = PLAIN,
) -> tuple[Array, VariantTape]:
    """Run one layer in one direction with additions.

    (h', c') is (reset_h, reset_c) where reset[t], else (h_{t−1}, c_{t−1}). Then (h_t, c_t) is ``lstm_step``
    of (h', c') where mask[t], else (h', c').

    Args:
        x: [T,N,C].
        h_0: [N,H].
        c_0: [N,H].
        weight_ih: W, [4H,C].
        weight_hh: U, [4H,H].
        bias: b, [4H]; None: zero.
        lengths: [N]; None: every sequence has T steps.
        reverse: run from each sequence's own end back to t = 0.
        variant: what is added.

    Returns:
        y [T,N,H] in the order of time, and the tape.

    Raises:
        ValueError: a shape does not fit; the message names the argument or the variant's field.
    """
    x, h_0, c_0, W, U = float64(x, h_0, c_0, weight_ih, weight_hh)
    (b,) = float64(np.zeros(len(U)) if bias is None else bias)
    check_layer("lstm", x, W, U, b, h_0=h_0, c_0=c_0)
    lengths = check_lengths(lengths, x)
    (T, N, _), H = x.shape, U.shape[1]
    v = Running(variant, T, N, H, lengths, reverse)
    x, _ = processing_order(np.where(v.read, x, 0), lengths, reverse)
    gates = np.zeros((T, N, 4, H))
    h = np.stack([h_0] * (T + 1))  # [T+1, N, H]
    c = np.stack([c_0] * (T + 1))  # [T+1, N, H]
    for t in range(T):
        h_prev, c_prev = np.where(v.fresh[t], v.h_reset, h[t]), np.where(v.fresh[t], v.c_reset, c[t])
        h_t, c_t, gates_t = lstm_step(x[t], h_prev, c_prev, W, U, b, v.step(t))
        h[t + 1] = np.where(v.live[t], h_t, h_prev)
        c[t + 1] = np.where(v.live[t], c_t, c_prev)
        gates[t] = np.where(v.live[t, :, None], gates_t, 0)
    tape = VariantTape(gates, h, c, lengths, reverse, variant, added=variant.added)
    return outputs(tape), tape


def lstm_backward(
    tape: VariantTape,
    x: Array,
    weight_ih: Array,
    weight_hh: Array,
    dy: Array,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
) -> VariantGradients:
    """Back-propagate through time: ``lstm_step_backward`` from the last step to the first.

    dh' = z_h ⊙ dh_t + r ⊙ Uᵀ da^h_t        dx_t = Wᵀ da^x_t
    ∂E/∂W = Σ_t da^x_t x_tᵀ        ∂E/∂U = Σ_t da^h_t (h' ⊙ r)ᵀ        ∂E/∂b = Σ_t da_t
    ∂E/∂p_i = Σ_t di_pre ⊙ c'        ∂E/∂p_f = Σ_t df_pre ⊙ c'        ∂E/∂p_o = Σ_t do_pre ⊙ c̃_t

    da is ``dgates``. da^x and da^h are the gradients of W x_t and of U (h' ⊙ r): da itself, or with norms
    LNᵀ(da ⊙ gain). At a masked step dh' = dh_t and dc' = dc_t. Where reset[t], dh' and dc' go to reset_h and
    reset_c, and nothing goes to h_{t−1} and c_{t−1}.

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
    check_backward("lstm", tape, x, W, U, dy)
    T, N, H = tape.h[1:].shape
    v = Running(tape.variant, T, N, H, tape.lengths, tape.reverse)
    read = _read(tape, v, x, W, U)
    back = _Back.of(tape, dy, dh_n, dc_n)
    for t in reversed(range(T)):
        _step_back(t, tape, v, read, U, back)
    dx, over_steps, dgates = back.da_x @ W, ((0, 1), (0, 1)), back.da.reshape(T, N, 4, H)
    return VariantGradients(
        dx=dx[::-1] if tape.reverse else dx,
        dweight_ih=np.tensordot(back.da_x, read.x, axes=over_steps),
        dweight_hh=np.tensordot(back.da_h, read.h * v.r, axes=over_steps),
        dbias=back.da.sum(axis=(0, 1)),
        dgates=dgates,
        dh=back.dh,
        dc=back.dc,
        dreset_h=back.dreset_h,
        dreset_c=back.dreset_c,
        dpeepholes=_peepholes_gradient(dgates, read.c, back.c_new, v),
        **_norms_gradients(back.da, read.Wx, read.Uh, back.ds, back.c_new, v),
    )


class _Read(NamedTuple):
    """What each step of the forward pass read, in the order of processing."""

    x: Array  # [T, N, C], zero where nothing was read
    h: Array  # [T, N, H], h'
    c: Array  # [T, N, H], c'
    Wx: Array  # [T, N, 4H], W x_t
    Uh: Array  # [T, N, 4H], U (h' ⊙ r)


def _read(tape: VariantTape, v: Running, x: Array, W: Array, U: Array) -> _Read:
    x, _ = processing_order(np.where(v.read, x, 0), tape.lengths, tape.reverse)
    h = np.where(v.fresh, v.h_reset, tape.h[:-1])
    c = np.where(v.fresh, v.c_reset, tape.c[:-1])
    return _Read(x, h, c, product(x, W), product(h * v.r, U))


class _Back(NamedTuple):
    """Gradients, filled by ``_step_back`` from the last step to the first, and c̃ as it is computed again."""

    dh: Array  # [T+1, N, H]
    dc: Array  # [T+1, N, H]
    da: Array  # [T, N, 4H]
    da_x: Array  # [T, N, 4H], of W x_t
    da_h: Array  # [T, N, 4H], of U (h' ⊙ r)
    c_new: Array  # [T, N, H], c̃
    ds: Array  # [T, N, H]
    dreset_h: Array  # [N, H]
    dreset_c: Array  # [N, H]

    @staticmethod
    def of(tape: VariantTape, dy: Array, dh_n: Array | None, dc_n: Array | None) -> "_Back":
        """Zeros, with dy, dh_n and dc_n in their places of dh and dc."""
        dh = final_gradient("dh_n", dh_n, tape.h)
        dc = final_gradient("dc_n", dc_n, tape.c)
        dh[1:] += processing_order(dy, tape.lengths, tape.reverse)[0]
        T, N, H = tape.h[1:].shape
        return _Back(dh, dc, *np.zeros((3, T, N, 4 * H)), *np.zeros((2, T, N, H)), *np.zeros((2, N, H)))


def _step_back(t: int, tape: VariantTape, v: Running, read: _Read, U: Array, back: _Back) -> None:
    """Step t back: from dh_t and dc_t to the gates, to h' and c', and from there to where those came from."""
    dh, dc, live, fresh, terms = back.dh, back.dc, v.live[t], v.fresh[t], v.step(t)
    # zero gates make dgates zero where no step was made; there the state was only carried
    dgates, dc_t, dc_before, back.c_new[t], back.ds[t] = lstm_step_backward(
        tape.gates[t], read.c[t], dh[t + 1], dc[t + 1], terms
    )
    back.da[t] = dgates.reshape(back.da[t].shape)
    back.da_x[t], back.da_h[t] = _sums_backward(back.da[t], read.Wx[t], read.Uh[t], v.norms)
    dh_before = np.where(live, terms.z_h * dh[t + 1] + v.r * (back.da_h[t] @ U), dh[t + 1])
    dc_before = np.where(live, dc_before, dc[t + 1])
    dc[t + 1] = np.where(live, dc_t, dc[t + 1])
    dh[t] += np.where(fresh, 0, dh_before)
    dc[t] = np.where(fresh, 0, dc_before)
    back.dreset_h[:] += np.where(fresh, dh_before, 0)
    back.dreset_c[:] += np.where(fresh, dc_before, 0)


def _sums_backward(da: Array, Wx: Array, Uh: Array, norms: Norms | None) -> tuple[Array, Array]:
    """The gradients of W x_t and of U (h' ⊙ r) from that of a, all [N,4H]."""
    if norms is None:
        return da, da
    return normalise_backward(Wx, da * norms.gain_x), normalise_backward(Uh, da * norms.gain_h)


def _peepholes_gradient(dgates: Array, c_prev: Array, c_new: Array, v: Running) -> Array:
    seen = np.stack([c_prev, np.zeros_like(c_prev) if v.coupled else c_prev, c_new], axis=-2)  # [T, N, 3, H]
    d: Array = (dgates[:, :, [0, 1, 3]] * seen).sum(axis=(0, 1))
    return d


def _norms_gradients(
    da: Array, Wx: Array, Uh: Array, ds: Array, c_new: Array, v: Running
) -> dict[str, Array]:
    """Σ_t da ⊙ LN(W x_t), Σ_t da ⊙ LN(U (h' ⊙ r)), Σ_t ds ⊙ LN(c̃) and Σ_t ds; zero without norms."""
    on, sums = float(v.norms is not None), (0, 1)
    return {
        "dgain_x": on * (da * normalise(Wx)).sum(axis=sums),
        "dgain_h": on * (da * normalise(Uh)).sum(axis=sums),
        "dgain_c": on * (ds * normalise(c_new)).sum(axis=sums),
        "dbias_c": on * ds.sum(axis=sums),
    }
