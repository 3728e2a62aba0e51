"""ONNX models of Networks: one LSTM or RNN node for each layer, with any number of steps and sequences.

Input ``x`` is [T,N,C] float32, or [T,N] int64 with an embedding; output ``y`` is [T,N,O], or [1,N,O] after a
pool, which answers once. Opset 17 and IR 8, which onnxruntime reads since 1.12 (2022).
"""

from typing import Any

import numpy as np

from undertow.networks.formats.content import dump_json, only_plain, to_order
from undertow.networks.formats.onnx_read import ORDER, PEEPHOLES
from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Unsupported,
)

OPSET, IR = 17, 8
ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softmax": "Softmax"}


def to_bytes(network: Network) -> bytes:
    """Write a network as an ONNX model.

    Args:
        network: Any network without layer normalisation, zoneout and projections.

    Returns:
        The file.

    Raises:
        Unsupported: The network has one of these, or ``skip`` with more outputs than inputs added.
        ValueError: The onnx package is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ValueError("needs onnx: pip install 'undertow[formats]'") from None
    graph = _Graph(onnx)
    name = "x"
    for stage in network.stages:
        name = graph.add(stage, name)
    if network.skip:
        if network.skip != network.output_size or network.symbols:
            raise Unsupported("ONNX: skip: expected as many inputs as outputs")
        part = "x"
        if network.skip < network.input_size:
            ends = [graph.constant(np.array([each])) for each in (0, network.skip, 2)]
            part = graph.node("Slice", "x", *ends)
        name = graph.node("Add", name, part)
    graph.node("Identity", name, output="y")
    helper, kinds = onnx.helper, onnx.TensorProto
    shape: list[Any] = ["T", "N"] if network.symbols else ["T", "N", network.input_size]
    once = any(isinstance(stage, Pool) for stage in network.stages)
    made = helper.make_graph(
        graph.nodes,
        "undertow",
        [helper.make_tensor_value_info("x", kinds.INT64 if network.symbols else kinds.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kinds.FLOAT, [1 if once else "T", "N", network.output_size])],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="undertow")
    model.ir_version = IR
    props = {"labels": dump_json(list(network.labels))} if network.labels else {}
    if network.sample_rate is not None:
        props["sample_rate"] = str(network.sample_rate)
    helper.set_model_props(model, props)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


class _Graph:
    """Nodes and weights, in the order in which they are made."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant, and return its name."""
        name = f"weight_{len(self.weights)}"
        kept = np.ascontiguousarray(value)
        self.weights.append(self._onnx.numpy_helper.from_array(kept, name))
        return name

    def node(self, op: str, *inputs: str, output: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node, and return the name of its first output."""
        name = output or f"{op.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{k}" for k in range(1, outputs))]
        self.nodes.append(self._onnx.helper.make_node(op, list(inputs), names, name=name, **attributes))
        return name

    def add(self, stage: Any, x: str) -> str:
        """Add the nodes of a stage, and return the name of what they make."""
        if isinstance(stage, Embedding):
            return self.node("Gather", self.constant(stage.weight), x)
        if isinstance(stage, Normalise):
            apart = self.node("Sub", x, self.constant(stage.centre))
            return self.node("Asinh", self.node("Div", apart, self.constant(stage.scale)))
        if isinstance(stage, Scale):
            return self.node(
                "Add", self.node("Mul", x, self.constant(stage.scale)), self.constant(stage.shift)
            )
        if isinstance(stage, Recurrent):
            y = self._recurrent([stage], x)
            return self.node("Squeeze", y, self.constant(np.array([1])))
        if isinstance(stage, Bidirectional):
            y = self._recurrent([stage.forward, stage.backward], x)
            y = self.node("Transpose", y, perm=[0, 2, 1, 3])
            return self.node("Reshape", y, self.constant(np.array([0, 0, stage.widths()[1]])))
        if isinstance(stage, Dense):
            y = self.node("MatMul", x, self.constant(stage.weight.T))
            y = self.node("Add", y, self.constant(stage.bias))
            return self.node(ACTIVATIONS[stage.activation], y) if stage.activation else y
        assert isinstance(stage, Pool)
        return self._pool(stage, x)

    def _pool(self, stage: Pool, x: str) -> str:
        if stage.kind == "ends":
            steps, half = np.array([0, 1, 2]), stage.width // 2
            places = (([-1, 0], [1 << 60, half]), ([0, half], [1, stage.width]))
            both = [
                self.node("Slice", x, *(self.constant(np.array(each)) for each in (*ends, steps[::2])))
                for ends in places
            ]
            return self.node("Concat", *both, axis=2)
        if stage.kind == "attention":
            query = stage.query[:, None].astype(np.float64) / np.sqrt(stage.width)
            score = self.node("MatMul", x, self.constant(query.astype(np.float32)))
            weighted = self.node("Mul", self.node("Softmax", score, axis=0), x)
            return self.node("ReduceSum", weighted, self.constant(np.array([0])))
        reduce = {"mean": "ReduceMean", "max": "ReduceMax"}
        found = [self.node(reduce[kind], x, axes=[0]) for kind in stage.kind.split("-")]
        return found[0] if len(found) == 1 else self.node("Concat", *found, axis=2)

    def _recurrent(self, layers: list[Recurrent], x: str) -> str:
        """A node with a layer for each direction; its output is [T,D,N,H]."""
        first = layers[0]
        lstm, H, D = first.cell == "lstm", first.hidden_size, len(layers)
        for each in layers:
            only_plain(each, "ONNX", "initial state", "peepholes", "coupled", "relu", "reverse")
        if first.cell != layers[-1].cell or len({each.coupled for each in layers}) > 1:
            raise Unsupported("ONNX: expected both directions of one kind")

        def stacked(name: str) -> Any:
            found = [getattr(each, name) for each in layers]
            return np.stack([to_order(each, ORDER, 0) if lstm else each for each in found])

        bias = stacked("bias")
        constants = [stacked("weight_ih"), stacked("weight_hh"), np.concatenate([bias, 0 * bias], axis=1)]
        inputs = [x, *map(self.constant, constants), ""]
        states = [np.stack([getattr(each, name) for each in layers]) for name in ("h_0", "c_0")[: 1 + lstm]]
        peepholes = any(each.peepholes is not None for each in layers)
        if any(np.any(each) for each in states):
            inputs += [self._state(each, x, D, H) for each in states]
        elif peepholes:
            inputs += ["", ""]
        if peepholes:
            rows = [np.zeros((3, H)) if each.peepholes is None else each.peepholes for each in layers]
            P = np.stack([row[list(PEEPHOLES)].ravel() for row in rows])
            inputs.append(self.constant(P.astype(np.float32)))
        attributes: dict[str, Any] = {"hidden_size": H}
        if D == 2:
            attributes["direction"] = "bidirectional"
        if first.coupled:
            attributes["input_forget"] = 1
        if not lstm:
            attributes["activations"] = [each.nonlinearity.capitalize() for each in layers]
        return self.node("LSTM" if lstm else "RNN", *inputs, **attributes)

    def _state(self, state: Any, x: str, D: int, H: int) -> str:
        """An initial state [D,N,H] that is the same for each of the N sequences of ``x``."""
        shape = self.node("Shape", x)
        N = self.node("Gather", shape, self.constant(np.array([1])))
        ends = [self.constant(np.array([n])) for n in (D, H)]
        target = self.node("Concat", ends[0], N, ends[1], axis=0)
        return self.node("Expand", self.constant(state[:, None]), target)
