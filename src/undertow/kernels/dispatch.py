"""The way from the modules to the engines, for programs that run and for programs that torch records.

=========  =================================================================================================
torch      ``torch_serves``: torch's own operator runs the whole module, on every device except the CPU and
           meta (so also cuDNN), and while jit.trace or torch.onnx record a program
operators  a layer is one node of the program that torch.compile or torch.export record; it runs the engines
           when that program runs
engines    everything else: ``engines`` has the table
=========  =================================================================================================
"""

import torch
from torch import Tensor

from undertow.kernels import engines, operators, plain
from undertow.kernels.call import Call
from undertow.kernels.engine import Outputs


def torch_serves(x: Tensor) -> bool:
    """Return whether torch's own operator runs this module as a whole."""
    if not (x.is_cpu or x.is_meta):
        return True
    return torch.onnx.is_in_onnx_export() if torch.compiler.is_compiling() else torch._C._is_tracing()


def layer(call: Call) -> Outputs:
    """Compute one layer: y, h_n and for the LSTM c_n, as described by ``Call``.

    Raises ValueError if lengths do not fit x.
    """
    if torch.compiler.is_compiling():
        return operators.layer(call)
    return engines.layer(call)


def layer_with_steps(call: Call, steps: list[plain.Steps]) -> Outputs:
    """Compute ``layer`` in torch's operations; ``steps`` receives the gates and states of every step."""
    return plain.layer(engines.autocast(call), steps)
