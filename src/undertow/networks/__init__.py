"""Trained networks as NumPy arrays, wherever they were trained."""

from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Stage,
    Unsupported,
)

__all__ = [
    "Bidirectional",
    "Dense",
    "Embedding",
    "Network",
    "Normalise",
    "Pool",
    "Recurrent",
    "Scale",
    "Stage",
    "Unsupported",
]
