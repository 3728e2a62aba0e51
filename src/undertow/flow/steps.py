"""A recorded layer, step by step: derivatives of one step, and products of vectors with its Jacobian.

The rest of ``undertow.flow`` uses two operations that never form a matrix. ``push``, J v, carries a small
change of the state forward through a step. ``pull``, Jᵀ v, carries a gradient back. The state is one vector:
(h, c) for the LSTM, h for the plain RNN.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.layout import GATES, N_GATES, check_shape, gate, unpack
from undertow.tape import RNNTape, Tape

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]
Exponent = npt.NDArray[np.int32]  # powers of two
_BLOCK = 1 << 12  # entries of one array of a block of steps: 32 KiB, which stay in the cache


def check_between(t: int, s: int | None, T: int) -> tuple[int, int]:
    """Check two states and fill in the default.

    Args:
        t: the first state.
        s: the last state; None: T.
        T: the number of steps.

    Returns:
        t and s.

    Raises:
        ValueError: not 0 ≤ t ≤ s ≤ T.
    """
    s = T if s is None else s
    if not 0 <= s <= T:
        raise ValueError(f"s: expected a state from 0 to T={T}, got {s}")
    if not 0 <= t <= s:
        raise ValueError(f"t: expected a state from 0 to s={s}, got {t}")
    return t, s


def times(v: Array, matrix: Array) -> Array:
    """Multiply v [N,R,a] by a matrix [a,b] as one product of N·R rows, where ``@`` would make N products."""
    return (v.reshape(-1, v.shape[-1]) @ matrix).reshape(*v.shape[:-1], matrix.shape[-1])


class Recorded:
    """A tape's sizes, and which of its entries belong to a sequence. Entries in the padding are never read.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.

    Raises:
        ValueError: the tape's arrays do not fit each other.
    """

    def __init__(self, tape: Tape | RNNTape) -> None:
        if tape.h.ndim != 3 or not len(tape.h):
            raise ValueError(f"tape.h: expected shape [T+1, N, H], got {list(tape.h.shape)}")
        self.tape = tape
        self.T, self.N, self.H = T, N, H = len(tape.h) - 1, tape.h.shape[1], tape.h.shape[2]
        if isinstance(tape, Tape):
            check_shape("tape.c", tape.c, T + 1, N, H)
            check_shape("tape.gates", tape.gates, T, N, 4, H)
        lengths: Index = np.full(N, T) if tape.lengths is None else np.asarray(tape.lengths, dtype=np.int64)
        check_shape("tape.lengths", lengths, N)
        if np.any((lengths < 0) | (lengths > T)):
            raise ValueError(f"tape.lengths: expected 0 to T={T}, got {lengths.min()} to {lengths.max()}")
        # A reverse layer meets a short sequence's padding first, a forward one last.
        self.first: Index = T - lengths if tape.reverse else np.zeros_like(lengths)  # first state, [N]
        self.last: Index = self.first + lengths  # last state, [N]
        k = np.arange(T)[:, None]
        self.alive: Mask = (self.first <= k) & (k < self.last)  # [T, N], whether a step was taken
        self.even = bool(self.alive.all())

    def between(self, t: int, s: int | None) -> tuple[int, int]:
        """Check two states of this tape, see ``check_between``."""
        return check_between(t, s, self.T)

    def own(self, name: str, s: int | npt.ArrayLike | None) -> Index:
        """Return one state for each sequence, checked to lie between its initial and its last state.

        Args:
            name: of the argument, for the message.
            s: one state for all sequences, or [N]; None: each sequence's last.

        Returns:
            int64 [N].

        Raises:
            ValueError: a sequence has no such state.
        """
        if s is None:
            return self.last
        given = np.asarray(s)
        if not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"{name}: expected whole numbers, got {given.dtype}")
        if given.ndim:
            check_shape(name, given, self.N)
        index: Index = np.broadcast_to(given, self.N).astype(np.int64)
        for n in np.flatnonzero((index < self.first) | (index > self.last)):
            first, last = self.first[n], self.last[n]
            raise ValueError(f"{name}: expected {first} to {last} for sequence {n}, got {index[n]}")
        return index

    def live(self, entries: npt.NDArray[Any], t: int) -> Array:
        """Return ``entries`` [S,N,...] of the steps from state t on, float64, zero where no step is."""
        if self.even:
            return np.asarray(entries, dtype=np.float64)
        mask = self.alive[t : t + len(entries)]
        mask = mask.reshape(*mask.shape, *[1] * (entries.ndim - 2))
        return np.asarray(np.where(mask, entries, 0), dtype=np.float64)

    def before(self, states: npt.NDArray[Any], t: int, s: int) -> Array:
        """Return the states [s-t,N,H] before the steps from state t to s; ``states`` is [T+1,N,H]."""
        if self.even:
            return self.live(states[t:s], t)
        began = np.arange(t, s)[:, None] == self.first  # entry 0 holds the initial state of every sequence
        return self.live(np.where(began[..., None], states[0], states[t:s]), t)

    def after(self, states: npt.NDArray[Any], t: int, s: int) -> Array:
        """Return the states [s-t,N,H] after the steps from state t to s; ``states`` is [T+1,N,H]."""
        return self.live(states[t + 1 : s + 1], t)

    def own_states(self, states: npt.NDArray[Any]) -> Array:
        """Return states [T+1,N,H] or their gradients in float64, NaN outside each sequence's own states."""
        t = np.arange(self.T + 1)[:, None]
        inside = (self.first <= t) & (t <= self.last)
        values = np.where((t == self.first)[..., None], states[0], states)
        return np.asarray(np.where(inside[..., None], values, np.nan), dtype=np.float64)

    def where_alive(self, k: int, new: Array, old: Array) -> Array:
        """Return ``new`` [N,R,D] for the sequences that take step k, and ``old`` for the others."""
        return new if self.even else np.where(self.alive[k, :, None, None], new, old)

    def or_identity(self, t: int, J: Array) -> Array:
        """Return J [S,N,D,D] of the steps from state t on, with the identity where no step was taken."""
        return np.where(self.alive[t : t + len(J), :, None, None], J, np.eye(J.shape[-1]))


