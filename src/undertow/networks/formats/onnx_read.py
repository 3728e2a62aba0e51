"""ONNX models whose recurrent part is LSTM or RNN nodes (onnx/docs/Operators.md), read without running them.

The graph is followed from its input: each value is a constant, integers that tell a shape, or a signal, which
is the chain of stages that it has passed and the order of its axes. Gates are i, o, f, c; B is [Wb, Rb] and
P is i, o, f. What is no chain, or has no counterpart, is refused with its node. The onnx package is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow.networks.formats.activations import with_activation
from undertow.networks.formats.content import array, from_order, load_json, number, plain
from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Stage,
    Unsupported,
)

ORDER, PEEPHOLES = "iofc", (0, 2, 1)  # of gates; places of i, f, o in P
LARGEST = 1 << 28  # numbers of a constant that is computed
ACTIVATIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu", "Softmax": "softmax"}
FIRST_AXES = ("first", "second", "C")
ONE, DIRECTION, FEATURES, ROWS = "1", "D", "C", "rows"  # names of axes: of length 1, of directions, ...


@dataclass(frozen=True)
class _Signal:
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
class _Uniform:
    """A constant of any shape, all of whose entries are the same."""

    value: float


@dataclass(frozen=True)
class _Shape:
    """Integers that describe a shape: numbers, and names of axes."""

    entries: tuple[Any, ...]


@dataclass(frozen=True)
class _Last:
    """The last states of layers, stacked along their first axis: each a signal in one direction."""

    entries: tuple[_Signal, ...]


@dataclass(frozen=True)
class _State:
    """An initial state or lengths that the caller gives, or a final state of the cells."""


@dataclass(frozen=True)
class _Refused:
    """What a node makes that has no counterpart: an error only if the output depends on it."""

    reason: str


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
    try:
        return _Reader(model, onnx.numpy_helper.to_array, onnx.helper.get_attribute_value).network()
    except (ValueError, MemoryError):  # Unsupported too
        raise
    except Exception as error:  # attributes and shapes of a tampered model
        raise ValueError(f"damaged: {type(error).__name__}: {error}") from None


class _Node:
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


class _Reader:
    """Follows a graph.

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

    def network(self) -> Network:
        """Follow the graph to its outputs."""
        for tensor in self.graph.initializer:
            self.values[tensor.name] = self._constant(tensor, tensor.name)
        self._inputs()
        for node in self.graph.node:
            self._run(node)
        signals, names = [], []
        for output in self.graph.output:
            found = _ended(self.values.get(output.name))
            if isinstance(found, _Refused):
                raise Unsupported(found.reason)
            if isinstance(found, _Signal) and found.stages:
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
        props = {each.key: each.value for each in self.model.metadata_props}
        metadata = {
            "producer": f"{self.model.producer_name} {self.model.producer_version}".strip(),
            "opset": self.opset,
        }
        rate = props.get("sample_rate")
        return Network(
            first.stages,
            skip=first.skip,
            sample_rate=None if rate is None else number(rate, "metadata_props.sample_rate"),
            labels=tuple(map(str, load_json(props["labels"], "labels"))) if "labels" in props else (),
            metadata=plain(metadata),
            once=first.once,
        )

    def _inputs(self) -> None:
        """Tell the signal from the initial states among the graph's inputs."""
        states = {
            name
            for node in self.graph.node
            if node.op_type in ("LSTM", "RNN")
            for name in (node.input[5:7] if node.op_type == "LSTM" else node.input[5:6])
        }
        given = [each for each in self.graph.input if each.name not in self.values]
        main = [each.name for each in given if each.name not in states]
        for each in given:
            rank = len(each.type.tensor_type.shape.dim)
            integer = each.type.tensor_type.elem_type in (6, 7)  # int32, int64
            if each.name != main[0] if main else True:
                self.values[each.name] = _State()
            elif rank == 3 or (rank == 2 and integer):
                self.values[each.name] = _Signal((), FIRST_AXES[:2] if integer else FIRST_AXES)
            elif rank == 2:
                self.values[each.name] = _Signal((), ("first", FEATURES))
            else:
                raise Unsupported(f"input {each.name}: expected 2 or 3 axes, got {rank}")

    def _constant(self, tensor: Any, name: str) -> Any:
        if tensor.data_location == 1:
            return _Refused(f"{name}: weights in another file; save the model in one file")
        try:
            return self.to_array(tensor)
        except Exception as error:  # lengths that do not fit, unknown types
            raise ValueError(f"{name}: damaged ({error})") from None

    def _run(self, proto: Any) -> None:
        """Compute what a node makes."""
        node = _Node(proto, self.attribute, self.values)
        try:
            found = self._made(node)
        except Unsupported as error:
            found = _Refused(str(error))
        if not isinstance(found, tuple):
            found = (found,)
        for name, value in zip(node.outputs, found, strict=False):
            self.values[name] = value

    def _made(self, node: _Node) -> Any:
        refused = next((each for each in node.inputs if isinstance(each, _Refused)), None)
        if refused is not None:
            return refused
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(f"{node.where}: {node.domain}: expected ONNX's own operators")
        if node.op in ("LSTM", "RNN"):
            return self._recurrent(node)
        if node.op == "Constant":
            return self._literal(node)
        method = getattr(self, f"_op_{node.op.lower()}", None)
        if node.op in ACTIVATIONS:
            method = self._activate
        if method is None:
            raise Unsupported(f"{node.where}: has no counterpart")
        return method(node)

    def _literal(self, node: _Node) -> Any:
        for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            if name in node.attributes:
                value = node.attributes[name]
                return self._constant(value, node.where) if name == "value" else np.asarray(value)
        raise Unsupported(f"{node.where}: expected numbers")

    # -- layers --------------------------------------------------------------------------------------

    def _recurrent(self, node: _Node) -> Any:
        x, where = node.input(0), node.where
        if not isinstance(x, _Signal) or len(x.axes) != 3 or x.skip or x.part is not None:
            raise Unsupported(f"{where}: expected a sequence of vectors as its input")
        layout = node.get("layout", 0)
        time, batch = (x.axes[1], x.axes[0]) if layout else x.axes[:2]
        if x.once or (x.time and x.time != time):
            raise Unsupported(f"{where}: does not run along the time of the layer before it")
        if not isinstance(node.input(4), _State | None):
            raise Unsupported(f"{where}: sequence_lens: expected none, or an input of the graph")
        for name in ("clip", "activation_alpha", "activation_beta"):
            if node.get(name) is not None:
                raise Unsupported(f"{where}: {name}: expected none")
        direction = node.get("direction", "forward")
        if direction not in ("forward", "bidirectional"):
            raise Unsupported(f"{where}: direction: expected forward or bidirectional, got {direction}")
        D = 2 if direction == "bidirectional" else 1
        layers = [self._layer(node, d, D, bool(layout)) for d in range(D)]
        stage = layers[0] if D == 1 else Bidirectional(*layers)
        passed = replace(x, stages=(*x.stages, stage), time=time)
        y_axes = (batch, time, DIRECTION, FEATURES) if layout else (time, DIRECTION, batch, FEATURES)
        last = [
            replace(passed, axes=(batch, FEATURES), once=True, halves=d if D == 2 else None) for d in range(D)
        ]
        y_h = _Refused(f"{where}: Y_h with layout 1") if layout and D == 2 else _Last(tuple(last))
        return replace(passed, axes=y_axes), y_h, _State()

    def _layer(self, node: _Node, d: int, D: int, layout: bool) -> Recurrent:
        """One direction of a node."""
        where, lstm = node.where, node.op == "LSTM"
        G = 4 if lstm else 1
        W = array(_known(node, 1, "W"), f"{where} W", D, None, None)[d]
        H = len(W) // G
        R = array(_known(node, 2, "R"), f"{where} R", D, G * H, H)[d]
        given = node.input(3)
        B = (
            np.zeros(2 * G * H)
            if given is None
            else array(_known(node, 3, "B"), f"{where} B", D, 2 * G * H)[d]
        )
        b = B[: G * H].astype(np.float64) + B[G * H :]
        if node.get("hidden_size", H) != H:
            raise ValueError(f"{where}: hidden_size: expected {H}, got {node.get('hidden_size')}")
        h_0 = _initial(node, 5, d, H, layout)
        kinds = (
            node.get("activations") or ["Sigmoid", "Tanh", "Tanh"][0 if lstm else 1 :][: 3 if lstm else 1] * D
        )
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
            P = array(_known(node, 7, "P"), f"{where} P", D, 3 * H)[d].reshape(3, H)
            peepholes = P[list(PEEPHOLES)] if np.any(P) else None
        W, R, b = (from_order(each, ORDER, 0) for each in (W, R, b))
        return Recurrent(
            "lstm", W, R, b, h_0, _initial(node, 6, d, H, layout), peepholes=peepholes,
            coupled=bool(node.get("input_forget", 0)), reverse=d == 1,
        )  # fmt: skip

    def _op_matmul(self, node: _Node) -> Any:
        x, weight = node.input(0), node.input(1)
        if isinstance(x, np.ndarray) and isinstance(weight, np.ndarray):
            return _small(x @ weight)
        W = array(_known(node, 1, "B"), node.where, None, None)
        return _passed(node, _ended(x), Dense(W.T, np.zeros(W.shape[1])))

    def _op_gemm(self, node: _Node) -> Any:
        if node.get("transA", 0):
            raise Unsupported(f"{node.where}: transA: expected 0")
        W = array(_known(node, 1, "B"), node.where, None, None) * np.float32(node.get("alpha", 1.0))
        W = W if node.get("transB", 0) else W.T
        bias = np.zeros(len(W))
        if node.input(2) is not None:
            given = array(_known(node, 2, "C"), node.where).ravel()
            if given.size not in (1, len(W)):
                raise Unsupported(f"{node.where}: C: expected {len(W)} numbers, got {given.size}")
            bias = np.broadcast_to(given * np.float32(node.get("beta", 1.0)), len(W))
        return _passed(node, _ended(node.input(0)), Dense(W, bias))

    def _activate(self, node: _Node) -> Any:
        x = _ended(node.input(0))
        if not isinstance(x, _Signal):
            raise Unsupported(f"{node.where}: expected the signal")
        if node.op == "Softmax":
            axis = node.get("axis", -1 if self.opset >= 13 else 1)
            if axis % len(x.axes) != len(x.axes) - 1:
                raise Unsupported(f"{node.where}: axis: expected the last, got {axis}")
        _plain(node, x)
        width = _width(x)
        stages = with_activation(list(x.stages), ACTIVATIONS[node.op], width, node.where)
        return replace(x, stages=tuple(stages))

    def _op_gather(self, node: _Node) -> Any:
        data, index, axis = node.input(0), node.input(1), node.get("axis", 0)
        if isinstance(data, np.ndarray) and isinstance(index, _Signal):
            if index.stages or axis or data.ndim != 2:
                raise Unsupported(f"{node.where}: expected a table [V,E] read by the graph's input")
            return replace(index, stages=(Embedding(array(data, node.where)),), axes=(*index.axes, FEATURES))
        if not isinstance(index, np.ndarray):
            raise Unsupported(f"{node.where}: expected constant places")
        if isinstance(data, np.ndarray):
            return _small(np.take(data, index.astype(np.int64), axis))
        if isinstance(data, _Shape):
            chosen = [data.entries[int(k)] for k in index.ravel()]
            return _Shape(tuple(chosen))
        if isinstance(data, _Last) and axis == 0 and index.size == 1:
            found = data.entries[int(index.ravel()[0])]
            return found if index.ndim == 0 else replace(found, axes=(ONE, *found.axes))
        if isinstance(data, _Signal) and index.size == 1 and int(index.ravel()[0]) == -1:
            return _last_step(node, data, axis, keep=index.ndim > 0)
        raise Unsupported(f"{node.where}: expected the last step")

    # -- numbers -------------------------------------------------------------------------------------

    def _op_add(self, node: _Node) -> Any:
        a, b = (_ended(each) for each in node.inputs[:2])
        if isinstance(a, _Signal) and isinstance(b, _Signal):
            return _added(node, a, b)
        return self._scaled(node, 1.0, a, b)

    def _op_sub(self, node: _Node) -> Any:
        return self._scaled(node, -1.0, *node.inputs[:2])

    def _op_mul(self, node: _Node) -> Any:
        return self._scaled(node, 0.0, *node.inputs[:2])

    def _op_div(self, node: _Node) -> Any:
        return self._scaled(node, 0.0, *node.inputs[:2])

    def _scaled(self, node: _Node, sign: float, a: Any, b: Any) -> Any:
        """A sum, difference, product or quotient of the signal and a constant."""
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            do = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op]
            whole = node.op == "Div" and a.dtype.kind in "iu"
            with np.errstate(all="ignore"):
                return _small(a // b if whole else do(a, b))
        a, b = _ended(a), _ended(b)
        swapped = isinstance(b, _Signal)
        x, by = (b, a) if swapped else (a, b)
        by = np.float32(by.value) if isinstance(by, _Uniform) else by
        if not isinstance(x, _Signal) or not isinstance(by, np.ndarray | np.float32):
            raise Unsupported(f"{node.where}: expected the signal and a constant")
        _plain(node, x)
        O = _width(x) if x.stages or np.size(by) == 1 else int(np.shape(by)[-1])  # noqa: E741
        O = O or self._input_width()  # noqa: E741
        if np.size(by) not in (1, O) or (np.size(by) > 1 and np.shape(by)[-1] != O):
            raise Unsupported(
                f"{node.where}: expected one constant for each feature, got {list(np.shape(by))}"
            )
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

    def _input_width(self) -> int:
        dims = [each.type.tensor_type.shape.dim for each in self.graph.input if each.name in self.values]
        widths = [dim[-1].dim_value for dim, each in zip(dims, self.graph.input, strict=False)
                  if dim and isinstance(self.values[each.name], _Signal)]  # fmt: skip
        if not widths or not widths[0]:
            raise Unsupported("graph: the width of its input is not known")
        return int(widths[0])

    def _op_asinh(self, node: _Node) -> Any:
        x = node.input(0)
        if not isinstance(x, _Signal):
            raise Unsupported(f"{node.where}: expected the signal")
        _plain(node, x)
        last = x.stages[-1] if x.stages else None
        if not isinstance(last, Scale):
            width = _width(x) or self._input_width()
            return replace(x, stages=(*x.stages, Normalise(np.zeros(width), np.ones(width))))
        scale, shift = last.scale.astype(np.float64), last.shift.astype(np.float64)
        if not (scale > 0).all():
            raise Unsupported(f"{node.where}: expected a scale above 0 before it")
        return replace(x, stages=(*x.stages[:-1], Normalise(-shift / scale, 1 / scale)))

    def _op_reducemean(self, node: _Node) -> Any:
        return self._pooled(node, "mean")

    def _op_reducemax(self, node: _Node) -> Any:
        return self._pooled(node, "max")

    def _pooled(self, node: _Node, kind: Any) -> Any:
        x, axes = node.input(0), node.axes()
        if not isinstance(x, _Signal) or axes is None or len(axes) != 1 or x.once:
            raise Unsupported(f"{node.where}: expected the mean or maximum over the steps")
        k = axes[0] % len(x.axes)
        if not x.time or x.axes[k] != x.time:
            raise Unsupported(f"{node.where}: expected the mean or maximum over the steps")
        _plain(node, x)
        left = (ONE,) if node.get("keepdims", 1) else ()
        passed = (*x.stages, Pool(kind, _width(x)))
        return replace(x, stages=passed, axes=(*x.axes[:k], *left, *x.axes[k + 1 :]), once=True)

    # -- layout --------------------------------------------------------------------------------------

    def _op_identity(self, node: _Node) -> Any:
        return node.input(0)

    _op_dropout = _op_identity

    def _op_cast(self, node: _Node) -> Any:
        x = node.input(0)
        if isinstance(x, _Signal) and x.stages and node.get("to") not in (1, 10, 11, 16):
            raise Unsupported(f"{node.where}: expected a type with floating point")
        return x

    def _op_transpose(self, node: _Node) -> Any:
        x, perm = node.input(0), node.get("perm")
        if isinstance(x, np.ndarray):
            return x.transpose(perm)
        if isinstance(x, _Last):
            x = _both(x)
        if not isinstance(x, _Signal):
            raise Unsupported(f"{node.where}: expected the signal")
        order = perm or list(range(len(x.axes)))[::-1]
        return replace(x, axes=tuple(x.axes[k] for k in order))

    def _op_squeeze(self, node: _Node) -> Any:
        x, axes = node.input(0), node.axes()
        if isinstance(x, np.ndarray):
            return x.squeeze(None if axes is None else tuple(axes))
        if isinstance(x, _Shape | _Uniform):
            return x
        if isinstance(x, _Last):
            if len(x.entries) != 1 or axes not in ([0], None):
                raise Unsupported(f"{node.where}: expected one direction of one layer")
            return x.entries[0]
        if not isinstance(x, _Signal):
            raise Unsupported(f"{node.where}: expected the signal")
        if axes is None:
            axes = [k for k, name in enumerate(x.axes) if name in (ONE, DIRECTION)]
        gone = {k % len(x.axes) for k in axes}
        named = [x.axes[k] for k in gone]
        if FEATURES in named and _width(x) == 1:  # an output of one value
            return replace(x, axes=tuple(each for k, each in enumerate(x.axes) if k not in gone))
        if FEATURES in named or (DIRECTION in named and isinstance(x.stages[-1], Bidirectional)):
            raise Unsupported(f"{node.where}: expected an axis of length 1")
        return replace(x, axes=tuple(each for k, each in enumerate(x.axes) if k not in gone))

    def _op_unsqueeze(self, node: _Node) -> Any:
        x, axes = node.input(0), node.axes() or []
        if isinstance(x, np.ndarray):
            return np.expand_dims(x, tuple(axes))
        if not isinstance(x, _Signal):
            return x
        rank = len(x.axes) + len(axes)
        places = {k % rank for k in axes}
        rest = iter(x.axes)
        return replace(x, axes=tuple(ONE if k in places else next(rest) for k in range(rank)))

    def _op_shape(self, node: _Node) -> Any:
        x = node.input(0)
        if isinstance(x, np.ndarray):
            return np.array(x.shape)
        if not isinstance(x, _Signal):
            raise Unsupported(f"{node.where}: expected the signal")
        return _Shape(tuple(1 if name == ONE else name for name in x.axes))

    def _op_concat(self, node: _Node) -> Any:
        parts: list[Any] = node.inputs
        axis = node.get("axis", 0)
        if all(isinstance(each, np.ndarray) for each in parts):
            return _small(np.concatenate(parts, axis))
        if all(isinstance(each, np.ndarray | _Shape) for each in parts):
            return _Shape(tuple(entry for each in parts for entry in _entries(each)))
        if all(isinstance(each, _Last) for each in parts) and axis == 0:
            return _Last(tuple(entry for each in parts for entry in each.entries))
        if all(isinstance(each, _State | _Uniform) for each in parts):
            return parts[0]
        if len(parts) == 2 and all(isinstance(each, _Signal) and each.halves is not None for each in parts):
            a, b = parts
            if (
                a.stages == b.stages
                and (a.halves, b.halves) == (0, 1)
                and axis % len(a.axes) == len(a.axes) - 1
            ):
                return _ends(a)
        raise Unsupported(f"{node.where}: expected one chain, got {len(parts)} inputs")

    def _op_reshape(self, node: _Node) -> Any:
        x, target = node.input(0), node.input(1)
        if isinstance(x, np.ndarray) and isinstance(target, np.ndarray):
            return x.reshape([int(each) for each in target])
        if isinstance(x, _Last):
            x = _both(x) if len(x.entries) == 2 else x.entries[0]
        if not isinstance(x, _Signal) or not isinstance(target, np.ndarray | _Shape):
            raise Unsupported(f"{node.where}: expected the signal and a known shape")
        return _reshaped(node, x, _entries(target))

    def _op_flatten(self, node: _Node) -> Any:
        x = node.input(0)
        kept = [] if not isinstance(x, _Signal) else [each for each in x.axes if each != ONE]
        if not isinstance(x, _Signal) or node.get("axis", 1) != 1 or len(kept) != 2:
            raise Unsupported(f"{node.where}: expected one vector")
        return replace(x, axes=tuple(kept))

    def _op_slice(self, node: _Node) -> Any:
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
        if isinstance(x, _Shape) and steps == [1]:
            return _Shape(x.entries[starts[0] : ends[0]])
        if isinstance(x, _Last) and axes == [0] and steps == [1]:
            return _Last(x.entries[starts[0] : ends[0]])
        if isinstance(x, _Signal) and len(axes) == 1 and steps == [1]:
            k = axes[0] % len(x.axes)
            if x.axes[k] == x.time and starts == [-1] and ends[0] >= 1 << 30:
                return _last_step(node, x, k, keep=True)
            if not x.stages and x.axes[k] == FEATURES and starts == [0] and ends[0] > 0:
                return replace(x, part=ends[0])
        raise Unsupported(f"{node.where}: expected the last step")

    def _op_expand(self, node: _Node) -> Any:
        x, target = node.input(0), node.input(1)
        if isinstance(x, np.ndarray):
            if x.size and (x == x.flat[0]).all():
                return _Uniform(float(x.flat[0]))
            if isinstance(target, np.ndarray):
                return _small(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target))))
            return x  # along the sequences: the same for each
        if isinstance(x, _Uniform):
            return x
        raise Unsupported(f"{node.where}: expected a constant")

    def _op_constantofshape(self, node: _Node) -> Any:
        value = node.attributes.get("value")
        found = np.zeros(1) if value is None else self._constant(value, node.where)
        return _Uniform(float(np.ravel(found)[0]))


