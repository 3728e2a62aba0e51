"""ONNX models whose recurrent part is LSTM or RNN nodes (onnx/docs/Operators.md), read without running them.

The graph is followed from its input: each value is a constant, integers that tell a shape, or a signal, which
is the chain of stages that it has passed and the order of its axes. Gates are i, o, f, c; B is [Wb, Rb] and
P is i, o, f. What is no chain, or has no counterpart, is refused with its node. The onnx package is needed.
"""

from typing import Any

import numpy as np

from undertow.networks.formats.content import frequency, load_json, plain
from undertow.networks.formats.onnx import arithmetic, layers, layout
from undertow.networks.formats.onnx.values import (
    FEATURES,
    FIRST_AXES,
    Graph,
    Node,
    Refused,
    Signal,
    State,
    ended,
)
from undertow.networks.network import Bidirectional, Embedding, Network, Recurrent, Unsupported

OPERATORS = layers.OPERATORS | arithmetic.OPERATORS | layout.OPERATORS


def from_bytes(data: bytes) -> Network:
    """Make the network of an ONNX model.

    Args:
        data: The file.

    Returns:
        The chain from the graph's input to its first output. Initial states that are inputs of the graph
        are zero here, and sequences have all steps: so they are unless the caller says otherwise.

    Raises:
        Unsupported: A node on the way has no counterpart; the message names it.
        ValueError: The file is no ONNX model, or the onnx package is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ValueError("needs onnx: pip install 'undertow[formats]'") from None
    try:
        model = onnx.load_model_from_string(data)
        known = bool(model.graph.output) and bool(model.opset_import)
    except Exception as error:  # protobuf's errors are of several kinds
        raise ValueError(f"damaged: no complete ONNX model ({error})") from None
    if not known:
        raise ValueError("damaged: no complete ONNX model")
    return _network(Graph(model, onnx.numpy_helper.to_array, onnx.helper.get_attribute_value))


def _network(graph: Graph) -> Network:
    """Follow the graph to its outputs."""
    for tensor in graph.graph.initializer:
        graph.values[tensor.name] = graph.constant(tensor, tensor.name)
    _find_inputs(graph)
    for node in graph.graph.node:
        _run(graph, node)
    signals, names = [], []
    for output in graph.graph.output:
        found = ended(graph.values.get(output.name))
        if isinstance(found, Refused):
            raise Unsupported(found.reason)
        if isinstance(found, Signal) and found.stages:
            signals.append(found)
            names.append(output.name)
    if not signals or not any(isinstance(each, Recurrent | Bidirectional) for each in signals[0].stages):
        raise Unsupported("graph: expected LSTM or RNN nodes between its input and its output")
    first = signals[0]
    for name, other in zip(names, signals, strict=True):
        inner = other.stages == first.stages[: len(other.stages)]  # such as a layer's last state
        if not inner:
            raise Unsupported(f"graph: two answers, {names[0]} and {name}; expected one chain")
    if first.halves is not None:
        raise Unsupported(f"output {names[0]}: one direction of a bidirectional layer")
    declared, C = graph.declared_width(), first.stages[0].widths()[0]
    if declared not in (0, C) and not isinstance(first.stages[0], Embedding):
        raise ValueError(f"graph: expected {declared} inputs as declared, got weights of {C}")
    props = {each.key: each.value for each in graph.model.metadata_props}
    metadata = {
        "producer": f"{graph.model.producer_name} {graph.model.producer_version}".strip(),
        "opset": graph.opset,
    }
    return Network(
        first.stages,
        skip=first.skip,
        sample_rate=frequency(props.get("sample_rate"), "metadata_props.sample_rate"),
        labels=tuple(map(str, load_json(props["labels"], "labels"))) if "labels" in props else (),
        metadata=plain(metadata),
        once=first.once,
    )


def _find_inputs(graph: Graph) -> None:
    """Tell the signal from the initial states among the graph's inputs."""
    states = {
        name
        for node in graph.graph.node
        if node.op_type in ("LSTM", "RNN")
        for name in (node.input[5:7] if node.op_type == "LSTM" else node.input[5:6])
    }
    given = [each for each in graph.graph.input if each.name not in graph.values]
    main = [each.name for each in given if each.name not in states]
    for each in given:
        rank = len(each.type.tensor_type.shape.dim)
        integer = each.type.tensor_type.elem_type in (6, 7)  # int32, int64
        if each.name != main[0] if main else True:
            graph.values[each.name] = State()
        elif rank == 3 or (rank == 2 and integer):
            graph.values[each.name] = Signal((), FIRST_AXES[:2] if integer else FIRST_AXES)
        elif rank == 2:
            graph.values[each.name] = Signal((), ("first", FEATURES))
        else:
            raise Unsupported(f"input {each.name}: expected 2 or 3 axes, got {rank}")


def _run(graph: Graph, proto: Any) -> None:
    """Compute what a node makes."""
    node = Node(proto, graph.attribute, graph.values)
    try:
        found = _made(graph, node)
    except Unsupported as error:
        found = Refused(str(error))
    if not isinstance(found, tuple):
        found = (found,)
    for name, value in zip(node.outputs, found, strict=False):
        graph.values[name] = value


def _made(graph: Graph, node: Node) -> Any:
    refused = next((each for each in node.inputs if isinstance(each, Refused)), None)
    if refused is not None:
        return refused
    if node.domain not in ("", "ai.onnx"):
        raise Unsupported(f"{node.where}: {node.domain}: expected ONNX's own operators")
    if node.op == "Constant":
        return _literal(graph, node)
    if node.op not in OPERATORS:
        raise Unsupported(f"{node.where}: has no counterpart")
    return OPERATORS[node.op](graph, node)


def _literal(graph: Graph, node: Node) -> Any:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in node.attributes:
            value = node.attributes[name]
            return graph.constant(value, node.where) if name == "value" else np.asarray(value)
    raise Unsupported(f"{node.where}: expected numbers")
