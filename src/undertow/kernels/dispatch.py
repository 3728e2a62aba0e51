"""The way from the modules to the engines, for programs that run and for programs that torch records.

=========  =================================================================================================
torch      ``torch_serves``: torch's own operator runs the whole module, on every device but the CPU and meta
           (cuDNN among them), and while jit.trace or torch.onnx record a program; on NVIDIA GPUs unless
           ``has_kernels`` says otherwise
operators  a layer is one node of the program that torch.compile, torch.export or, where torch's operator does
           not serve, torch.jit.trace record; it runs the engines when that program runs
engines    all else: ``engines`` has the table
=========  =================================================================================================
"""

import torch
from torch import Tensor

from undertow.kernels import elsewhere, engines, operators, per_sample, plain, triton
from undertow.kernels.call import Call
from undertow.kernels.engine import Outputs


def torch_serves(x: Tensor) -> bool:
    """Return whether torch's own operator runs this module as a whole, unless a trace asks for its layers."""
    return not (x.is_cpu or x.is_meta) or _is_recorded()


def _is_recorded() -> bool:
    """Whether jit.trace or torch.onnx record a program that must know torch's operator alone."""
    return torch.onnx.is_in_onnx_export() if torch.compiler.is_compiling() else torch._C._is_tracing()


def has_kernels(x: Tensor, cell: str, H: int, N: int, packed: bool) -> bool:
    """Return whether kernels on a GPU should compute a module of torch's own equations without projection.

    Args:
        x: the module's input.
        cell: "lstm" or "rnn".
        H: units.
        N: sequences.
        packed: whether x holds packed rows.

    Returns:
        False where cuDNN is faster, or there are no kernels. A program of torch.compile is made before N is
        known: there ``knows`` alone decides.
    """
    return knows(x, cell, H) and triton.ENGINE.is_faster(x, H, N, packed)


def knows(x: Tensor, cell: str, H: int) -> bool:
    """Return whether there are kernels for x's device, for a cell of H units in numbers as those of x."""
    return not _is_recorded() and x.device.type in triton.DEVICES and triton.ENGINE.knows(cell, H, x)


def shows_layers(x: Tensor) -> bool:
    """Return whether a trace may ask for the layers of a module that ``torch_serves``."""
    program = torch.compiler.is_compiling() or torch._C._is_tracing()
    return elsewhere.is_elsewhere(x) and not program


def layer(call: Call) -> Outputs:
    """Compute one layer: y, h_n and for the LSTM c_n, as described by ``Call``.

    Raises ValueError if lengths do not fit x.
    """
    if torch.compiler.is_compiling():
        return operators.layer(call)
    if torch._C._is_tracing():
        return operators.traced_layer(call)
    return engines.layer(call)


def check_onnx(x: Tensor, steps: int) -> None:
    """Raises RuntimeError where torch.onnx.export is given a T that is free, in dimension ``steps`` of x.

    The exporter that goes through torch.export writes T into the model, as a number and without a word.
    """
    exports = torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export()
    if exports and isinstance(x.shape[steps], torch.SymInt):
        raise RuntimeError(
            f"dynamic_shapes: expected a fixed number of steps in dimension {steps} of the input, got a free "
            "one, which torch.onnx.export would fix; undertow.onnx.export and dynamo=False leave it free"
        )


def layer_with_steps(call: Call, steps: list[plain.Steps]) -> Outputs:
    """``layer`` in torch's operations; ``steps`` receives every step's gates and states, with their graph.

    Raises RuntimeError in torch.jit.trace, which would record as many steps as there are now, and for weights
    that ``per_sample`` serves.
    """
    if not torch.compiler.is_compiling() and torch._C._is_tracing():
        raise RuntimeError("return_tape: expected False in torch.jit.trace and torch.onnx.export, got True")
    if per_sample.ENGINE.serves(call):
        raise RuntimeError("return_tape: expected False in call_for_per_sample_grads, got True")
    return plain.layer(engines.autocast(call), steps)
