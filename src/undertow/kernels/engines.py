"""The table of engines: which one computes a call. The choice is made only here.

The first that serves a call gets it. ``per_sample`` takes weights of one class of torch's. ``triton`` serves
NVIDIA GPUs. ``elsewhere`` is torch's own operator for one layer, on other devices than the CPU. ``plain``
comes last and serves every call: projections, relu, other dtypes and devices, meta and fake tensors, empty
batches, functorch's transforms, forward-mode gradients. For double backward the node of a kernel engine runs
``plain`` again.
"""

from functools import partial

import torch

from undertow.kernels import cpu, elsewhere, per_sample, plain, segments, triton
from undertow.kernels.call import Call
from undertow.kernels.engine import Engine, Outputs
from undertow.kernels.node import KernelEngine
from undertow.kernels.tensors import autocasts, out_of_memory

ENGINES: tuple[Engine, ...] = (
    segments.ENGINE,
    cpu.ENGINE,
    per_sample.ENGINE,
    triton.segments.ENGINE,
    triton.ENGINE,
    elsewhere.ENGINE,
    plain.ENGINE,
)


def layer(call: Call) -> Outputs:
    """Compute the outputs of ``call`` now. Raises ValueError if lengths do not fit x."""
    if torch._C._is_any_autocast_enabled():
        call = autocast(call)
    for engine in ENGINES:
        if engine.serves(call):
            run = engine.layer
            if call.recording is not None and not isinstance(engine, KernelEngine):
                if elsewhere.is_elsewhere(call.x):
                    run = partial(elsewhere.recorded, engine)
                else:
                    call.recording.missing = cpu.ENGINE.why_not(call)
            try:
                return run(call)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            return _again(engine, call)
    raise AssertionError("plain serves every call")


def _again(engine: Engine, call: Call) -> Outputs:
    """After idle memory was given back."""
    try:
        return engine.layer(call)
    except RuntimeError as error:
        out_of_memory(error)  # for smaller calls, or somebody else's
        raise


def autocast(call: Call) -> Call:
    """Return ``call`` in the dtype that autocast would give nn.LSTM."""
    return call.cast(torch.get_autocast_dtype(call.x.device.type)) if autocasts(call.x) else call
