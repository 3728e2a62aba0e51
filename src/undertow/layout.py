"""Gate order, parameter names and shapes: the one place that knows how weights are laid out.

Gates are i, f, g, o in that order, as in torch (g, the input modulation, is torch's "cell" gate).
A layer holds, per direction, weight_ih [G*H, C], weight_hh [G*H, R], bias_ih and bias_hh [G*H] and,
with projections, weight_hr [P, H], where R = P if projected else H. The LSTM has G = 4 stacked
blocks of H rows, the plain RNN has G = 1.
"""

from typing import Any, TypeVar

GATES = ("i", "f", "g", "o")
N_GATES = {"lstm": 4, "rnn": 1}

Array = TypeVar("Array")


def gate(stacked: Array, name: str, hidden_size: int) -> Array:
    """Select the rows of one gate.

    Args:
        stacked: [4*H, ...], weights or biases of all four gates.
        name: "i", "f", "g" or "o".
        hidden_size: H.

    Returns:
        [H, ...], a view of ``stacked``.
    """
    k = GATES.index(name)
    return stacked[k * hidden_size : (k + 1) * hidden_size]  # type: ignore[index,no-any-return]


def unpack(gates: Any) -> tuple[Any, ...]:
    """Split gates [..., 4, H] into i, f, g and o, [..., H] each, as views."""
    return tuple(gates[..., k, :] for k in range(len(GATES)))


def check_shape(name: str, array: Any, *expected: int) -> None:
    """Raise ValueError, naming the argument, unless ``array`` has exactly the shape ``expected``."""
    if tuple(array.shape) != expected:
        raise ValueError(f"{name}: expected shape {list(expected)}, got {list(array.shape)}")


def check_weights(n_gates: int, input_size: int, weight_ih: Any, weight_hh: Any, bias: Any = None) -> int:
    """Check that the weights of a layer without projection fit each other.

    Args:
        n_gates: G, 4 for an LSTM, 1 for a plain RNN.
        input_size: C.
        weight_ih: [G*H, C].
        weight_hh: [G*H, H].
        bias: [G*H], or None.

    Returns:
        hidden_size, H.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
    """
    if len(weight_hh.shape) != 2:
        raise ValueError(f"weight_hh: expected shape [{n_gates}*H, H], got {list(weight_hh.shape)}")
    H = int(weight_hh.shape[1])
    check_shape("weight_hh", weight_hh, n_gates * H, H)
    check_shape("weight_ih", weight_ih, n_gates * H, input_size)
    if bias is not None:
        check_shape("bias", bias, n_gates * H)
    return H