def _ended(value: Any) -> Any:
    """A signal for the last states of one direction of one layer; anything else as it is."""
    return value.entries[-1] if isinstance(value, _Last) else value


def _both(last: _Last) -> _Signal:
    """The last states with their first axis, of one layer in both directions or of one alone."""
    found = last.entries[0]
    if len(last.entries) == 1:
        return replace(found, axes=(ONE, *found.axes))
    if len(last.entries) != 2 or found.halves != 0 or last.entries[1].stages != found.stages:
        raise Unsupported("the last states of several layers, put together")
    return replace(_ends(found), axes=(DIRECTION, *found.axes))


def _ends(half: _Signal) -> _Signal:
    """What both directions have at their ends."""
    width = half.stages[-1].widths()[1]
    return replace(half, stages=(*half.stages, Pool("ends", width)), halves=None)


def _last_step(node: _Node, x: _Signal, axis: int, keep: bool) -> _Signal:
    k = axis % len(x.axes)
    if not x.time or x.axes[k] != x.time:
        raise Unsupported(f"{node.where}: expected the last step")
    return replace(x, axes=(*x.axes[:k], *((ONE,) if keep else ()), *x.axes[k + 1 :]), once=True)


def _reshaped(node: _Node, x: _Signal, target: tuple[Any, ...]) -> _Signal:
    """A signal whose axes DIRECTION and FEATURES become one, or whose rows are put together or apart."""
    width = _width(x)
    names = tuple(x.axes[k] if n == 0 and k < len(x.axes) else n for k, n in enumerate(target))
    kept = [name for name in x.axes if name not in (ONE, DIRECTION)]  # what must remain, in order
    if DIRECTION in x.axes and x.axes.index(DIRECTION) != x.axes.index(FEATURES) - 1 and _directions(x) > 1:
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


