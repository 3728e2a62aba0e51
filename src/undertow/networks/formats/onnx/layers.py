"""Operators that are stages of a network: recurrent and dense layers, activations, embeddings."""

from dataclasses import replace
from typing import Any

import numpy as np

from undertow.networks.formats.activations import with_activation
from undertow.networks.formats.content import array, from_order
from undertow.networks.formats.onnx.values import (
    DIRECTION,
    FEATURES,
    ONE,
    Graph,
    Last,
    Node,
    Refused,
    Shape,
    Signal,
    State,
    check_plain,
    ended,
    initial,
    known,
    last_step,
    passed,
    small,
    width_of,
)
from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Recurrent,
    Unsupported,
)

ORDER, PEEPHOLES = "iofc", (0, 2, 1)  # of gates; places of i, f, o in P
ACTIVATIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu", "Softmax": "softmax"}


def _recurrent(graph: Graph, node: Node) -> Any:
    x, where = node.input(0), node.where
    if not isinstance(x, Signal) or len(x.axes) != 3 or x.skip or x.part is not None:
        raise Unsupported(f"{where}: expected a sequence of vectors as its input")
    layout = node.get("layout", 0)
    time, batch = (x.axes[1], x.axes[0]) if layout else x.axes[:2]
    if x.once or (x.time and x.time != time):
        raise Unsupported(f"{where}: does not run along the time of the layer before it")
    if not isinstance(node.input(4), State | None):
        raise Unsupported(f"{where}: sequence_lens: expected none, or an input of the graph")
    for name in ("clip", "activation_alpha", "activation_beta"):
        if node.get(name) is not None:
            raise Unsupported(f"{where}: {name}: expected none")
    direction = node.get("direction", "forward")
    if direction not in ("forward", "bidirectional"):
        raise Unsupported(f"{where}: direction: expected forward or bidirectional, got {direction}")
    D = 2 if direction == "bidirectional" else 1
    layers = [_layer_of(node, d, D, bool(layout)) for d in range(D)]
    stage = layers[0] if D == 1 else Bidirectional(*layers)
    passed = replace(x, stages=(*x.stages, stage), time=time)
    y_axes = (batch, time, DIRECTION, FEATURES) if layout else (time, DIRECTION, batch, FEATURES)
    last = [
        replace(passed, axes=(batch, FEATURES), once=True, halves=d if D == 2 else None) for d in range(D)
    ]
    y_h = Refused(f"{where}: Y_h with layout 1") if layout and D == 2 else Last(tuple(last))
    return replace(passed, axes=y_axes), y_h, State()


