"""The operator of a layer, ``undertow::layer``, as nodes of ONNX (https://onnx.ai/onnx/operators/onnx__LSTM.html).

ONNX has the gates in the order i, o, f, g, the peepholes in the order i, o, f, and both biases in one tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from undertow.kernels import operators  # makes the operator
from undertow.kernels.call import PLAIN, WEIGHTS, Variant
from undertow.networks import Unsupported

LAYER: Any = torch.ops.undertow.layer.default
ARGUMENTS = tuple(each.name for each in LAYER._schema.arguments)
GATES = (0, 3, 1, 2)  # i, o, f, g among i, f, g, o
PEEPHOLES = (0, 2, 1)  # i, o, f among i, f, o
INT32 = 6  # ONNX's number of the type
HELD = ("peepholes", "coupled")  # fields of a Variant that a node has
# The option or argument that asks for a field, where it has another name.
_ASKED = {
    "recurrent": "recurrent_dropout in training",
    "zoneout_h": "zoneout",
    "zoneout_c": "zoneout",
    "gain_x": "layer_norm",
}
assert operators  # imported for its effect


def translations() -> dict[Any, Callable[..., Any]]:
    """Return what ``torch.onnx.export`` needs in ``custom_translation_table`` for programs with our layers.

    Returns:
        The function that makes the nodes of ``torch.ops.undertow.layer``. It raises ``networks.Unsupported``
        where ONNX has no operator.

    Raises:
        ModuleNotFoundError: onnxscript is missing.
    """
    from onnxscript import opset18

    def layer(*given: Any, **named: Any) -> Any:
        return _nodes(opset18, dict(zip(ARGUMENTS, given, strict=False)) | named)

    return {LAYER: layer}


def refused(arguments: dict[str, Any]) -> str:
    """Say what ONNX's nodes cannot compute.

    Args:
        arguments: Of one ``undertow::layer``, by name; what is no None counts as given.

    Returns:
        The option or argument, with what to do; empty if there is nothing.
    """
    _, weights, variant = _parts(arguments)
    if arguments["batch_sizes"] is not None:
        return "a PackedSequence: give the padded tensor and lengths="
    if any(each[4] is not None for each in weights):
        return "proj_size"
    found = [name for name in variant.added if name not in HELD]
    return _ASKED.get(found[0], found[0]) if found else ""


def _parts(arguments: dict[str, Any]) -> tuple[Sequence[Any], list[Sequence[Any]], Variant]:
    """x, h_0 and c_0; the weights of each direction; what is added to the equations."""
    flat, end = arguments["tensors"], 3 + WEIGHTS * arguments["directions"]
    weights = [flat[k : k + WEIGHTS] for k in range(3, end, WEIGHTS)]
    variant = Variant._make([*flat[end:], arguments["coupled"]]) if arguments["varied"] else PLAIN
    return flat[:3], weights, variant


def _nodes(op: Any, arguments: dict[str, Any]) -> Any:
    """Make the nodes of one layer: y, h_n and, for the LSTM, c_n."""
    if why := refused(arguments):
        raise Unsupported(f"torch.onnx.export: ONNX has no operator for {why}")
    (x, h_0, c_0), weights, variant = _parts(arguments)
    D, lstm, lengths = arguments["directions"], arguments["cell"] == "lstm", arguments["lengths"]

    H = int(weights[0][1].shape[1])
    rows = [H * gate + unit for gate in (GATES if lstm else (0,)) for unit in range(H)]

    def of_directions(k: int) -> Any:
        """Weight k of each direction, [D,...], with the gates in ONNX's order."""
        each = [op.Gather(own[k], op.Constant(value_ints=rows), axis=0) for own in weights]
        each = [op.Unsqueeze(one, op.Constant(value_ints=[0])) for one in each]
        return each[0] if D == 1 else op.Concat(*each, axis=0)

    W, U = of_directions(0), of_directions(1)
    bias = None if weights[0][2] is None else op.Concat(of_directions(2), of_directions(3), axis=1)
    own = None if lengths is None else op.Cast(lengths, to=INT32)
    attributes = {
        "hidden_size": H,
        "direction": "bidirectional" if D == 2 else "forward",
    }
    if lstm:
        P = None
        if variant.peepholes is not None:  # [D,3,H]
            P = op.Gather(variant.peepholes, op.Constant(value_ints=PEEPHOLES), axis=1)
            P = op.Reshape(P, op.Constant(value_ints=[D, -1]))
        coupled = int(variant.coupled)
        y, *last = op.LSTM(x, W, U, bias, own, h_0, c_0, P, input_forget=coupled, **attributes)
    else:
        phi = [arguments["phi"].capitalize()] * D
        y, *last = op.RNN(x, W, U, bias, own, h_0, activations=phi, **attributes)
    if D == 1:
        return op.Squeeze(y, op.Constant(value_ints=[1])), *last
    side_by_side = op.Transpose(y, perm=[0, 2, 1, 3])  # [T,D,N,H] to [T,N,D,H]
    return op.Reshape(side_by_side, op.Constant(value_ints=[0, 0, -1])), *last
