"""Operators that calculate with the signal: scales, the normaliser, sums with the input, pools."""

from dataclasses import replace
from typing import Any

import numpy as np

from undertow.networks.formats.content import array
from undertow.networks.formats.onnx.values import (
    ONE,
    Graph,
    Node,
    Signal,
    Uniform,
    added,
    check_plain,
    ended,
    small,
    width_of,
)
from undertow.networks.network import (
    Dense,
    Normalise,
    Pool,
    Scale,
    Unsupported,
)


def _add(graph: Graph, node: Node) -> Any:
    a, b = (ended(each) for each in node.inputs[:2])
    if isinstance(a, Signal) and isinstance(b, Signal):
        return added(node, a, b)
    return _scaled(graph, node, 1.0, a, b)


def _sub(graph: Graph, node: Node) -> Any:
    return _scaled(graph, node, -1.0, *node.inputs[:2])


def _mul(graph: Graph, node: Node) -> Any:
    return _scaled(graph, node, 0.0, *node.inputs[:2])


def _div(graph: Graph, node: Node) -> Any:
    return _scaled(graph, node, 0.0, *node.inputs[:2])


def _scaled(graph: Graph, node: Node, sign: float, a: Any, b: Any) -> Any:
    """A sum, difference, product or quotient of the signal and a constant."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        do = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op]
        whole = node.op == "Div" and a.dtype.kind in "iu"
        with np.errstate(all="ignore"):
            return small(a // b if whole else do(a, b))
    a, b = ended(a), ended(b)
    swapped = isinstance(b, Signal)
    x, by = (b, a) if swapped else (a, b)
    by = np.float32(by.value) if isinstance(by, Uniform) else by
    if not isinstance(x, Signal) or not isinstance(by, np.ndarray | np.float32):
        raise Unsupported(f"{node.where}: expected the signal and a constant")
    check_plain(node, x)
    O = width_of(x) if x.stages or np.size(by) == 1 else int(np.shape(by)[-1])  # noqa: E741
    O = O or graph.input_width()  # noqa: E741
    if np.size(by) not in (1, O) or (np.size(by) > 1 and np.shape(by)[-1] != O):
        raise Unsupported(f"{node.where}: expected one constant for each feature, got {list(np.shape(by))}")
    numbers = np.broadcast_to(array(by, node.where).ravel().astype(np.float64), O)
    last = x.stages[-1] if x.stages else None
    if node.op == "Add" and isinstance(last, Dense) and not last.activation and not np.any(last.bias):
        return replace(x, stages=(*x.stages[:-1], replace(last, bias=numbers)))  # MatMul, then Add
    if node.op == "Div" and swapped:
        raise Unsupported(f"{node.where}: a constant divided by the signal")
    with np.errstate(divide="ignore", over="ignore"):
        factor = {"Mul": numbers, "Div": 1 / numbers}.get(node.op, np.ones(O))
    shift = np.zeros(O) if not sign else numbers * sign
    if node.op == "Sub" and swapped:
        factor, shift = -factor, numbers
    if not np.isfinite(factor.astype(np.float32)).all():
        raise ValueError(f"{node.where}: a factor is not finite")
    if isinstance(last, Scale):  # one stage for both
        factor, shift = factor * last.scale, factor * last.shift + shift
        return replace(x, stages=(*x.stages[:-1], Scale(factor, shift)))
    return replace(x, stages=(*x.stages, Scale(factor, shift)))


def _asinh(graph: Graph, node: Node) -> Any:
    x = node.input(0)
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal")
    check_plain(node, x)
    last = x.stages[-1] if x.stages else None
    if not isinstance(last, Scale):
        width = width_of(x) or graph.input_width()
        return replace(x, stages=(*x.stages, Normalise(np.zeros(width), np.ones(width))))
    scale, shift = last.scale.astype(np.float64), last.shift.astype(np.float64)
    if not (scale > 0).all():
        raise Unsupported(f"{node.where}: expected a scale above 0 before it")
    return replace(x, stages=(*x.stages[:-1], Normalise(-shift / scale, 1 / scale)))


def _reducemean(graph: Graph, node: Node) -> Any:
    return _pooled(graph, node, "mean")


def _reducemax(graph: Graph, node: Node) -> Any:
    return _pooled(graph, node, "max")


def _pooled(graph: Graph, node: Node, kind: Any) -> Any:
    x, axes = node.input(0), node.axes()
    if not isinstance(x, Signal) or axes is None or len(axes) != 1 or x.once:
        raise Unsupported(f"{node.where}: expected the mean or maximum over the steps")
    k = axes[0] % len(x.axes)
    if not x.time or x.axes[k] != x.time:
        raise Unsupported(f"{node.where}: expected the mean or maximum over the steps")
    check_plain(node, x)
    left = (ONE,) if node.get("keepdims", 1) else ()
    passed = (*x.stages, Pool(kind, width_of(x)))
    return replace(x, stages=passed, axes=(*x.axes[:k], *left, *x.axes[k + 1 :]), once=True)


OPERATORS = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Asinh": _asinh,
    "ReduceMean": _reducemean,
    "ReduceMax": _reducemax,
}
