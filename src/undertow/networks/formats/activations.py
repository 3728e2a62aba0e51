"""Activations that stand by themselves in a file, as part of the dense layer before them."""

from dataclasses import replace

import numpy as np

from undertow.networks.network import ACTIVATIONS, Dense, Stage, Unsupported


def with_activation(stages: list[Stage], name: str, width: int, where: str) -> list[Stage]:
    """Add an activation to a chain.

    Args:
        stages: The chain so far.
        name: The activation; ``linear`` and ``identity`` are none.
        width: The values that it acts on.
        where: The place, for the error message.

    Returns:
        The chain, whose last dense layer has the activation. Where there is none, or it has one already, a
        dense layer follows that copies its input.

    Raises:
        Unsupported: No stage has this activation.
    """
    if name in ("", "linear", "identity"):
        return stages
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS[1:])
        raise Unsupported(f"{where}: activation: expected {known} or none, got {name}")
    last = stages[-1] if stages else None
    if isinstance(last, Dense) and not last.activation:
        return [*stages[:-1], replace(last, activation=name)]
    return [*stages, Dense(np.eye(width), np.zeros(width), name)]
