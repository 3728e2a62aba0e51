"""What flows through a graph: constants, shapes and the signal, and how the signal may change."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow.networks.formats.content import array
from undertow.networks.network import Bidirectional, Pool, Stage, Unsupported

LARGEST = 1 << 28  # numbers of a constant that is computed
FIRST_AXES = ("first", "second", "C")
ONE, DIRECTION, FEATURES, ROWS = "1", "D", "C", "rows"  # names of axes: of length 1, of directions, ...


@dataclass(frozen=True)
class Signal:
    """What flows along the chain.

    Attributes:
        stages: Those that it has passed.
        axes: The names of its axes. ``first`` and ``second`` are those of the graph's input.
        time: The axis of time, once a recurrent layer has told it.
        once: Whether time has ended: one answer for the whole sequence.
        halves: The direction that it holds, of a bidirectional layer's last states; None: not apart.
        part: How many of the first features of the graph's input it holds; None: all.
        skip: As in Network.
        before: The axes before they were flattened into ``rows``.
    """

    stages: tuple[Stage, ...]
    axes: tuple[str, ...]
    time: str = ""
    once: bool = False
    halves: int | None = None
    part: int | None = None
    skip: int = 0
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Uniform:
    """A constant of any shape, all of whose entries are the same."""

    value: float


@dataclass(frozen=True)
class Shape:
    """Integers that describe a shape: numbers, and names of axes."""

    entries: tuple[Any, ...]


@dataclass(frozen=True)
class Last:
    """The last states of layers, stacked along their first axis: each a signal in one direction."""

    entries: tuple[Signal, ...]


@dataclass(frozen=True)
class State:
    """An initial state or lengths that the caller gives, or a final state of the cells."""


@dataclass(frozen=True)
class Refused:
    """What a node makes that has no counterpart: an error only if the output depends on it."""

    reason: str


class Node:
    """One node, with its attributes and the values of its inputs."""

    def __init__(self, node: Any, attribute: Callable[[Any], Any], values: dict[str, Any]) -> None:
        self.op = node.op_type
        self.domain = node.domain
        self.where = f"node {node.name or node.output[0]} ({node.op_type})"
        self.attributes = {each.name: attribute(each) for each in node.attribute}
        self.inputs = [values.get(name) if name else None for name in node.input]
        self.outputs = list(node.output)

    def input(self, k: int) -> Any:
        """The k-th input, None where there is none."""
        return self.inputs[k] if k < len(self.inputs) else None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; texts as str."""
        value = self.attributes.get(name, default)
        if isinstance(value, list):
            return [each.decode() if isinstance(each, bytes) else each for each in value]
        return value.decode() if isinstance(value, bytes) else value

    def axes(self) -> list[int] | None:
        """The axes, an attribute or the second input, as they were given."""
        found = self.input(1)
        if isinstance(found, np.ndarray):
            return [int(each) for each in found.ravel()]
        axes = self.get("axes")
        return None if axes is None else [int(each) for each in axes]


class Graph:
    """A model and the values that have been found so far, by name.

    Args:
        model: The model.
        to_array: Makes an array of a tensor.
        attribute: Gives an attribute's value.
    """

    def __init__(self, model: Any, to_array: Callable[[Any], Any], attribute: Callable[[Any], Any]) -> None:
        self.model, self.graph = model, model.graph
        self.to_array, self.attribute = to_array, attribute
        self.opset = max((each.version for each in model.opset_import if not each.domain), default=0)
        self.values: dict[str, Any] = {}

    def constant(self, tensor: Any, name: str) -> Any:
        """Return a tensor as an array; Refused where its numbers are in another file."""
        if tensor.data_location == 1:
            return Refused(f"{name}: weights in another file; save the model in one file")
        try:
            return self.to_array(tensor)
        except Exception as error:  # lengths that do not fit, unknown types
            raise ValueError(f"{name}: damaged ({error})") from None

    def declared_width(self) -> int:
        """Return the width of the input, as the graph declares it; 0 where it does not."""
        dims = [each.type.tensor_type.shape.dim for each in self.graph.input if each.name in self.values]
        widths = [dim[-1].dim_value for dim, each in zip(dims, self.graph.input, strict=False)
                  if dim and isinstance(self.values[each.name], Signal)]  # fmt: skip
        return int(widths[0]) if widths else 0

    def input_width(self) -> int:
        """Return the declared width. Raises Unsupported if there is none."""
        if not (found := self.declared_width()):
            raise Unsupported("graph: the width of its input is not known")
        return found


def ended(value: Any) -> Any:
    """A signal for the last states of one direction of one layer; anything else as it is."""
    return value.entries[-1] if isinstance(value, Last) else value


def both(last: Last) -> Signal:
    """The last states with their first axis, of one layer in both directions or of one alone."""
    found = last.entries[0]
    if len(last.entries) == 1:
        return replace(found, axes=(ONE, *found.axes))
    if len(last.entries) != 2 or found.halves != 0 or last.entries[1].stages != found.stages:
        raise Unsupported("the last states of several layers, put together")
    return replace(ends(found), axes=(DIRECTION, *found.axes))


