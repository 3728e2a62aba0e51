"""``flow.gradient_by_lag`` by the native kernel: about ten times as fast, in the layer's own precision."""

import numpy as np
import numpy.typing as npt
import torch

from undertow.flow import GradientByLag
from undertow.kernels import cpu
from undertow.kernels.call import Call
from undertow.tape import Array, RNNTape, Tape

Index = npt.NDArray[np.int64]


def gradient_by_lag(
    tape: Tape | RNNTape, weights: tuple[Array, Array], s: Index, dh: Array, dc: Array | None
) -> GradientByLag:
    """Compute ``flow.gradient_by_lag`` with the CPU kernels.

    The sequences are shifted so that their states s coincide; the kernel then starts from dh and dc alone.
    Before a sequence's first step its gates are zero and pass no gradient. In float32, gradients below 1e-38
    of the largest one at lag 0 become zero and their logarithms −inf.

    Args:
        tape: a float32 or float64 tape of an LSTM or a plain RNN.
        weights: W [G*H,C] and U [G*H,H].
        s: int64 [N], the state from which to go back in each sequence.
        dh: [N,H], the gradient of h at that state.
        dc: [N,H], the gradient of c there apart from the path through h; None for a plain RNN.

    Returns:
        The same record as ``flow.gradient_by_lag``.
    """
    first = _first(tape)
    L, N = max(1, int((s - first).max(initial=0))), len(dh)
    lag = np.arange(L, -1, -1)[:, None]  # of the states [L+1,1]
    there, state = lag <= s - first, np.maximum(s - lag, 0)  # [L+1,N]
    each = np.arange(N)

    def states(array: Array) -> Array:
        """[T+1,N,H] -> [L+1,N,H] with state s as entry L; the tape's entry 0 is each initial state."""
        found = array[np.where(lag == s - first, 0, state), each]
        return np.where(there[..., None], found, 0).astype(array.dtype)

    size = np.maximum(np.abs(dh), 0 if dc is None else np.abs(dc)).max(axis=-1)
    exponent = np.frexp(size)[1]  # [N]: scales lag 0 to about 1, without rounding
    ends = [None if d is None else np.ldexp(d, -exponent[:, None]).astype(tape.h.dtype) for d in (dh, dc)]
    kept: list[Array] = []
    if isinstance(tape, Tape):
        live = there[:-1, :, None, None]  # a step exists if the state before it does
        kept = [np.where(live, tape.gates[state[:-1], each], 0).astype(tape.h.dtype), states(tape.c)]
    found = _run(tape, weights, states(tape.h), kept, ends)
    dhs, dcs = (None if d is None else _by_lag(d, there, exponent) for d in found)
    assert dhs is not None
    return GradientByLag(s, dhs[0], None if dcs is None else dcs[0], dhs[1], None if dcs is None else dcs[1])


def _run(
    tape: Tape | RNNTape, weights: tuple[Array, Array], h: Array, kept: list[Array], ends: list[Array | None]
) -> list[Array | None]:
    """dh and dc, [L+1,N,H], from ``ends``, the gradients of the last state."""
    W, U, y, *tapes = (torch.from_numpy(np.array(a, order="C")) for a in (*weights, h[1:], *kept))
    h_0, c_0 = torch.from_numpy(h[0]).unsqueeze(0), tapes[1][:1] if tapes else None
    call = Call(
        "lstm" if isinstance(tape, Tape) else "rnn",
        y.new_zeros(*y.shape[:2], W.shape[1]),
        h_0,
        c_0,
        [(W, U, None, None, None)],
    )
    douts = [None, *(None if d is None else torch.from_numpy(d).unsqueeze(0) for d in ends)]
    _, *found = cpu.ENGINE.step_gradients(call, (y, *tapes), douts, 0)
    return [None if d is None else d.numpy() for d in found]


def _by_lag(gradients: Array, there: npt.NDArray[np.bool_], exponent: Array) -> tuple[Array, Array]:
    """Gradients [L+1,N,H] by lag and not by state, NaN before the sequence, and the logs of their norms."""
    scaled = np.where(there[..., None], gradients, np.nan)[::-1].astype(np.float64)
    with np.errstate(all="ignore"):
        log_norm = np.log(np.linalg.norm(scaled, axis=-1)) + exponent * np.log(2)
        return np.ldexp(scaled, exponent[:, None]), log_norm


def _first(tape: Tape | RNNTape) -> Index | int:
    """The index of each sequence's initial state."""
    return len(tape.h) - 1 - tape.lengths if tape.reverse and tape.lengths is not None else 0
