"""Recording of modules' calls: ``trace`` in a ``with`` block, ``FlowMonitor`` over a whole training."""

from undertow.tracing.traced import Trace as Trace
from undertow.tracing.traced import load_trace as load_trace
from undertow.tracing.traced import trace as trace
