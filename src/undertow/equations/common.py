"""What the equations share: the order of time, sums over steps, and checks."""

import numpy as np
import numpy.typing as npt

from undertow.layout import N_GATES, check_shape, check_weights
from undertow.tape import Lengths, RNNTape, Tape

Array = npt.NDArray[np.float64]


def outputs(tape: Tape | RNNTape) -> Array:
    """Return y_t = h_t in the order of time, zero past a sequence's own end, [T,N,H]."""
    y = tape.h[1:][::-1] if tape.reverse else tape.h[1:]
    return processing_order(y, tape.lengths, reverse=False)[0]


def processing_order(a: Array, lengths: Lengths | None, reverse: bool) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Bring an array from the order of time into the order of processing.

    Args:
        a: [T,N,...] in the order of time.
        lengths: int64 [N]; None: every sequence has T steps.
        reverse: whether the direction is the reverse one.

    Returns:
        ``a`` with its padding zeroed, and which steps are within a sequence, bool [T,N,1].
    """
    T, N = a.shape[:2]
    ends = np.full(N, T) if lengths is None else lengths
    alive = np.arange(T)[:, None, None] < ends[:, None]  # [T, N, 1]
    a = np.where(alive, a, 0)
    return (a[::-1], alive[::-1]) if reverse else (a, alive)


def sum_over_steps(
    dgates: Array, x: Array, h_prev: Array, W: Array, reverse: bool
) -> tuple[Array, Array, Array, Array]:
    """Compute dx, and the gradients of the weights as sums over steps and sequences.

    dx_t = Wᵀ dgates_t        dW = Σ_t dgates_t x_tᵀ        dU = Σ_t dgates_t h_{t−1}ᵀ        db = Σ_t
    dgates_t

    Args:
        dgates: [T,N,G,H], in the order of processing.
        x: [T,N,C], in the order of processing.
        h_prev: [T,N,H], h_{t−1}.
        W: [G*H,C].
        reverse: whether the direction is the reverse one.

    Returns:
        dx [T,N,C] in the order of time, dW [G*H,C], dU [G*H,H] and db [G*H].
    """
    d = dgates.reshape(*dgates.shape[:2], W.shape[0])  # [T, N, G*H]
    dx = d @ W  # [T, N, C]
    dW = np.tensordot(d, x, axes=((0, 1), (0, 1)))  # [G*H, C]
    dU = np.tensordot(d, h_prev, axes=((0, 1), (0, 1)))  # [G*H, H]
    return (dx[::-1] if reverse else dx), dW, dU, d.sum(axis=(0, 1))


def final_gradient(name: str, d_n: Array | None, states: Array) -> Array:
    """Return zeros like ``states`` [T+1,N,H] with the gradient of the final state as the last entry."""
    d = np.zeros(states.shape)
    if d_n is not None:
        check_shape(name, d_n, *d[-1].shape)
        d[-1] = d_n
    return d


def float64(*arrays: Array) -> list[Array]:
    """Return the arrays in float64."""
    return [np.asarray(a, dtype=np.float64) for a in arrays]


def check_layer(kind: str, x: Array, W: Array, U: Array, b: Array, **states: Array) -> None:
    """Raise ValueError, naming the argument, unless the arguments of a layer fit each other."""
    if x.ndim != 3:
        raise ValueError(f"x: expected shape [T, N, C], got {list(x.shape)}")
    H = check_weights(N_GATES[kind], x.shape[2], W, U, b)
    for name, state in states.items():
        check_shape(name, state, x.shape[1], H)


def check_backward(kind: str, tape: Tape | RNNTape, x: Array, W: Array, U: Array, dy: Array) -> None:
    """Raise ValueError, naming the argument, unless the arguments of a backward pass fit the tape."""
    T, N, H = tape.h[1:].shape
    check_shape("x", x, T, N, x.shape[-1])
    check_shape("dy", dy, T, N, H)
    check_shape("weight_hh", U, N_GATES[kind] * H, H)
    check_weights(N_GATES[kind], x.shape[2], W, U)


def check_lengths(lengths: npt.ArrayLike | None, x: Array) -> Lengths | None:
    """Return ``lengths`` as int64 [N]. Raise ValueError unless they are whole numbers from 0 to T."""
    if lengths is None:
        return None
    given, (T, N, _) = np.asarray(lengths), x.shape
    check_shape("lengths", given, N)
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"lengths: expected whole numbers, got {given.dtype}")
    if np.any((given < 0) | (given > T)):
        raise ValueError(f"lengths: expected 0 to T={T}, got {given.min()} to {given.max()}")
    return given.astype(np.int64)
