"""Gradients by step and by lag: how far an error reaches, where the textbook chain goes wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.flow.steps import Array, Index, LSTMSteps, Recorded, backward, lstm_only, steps_of
from undertow.layout import check_shape
from undertow.tape import Gradients, RNNGradients, RNNTape, Tape

# --------------------------------------------------------------------------------------- by step


@dataclass(frozen=True)
class GradientNorms:
    """Euclidean norms, over the units, of a layer's gradients; NaN outside a sequence's own states."""

    dh: Array  # [T+1, N], ‖∂E/∂h_t‖
    dc: Array | None  # [T+1, N], ‖∂E/∂c_t‖; None for a plain RNN


def gradient_norms(tape: Tape | RNNTape, gradients: RNNGradients) -> GradientNorms:
    """Return ‖∂E/∂h_t‖ and ‖∂E/∂c_t‖ at every step, in the order of processing. O(TNH).

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        gradients: its gradients, as ``equations.lstm_backward`` returns them.

    Raises:
        ValueError: the gradients are of a layer of another size.
    """
    steps = Recorded(tape)
    check_shape("gradients.dh", gradients.dh, *tape.h.shape)
    dc = None
    if isinstance(gradients, Gradients):
        check_shape("gradients.dc", gradients.dc, *tape.h.shape)
        dc = np.linalg.norm(steps.own_states(gradients.dc), axis=-1)
    return GradientNorms(np.linalg.norm(steps.own_states(gradients.dh), axis=-1), dc)


# ---------------------------------------------------------------------------------------- by lag


@dataclass(frozen=True)
class GradientByLag:
    """Gradients of one error E_s by lag: entry k is the gradient of the state k steps before s.

    Entries are NaN where the lag reaches back beyond a sequence's initial state. ``dh`` and ``dc`` become 0
    or inf where the range of float64 ends; the logarithms of their norms do not. Logarithms are natural, and
    −inf where a gradient is zero.
    """

    s: Index  # [N], the state at which E_s stands
    dh: Array  # [L+1, N, H], ∂E_s/∂h_{s−k}
    dc: Array | None  # [L+1, N, H], ∂E_s/∂c_{s−k}, through h_{s−k} too; None for a plain RNN
    log_dh_norm: Array  # [L+1, N], log ‖∂E_s/∂h_{s−k}‖
    log_dc_norm: Array | None  # [L+1, N]

    @property
    def growth(self) -> Array:
        """Log of the factor of ‖∂E_s/∂h‖ for each further step back, [L,N]; below 0 it fades."""
        return _growth(self.log_dh_norm)

    @property
    def growth_c(self) -> Array | None:
        """Log of the factor of ‖∂E_s/∂c‖ for each further step back, [L,N]; None for a plain RNN."""
        return None if self.log_dc_norm is None else _growth(self.log_dc_norm)


def gradient_by_lag(
    tape: Tape | RNNTape,
    weight_hh: npt.ArrayLike,
    dh: npt.ArrayLike,
    s: int | npt.ArrayLike | None = None,
    dc: npt.ArrayLike | None = None,
) -> GradientByLag:
    """Return how one error E_s reaches back: ∂E_s/∂h_t and ∂E_s/∂c_t by lag s−t.

    This is back-propagation from s alone, by products with vectors; no matrix is formed. O(L N H²) in time
    and O(L N H) in memory for L lags.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        dh: [N,H], ∂E_s/∂h_s, the error's own gradient.
        s: the state at which the error stands, one for all sequences or [N]; None: each sequence's last.
        dc: [N,H], the part of ∂E_s/∂c_s that does not pass through h_s; None: zero. LSTM only.

    Raises:
        ValueError: an argument does not fit, or a sequence has no state s; the message names the argument.
    """
    steps = steps_of(tape, weight_hh)
    index = steps.own("s", s)
    start = [_given("dh", dh, steps)]
    if isinstance(steps, LSTMSteps):
        start.append(np.zeros_like(start[0]) if dc is None else _given("dc", dc, steps))
    elif dc is not None:
        raise ValueError("dc: expected None for a plain RNN, which has no cell, got an array")

    v = np.concatenate(start, axis=-1)[:, None]  # [N, 1, D]
    dhs, dcs = np.zeros((2, steps.T + 1, steps.N, steps.H))
    scales = np.zeros((steps.T + 1, steps.N, 1), dtype=np.int32)
    for t, u, e in backward(steps, index, v):
        dhs[t], scales[t] = u[:, 0, : steps.H], e[:, None]
        if isinstance(steps, LSTMSteps):
            dcs[t] = steps.fold_h_into_c(t, u)[:, 0]

    def scaled(d: Array) -> tuple[Array, Array]:
        """The gradients by lag, and the logarithms of their norms."""
        with np.errstate(over="ignore", under="ignore"):
            true = np.ldexp(d, scales)
        mantissa, exponent = np.frexp(np.linalg.norm(d, axis=-1))  # so a factor of 2 is exact
        log_norms = _log(mantissa) + (scales[..., 0] + exponent) * np.log(2)
        return by_lag(steps, index, true), by_lag(steps, index, log_norms)

    dh_by_lag, log_dh_norm = scaled(dhs)
    dc_by_lag, log_dc_norm = scaled(dcs) if isinstance(steps, LSTMSteps) else (None, None)
    return GradientByLag(index, dh_by_lag, dc_by_lag, log_dh_norm, log_dc_norm)


@dataclass(frozen=True)
class MemoryHorizon:
    """The first lag at which a gradient has fallen to a fraction of its size at lag 0.

    Lags are whole numbers, as float64. inf: the gradient does not fall that far within the recorded steps.
    NaN: the gradient is zero at lag 0 already, as of a unit that the error does not depend on.
    """

    fractions: tuple[float, ...]  # F of them, the first axis of the fields below
    h: Array  # [F, N], of ‖∂E_s/∂h‖: the layer's
    h_units: Array  # [F, N, H], of |∂E_s/∂h| of each unit
    c: Array | None  # [F, N], of ‖∂E_s/∂c‖; None for a plain RNN
    c_units: Array | None  # [F, N, H]


def memory_horizon(gradients: GradientByLag, fractions: Sequence[float] = (1 / np.e, 0.01)) -> MemoryHorizon:
    """Return how many steps back the error reaches: to 1/e of its gradient at lag 0, and to 1 % of it.

    It is the *first* such lag, also where the gradient grows again later. The fraction is relative to lag 0
    and not to the largest gradient, so a gradient that grows first has a longer horizon. O(F L N H).

    Args:
        gradients: of ``gradient_by_lag``.
        fractions: F numbers between 0 and 1.

    Raises:
        ValueError: a fraction is not between 0 and 1.
    """
    given = tuple(float(fraction) for fraction in fractions)
    for fraction in given:
        if not 0 < fraction < 1:
            raise ValueError(f"fractions: expected numbers between 0 and 1, got {fraction}")
    h, h_units = first_lags(gradients.log_dh_norm, given), first_lags(_log(gradients.dh), given)
    if gradients.log_dc_norm is None or gradients.dc is None:
        return MemoryHorizon(given, h, h_units, None, None)
    c, c_units = first_lags(gradients.log_dc_norm, given), first_lags(_log(gradients.dc), given)
    return MemoryHorizon(given, h, h_units, c, c_units)


# ------------------------------------------------------------- the textbook chain against the truth


@dataclass(frozen=True)
class Departure:
    """The textbook chain P against the true R = ∂c_s/∂c_{s−k}, by lag k. At lag 0 both are the identity.

    The two are equal at lags 0 and 1, and at lag 2 if that is the initial state. Entries are NaN where the
    lag reaches back beyond a sequence's initial state, or where R is zero.
    """

    s: Index  # [N], the state reached
    relative_error: Array  # [L+1, N], ‖P−R‖ / ‖R‖, Frobenius norms
    cosine: Array  # [L+1, N], ⟨P,R⟩ / (‖P‖‖R‖): whether they point the same way, whatever their size
    log_chain_norm: Array  # [L+1, N], log ‖P‖, natural
    log_true_norm: Array  # [L+1, N], log ‖R‖


def departure(
    tape: Tape,
    weight_hh: npt.ArrayLike,
    s: int | npt.ArrayLike | None = None,
    probes: int | None = None,
    seed: int = 0,
) -> Departure:
    """Return how far ``textbook_chain`` is from ``cell_product``, at every lag back from state s.

    Exact: O(L N H³) in time, O(N H²) in memory. With ``probes`` = R the norms are estimated: O(L N R H²) and
    O(N R H), to a relative error of about 1/√R. Nothing under- or overflows over any number of steps.

    Args:
        tape: the recorded pass of an LSTM.
        weight_hh: [4H,H].
        s: the state reached, one for all sequences or [N]; None: each sequence's last.
        probes: the number R of random vectors, the same for both matrices; None: exact.
        seed: draws the vectors.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = LSTMSteps(lstm_only(tape), weight_hh)
    index, N, H = steps.own("s", s), steps.N, steps.H
    if probes is not None and probes < 1:
        raise ValueError(f"probes: expected at least 1, or None, got {probes}")
    rows = (
        np.eye(H)
        if probes is None
        else np.random.default_rng(seed).normal(size=(probes, H)) / np.sqrt(probes)
    )
    v = np.broadcast_to(np.concatenate([np.zeros_like(rows), rows], axis=-1), (N, len(rows), 2 * H))

    values = np.zeros((4, steps.T + 1, N))
    truths, chains = backward(steps, index, v), backward(steps, index, v, through_o=False)
    with np.errstate(all="ignore"):  # 0/0 is NaN, and a chain 2^1024 times the truth is inf
        for (t, u, e), (_, u_chain, e_chain) in zip(truths, chains, strict=True):
            R, P = steps.fold_h_into_c(t, u), steps.fold_h_into_c(t, u_chain)  # [N, R, H]
            R_norm, P_norm = _frobenius(R), _frobenius(P)
            apart = _frobenius(np.ldexp(P, (e_chain - e)[:, None, None]) - R)
            values[0, t] = apart / R_norm
            values[1, t] = (P * R).sum(axis=(1, 2)) / (P_norm * R_norm)
            values[2, t] = np.log(P_norm) + e_chain * np.log(2)
            values[3, t] = np.log(R_norm) + e * np.log(2)
    return Departure(index, *(by_lag(steps, index, a) for a in values))