class Partials(NamedTuple):
    """Elementwise derivatives within a step, [S,N,H] each. ī is the gate i before its activation."""

    i: Array  # ∂c_t/∂ī_t = g ⊙ i(1−i)
    f: Array  # ∂c_t/∂f̄_t = c_{t−1} ⊙ f(1−f)
    g: Array  # ∂c_t/∂ḡ_t = i ⊙ (1−g²)
    o: Array  # ∂h_t/∂ō_t = tanh(c_t) ⊙ o(1−o)
    keep: Array  # ∂c_t/∂c_{t−1} along the cell alone: f
    out: Array  # ∂h_t/∂c_t with o_t held fixed: o ⊙ (1−tanh²c_t)


class LSTMSteps(Recorded):
    """The steps of an LSTM. The state is (h, c), of size D = 2H.

    Args:
        tape: the recorded pass.
        weight_hh: [4H,H].

    Raises:
        ValueError: the arrays do not fit each other.
    """

    def __init__(self, tape: Tape, weight_hh: npt.ArrayLike) -> None:
        super().__init__(tape)
        self.lstm = tape
        self.U = np.asarray(weight_hh, dtype=np.float64)
        check_shape("weight_hh", self.U, N_GATES["lstm"] * self.H, self.H)
        self.U_pull = np.asfortranarray(self.U)  # for few rows BLAS is up to twice as fast along columns
        self.D = 2 * self.H
        self._block = range(0)  # the steps whose partials are held
        self._held: list[Partials] = []

    def at(self, k: int) -> Partials:
        """Return the partials of step k, [N,1,H] each.

        They are computed for a block of steps at a time, since a block takes about 20 calls of NumPy.
        """
        if k not in self._block:
            size = max(1, _BLOCK // max(1, self.N * self.H))
            self._block = range(k // size * size, min((k // size + 1) * size, self.T))
            held = self.partials(self._block.start, self._block.stop)
            self._held = list(map(Partials._make, zip(*(a[:, :, None] for a in held), strict=True)))
        return self._held[k - self._block.start]

    def partials(self, t: int, s: int) -> Partials:
        """Return the partials of the steps from state t to s, all zero where no step was taken."""
        i, f, g, o = unpack(self.live(self.lstm.gates[t:s], t))
        c_prev, tanh_c = self.before(self.lstm.c, t, s), np.tanh(self.after(self.lstm.c, t, s))
        return Partials(
            i=g * i * (1 - i),
            f=c_prev * f * (1 - f),
            g=i * (1 - g**2),
            o=tanh_c * o * (1 - o),
            keep=f,
            out=o * (1 - tanh_c**2),
        )

    def out(self, t: int, s: int) -> Array:
        """Return ∂h/∂c with o held fixed at the states t to s-1, [s-t,N,H]; zero at an initial state."""
        out = np.zeros((s - t, self.N, self.H))
        made = max(t, 1)  # the first of these states that a step of this tape can have made
        if s > made:
            out[made - t :] = self.partials(made - 1, s - 1).out
        return out

    def push(self, k: int, v: Array) -> Array:
        """Return J v of step k, from state k to k+1, for R vectors a sequence: v [N,R,2H]. O(N R H²)."""
        p = self.at(k)
        v_h, v_c = v[..., : self.H], v[..., self.H :]
        i, f, g, o = np.split(times(v_h, self.U.T), 4, axis=-1)  # [N, R, H] each, before the activation
        c = p.i * i + p.f * f + p.g * g + p.keep * v_c
        h = p.o * o + p.out * c
        return self.where_alive(k, np.concatenate([h, c], axis=-1), v)

    def pull(self, k: int, v: Array, through_o: bool = True) -> Array:
        """Return Jᵀ v of step k, from state k+1 to k; nothing flows through o_t unless ``through_o``."""
        p, H = self.at(k), self.H
        v_h = v[..., :H]
        c = p.out * v_h
        c += v[..., H:]
        pre = np.empty(
            (*v.shape[:-1], 4, H)
        )  # before the activation; written in place, because small calls are dear
        for gate_, partial in enumerate((p.i, p.f, p.g)):
            np.multiply(partial, c, out=pre[..., gate_, :])
        np.multiply(p.o if through_o else 0 * p.o, v_h, out=pre[..., 3, :])
        found = np.empty(v.shape)
        found[..., :H] = times(pre.reshape(*v.shape[:-1], 4 * H), self.U_pull)
        np.multiply(p.keep, c, out=found[..., H:])
        return self.where_alive(k, found, v)

    def fold_h_into_c(self, t: int, v: Array) -> Array:
        """Turn gradients [N,R,2H] of (h_t, c_t) into those of c_t, which also acts through h_t: [N,R,H]."""
        v_h, v_c = v[..., : self.H], v[..., self.H :]
        return np.asarray(v_h * self.at(t - 1).out + v_c if t else v_c)

    def jacobians(self, t: int, s: int) -> Array:
        """Return J of the steps from state t to s as matrices, [s-t,N,2H,2H]."""
        p, H = self.partials(t, s), self.H
        U_i, U_f, U_g, U_o = (gate(self.U, k, H) for k in GATES)
        J = np.zeros((s - t, self.N, 2 * H, 2 * H))
        diagonal = np.arange(H)
        J[..., H:, :H] = p.i[..., None] * U_i + p.f[..., None] * U_f + p.g[..., None] * U_g
        J[..., H + diagonal, H + diagonal] = p.keep
        J[..., :H, :] = p.out[..., None] * J[..., H:, :]
        J[..., :H, :H] += p.o[..., None] * U_o
        return self.or_identity(t, J)


class RNNSteps(Recorded):
    """The steps of a plain RNN. The state is h, of size D = H.

    Args:
        tape: the recorded pass.
        weight_hh: [H,H].

    Raises:
        ValueError: the arrays do not fit each other.
    """

    def __init__(self, tape: RNNTape, weight_hh: npt.ArrayLike) -> None:
        super().__init__(tape)
        self.U = np.asarray(weight_hh, dtype=np.float64)
        check_shape("weight_hh", self.U, self.H, self.H)
        self.U_pull = np.asfortranarray(self.U)
        self.D = self.H

    def slope(self, t: int, s: int) -> Array:
        """Return tanh' = 1−h_t² of the steps from state t to s, [s-t,N,H]."""
        return 1 - self.after(self.tape.h, t, s) ** 2

    def push(self, k: int, v: Array) -> Array:
        """Return J v of step k, from state k to k+1: v [N,R,H]. O(N R H²)."""
        return self.where_alive(k, self.slope(k, k + 1)[0, :, None] * times(v, self.U.T), v)

    def pull(self, k: int, v: Array, through_o: bool = True) -> Array:
        """Return Jᵀ v of step k, from state k+1 to k. ``through_o`` is ignored: there is no output gate."""
        return self.where_alive(k, times(self.slope(k, k + 1)[0, :, None] * v, self.U_pull), v)

    def jacobians(self, t: int, s: int) -> Array:
        """Return J = diag(1−h_t²) U of the steps from state t to s, [s-t,N,H,H]."""
        return self.or_identity(t, self.slope(t, s)[..., None] * self.U)


def lstm_only(tape: Tape | RNNTape) -> Tape:
    """Return the tape itself, checked to be an LSTM's.

    Raises:
        ValueError: it is a plain RNN's, which has neither gates nor a cell, or something was added to its
            equations.
    """
    if not isinstance(tape, Tape):
        raise ValueError(f"tape: expected an LSTM's Tape, got {type(tape).__name__}")
    check_equations(tape)
    return tape


def check_equations(tape: Tape | RNNTape) -> None:
    """Raise ValueError where something was added to the equations that flow differentiates."""
    if tape.added:
        raise ValueError(
            f"tape: expected the LSTM's or RNN's own equations, got {', '.join(tape.added)} added"
        )


def steps_of(tape: Tape | RNNTape, weight_hh: npt.ArrayLike) -> LSTMSteps | RNNSteps:
    """Return the steps of either kind of tape.

    Args:
        tape: the recorded pass of an LSTM or a plain RNN.
        weight_hh: [4H,H]; of a plain RNN [H,H].

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    check_equations(tape)
    return LSTMSteps(tape, weight_hh) if isinstance(tape, Tape) else RNNSteps(tape, weight_hh)


def backward(
    steps: LSTMSteps | RNNSteps, starts: Index, v: Array, through_o: bool = True
) -> Iterator[tuple[int, Array, Exponent]]:
    """Pull gradients back from one state of each sequence to state 0.

    Every fourth step the entries of u are brought to at most 1. Scaling by powers of two is exact, and it
    keeps products over any number of steps from under- and overflowing.

    Args:
        steps: the steps of the layer.
        starts: int64 [N], the state of each sequence at which its gradients are given.
        v: [N,R,D], the gradients, R of each sequence.
        through_o: False: nothing flows back through the output gates.

    Yields:
        (t, u, e) for t from the latest start down to 0: the gradients at state t are u·2^e, u [N,R,D] and e
        [N]. They are zero until the sequence's start is reached.
    """
    u, e = np.zeros(v.shape), np.zeros(len(v), dtype=np.int32)
    begins = set(starts.tolist())
    for t in range(int(starts.max(initial=0)), -1, -1):
        if t in begins:
            u = np.where((starts == t)[:, None, None], v, u)
        if t in begins or t % 4 == 0:
            shift = np.frexp(np.abs(u).max(axis=(1, 2), initial=0))[1]
            u, e = np.ldexp(u, -shift[:, None, None]), e + shift
        yield t, u, e
        if t:
            u = steps.pull(t - 1, u, through_o)
