"""Sight: which modules are watched, and what was recorded of their calls."""

from undertow.tracing.traced import Trace as Trace
from undertow.tracing.traced import load_trace as load_trace
from undertow.tracing.traced import trace as trace
