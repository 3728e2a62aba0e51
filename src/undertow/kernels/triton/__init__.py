"""The LSTM on NVIDIA GPUs: kernels in Triton, and the engine that runs them.

``engine`` is the engine of the table; it imports the kernels and Triton at the first call that it serves.
``passes`` runs the kernels between torch's products, ``rows`` says how a call's rows lie in memory.
``forward`` and ``backward`` are the kernels, ``tiles`` what both compute. ``rules`` holds the numbers of
their launches, and which plain calls are left to cuDNN. ``segments`` is the engine of training in segments.
"""

from undertow.kernels.triton import segments
from undertow.kernels.triton.engine import DEVICES, ENGINE

__all__ = ["DEVICES", "ENGINE", "segments"]
