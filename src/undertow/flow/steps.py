"""A recorded layer, step by step: derivatives of one step, and products of vectors with its Jacobian.

The rest of ``undertow.flow`` is written on top of two operations that never form a matrix: ``push``, J v,
carries a small change of the state forward through a step, and ``pull``, Jᵀ v, carries a gradient back.
The state is one vector: (h, c) for the LSTM, h for the plain RNN.
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
Exponent = npt.NDArray[np.int32]  # of two
_BLOCK = 1 << 12  # entries of an array of a block of steps, 32 KiB: larger ones leave the cache


def check_between(t: int, s: int | None, T: int) -> tuple[int, int]:
    """t and s, where s None stands for T; ValueError unless 0 ≤ t ≤ s ≤ T."""
    s = T if s is None else s
    if not 0 <= s <= T:
        raise ValueError(f"s: expected a state from 0 to T={T}, got {s}")
    if not 0 <= t <= s:
        raise ValueError(f"t: expected a state from 0 to s={s}, got {t}")
    return t, s


def times(v: Array, matrix: Array) -> Array:
    """v [N,R,a] times matrix [a,b]: one product of N·R rows, where ``@`` would make N of R rows each."""
    return (v.reshape(-1, v.shape[-1]) @ matrix).reshape(*v.shape[:-1], matrix.shape[-1])


class Recorded:
    """A tape's sizes and which of its entries belong to a sequence; nothing else of it is ever read."""

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
        """``check_between`` of this tape's states."""
        return check_between(t, s, self.T)

    def own(self, name: str, s: int | npt.ArrayLike | None) -> Index:
        """One state for each sequence, [N], checked to be its own; None stands for its last."""
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
        """``entries`` [S,N,*] of the steps from state t on, in float64, zero where no step was taken."""
        if self.even:
            return np.asarray(entries, dtype=np.float64)
        mask = self.alive[t : t + len(entries)]
        mask = mask.reshape(*mask.shape, *[1] * (entries.ndim - 2))
        return np.asarray(np.where(mask, entries, 0), dtype=np.float64)

    def before(self, states: npt.NDArray[Any], t: int, s: int) -> Array:
        """The states [T+1,N,H] that the steps from t to s started from, [s-t,N,H]."""
        if self.even:
            return self.live(states[t:s], t)
        began = np.arange(t, s)[:, None] == self.first  # entry 0 holds the initial state of every sequence
        return self.live(np.where(began[..., None], states[0], states[t:s]), t)

    def after(self, states: npt.NDArray[Any], t: int, s: int) -> Array:
        """The states [T+1,N,H] that the steps from t to s led to, [s-t,N,H]."""
        return self.live(states[t + 1 : s + 1], t)

    def own_states(self, states: npt.NDArray[Any]) -> Array:
        """``states`` [T+1,N,H], or gradients of them, in float64, NaN outside each sequence's own."""
        t = np.arange(self.T + 1)[:, None]
        inside = (self.first <= t) & (t <= self.last)
        values = np.where((t == self.first)[..., None], states[0], states)
        return np.asarray(np.where(inside[..., None], values, np.nan), dtype=np.float64)

    def where_alive(self, k: int, new: Array, old: Array) -> Array:
        """``new`` [N,*,*] where a sequence takes step k, else ``old``: a state only carried."""
        return new if self.even else np.where(self.alive[k, :, None, None], new, old)

    def or_identity(self, t: int, J: Array) -> Array:
        """J [S,N,D,D] of the steps from state t on, the identity where no step was taken."""
        return np.where(self.alive[t : t + len(J), :, None, None], J, np.eye(J.shape[-1]))


class Partials(NamedTuple):
    """Derivatives within a step, elementwise, [S,N,H] each; ī is a gate before its activation."""

    i: Array  # ∂c_t/∂ī_t = g ⊙ i(1−i)
    f: Array  # ∂c_t/∂f̄_t = c_{t−1} ⊙ f(1−f)
    g: Array  # ∂c_t/∂ḡ_t = i ⊙ (1−g²)
    o: Array  # ∂h_t/∂ō_t = tanh(c_t) ⊙ o(1−o)
    keep: Array  # ∂c_t/∂c_{t−1} along the cell alone: f
    out: Array  # ∂h_t/∂c_t with o_t held fixed: o ⊙ (1−tanh²c_t)