def _directions(x: _Signal) -> int:
    return 2 if x.stages and isinstance(x.stages[-1], Bidirectional | Pool) else 1


def _entries(value: Any) -> tuple[Any, ...]:
    return value.entries if isinstance(value, _Shape) else tuple(int(each) for each in np.ravel(value))


def _added(node: _Node, a: _Signal, b: _Signal) -> _Signal:
    """The graph's input added to the output."""
    signal, given = (b, a) if not a.stages else (a, b)
    if given.stages or not signal.stages or signal.once:
        raise Unsupported(f"{node.where}: adds two signals; expected one chain")
    first = signal.stages[0].widths()[0]
    count = first if given.part is None else given.part
    if signal.skip or count != _width(signal):
        raise Unsupported(f"{node.where}: expected as many inputs as outputs, got {count}")
    return replace(signal, skip=count)


def _passed(node: _Node, x: Any, stage: Stage) -> _Signal:
    if not isinstance(x, _Signal):
        raise Unsupported(f"{node.where}: expected the signal and constant weights")
    _plain(node, x)
    if x.stages and x.stages[-1].widths()[1] != stage.widths()[0]:
        raise ValueError(f"{node.where}: expected {_width(x)} inputs, got {stage.widths()[0]}")
    return replace(x, stages=(*x.stages, stage))


