"""Weights in 16 or 8 bits: whole numbers, and for each row of a matrix what 1 of them stands for."""

from typing import Any

import numpy as np

from undertow.networks.network import Dense, Network, Unsupported

DTYPES = {"float32": np.float32, "int16": np.int16, "int8": np.int8}
MOST = {"int16": 32767, "int8": 127}
NAMES = ("weight", "weight_ih", "weight_hh", "weight_hr")  # of the matrices; other arrays stay in float32
SCALE = ".scale"  # behind the name of a matrix: the name of its rows' scales


def check(network: Network, dtype: str) -> None:
    """Check that a network's weights may be written in a type.

    Args:
        network: The network.
        dtype: The type.

    Raises:
        Unsupported: int8, and the network does not choose among classes: its outputs would be too far off.
        ValueError: There is no such type.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected {', '.join(DTYPES)}, got {dtype}")
    last = network.stages[-1]
    chooses = isinstance(last, Dense) and last.activation == "softmax"
    if dtype == "int8" and not chooses and network.metadata.get("task") != "classify":
        raise Unsupported("int8: expected a classifier, whose last layer has a softmax; int16 serves others")


def narrowed(weight: Any, dtype: str) -> tuple[Any, Any]:
    """Round a matrix, row by row.

    Args:
        weight: [O,I] float32, finite.
        dtype: ``int16`` or ``int8``.

    Returns:
        Whole numbers [O,I] and scales [O] float32: the weights are about their products.

    Raises:
        Unsupported: A weight is not finite.
    """
    if not np.isfinite(weight).all():
        raise Unsupported(f"{dtype}: expected finite weights")
    most = MOST[dtype]
    scale = (np.abs(weight).max(axis=1, initial=0) / most).astype(np.float32)
    rounded = np.rint(weight / np.where(scale > 0, scale, 1)[:, None]).clip(-most, most)
    return rounded.astype(DTYPES[dtype]), scale


def rounded(weight: Any, dtype: str) -> Any:
    """Return a matrix as a file in 16 or 8 bits gives it back.

    Args:
        weight: [O,I] float32, finite.
        dtype: ``int16`` or ``int8``.

    Returns:
        [O,I] float32.

    Raises:
        Unsupported: A weight is not finite.
    """
    return widened(*narrowed(weight, dtype), "weight")


def widened(whole: Any, scale: Any, name: str) -> Any:
    """Return the matrix that ``narrowed`` rounded, as float32.

    Args:
        whole: [O,I].
        scale: [O]; None where the file has none.
        name: The matrix, for errors.

    Returns:
        [O,I].

    Raises:
        ValueError: They do not fit.
    """
    if scale is None or np.shape(scale) != np.shape(whole)[:1] or np.ndim(whole) != 2:
        raise ValueError(f"damaged: {name}: expected a matrix and a scale for each of its rows")
    return whole.astype(np.float32) * np.asarray(scale, np.float32)[:, None]
