"""The three gradients from one cell state to another, as matrices and as products."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.flow.steps import Array, LSTMSteps, Recorded, RNNSteps, check_between, lstm_only, steps_of
from undertow.layout import GATES, gate, unpack
from undertow.tape import RNNTape, Tape

# ------------------------------------------------------------------------------ 1. the carousel


@dataclass(frozen=True)
class Carousel:
    """diag(f_t) at every step, and its products between any two states."""

    f: Array  # [T, N, H], the diagonal; 1 where no step was taken

    def product(self, t: int = 0, s: int | None = None) -> Array:
        """Return ∂c_s/∂c_t along the cell alone, the diagonal of Π diag(f). O((s−t) N H).

        Args:
            t: the state to start from, 0 to s.
            s: the state reached; None: T.

        Returns:
            [N,H].

        Raises:
            ValueError: not 0 ≤ t ≤ s ≤ T.
        """
        product: Array = np.exp(self.log_product(t, s))
        return product

    def log_product(self, t: int = 0, s: int | None = None) -> Array:
        """Return the natural logarithm of ``product``, Σ log f, which does not underflow.

        Args:
            t: the state to start from, 0 to s.
            s: the state reached; None: T.

        Returns:
            [N,H]; −inf where a gate was 0.

        Raises:
            ValueError: not 0 ≤ t ≤ s ≤ T.
        """
        t, s = check_between(t, s, len(self.f))
        return np.asarray(_log(self.f[t:s]).sum(axis=0))

    def log_products_to(self, s: int | None = None) -> Array:
        """Return ``log_product`` from every state t = 0..s to s. O(s N H).

        Args:
            s: the state reached; None: T.

        Returns:
            [s+1,N,H]; the last entry is 0.

        Raises:
            ValueError: not 0 ≤ s ≤ T.
        """
        _, s = check_between(0, s, len(self.f))
        logs = _log(self.f[:s])
        return np.concatenate([np.cumsum(logs[::-1], axis=0)[::-1], np.zeros((1, *self.f.shape[1:]))])


def carousel(tape: Tape) -> Carousel:
    """Return ∂c_t/∂c_{t−1} along the cell alone, diag(f_t). O(TNH) in time and memory.

    This is the constant error carousel of Hochreiter & Schmidhuber 1997 with the forget gate f of Gers,
    Schmidhuber & Cummins 2000.

    Args:
        tape: the recorded pass of an LSTM.

    Raises:
        ValueError: the tape is a plain RNN's, which has no cell, or its arrays do not fit each other.
    """
    steps = Recorded(lstm_only(tape))
    f = unpack(steps.live(tape.gates, 0))[GATES.index("f")]
    return Carousel(np.where(steps.alive[..., None], f, 1.0))


# ------------------------------------------------------------------------- 2. the four-term step


@dataclass(frozen=True)
class StepTerms:
    """∂c_t/∂c_{t−1} with o_{t−1} held fixed, of S steps: three matrices and a diagonal."""

    through_f: Array  # [S, N, H, H]: diag(c_{t−1} ⊙ f(1−f)) U_f diag(o_{t−1} ⊙ (1−tanh²c_{t−1}))
    through_i: Array  # [S, N, H, H]: diag(g ⊙ i(1−i)) U_i diag(the same)
    through_g: Array  # [S, N, H, H]: diag(i ⊙ (1−g²)) U_g diag(the same)
    direct: Array  # [S, N, H]: the diagonal of diag(f)

    @property
    def total(self) -> Array:
        """The sum of the four terms, [S,N,H,H]."""
        return (
            self.through_f
            + self.through_i
            + self.through_g
            + self.direct[..., None] * np.eye(self.direct.shape[-1])
        )


def step_terms(tape: Tape, weight_hh: npt.ArrayLike, t: int = 0, s: int | None = None) -> StepTerms:
    """Return the four terms of ∂c_t/∂c_{t−1} with o_{t−1} held fixed.

    c_{t−1} reaches c_t directly, and through h_{t−1} = o_{t−1} ⊙ tanh(c_{t−1}) and each of f, i and g:

        [diag(c_{t−1}⊙f(1−f)) U_f + diag(g⊙i(1−i)) U_i + diag(i⊙(1−g²)) U_g]
            · diag(o_{t−1}⊙(1−tanh²c_{t−1})) + diag(f)

    At a sequence's first step the three matrices are zero and only diag(f) is left: h_0 is given beside c_0
    and does not depend on it.

    O(S N H²) in time, and 24 S N H² bytes. Take few steps at a time where H is large.

    Args:
        tape: the recorded pass of an LSTM.
        weight_hh: [4H,H].
        t: the state before the first of the S steps.
        s: the state after the last; None: T.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = LSTMSteps(lstm_only(tape), weight_hh)
    t, s = steps.between(t, s)
    p, out, H = steps.partials(t, s), steps.out(t, s)[:, :, None, :], steps.H
    return StepTerms(
        through_f=p.f[..., None] * gate(steps.U, "f", H) * out,
        through_i=p.i[..., None] * gate(steps.U, "i", H) * out,
        through_g=p.g[..., None] * gate(steps.U, "g", H) * out,
        direct=np.where(steps.alive[t:s, :, None], p.keep, 1.0),
    )