def ends(half: Signal) -> Signal:
    """What both directions have at their ends."""
    width = half.stages[-1].widths()[1]
    return replace(half, stages=(*half.stages, Pool("ends", width)), halves=None)


def last_step(node: Node, x: Signal, axis: int, keep: bool) -> Signal:
    """The signal at the last step; the axis of time is gone or, with ``keep``, of length 1."""
    k = axis % len(x.axes)
    if not x.time or x.axes[k] != x.time:
        raise Unsupported(f"{node.where}: expected the last step")
    return replace(x, axes=(*x.axes[:k], *((ONE,) if keep else ()), *x.axes[k + 1 :]), once=True)


def reshaped(node: Node, x: Signal, target: tuple[Any, ...]) -> Signal:
    """A signal whose axes DIRECTION and FEATURES become one, or whose rows are put together or apart."""
    width = width_of(x)
    names = tuple(x.axes[k] if n == 0 and k < len(x.axes) else n for k, n in enumerate(target))
    kept = [name for name in x.axes if name not in (ONE, DIRECTION)]  # what must remain, in order
    if DIRECTION in x.axes and x.axes.index(DIRECTION) != x.axes.index(FEATURES) - 1 and directions(x) > 1:
        raise Unsupported(f"{node.where}: expected the directions side by side")
    last = names[-1]
    if kept[-1:] == [FEATURES] and not (last in (-1, FEATURES) or last == width):
        raise Unsupported(f"{node.where}: expected vectors of {width} features, got {last}")
    if x.before and len(names) == len(x.before):
        return replace(x, axes=x.before, before=())
    rows = [name for name in names[:-1] if name != 1]
    if len(rows) == len(kept) - 1:
        left = iter(kept[:-1])
        return replace(x, axes=(*(ONE if name == 1 else next(left) for name in names[:-1]), FEATURES))
    if len(rows) == 1 and len(kept) == 3:
        return replace(x, axes=(ROWS, FEATURES), before=tuple(kept))
    raise Unsupported(f"{node.where}: expected the features of each step to stay together")


def directions(x: Signal) -> int:
    """The number of directions whose features an axis DIRECTION tells apart."""
    return 2 if x.stages and isinstance(x.stages[-1], Bidirectional | Pool) else 1


def entries(value: Any) -> tuple[Any, ...]:
    """The entries of a shape, or of an array of integers."""
    return value.entries if isinstance(value, Shape) else tuple(int(each) for each in np.ravel(value))


def added(node: Node, a: Signal, b: Signal) -> Signal:
    """The graph's input added to the output."""
    signal, given = (b, a) if not a.stages else (a, b)
    if given.stages or not signal.stages or signal.once:
        raise Unsupported(f"{node.where}: adds two signals; expected one chain")
    first = signal.stages[0].widths()[0]
    count = first if given.part is None else given.part
    if signal.skip or count != width_of(signal):
        raise Unsupported(f"{node.where}: expected as many inputs as outputs, got {count}")
    return replace(signal, skip=count)


def passed(node: Node, x: Any, stage: Stage) -> Signal:
    """The signal after one more stage."""
    if not isinstance(x, Signal):
        raise Unsupported(f"{node.where}: expected the signal and constant weights")
    check_plain(node, x)
    if x.stages and x.stages[-1].widths()[1] != stage.widths()[0]:
        raise ValueError(f"{node.where}: expected {width_of(x)} inputs, got {stage.widths()[0]}")
    return replace(x, stages=(*x.stages, stage))


def check_plain(node: Node, x: Signal) -> None:
    """Refuse a signal to which a layer cannot be applied."""
    if x.skip or x.part is not None or x.halves is not None or FEATURES not in x.axes[-1:]:
        raise Unsupported(f"{node.where}: expected it before the input is added, on the last axis")
    if DIRECTION in x.axes and directions(x) > 1:
        raise Unsupported(f"{node.where}: acts on each direction by itself")


def width_of(x: Signal) -> int:
    """The features of a step; 0 before the first stage."""
    return x.stages[-1].widths()[1] if x.stages else 0


def known(node: Node, k: int, name: str) -> Any:
    """The constant that is a node's k-th input."""
    found = node.input(k)
    if not isinstance(found, np.ndarray):
        raise Unsupported(f"{node.where}: {name}: expected constant weights")
    return found


def initial(node: Node, k: int, d: int, H: int, layout: bool) -> Any:
    """An initial state [H]; None: zero, or given by the caller."""
    found = node.input(k)
    name = f"{node.where} {('initial_h', 'initial_c')[k - 5]}"
    if found is None or isinstance(found, State):
        return None
    if isinstance(found, Uniform):
        return np.full(H, found.value)
    if not isinstance(found, np.ndarray):
        raise Unsupported(f"{name}: expected a constant")
    values = array(found, name, None, None, H)
    values = values[:, d] if layout else values[d]  # [N,H]
    if not len(values) or (values != values[0]).any():
        raise Unsupported(f"{name}: expected the same for each sequence")
    return values[0]


def small(value: Any) -> Any:
    """A computed constant, refused if it is enormous."""
    if np.size(value) > LARGEST:
        raise ValueError(f"a constant of {np.size(value):,} numbers")
    return value