def _layer_of(node: Node, d: int, D: int, layout: bool) -> Recurrent:
    """One direction of a node."""
    where, lstm = node.where, node.op == "LSTM"
    G = 4 if lstm else 1
    W = array(known(node, 1, "W"), f"{where} W", D, None, None)[d]
    H = len(W) // G
    R = array(known(node, 2, "R"), f"{where} R", D, G * H, H)[d]
    given = node.input(3)
    B = np.zeros(2 * G * H) if given is None else array(known(node, 3, "B"), f"{where} B", D, 2 * G * H)[d]
    b = B[: G * H].astype(np.float64) + B[G * H :]
    if node.get("hidden_size", H) != H:
        raise ValueError(f"{where}: hidden_size: expected {H}, got {node.get('hidden_size')}")
    h_0 = initial(node, 5, d, H, layout)
    kinds = node.get("activations") or ["Sigmoid", "Tanh", "Tanh"][0 if lstm else 1 :][: 3 if lstm else 1] * D
    mine = [each.lower() for each in kinds[d * len(kinds) // D : (d + 1) * len(kinds) // D]]
    if not lstm:
        if mine not in (["tanh"], ["relu"]):
            raise Unsupported(f"{where}: activations: expected Tanh or Relu, got {', '.join(mine)}")
        kind: Any = mine[0]
        return Recurrent("rnn", W, R, b, h_0, nonlinearity=kind, reverse=d == 1)
    if mine != ["sigmoid", "tanh", "tanh"]:
        raise Unsupported(f"{where}: activations: expected Sigmoid, Tanh, Tanh, got {', '.join(mine)}")
    peepholes = None
    if node.input(7) is not None:
        P = array(known(node, 7, "P"), f"{where} P", D, 3 * H)[d].reshape(3, H)
        peepholes = P[list(PEEPHOLES)] if np.any(P) else None
    W, R, b = (from_order(each, ORDER, 0) for each in (W, R, b))
    return Recurrent(
        "lstm", W, R, b, h_0, initial(node, 6, d, H, layout), peepholes=peepholes,
        coupled=bool(node.get("input_forget", 0)), reverse=d == 1,
    )  # fmt: skip


def _matmul(graph: Graph, node: Node) -> Any:
    x, weight = node.input(0), node.input(1)
    if isinstance(x, np.ndarray) and isinstance(weight, np.ndarray):
        return small(x @ weight)
    W = array(known(node, 1, "B"), node.where, None, None)
    return passed(node, ended(x), Dense(W.T, np.zeros(W.shape[1])))


def _gemm(graph: Graph, node: Node) -> Any:
    if node.get("transA", 0):
        raise Unsupported(f"{node.where}: transA: expected 0")
    W = array(known(node, 1, "B"), node.where, None, None) * np.float32(node.get("alpha", 1.0))
    W = W if node.get("transB", 0) else W.T
    bias = np.zeros(len(W))
    if node.input(2) is not None:
        given = array(known(node, 2, "C"), node.where).ravel()
        if given.size not in (1, len(W)):
            raise Unsupported(f"{node.where}: C: expected {len(W)} numbers, got {given.size}")
        bias = np.broadcast_to(given * np.float32(node.get("beta", 1.0)), len(W))
    return passed(node, ended(node.input(0)), Dense(W, bias))


def _activate(graph: Graph, node: Node) -> Any:
    x = ended(node.input(0))
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal")
    if node.op == "Softmax":
        axis = node.get("axis", -1 if graph.opset >= 13 else 1)
        if axis % len(x.axes) != len(x.axes) - 1:
            raise Unsupported(f"{node.where}: axis: expected the last, got {axis}")
    check_plain(node, x)
    width = width_of(x)
    stages = with_activation(list(x.stages), ACTIVATIONS[node.op], width, node.where)
    return replace(x, stages=tuple(stages))


def _gather(graph: Graph, node: Node) -> Any:
    data, index, axis = node.input(0), node.input(1), node.get("axis", 0)
    if isinstance(data, np.ndarray) and isinstance(index, Signal):
        if index.stages or axis or data.ndim != 2:
            raise Unsupported(f"{node.where}: expected a table [V,E] read by the graph's input")
        return replace(index, stages=(Embedding(array(data, node.where)),), axes=(*index.axes, FEATURES))
    if not isinstance(index, np.ndarray):
        raise Unsupported(f"{node.where}: expected constant places")
    if isinstance(data, np.ndarray):
        return small(np.take(data, index.astype(np.int64), axis))
    if isinstance(data, Shape):
        chosen = [data.entries[int(k)] for k in index.ravel()]
        return Shape(tuple(chosen))
    if isinstance(data, Last) and axis == 0 and index.size == 1:
        found = data.entries[int(index.ravel()[0])]
        return found if index.ndim == 0 else replace(found, axes=(ONE, *found.axes))
    if isinstance(data, Signal) and index.size == 1 and int(index.ravel()[0]) == -1:
        return last_step(node, data, axis, keep=index.ndim > 0)
    raise Unsupported(f"{node.where}: expected the last step")


OPERATORS = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Gather": _gather,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    **dict.fromkeys(ACTIVATIONS, _activate),
}