class LSTMSteps(Recorded):
    """The LSTM's steps; its state is (h, c), of size D = 2H."""

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
        """Those of step k alone, [N,1,H] each. Made a block of steps at a time: some 20 calls of NumPy."""
        if k not in self._block:
            size = max(1, _BLOCK // max(1, self.N * self.H))
            self._block = range(k // size * size, min((k // size + 1) * size, self.T))
            held = self.partials(self._block.start, self._block.stop)
            self._held = list(map(Partials._make, zip(*(a[:, :, None] for a in held), strict=True)))
        return self._held[k - self._block.start]

    def partials(self, t: int, s: int) -> Partials:
        """Those of the steps from t to s, all zero where no step was taken."""
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
        """∂h/∂c with o held fixed at the states t to s-1, [s-t,N,H]: zero at the first, which no o made."""
        out = np.zeros((s - t, self.N, self.H))
        made = max(t, 1)  # the first of these states that a step of this tape can have made
        if s > made:
            out[made - t :] = self.partials(made - 1, s - 1).out
        return out

    def push(self, k: int, v: Array) -> Array:
        """J v of step k, from state k to k+1: v [N,R,2H], R vectors for each sequence. O(N R H²)."""
        p = self.at(k)
        v_h, v_c = v[..., : self.H], v[..., self.H :]
        i, f, g, o = np.split(times(v_h, self.U.T), 4, axis=-1)  # [N, R, H] each, before the activation
        c = p.i * i + p.f * f + p.g * g + p.keep * v_c
        h = p.o * o + p.out * c
        return self.where_alive(k, np.concatenate([h, c], axis=-1), v)

    def pull(self, k: int, v: Array, through_o: bool = True) -> Array:
        """Jᵀ v of step k, from state k+1 to k; without ``through_o`` nothing flows back through o_t."""
        p, H = self.at(k), self.H
        v_h = v[..., :H]
        c = p.out * v_h
        c += v[..., H:]
        pre = np.empty((*v.shape[:-1], 4, H))  # before the activation; written in place: small calls cost
        for gate_, partial in enumerate((p.i, p.f, p.g)):
            np.multiply(partial, c, out=pre[..., gate_, :])
        np.multiply(p.o if through_o else 0 * p.o, v_h, out=pre[..., 3, :])
        found = np.empty(v.shape)
        found[..., :H] = times(pre.reshape(*v.shape[:-1], 4 * H), self.U_pull)
        np.multiply(p.keep, c, out=found[..., H:])
        return self.where_alive(k, found, v)

    def fold_h_into_c(self, t: int, v: Array) -> Array:
        """Gradients v [N,R,2H] of (h_t, c_t) -> of c_t, which acts through h_t too: [N,R,H]."""
        v_h, v_c = v[..., : self.H], v[..., self.H :]
        return np.asarray(v_h * self.at(t - 1).out + v_c if t else v_c)

    def jacobians(self, t: int, s: int) -> Array:
        """J of the steps from t to s as matrices, [s-t,N,2H,2H]."""
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
    """The plain RNN's steps; its state is h, of size D = H."""

    def __init__(self, tape: RNNTape, weight_hh: npt.ArrayLike) -> None:
        super().__init__(tape)
        self.U = np.asarray(weight_hh, dtype=np.float64)
        check_shape("weight_hh", self.U, self.H, self.H)
        self.U_pull = np.asfortranarray(self.U)
        self.D = self.H

    def slope(self, t: int, s: int) -> Array:
        """tanh' = 1−h_t² of the steps from t to s, [s-t,N,H]."""
        return 1 - self.after(self.tape.h, t, s) ** 2

    def push(self, k: int, v: Array) -> Array:
        """J v of step k, from state k to k+1: v [N,R,H]. O(N R H²)."""
        return self.where_alive(k, self.slope(k, k + 1)[0, :, None] * times(v, self.U.T), v)

    def pull(self, k: int, v: Array, through_o: bool = True) -> Array:
        """Jᵀ v of step k, from state k+1 to k. The plain RNN has no output gate to leave out."""
        return self.where_alive(k, times(self.slope(k, k + 1)[0, :, None] * v, self.U_pull), v)

    def jacobians(self, t: int, s: int) -> Array:
        """J = diag(1−h_t²) U of the steps from t to s, [s-t,N,H,H]."""
        return self.or_identity(t, self.slope(t, s)[..., None] * self.U)


def lstm_only(tape: Tape | RNNTape) -> Tape:
    """The tape itself; ValueError for a plain RNN's, which has neither gates nor cell."""
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
    """The steps of either kind of tape."""
    check_equations(tape)
    return LSTMSteps(tape, weight_hh) if isinstance(tape, Tape) else RNNSteps(tape, weight_hh)


def backward(
    steps: LSTMSteps | RNNSteps, starts: Index, v: Array, through_o: bool = True
) -> Iterator[tuple[int, Array, Exponent]]:
    """Gradients v [N,R,D], given at each sequence's state ``starts`` [N], pulled back to state 0.

    Yields, for t from the latest start down to 0, (t, u, e): at state t the gradients are u·2^e, u [N,R,D]
    and e [N]. Every fourth step u's entries are brought to at most 1: scaling by powers of two is exact, and
    keeps products over any number of steps from under- and overflowing. A sequence is zero until its start
    is reached.
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
