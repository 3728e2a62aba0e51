"""How far back a layer remembers, in a few numbers that can be followed over training."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from undertow.flow.jacobians import carousel
from undertow.flow.lags import GradientByLag, first_lags, lower_median
from undertow.flow.steps import Array, Index, LSTMSteps, Mask, Recorded, RNNSteps, steps_of, times
from undertow.layout import check_shape, unpack
from undertow.tape import RNNTape, Tape


@dataclass(frozen=True)
class Summary:
    """One layer in one direction. x is c for an LSTM and h for a plain RNN.

    Fields that a plain RNN lacks are None.

    Medians are lower medians over sequences. States are counted in the order of processing, from a sequence's
    initial state 0. s is its last state with a gradient.
    """

    lags: float  # median of s: the longest lag that could be measured

    # 1. the carousel, along the cell alone
    f_mean: float | None  # f over all steps, sequences and units: ∂c_t/∂c_{t−1} with the gates held fixed
    f_low: float | None  # its 10 % quantile
    f_median: float | None
    f_high: float | None  # its 90 % quantile
    carousel_log: float | None  # median of ½ log mean_units (Π f_t)², over all steps; 0: everything is kept

    # 2. one step: ∂c_t/∂c_{t−1} by its four terms, A_t; of a plain RNN ∂h_t/∂h_{t−1}
    step_norm: float  # √(mean_t ‖A_t‖²/H), Frobenius, of some steps; 1 where a step keeps a gradient's size
    step_from_1: float  # √(mean_t ‖A_t − I‖²/H); 0 where a step changes nothing

    # 3. the whole state: the true gradient of E_s, the error at state s alone
    horizon_e: float  # median lag k at which ‖∂E_s/∂x_{s−k}‖ is down to 1/e of lag 0's; inf: nowhere
    horizon_1pct: float  # the same for 1 %
    growth: float  # median of (log ‖∂E_s/∂x_{s−k}‖ − log ‖∂E_s/∂x_s‖)/k, per step back: below 0 it fades;
    # k is s, or the last lag before less than FADED is left

    # gradients of the whole error E, from back-propagation
    gradient_first: float  # median ‖∂E/∂x_0‖
    gradient_last: float  # median ‖∂E/∂x_s‖
    gradient_ratio: float  # median of ‖∂E/∂x_0‖ / ‖∂E/∂x_s‖

    # fractions of steps and units, with the thresholds of gate_saturation
    i_closed: float | None  # i < 0.1: nothing is written
    f_closed: float | None  # f < 0.1: forgotten at once
    f_open: float | None  # f > 0.9: kept
    o_closed: float | None  # o < 0.1: nothing is shown


LOW, HIGH = 0.1, 0.9  # thresholds of a closed and of an open gate, as in gate_saturation
PROBED = 64  # steps of which the norm is estimated: the first and the last 32
FADED = 1e-30  # of a gradient's norm at lag 0
NAMES = tuple(field.name for field in fields(Summary))


def summary(
    tape: Tape | RNNTape,
    weight_hh: npt.ArrayLike,
    by_lag: GradientByLag,
    dh: npt.ArrayLike,
    dc: npt.ArrayLike | None = None,
) -> Summary:
    """Summarise a recorded pass and the gradients that back-propagation gave its states.

    The norms of group 2 are estimates from the first and the last 32 steps. Each step and sequence has one
    random vector z of ±1, always the same; the mean of ‖A z‖² is ‖A‖² (Hutchinson 1990). O(T N H + N H²) in
    time: products with vectors, no matrix is formed.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        by_lag: ``gradient_by_lag`` of what ``last_error`` returns.
        dh: [T+1,N,H], ∂E/∂h_t in the order of processing, as ``Gradients`` has it.
        dc: [T+1,N,H], ∂E/∂c_t; None for a plain RNN.

    Returns:
        The ``Summary``. Numbers are NaN where there is no step, or no gradient that reaches the layer.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = steps_of(tape, weight_hh)
    gradients = _gradients(steps, dh, dc)[-1].astype(np.float64)
    s, each, lags = by_lag.s, np.arange(steps.N), by_lag.s - steps.first
    log_norm = by_lag.log_dh_norm if by_lag.log_dc_norm is None else by_lag.log_dc_norm
    with np.errstate(all="ignore"):  # a network that has diverged is full of inf and NaN
        horizon_e, horizon_1pct = first_lags(log_norm, (1 / np.e, 0.01))
        first, last = (np.linalg.norm(d, axis=-1) for d in (gradients[0], gradients[s, each]))
        norm, from_1 = _step_norms(steps)
        return Summary(
            lags=_middle(lags.astype(np.float64)),
            **_gates(steps),
            step_norm=norm,
            step_from_1=from_1,
            horizon_e=_middle(horizon_e),
            horizon_1pct=_middle(horizon_1pct),
            growth=_middle(_growth(log_norm)),
            gradient_first=_middle(first),
            gradient_last=_middle(last),
            gradient_ratio=_middle(first / last),
        )