# --------------------------------------------------------------------------------------- helpers


def by_lag(steps: Recorded, s: Index, values: npt.NDArray[Any]) -> Array:
    """Turn values by state into values by lag.

    Args:
        steps: the steps of the layer.
        s: int64 [N], the state at lag 0.
        values: [T+1,N,...], by state.

    Returns:
        [L+1,N,...], by lag back from s; NaN beyond the initial state.
    """
    lags = np.arange(int((s - steps.first).max(initial=0)) + 1)[:, None]
    t = s - lags  # [L+1, N]
    there = t >= steps.first
    picked = values[np.maximum(t, 0), np.arange(steps.N)]
    there = there.reshape(*there.shape, *[1] * (picked.ndim - 2))
    return np.asarray(np.where(there, picked, np.nan), dtype=np.float64)


def _given(name: str, gradient: npt.ArrayLike, steps: Recorded) -> Array:
    a = np.asarray(gradient, dtype=np.float64)
    check_shape(name, a, steps.N, steps.H)
    return a


def _growth(log_norms: Array) -> Array:
    with np.errstate(invalid="ignore"):  # −inf − (−inf), zero after zero, is NaN
        return np.diff(log_norms, axis=0)


def first_lags(log_size: Array, fractions: tuple[float, ...]) -> Array:
    """Return the first lag at which a size is down to each fraction of its value at lag 0.

    Args:
        log_size: [L+1,...], natural logarithms.
        fractions: F numbers between 0 and 1.

    Returns:
        [F,...]; inf where there is no such lag, NaN where the size is zero at lag 0.
    """
    start = log_size[0]
    with np.errstate(invalid="ignore"):
        fallen = [log_size <= start + np.log(fraction) for fraction in fractions]  # NaN has not fallen
    lags = [np.where(down.any(axis=0), down.argmax(axis=0), np.inf) for down in fallen]
    return np.stack([np.where(np.isneginf(start) | np.isnan(start), np.nan, lag) for lag in lags])


def _log(size: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.abs(size)))


def _frobenius(a: Array) -> Array:
    return np.asarray(np.sqrt((a**2).sum(axis=(1, 2))))


def lower_median(values: Array) -> Array:
    """Return medians over the last axis; for an even number of values, the lower of the two middle ones.

    Values may be infinite: the mean of the two middle ones would be infinite where half of the sequences
    never fade.

    Args:
        values: [...,N]. NaN is left out.

    Returns:
        [...], float64; NaN where all are NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    picked = np.full(values.shape[:-1], np.nan)
    for index in np.ndindex(picked.shape):
        there = np.sort(values[index][~np.isnan(values[index])])
        if len(there):
            picked[index] = there[(len(there) - 1) // 2]
    return picked
