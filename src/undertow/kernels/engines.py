"""The table of engines: which one computes a call. The choice is made only here.

The first engine that serves a call gets it. ``plain`` comes last and serves every call: projections, relu,
other dtypes and devices, meta and fake tensors, empty batches, functorch's transforms, forward-mode
gradients. For double backward the node of a kernel engine runs ``plain`` again.
"""

import torch

from undertow.kernels import cpu, plain, segments
from undertow.kernels.call import Call
from undertow.kernels.engine import Engine, Outputs
from undertow.kernels.node import KernelEngine

ENGINES: tuple[Engine, ...] = (segments.ENGINE, cpu.ENGINE, plain.ENGINE)


def layer(call: Call) -> Outputs:
    """Compute the outputs of ``call`` now. Raises ValueError if lengths do not fit x."""
    if torch.is_autocast_enabled("cpu"):
        call = autocast(call)
    for engine in ENGINES:
        if engine.serves(call):
            if call.recording is not None and not isinstance(engine, KernelEngine):
                call.recording.missing = cpu.ENGINE.why_not(call)
            return engine.layer(call)
    raise AssertionError("plain serves every call")


def autocast(call: Call) -> Call:
    """Return ``call`` in the dtype that CPU autocast would give nn.LSTM."""
    if torch.is_autocast_enabled("cpu") and call.x.is_cpu:
        return call.cast(torch.get_autocast_dtype("cpu"))
    return call