def _plain(node: _Node, x: _Signal) -> None:
    """Refuse a signal to which a layer cannot be applied."""
    if x.skip or x.part is not None or x.halves is not None or FEATURES not in x.axes[-1:]:
        raise Unsupported(f"{node.where}: expected it before the input is added, on the last axis")
    if DIRECTION in x.axes and _directions(x) > 1:
        raise Unsupported(f"{node.where}: acts on each direction by itself")


def _width(x: _Signal) -> int:
    return x.stages[-1].widths()[1] if x.stages else 0


def _known(node: _Node, k: int, name: str) -> Any:
    found = node.input(k)
    if not isinstance(found, np.ndarray):
        raise Unsupported(f"{node.where}: {name}: expected constant weights")
    return found


def _initial(node: _Node, k: int, d: int, H: int, layout: bool) -> Any:
    """An initial state [H]; None: zero, or given by the caller."""
    found = node.input(k)
    name = f"{node.where} {('initial_h', 'initial_c')[k - 5]}"
    if found is None or isinstance(found, _State):
        return None
    if isinstance(found, _Uniform):
        return np.full(H, found.value)
    if not isinstance(found, np.ndarray):
        raise Unsupported(f"{name}: expected a constant")
    values = array(found, name, None, None, H)
    values = values[:, d] if layout else values[d]  # [N,H]
    if not len(values) or (values != values[0]).any():
        raise Unsupported(f"{name}: expected the same for each sequence")
    return values[0]


def _small(value: Any) -> Any:
    if np.size(value) > LARGEST:
        raise ValueError(f"a constant of {np.size(value):,} numbers")
    return value
