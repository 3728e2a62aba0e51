"""Trained networks as NumPy arrays, wherever they were trained: described, read and written."""

from undertow.networks.formats import files, read, write
from undertow.networks.formats.narrow import DTYPES, rounded
from undertow.networks.network import (
    Assumed,
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
    "DTYPES",
    "Assumed",
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
    "files",
    "read",
    "rounded",
    "write",
]