def last_error(
    tape: Tape | RNNTape, dh: npt.ArrayLike, dc: npt.ArrayLike | None = None
) -> tuple[Index, Array, Array | None]:
    """Find each sequence's last state with a gradient, and that gradient, to start ``gradient_by_lag`` with.

    The gradient at s is that of the error at s alone, because nothing comes from later states.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        dh: [T+1,N,H], ∂E/∂h_t in the order of processing, as ``Gradients`` has it.
        dc: [T+1,N,H], ∂E/∂c_t; None for a plain RNN.

    Returns:
        s, int64 [N], and the two parts of ``error_at``. Where no state has a gradient, s is the sequence's
        last state and both parts are zero.

    Raises:
        ValueError: ``dh`` or ``dc`` does not fit the tape.
    """
    steps = Recorded(tape)
    t = np.arange(steps.T + 1)[:, None]
    there = np.logical_or.reduce([(d != 0).any(axis=-1) for d in _gradients(steps, dh, dc)])
    there &= (steps.first <= t) & (t <= steps.last)
    s = np.where(there.any(axis=0), there.cumsum(axis=0).argmax(axis=0), steps.last)
    return s, *error_at(tape, dh, dc, s)


def error_at(
    tape: Tape | RNNTape, dh: npt.ArrayLike, dc: npt.ArrayLike | None = None, s: Index | None = None
) -> tuple[Array, Array | None]:
    """Split the gradient of each sequence's state s into two parts that can be propagated back from there.

    The cell acts on E through h_s = o_s ⊙ tanh(c_s) and in other ways. The second part is what is left of
    ∂E/∂c_s without the path through h_s: ∂E/∂c_s − ∂E/∂h_s ⊙ o_s ⊙ (1 − tanh² c_s). At a sequence's initial
    state nothing is subtracted, because no step made h_0 from c_0.

    Args:
        tape: the recorded pass of one layer and direction.
        dh: [T+1,N,H], ∂E/∂h_t in the order of processing, as ``Gradients`` has it.
        dc: [T+1,N,H], ∂E/∂c_t; None for a plain RNN.
        s: int64 [N], a state of each sequence; None: its last.

    Returns:
        ∂E/∂h_s and the part of ∂E/∂c_s that does not pass through h_s, float64 [N,H] each; the second is
        None for a plain RNN.

    Raises:
        ValueError: ``dh`` or ``dc`` does not fit the tape.
    """
    steps = Recorded(tape)
    s = steps.last if s is None else s
    dh_s, *dc_s = (np.asarray(d[s, np.arange(steps.N)], np.float64) for d in _gradients(steps, dh, dc))
    return dh_s, dc_s[0] - _out(steps, tape, s) * dh_s if isinstance(tape, Tape) else None


def _gradients(steps: Recorded, dh: npt.ArrayLike, dc: npt.ArrayLike | None) -> list[Array]:
    """Return dh and, for an LSTM, dc, checked."""
    lstm = isinstance(steps.tape, Tape)
    if lstm != (dc is not None):
        raise ValueError(f"dc: expected {'an array' if lstm else 'None for a plain RNN, which has no cell'}")
    given = {"dh": np.asarray(dh)} | ({"dc": np.asarray(dc)} if lstm else {})
    for name, gradient in given.items():
        check_shape(name, gradient, *steps.tape.h.shape)
    return list(given.values())


