"""ONNX models of Networks: one LSTM or RNN node for each layer, with any number of steps and sequences.

Input ``x`` is [T,N,C] float32, or [T,N] int64 with an embedding; output ``y`` is [T,N,O], or [1,N,O] of a
network that answers once. Opset 17 and IR 8, which onnxruntime reads since 1.12 (2022).
"""

from typing import Any

import numpy as np

from undertow.networks.formats.content import dump_json, only_plain, to_order
from undertow.networks.formats.onnx.layers import ORDER, PEEPHOLES
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
LAST = 1 << 60  # past every end
ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softmax": "Softmax"}


def to_bytes(network: Network, states: bool = False, lengths: bool = False) -> bytes:
    """Write a network as an ONNX model.

    Args:
        network: Any network without layer normalisation, zoneout and projections.
        states: Whether the states are inputs and outputs, layer by layer: h_0_l0 [1,N,H], and of an LSTM
            c_0_l0 [1,N,H]; h_n_l0 and c_n_l0. The network's own initial states, where they are not zero, are
            then in the metadata: ``initial_states``, JSON.
        lengths: Whether the model has an input ``lengths`` [N], int64: the steps of each sequence. y is then
            arbitrary past a sequence's end.

    Returns:
        The file.

    Raises:
        Unsupported: The network has one of these, ``skip`` with more outputs than inputs added or, with
            ``states``, a layer that reads backwards or a pool.
        ValueError: The onnx package is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ValueError("needs onnx: pip install 'undertow[formats]'") from None
    if states and (why := _whole(network)):
        raise Unsupported(
            f"ONNX: states: expected layers that read forwards and answer at every step, got {why}"
        )
    graph = _Graph(onnx, network, states, lengths)
    name = "x"
    for k, stage in enumerate(network.stages):
        name = graph.add(k, stage, name)
    graph.answer(name)
    model = onnx.helper.make_model(
        graph.made(), opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="undertow"
    )
    model.ir_version = IR
    props = {"labels": dump_json(list(network.labels))} if network.labels else {}
    if network.sample_rate is not None:
        props["sample_rate"] = str(network.sample_rate)
    if states and (own := _own_states(network)):
        props["initial_states"] = dump_json(own)
    onnx.helper.set_model_props(model, props)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _own_states(network: Network) -> dict[str, list[float]]:
    """The network's own initial states, by the names of the inputs; empty where all are zero."""
    layers = enumerate(network.recurrent())
    found = {f"{name}_l{k}": getattr(each, name) for k, each in layers for name in ("h_0", "c_0")}
    given = {name: value for name, value in found.items() if value is not None}
    return {name: value.tolist() for name, value in given.items()} if any(map(np.any, given.values())) else {}


def _whole(network: Network) -> str:
    """Name what reads all steps before it answers; empty if nothing does."""
    for stage in network.stages:
        if isinstance(stage, Pool):
            return f"a pool, {stage.kind}"
        if isinstance(stage, Bidirectional):
            return "both directions"
    return "an answer at the end" if network.once else ""


def _end(network: Network) -> int | None:
    """The place of the layer whose last state is the answer's source; None where every step is read on."""
    if not network.once or network.skip or any(isinstance(stage, Pool) for stage in network.stages):
        return None
    places = [k for k, each in enumerate(network.stages) if isinstance(each, Recurrent | Bidirectional)]
    return places[-1] if isinstance(network.stages[places[-1]], Recurrent) else None


