"""Operators that change how the signal lies, or take a part of it: its axes, its last step, its ends."""

from dataclasses import replace
from typing import Any

import numpy as np

from undertow.networks.formats.onnx.values import (
    DIRECTION,
    FEATURES,
    ONE,
    Graph,
    Last,
    Node,
    Shape,
    Signal,
    State,
    Uniform,
    both,
    ends,
    entries,
    last_step,
    reshaped,
    small,
    width_of,
)
from undertow.networks.network import (
    Bidirectional,
    Unsupported,
)


def _identity(graph: Graph, node: Node) -> Any:
    return node.input(0)


def _cast(graph: Graph, node: Node) -> Any:
    x = node.input(0)
    if isinstance(x, Signal) and x.stages and node.get("to") not in (1, 10, 11, 16):
        raise Unsupported(f"{node.where}: expected a type with floating point")
    return x


def _transpose(graph: Graph, node: Node) -> Any:
    x, perm = node.input(0), node.get("perm")
    if isinstance(x, np.ndarray):
        return x.transpose(perm)
    if isinstance(x, Last):
        x = both(x)
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal")
    order = perm or list(range(len(x.axes)))[::-1]
    return replace(x, axes=tuple(x.axes[k] for k in order))


def _squeeze(graph: Graph, node: Node) -> Any:
    x, axes = node.input(0), node.axes()
    if isinstance(x, np.ndarray):
        return x.squeeze(None if axes is None else tuple(axes))
    if isinstance(x, Shape | Uniform):
        return x
    if isinstance(x, Last):
        if len(x.entries) != 1 or axes not in ([0], None):
            raise Unsupported(f"{node.where}: expected one direction of one layer")
        return x.entries[0]
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal")
    if axes is None:
        axes = [k for k, name in enumerate(x.axes) if name in (ONE, DIRECTION)]
    gone = {k % len(x.axes) for k in axes}
    named = [x.axes[k] for k in gone]
    if FEATURES in named and width_of(x) == 1:  # an output of one value
        return replace(x, axes=tuple(each for k, each in enumerate(x.axes) if k not in gone))
    if FEATURES in named or (DIRECTION in named and isinstance(x.stages[-1], Bidirectional)):
        raise Unsupported(f"{node.where}: expected an axis of length 1")
    return replace(x, axes=tuple(each for k, each in enumerate(x.axes) if k not in gone))


def _unsqueeze(graph: Graph, node: Node) -> Any:
    x, axes = node.input(0), node.axes() or []
    if isinstance(x, np.ndarray):
        return np.expand_dims(x, tuple(axes))
    if not isinstance(x, Signal):
        return x
    rank = len(x.axes) + len(axes)
    places = {k % rank for k in axes}
    rest = iter(x.axes)
    return replace(x, axes=tuple(ONE if k in places else next(rest) for k in range(rank)))


def _shape_of(graph: Graph, node: Node) -> Any:
    x = node.input(0)
    if isinstance(x, np.ndarray):
        return np.array(x.shape)
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal")
    return Shape(tuple(1 if name == ONE else name for name in x.axes))


def _concat(graph: Graph, node: Node) -> Any:
    parts: list[Any] = node.inputs
    axis = node.get("axis", 0)
    if all(isinstance(each, np.ndarray) for each in parts):
        return small(np.concatenate(parts, axis))
    if all(isinstance(each, np.ndarray | Shape) for each in parts):
        return Shape(tuple(entry for each in parts for entry in entries(each)))
    if all(isinstance(each, Last) for each in parts) and axis == 0:
        return Last(tuple(entry for each in parts for entry in each.entries))
    if all(isinstance(each, State | Uniform) for each in parts):
        return parts[0]
    if len(parts) == 2 and all(isinstance(each, Signal) and each.halves is not None for each in parts):
        a, b = parts
        if a.stages == b.stages and (a.halves, b.halves) == (0, 1) and axis % len(a.axes) == len(a.axes) - 1:
            return ends(a)
    raise Unsupported(f"{node.where}: expected one chain, got {len(parts)} inputs")


def _reshape(graph: Graph, node: Node) -> Any:
    x, target = node.input(0), node.input(1)
    if isinstance(x, np.ndarray) and isinstance(target, np.ndarray):
        return x.reshape([int(each) for each in target])
    if isinstance(x, Last):
        x = both(x) if len(x.entries) == 2 else x.entries[0]
    if not isinstance(x, Signal) or not isinstance(target, np.ndarray | Shape):
        raise Unsupported(f"{node.where}: expected the signal and a known shape")
    return reshaped(node, x, entries(target))


def _flatten(graph: Graph, node: Node) -> Any:
    x = node.input(0)
    kept = [] if not isinstance(x, Signal) else [each for each in x.axes if each != ONE]
    if not isinstance(x, Signal) or node.get("axis", 1) != 1 or len(kept) != 2:
        raise Unsupported(f"{node.where}: expected one vector")
    return replace(x, axes=tuple(kept))


def _cut(graph: Graph, node: Node) -> Any:
    x = node.input(0)
    starts, ends, axes, steps = (
        [int(n) for n in np.ravel(given)] if isinstance(given, np.ndarray) else node.get(name)
        for given, name in zip([*map(node.input, (1, 2, 3, 4))], ("starts", "ends", "axes", "steps"),
                               strict=True)
    )  # fmt: skip
    if starts is None or ends is None:
        raise Unsupported(f"{node.where}: expected constant places")
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    if isinstance(x, np.ndarray):
        places: list[Any] = [slice(None)] * x.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            places[axis] = slice(start, end, step)
        return x[tuple(places)]
    if isinstance(x, Shape) and steps == [1]:
        return Shape(x.entries[starts[0] : ends[0]])
    if isinstance(x, Last) and axes == [0] and steps == [1]:
        return Last(x.entries[starts[0] : ends[0]])
    if isinstance(x, Signal) and len(axes) == 1 and steps == [1]:
        k = axes[0] % len(x.axes)
        if x.axes[k] == x.time and starts == [-1] and ends[0] >= 1 << 30:
            return last_step(node, x, k, keep=True)
        if not x.stages and x.axes[k] == FEATURES and starts == [0] and ends[0] > 0:
            return replace(x, part=ends[0])
    raise Unsupported(f"{node.where}: expected the last step")


def _expand(graph: Graph, node: Node) -> Any:
    x, target = node.input(0), node.input(1)
    if isinstance(x, np.ndarray):
        if x.size and (x == x.flat[0]).all():
            return Uniform(float(x.flat[0]))
        if isinstance(target, np.ndarray):
            return small(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target))))
        return x  # along the sequences: the same for each
    if isinstance(x, Uniform):
        return x
    raise Unsupported(f"{node.where}: expected a constant")


def _constantofshape(graph: Graph, node: Node) -> Any:
    value = node.attributes.get("value")
    found = np.zeros(1) if value is None else graph.constant(value, node.where)
    return Uniform(float(np.ravel(found)[0]))


OPERATORS = {
    "Identity": _identity,
    "Cast": _cast,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Shape": _shape_of,
    "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Slice": _cut,
    "Expand": _expand,
    "ConstantOfShape": _constantofshape,
    "Dropout": _identity,
}