def _out(steps: Recorded, tape: Tape, s: Index) -> Array:
    """Return ∂h_s/∂c_s with o_s held fixed, [N,H]; zero at an initial state."""
    made, each = s > steps.first, np.arange(steps.N)
    if not steps.T:
        return np.zeros((steps.N, steps.H))
    o = np.asarray(unpack(tape.gates[np.where(made, s - 1, 0), each])[3], dtype=np.float64)
    return np.where(made[:, None], o * (1 - np.tanh(tape.c[s, each]) ** 2), 0)


def _growth(log_norm: Array) -> Array:
    """Return ``Summary.growth`` of each sequence, [N]; float32 could not follow a gradient below FADED."""
    log_norm = log_norm - log_norm[0]
    lags = np.arange(len(log_norm))[:, None]
    there = log_norm >= np.log(FADED)  # not where NaN
    k = np.where(there, lags, 0).max(axis=0)
    return np.asarray(log_norm[k, np.arange(len(k))] / k)


def _step_norms(steps: LSTMSteps | RNNSteps) -> tuple[float, float]:
    """``step_norm`` and ``step_from_1``, over some steps of all sequences."""
    squares, apart, count = 0.0, 0.0, np.int64(0)
    for t, z, Az in _probed(steps):
        live = steps.alive[t : t + len(z), :, None]
        squares += float((Az**2 * live).sum())
        apart += float(((Az - z) ** 2 * live).sum())
        count += live.sum() * steps.H
    return float(np.sqrt(squares / count)), float(np.sqrt(apart / count))


def _probed(steps: LSTMSteps | RNNSteps) -> Iterator[tuple[int, Array, Array]]:
    """(t, z, A z) for the S steps from state t on, in two blocks: [S,N,H]; A a step from x to x, z of ±1."""
    rng, T, size = np.random.default_rng(0), steps.T, min(PROBED // 2, steps.T)
    for t, s in (0, size), (max(size, T - size), T):
        if t == s:
            continue
        z: Array = rng.choice(np.array([-1.0, 1.0]), (s - t, steps.N, steps.H))
        if isinstance(steps, RNNSteps):
            yield t, z, steps.slope(t, s) * times(z, steps.U.T)
            continue
        p, H = steps.partials(t, s), steps.H
        out = np.concatenate([steps.out(t, t + 1), p.out[:-1]])
        i, f, g = np.split(times(z * out, steps.U[: 3 * H].T), 3, axis=-1)
        yield t, z, p.i * i + p.f * f + p.g * g + p.keep * z


def _gates(steps: LSTMSteps | RNNSteps) -> dict[str, float | None]:
    """Return the fields of ``Summary`` about gates; None each for a plain RNN."""
    if isinstance(steps, RNNSteps):
        names = ("f_mean", "f_low", "f_median", "f_high", "carousel_log")
        return dict.fromkeys((*names, "i_closed", "f_closed", "f_open", "o_closed"))
    gates = steps.lstm.gates[steps.alive]  # [steps of all sequences, 4, H]
    i, f, _, o = unpack(gates)
    low, median, high = _quantiles(f.ravel(), (0.1, 0.5, 0.9))
    kept = np.logaddexp.reduce(2 * carousel(steps.lstm).log_product(), axis=-1)  # [N], of the sum of squares

    def fraction(true: Mask) -> float:
        return float(true.mean()) if true.size else float("nan")

    return {
        "f_mean": float(f.mean(dtype=np.float64)) if f.size else float("nan"),
        "f_low": low,
        "f_median": median,
        "f_high": high,
        "carousel_log": _middle((kept - np.log(steps.H)) / 2),
        "i_closed": fraction(i < LOW),
        "f_closed": fraction(f < LOW),
        "f_open": fraction(f > HIGH),
        "o_closed": fraction(o < LOW),
    }


def _quantiles(values: Array, at: tuple[float, ...]) -> list[float]:
    """Return quantiles of the nearest rank; np.quantile interpolates and takes much longer."""
    if not len(values):
        return [float("nan")] * len(at)
    ranks = np.round(np.array(at) * (len(values) - 1)).astype(np.int64)
    return [float(q) for q in np.sort(values)[ranks]]


def _middle(values: Array) -> float:
    return float(lower_median(values))