class _Graph:
    """Nodes, weights, inputs and outputs, in the order in which they are made."""

    def __init__(self, onnx: Any, network: Network, states: bool, lengths: bool) -> None:
        self._onnx, self._network, self._states = onnx, network, states
        self._end = _end(network)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        kinds = onnx.TensorProto
        if network.symbols:
            self._inputs = [self._described("x", ["T", "N"], kinds.INT64)]
        else:
            self._inputs = [self._described("x", ["T", "N", network.input_size])]
        self._layers = 0  # so far
        self._inside = ""  # which steps are those of a sequence, once that is made
        self._lengths = self._own = ""  # the input, and the same as the nodes take it
        if lengths:
            self._inputs.append(self._described("lengths", ["N"], kinds.INT64))
            self._lengths, self._own = "lengths", self.node("Cast", "lengths", to=kinds.INT32)
        self._outputs = [self._described("y", [1 if network.once else "T", "N", network.output_size])]

    def made(self) -> Any:
        """Return the graph."""
        return self._onnx.helper.make_graph(self.nodes, "undertow", self._inputs, self._outputs, self.weights)

    def _described(self, name: str, shape: list[Any], kind: Any = None) -> Any:
        kind = self._onnx.TensorProto.FLOAT if kind is None else kind
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)

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

    def answer(self, y: str) -> None:
        """Make y the output, with the first inputs added; of an answer at the end only the last step."""
        network = self._network
        if network.skip:
            y = self._skipped(y)
        if network.once and self._end is None and not any(isinstance(s, Pool) for s in network.stages):
            if self._lengths:
                raise Unsupported("ONNX: lengths: expected a pool or a layer that reads forwards at the end")
            y = self._cut(y, 0, -1, LAST)
        self.node("Identity", y, output="y")

    def _skipped(self, y: str) -> str:
        network, part = self._network, "x"
        if network.skip != network.output_size or network.symbols:
            raise Unsupported("ONNX: skip: expected as many inputs as outputs")
        if network.skip < network.input_size:
            part = self._cut("x", 2, 0, network.skip)
        return self.node("Add", y, part)

    def _cut(self, x: str, axis: int, begin: int, end: int) -> str:
        return self.node("Slice", x, *(self.constant(np.array([each])) for each in (begin, end, axis)))

    def add(self, k: int, stage: Any, x: str) -> str:
        """Add the nodes of stage ``k``, which reads ``x`` [T,N,I], and return the name of what they make."""
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
            return f"{y}_1" if k == self._end else self.node("Squeeze", y, self.constant(np.array([1])))
        if isinstance(stage, Bidirectional):
            return self._both(k, stage, x)
        if isinstance(stage, Dense):
            y = self.node("MatMul", x, self.constant(stage.weight.T))
            y = self.node("Add", y, self.constant(stage.bias))
            return self.node(ACTIVATIONS[stage.activation], y) if stage.activation else y
        assert isinstance(stage, Pool)
        return self._pool(k, stage, x)

    def _both(self, k: int, stage: Bidirectional, x: str) -> str:
        """[T,N,2R], or before a pool of the ends [1,N,2R] of each direction's own last step."""
        y = self._recurrent([stage.forward, stage.backward], x)
        width = self.constant(np.array([0, 0, stage.widths()[1]]))
        if self._is_ended(k):
            last = self.node("Transpose", f"{y}_1", perm=[1, 0, 2])  # [N,2,R]
            return self.node("Reshape", last, self.constant(np.array([1, -1, stage.widths()[1]])))
        return self.node("Reshape", self.node("Transpose", y, perm=[0, 2, 1, 3]), width)

    def _is_ended(self, k: int) -> bool:
        """Whether the stage after ``k`` is a pool of the ends, so that nothing else reads the steps."""
        following = self._network.stages[k + 1 : k + 2]
        return any(isinstance(each, Pool) and each.kind == "ends" for each in following)

    def _pool(self, k: int, stage: Pool, x: str) -> str:
        if stage.kind == "ends":
            if k and isinstance(self._network.stages[k - 1], Bidirectional):
                return x
            if self._lengths:
                raise Unsupported("ONNX: lengths: expected a pool of the ends right after both directions")
            half = stage.width // 2
            last, first = self._cut(x, 0, -1, LAST), self._cut(x, 0, 0, 1)
            return self.node(
                "Concat", self._cut(last, 2, 0, half), self._cut(first, 2, half, 2 * half), axis=2
            )
        if stage.kind == "attention":
            query = stage.query[:, None].astype(np.float64) / np.sqrt(stage.width)
            score = self.node("MatMul", x, self.constant(query.astype(np.float32)))
            weighted = self.node("Mul", self.node("Softmax", self._within(score, -np.inf), axis=0), x)
            return self.node("ReduceSum", weighted, self.constant(np.array([0])))
        found = [self._mean(x) if kind == "mean" else self._max(x) for kind in stage.kind.split("-")]
        return found[0] if len(found) == 1 else self.node("Concat", *found, axis=2)

    def _mean(self, x: str) -> str:
        if not self._lengths:
            return self.node("ReduceMean", x, axes=[0])
        total = self.node("ReduceSum", self._within(x, 0), self.constant(np.array([0])))
        count = self.node("Cast", self._lengths, to=self._onnx.TensorProto.FLOAT)
        return self.node("Div", total, self.node("Unsqueeze", count, self.constant(np.array([1]))))

    def _max(self, x: str) -> str:
        return self.node("ReduceMax", self._within(x, -np.inf), axes=[0])

    def _within(self, x: str, otherwise: float) -> str:
        """x [T,N,I] with another number in the steps past a sequence's end."""
        if not self._lengths:
            return x
        if not self._inside:
            zero, one, axis = (self.constant(np.array(each)) for each in (0, 1, [0]))
            T = self.node(
                "Squeeze", self.node("Slice", self.node("Shape", "x"), axis, self.constant(np.array([1])))
            )
            steps = self.node("Range", zero, T, one)
            steps = self.node("Unsqueeze", steps, self.constant(np.array([1, 2])))  # [T,1,1]
            own = self.node("Unsqueeze", self._lengths, self.constant(np.array([1])))  # [N,1]
            self._inside = self.node("Less", steps, own)  # [T,N,1]
        return self.node("Where", self._inside, x, self.constant(np.float32(otherwise)))

    def _recurrent(self, layers: list[Recurrent], x: str) -> str:
        """The node of a layer, or of a layer for each direction.

        Its outputs are [T,D,N,H] under the name returned, and the last states [D,N,H] under this name and _1
        and, of an LSTM, _2.
        """
        first = layers[0]
        lstm, D = first.cell == "lstm", len(layers)
        for each in layers:
            only_plain(each, "ONNX", "initial state", "peepholes", "coupled", "relu", "reverse")
        if first.cell != layers[-1].cell or len({each.coupled for each in layers}) > 1:
            raise Unsupported("ONNX: expected both directions of one kind")
        names = ("h", "c")[: 1 + lstm]
        inputs = [x, *self._weights(layers), self._own, *self._initial(layers, x)]
        if any(each.peepholes is not None for each in layers):
            zero = np.zeros((3, first.hidden_size), np.float32)
            rows = [zero if each.peepholes is None else each.peepholes for each in layers]
            P = np.stack([row[list(PEEPHOLES)].ravel() for row in rows])
            inputs += [""] * (7 - len(inputs)) + [self.constant(P)]
        attributes: dict[str, Any] = {"hidden_size": first.hidden_size}
        if D == 2:
            attributes["direction"] = "bidirectional"
        if first.coupled:
            attributes["input_forget"] = 1
        if not lstm:
            attributes["activations"] = [each.nonlinearity.capitalize() for each in layers]
        y = self.node("LSTM" if lstm else "RNN", *inputs, outputs=1 + len(names), **attributes)
        if self._states:
            for state, last in zip(names, (f"{y}_1", f"{y}_2"), strict=False):
                name = f"{state}_n_l{self._layers}"
                self.node("Identity", last, output=name)
                self._outputs.append(self._described(name, [D, "N", first.hidden_size]))
        self._layers += 1
        return y

    def _weights(self, layers: list[Recurrent]) -> list[str]:
        """W, R and B of ONNX."""
        lstm = layers[0].cell == "lstm"

        def stacked(name: str) -> Any:
            found = [getattr(each, name) for each in layers]
            return np.stack([to_order(each, ORDER, 0) if lstm else each for each in found])

        bias = stacked("bias")
        made = stacked("weight_ih"), stacked("weight_hh"), np.concatenate([bias, 0 * bias], axis=1)
        return [self.constant(each) for each in made]

    def _initial(self, layers: list[Recurrent], x: str) -> list[str]:
        """The initial states: inputs of the model, constants, or none where all are zero."""
        D, H = len(layers), layers[0].hidden_size
        names = ("h_0", "c_0") if layers[0].cell == "lstm" else ("h_0",)
        if self._states:
            given = [f"{name}_l{self._layers}" for name in names]
            self._inputs += [self._described(name, [D, "N", H]) for name in given]
            return given
        states = [np.stack([getattr(each, name) for each in layers]) for name in names]
        return [self._state(each, x, D, H) for each in states] if any(map(np.any, states)) else []

    def _state(self, state: Any, x: str, D: int, H: int) -> str:
        """An initial state [D,N,H] that is the same for each of the N sequences of ``x``."""
        shape = self.node("Shape", x)
        N = self.node("Gather", shape, self.constant(np.array([1])))
        ends = [self.constant(np.array([n])) for n in (D, H)]
        target = self.node("Concat", ends[0], N, ends[1], axis=0)
        return self.node("Expand", self.constant(state[:, None]), target)