def textbook_chain(tape: Tape, weight_hh: npt.ArrayLike, t: int = 0, s: int | None = None) -> Array:
    """Return the textbook's ∂c_s/∂c_t: the product of ``step_terms`` from state t to s.

    For s−t ≥ 2 this is not the derivative. Each factor holds its o_{t−1} fixed, so the product leaves out
    every path c_{t−1} → h_{t−1} → o_t → h_t → c_{t+1}. Back-propagation would give it if nothing flowed back
    through the output gates. ``cell_product`` is the derivative, and ``departure`` the difference by lag.
    From the initial state the two first differ at lag 3, because h_0 does not depend on c_0.

    O((s−t) N H³) in time, O(N H²) in memory. The result may under- or overflow; ``departure`` does not.

    Args:
        tape: the recorded pass of an LSTM.
        weight_hh: [4H,H].
        t: the state to start from.
        s: the state reached; None: T.

    Returns:
        [N,H,H].

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    return _cell_to_cell(tape, weight_hh, t, s, through_o=False)


# ------------------------------------------------------------------------ 3. the full state Jacobian


def state_jacobian(tape: Tape | RNNTape, weight_hh: npt.ArrayLike, t: int = 0, s: int | None = None) -> Array:
    """Return the Jacobian of every step from state t to s, ∂(h_t,c_t)/∂(h_{t−1},c_{t−1}).

    |  diag(tanh(c_t)⊙o(1−o)) U_o + E Δ    E diag(f)  |      h first, then c
    |  Δ                                   diag(f)    |

    Here E = diag(o⊙(1−tanh²c_t)) is ∂h_t/∂c_t for fixed o_t, and Δ is the derivative of c_t by h_{t−1}:

    Δ = diag(c_{t−1}⊙f(1−f)) U_f + diag(g⊙i(1−i)) U_i + diag(i⊙(1−g²)) U_g.

    The state of a plain RNN is h, and its Jacobian is ∂h_t/∂h_{t−1} = diag(1−h_t²) U.

    O((s−t) N H²) in time, and 32 (s−t) N H² bytes. Take few steps at a time where H is large.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        t: the state before the first step.
        s: the state after the last; None: T.

    Returns:
        [s-t,N,2H,2H]; of a plain RNN [s-t,N,H,H].

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = steps_of(tape, weight_hh)
    return steps.jacobians(*steps.between(t, s))


def state_product(tape: Tape | RNNTape, weight_hh: npt.ArrayLike, t: int = 0, s: int | None = None) -> Array:
    """Return ∂(h_s,c_s)/∂(h_t,c_t), the product of ``state_jacobian`` from state t to s.

    This is the derivative that back-propagation and finite differences give. No step's matrix is formed.
    O((s−t) N H³) in time, O(N H²) in memory. The result may under- or overflow over many steps;
    ``gradient_by_lag`` and ``lyapunov`` do not.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].
        t: the state to start from.
        s: the state reached; None: T.

    Returns:
        [N,2H,2H]; of a plain RNN ∂h_s/∂h_t, [N,H,H].

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    steps = steps_of(tape, weight_hh)
    return _pull_rows(steps, np.eye(steps.D), *steps.between(t, s))


def cell_product(tape: Tape, weight_hh: npt.ArrayLike, t: int = 0, s: int | None = None) -> Array:
    """Return the true ∂c_s/∂c_t, along every path from c_t to c_s; only o_t is held fixed.

    In ``state_product`` c_t and h_t are separate coordinates. Here a change of c_t also changes
    h_t = o_t ⊙ tanh(c_t), as in back-propagation's dc_t. With [P_ch P_cc], the c rows of that product,

        ∂c_s/∂c_t = P_ch diag(o_t⊙(1−tanh²c_t)) + P_cc

    From a sequence's initial state it is P_cc alone, because h_0 does not depend on c_0. At lag 1 this is the
    sum of ``step_terms``; from lag 2 on it differs from ``textbook_chain``.

    O((s−t) N H³) in time, O(N H²) in memory.

    Args:
        tape: the recorded pass of an LSTM.
        weight_hh: [4H,H].
        t: the state to start from.
        s: the state reached; None: T.

    Returns:
        [N,H,H].

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    return _cell_to_cell(tape, weight_hh, t, s, through_o=True)


# --------------------------------------------------------------------------------------- helpers


def _cell_to_cell(tape: Tape, weight_hh: npt.ArrayLike, t: int, s: int | None, through_o: bool) -> Array:
    steps = LSTMSteps(lstm_only(tape), weight_hh)
    t, s = steps.between(t, s)
    c_rows = np.eye(2 * steps.H)[steps.H :]
    P = _pull_rows(steps, c_rows, t, s, through_o)
    return steps.fold_h_into_c(t, P)


def _pull_rows(steps: LSTMSteps | RNNSteps, rows: Array, t: int, s: int, through_o: bool = True) -> Array:
    v = np.broadcast_to(rows, (steps.N, *rows.shape)).copy()
    for k in reversed(range(t, s)):
        v = steps.pull(k, v, through_o)
    return v


def _log(f: Array) -> Array:
    with np.errstate(divide="ignore"):  # log 0 = −inf: a gate shut completely
        return np.asarray(np.log(f))
