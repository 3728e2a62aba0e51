"""Trained networks that run step by step, keep their state and never allocate. NumPy and the C++ kernels.

s = undertow.stream.load("amp.nam")
y = s.process(block)  # the state goes on from block to block
"""

from undertow.stream.stream import Stream, load

__all__ = ["Stream", "load"]
