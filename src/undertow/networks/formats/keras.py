"""Keras models: ``.keras`` archives of Keras 3, and whole models in HDF5 (``.h5``) of Keras 2 and 3.

A ``.keras`` file is a zip with ``config.json`` and ``model.weights.h5``, where the weights of the layers lie
under ``layers/lstm/cell/vars/0``, named after class and number (keras/src/saving/saving_lib.py). An ``.h5``
file has the configuration in an attribute and weights named by the layers (legacy/hdf5_format.py). Kernels
are [C,4H], [H,4H] and [4H], with gates i, f, c, o. h5py is needed; nothing of Keras is.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from undertow.networks.formats.activations import with_activation
from undertow.networks.formats.content import (
    Archive,
    Object,
    array,
    entry,
    from_order,
    list_at,
    load_json,
    number,
    object_at,
    plain,
    shown,
    text,
)
from undertow.networks.formats.hdf5 import Hdf5
from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Pool,
    Recurrent,
    Scale,
    Stage,
    Unsupported,
)

ORDER = "ifco"
IN_TRAINING = (
    "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization",
)  # fmt: skip
POOLS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}

_Weights = Callable[[], list[Any]]  # the arrays of a layer, in Keras' order


def is_keras(archive: Archive) -> bool:
    """Tell whether an archive is a ``.keras`` file."""
    return {"config.json", "model.weights.h5"} <= set(archive.names)


def from_archive(data: bytes) -> Network:
    """Make the network of a ``.keras`` file.

    Args:
        data: The file.

    Returns:
        The layers in the order in which a sequence passes them.

    Raises:
        Unsupported: A layer or an option of it has no counterpart, or the layers form no chain.
        ValueError: The file is damaged, or h5py is missing.
    """
    archive = Archive(data)
    config = object_at(load_json(archive.read("config.json"), "config.json"), "config.json")
    about: Object = {}
    if "metadata.json" in archive.names:
        about = object_at(load_json(archive.read("metadata.json"), "metadata.json"), "metadata.json")
    file = Hdf5(archive.read("model.weights.h5"), "model.weights.h5")
    groups = _groups(config)

    def weights(layer: Object, place: str) -> list[Any]:
        name = groups[layer["config"]["name"]]
        inner = {"": "", "forward": "/forward_layer", "backward": "/backward_layer"}[place]
        paths = [
            f"{top}/{name}{inner}{cell}/vars"
            for top in ("layers", "_layer_checkpoint_dependencies")
            for cell in ("/cell", "/layer", "")
        ]
        path = next((path for path in paths if file.has(f"{path}/0")), None)
        return [] if path is None else file.arrays(path)

    version = plain(about.get("keras_version"))
    return _network(config, weights, {"keras_version": version})


def from_hdf5(data: bytes) -> Network:
    """Make the network of a whole model in HDF5.

    Args:
        data: The file.

    Returns:
        As ``from_archive``.

    Raises:
        Unsupported: As of ``from_archive``; or the file holds weights only.
        ValueError: As of ``from_archive``.
    """
    file = Hdf5(data, "")
    said = file.attribute("", "model_config")
    if said is None:
        raise Unsupported("no model_config: weights alone; save the whole model")
    config = object_at(load_json(said, "model_config"), "model_config")

    def weights(layer: Object, place: str) -> list[Any]:
        name = layer["config"]["name"]
        names = file.attribute(f"model_weights/{name}", "weight_names")
        found = [file.array(f"model_weights/{name}/{each}") for each in names or []]
        half = len(found) // 2
        return {"": found, "forward": found[:half], "backward": found[half:]}[place]

    version = file.attribute("", "keras_version") or file.attribute("model_weights", "keras_version")
    return _network(config, weights, {"keras_version": plain(version)})


# -- the configuration ------------------------------------------------------------------------------


def _network(model: Object, weights: Callable[[Object, str], list[Any]], metadata: Object) -> Network:
    """The network of a configuration and the arrays of its layers."""
    chain = _chain(model)
    builder = _Builder()
    for layer in chain:
        name = layer["config"]["name"]
        builder.add(layer, f"layer {name}", partial(weights, layer))
    config = model["config"]
    title = config.get("name") if isinstance(config, dict) else None
    return Network(tuple(builder.stages), metadata={**metadata, "name": plain(title)}, once=builder.whole)


def _layers(model: Object) -> list[Object]:
    kind = text(entry(model, "class_name", ""), "class_name")
    if kind not in ("Sequential", "Functional", "Model"):
        raise Unsupported(f"{kind}: expected a Sequential or Functional model")
    config = entry(model, "config", "")
    layers = config if isinstance(config, list) else entry(object_at(config, "config"), "layers", "config")
    found = []
    for k, each in enumerate(list_at(layers, "config.layers")):
        layer = object_at(each, f"layers[{k}]")
        text(entry(layer, "class_name", f"layers[{k}]"), f"layers[{k}].class_name")
        inner = object_at(entry(layer, "config", f"layers[{k}]"), f"layers[{k}].config")
        inner.setdefault("name", layer.get("name", f"layer_{k}"))
        text(inner["name"], f"layers[{k}].config.name")
        found.append(layer)
    return found


def _chain(model: Object) -> list[Object]:
    """The layers in the order in which a sequence passes them."""
    layers = _layers(model)
    if not any("inbound_nodes" in layer for layer in layers):
        return layers
    before: dict[str, str] = {}
    for layer in layers:
        name = layer["config"]["name"]
        sources = _sources(layer.get("inbound_nodes"))
        if len(sources) > 1:
            raise Unsupported(f"layer {name}: expected one input, got {len(sources)}")
        if sources:
            before[name] = sources[0]
    by_name = {layer["config"]["name"]: layer for layer in layers}
    after = {source: name for name, source in before.items()}
    starts = [name for name in by_name if name not in before]
    if len(starts) != 1 or len(after) != len(before):
        twice = [name for name in after if list(before.values()).count(name) > 1]
        named = f"layer {(twice or starts or ['?'])[0]}"
        raise Unsupported(f"{named}: expected one chain of layers, got branches")
    found = starts
    while found[-1] in after and len(found) <= len(layers):
        found.append(after[found[-1]])
    if len(found) != len(layers) or not set(found) <= set(by_name):
        raise ValueError("damaged: the layers form no chain")
    for name in _sources(model["config"].get("output_layers")):
        if name != found[-1]:
            raise Unsupported(f"layer {name}: an output too; expected that of layer {found[-1]} alone")
    return [by_name[name] for name in found]


def _sources(nodes: Any) -> list[str]:
    """The names of the layers whose outputs a layer reads, in Keras 3's and Keras 2's form."""
    if isinstance(nodes, dict):
        kind, config = nodes.get("class_name"), nodes.get("config")
        if kind == "__keras_tensor__" and isinstance(config, dict):
            history = config.get("keras_history")
            return [str(history[0])] if isinstance(history, list) and history else []
        return [name for value in nodes.values() for name in _sources(value)]
    if isinstance(nodes, list):
        if len(nodes) in (3, 4) and isinstance(nodes[0], str) and not isinstance(nodes[1], str):
            return [nodes[0]]
        return [name for value in nodes for name in _sources(value)]
    return []


def _groups(model: Object) -> dict[str, str]:
    """The names under which a ``.keras`` file holds the weights of the layers: class and number."""
    counts: dict[str, int] = {}
    found = {}
    for layer in _layers(model):
        kind = re.sub(r"\W+", "", layer["class_name"])
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
        k = counts.get(kind, 0)
        counts[kind] = k + 1
        found[layer["config"]["name"]] = f"{kind}_{k}" if k else kind
    return found


class _Builder:
    """Turns layers into stages, one after the other."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.whole = False  # whether a layer before has answered once, for the whole sequence
        self.width = 0

    def add(self, layer: Object, where: str, weights: Callable[[str], list[Any]]) -> None:
        """Add a layer. Raises Unsupported if it has no counterpart."""
        kind, config = layer["class_name"], layer["config"]
        _check_dtype(config, where)
        if kind == "InputLayer":
            shape = config.get("batch_shape") or config.get("batch_input_shape") or [0]
            self.width = shape[-1] if isinstance(shape[-1], int) else 0
            return
        if kind in ("LSTM", "SimpleRNN"):
            self._recurrent([_recurrent(kind, config, weights(""), where, False)], config, where)
        elif kind == "Bidirectional":
            self._both(config, where, weights)
        elif kind == "TimeDistributed":
            inner = object_at(entry(config, "layer", where), f"{where}.layer")
            if inner.get("class_name") != "Dense" or self.whole:
                raise Unsupported(f"{where}: expected TimeDistributed(Dense) over a sequence")
            self._dense(object_at(entry(inner, "config", where), where), weights(""), where)
        elif kind == "Dense":
            self._dense(config, weights(""), where)
        elif kind == "Embedding":
            if config.get("mask_zero"):
                raise Unsupported(f"{where}: mask_zero: expected none")
            self.stages.append(Embedding(array(_only(weights(""), 1, where)[0], where, None, None)))
        elif kind in POOLS:
            self._one_sequence(where)
            if config.get("keepdims") or config.get("data_format", "channels_last") != "channels_last":
                raise Unsupported(f"{where}: expected no keepdims, and channels last")
            self.stages.append(Pool(POOLS[kind], self._width()))  # type: ignore[arg-type]
            self.whole = True
        elif kind in ("Activation", "ReLU", "Softmax"):
            self._activate(kind, config, where)
        elif kind in ("Normalization", "BatchNormalization", "Rescaling"):
            self.stages.append(_scaled(kind, config, weights(""), self._width(), where))
        elif kind not in IN_TRAINING:
            raise Unsupported(f"{where}: {kind} has no counterpart")
        first = self.stages[0] if self.stages else None
        if self.width and first and not isinstance(first, Embedding) and first.widths()[0] != self.width:
            raise ValueError(f"{where}: expected {self.width} inputs as declared, got {first.widths()[0]}")

    def _width(self) -> int:
        return self.stages[-1].widths()[1] if self.stages else self.width

    def _one_sequence(self, where: str) -> None:
        if self.whole:
            raise Unsupported(f"{where}: reads one vector of the whole sequence, expected a sequence")

    def _recurrent(self, layers: list[Recurrent], config: Object, where: str) -> None:
        self._one_sequence(where)
        self.stages.append(Bidirectional(*layers) if len(layers) == 2 else layers[0])
        if not config.get("return_sequences"):
            self.whole = True
            if len(layers) == 2:
                self.stages.append(Pool("ends", self._width()))

    def _both(self, config: Object, where: str, weights: Callable[[str], list[Any]]) -> None:
        if config.get("merge_mode", "concat") != "concat":
            raise Unsupported(f"{where}: merge_mode: expected concat, got {shown(config['merge_mode'])}")
        inner = object_at(entry(config, "layer", where), f"{where}.layer")
        kind, first = inner.get("class_name"), object_at(entry(inner, "config", where), f"{where}.layer")
        if kind not in ("LSTM", "SimpleRNN"):
            raise Unsupported(f"{where}: expected an LSTM or SimpleRNN inside, got {kind}")
        second = dict(first)
        if config.get("backward_layer"):
            other = object_at(config["backward_layer"], f"{where}.backward_layer")
            if other.get("class_name") != kind:
                raise Unsupported(f"{where}: expected two layers of one kind, got {other.get('class_name')}")
            second = dict(object_at(entry(other, "config", where), f"{where}.backward_layer"))
            if not second.get("go_backwards"):
                raise Unsupported(f"{where}.backward_layer: expected go_backwards")
        second["go_backwards"] = False
        layers = [
            _recurrent(kind, one, weights(place), f"{where}.{place}_layer", place == "backward")
            for one, place in ((first, "forward"), (second, "backward"))
        ]
        self._recurrent(layers, first, where)

    def _dense(self, config: Object, weights: list[Any], where: str) -> None:
        bias = config.get("use_bias", True)
        arrays = _only(weights, 1 + bool(bias), where)
        kernel = array(arrays[0], f"{where} kernel", None, None)
        O = kernel.shape[1]  # noqa: E741
        flat = array(arrays[1], f"{where} bias", O) if bias else np.zeros(O)
        self.stages.append(Dense(kernel.T, flat))
        self.stages = with_activation(self.stages, _activation(config, "linear", where), O, where)

    def _activate(self, kind: str, config: Object, where: str) -> None:
        if kind == "Softmax" and config.get("axis", -1) != -1:
            raise Unsupported(f"{where}: axis: expected -1, got {shown(config['axis'])}")
        bounds = ("max_value", "negative_slope", "threshold")
        if kind == "ReLU" and any(config.get(name) for name in bounds):
            raise Unsupported(f"{where}: expected ReLU without bounds and slope")
        name = _activation(config, "", where) if kind == "Activation" else kind.lower()
        self.stages = with_activation(self.stages, name, self._width(), where)


def _check_dtype(config: Object, where: str) -> None:
    said = config.get("dtype")
    if isinstance(said, dict):  # a policy
        said = object_at(said.get("config", {}), f"{where}: dtype").get("name")
    if isinstance(said, str) and "int8" in said:
        raise Unsupported(f"{where}: dtype: expected floating point, got {said}")


def _recurrent(kind: str, config: Object, weights: list[Any], where: str, reverse: bool) -> Recurrent:
    """One LSTM or SimpleRNN."""
    for name in ("go_backwards", "time_major", "return_state"):
        if config.get(name):
            raise Unsupported(f"{where}: {name}: expected False")
    gates = _activation(config, "sigmoid", where, "recurrent_activation")
    output = _activation(config, "tanh", where)
    if kind == "LSTM" and (gates != "sigmoid" or output != "tanh"):
        wrong = gates if gates != "sigmoid" else output
        raise Unsupported(f"{where}: expected sigmoid gates and tanh, got {wrong}")
    if output not in ("tanh", "relu"):
        raise Unsupported(f"{where}: activation: expected tanh or relu, got {output}")
    bias = bool(config.get("use_bias", True))
    arrays = _only(weights, 2 + bias, where)
    W = array(arrays[0], f"{where} kernel", None, None)
    H = W.shape[1] // 4 if kind == "LSTM" else W.shape[1]
    U = array(arrays[1], f"{where} recurrent kernel", H, W.shape[1])
    b = array(arrays[2], f"{where} bias", W.shape[1]) if bias else np.zeros(W.shape[1], np.float32)
    if kind == "SimpleRNN":
        return Recurrent("rnn", W.T, U.T, b, nonlinearity=output, reverse=reverse)  # type: ignore[arg-type]
    W, U, b = (from_order(each, ORDER) for each in (W, U, b))
    return Recurrent("lstm", W.T, U.T, b, reverse=reverse)


def _activation(config: Object, default: str, where: str, name: str = "activation") -> str:
    said = config.get(name, default)
    if isinstance(said, dict):  # a function, serialised by name
        said = said.get("class_name") if said.get("class_name") != "function" else said.get("config")
    if not isinstance(said, str):
        raise Unsupported(f"{where}: {name}: expected the name of an activation, got {shown(said)}")
    return said


def _only(weights: list[Any], count: int, where: str) -> list[Any]:
    if len(weights) != count:
        raise ValueError(f"{where}: expected {count} arrays, got {len(weights)}")
    return weights


def _scaled(kind: str, config: Object, weights: list[Any], width: int, where: str) -> Scale:
    """A layer that brings each feature into another unit."""

    def numbers(value: Any, name: str) -> Any:
        found = np.atleast_1d(np.squeeze(array(value, f"{where} {name}"))).astype(np.float64)
        if found.shape not in ((1,), (width,)):
            raise Unsupported(f"{where}: {name}: expected {width} numbers, got {list(found.shape)}")
        return np.broadcast_to(found, width)

    if kind == "Rescaling":
        return Scale(numbers(config.get("scale", 1), "scale"), numbers(config.get("offset", 0), "offset"))
    if kind == "Normalization":
        if config.get("invert"):
            raise Unsupported(f"{where}: invert: expected False")
        mean, variance = config.get("mean"), config.get("variance")
        if mean is None or variance is None:
            if len(weights) < 2:
                raise ValueError(f"{where}: expected mean and variance")
            mean, variance = weights[:2]
        spread = np.maximum(np.sqrt(numbers(variance, "variance")), 1e-7)  # keras.backend.epsilon()
        return Scale(1 / spread, -numbers(mean, "mean") / spread)
    axis = config.get("axis", -1)
    if axis not in (-1, 2, [-1], [2]):
        raise Unsupported(f"{where}: axis: expected the last, got {shown(axis)}")
    scale, centre = bool(config.get("scale", True)), bool(config.get("center", True))
    arrays = _only(weights, 2 + scale + centre, where)
    mean, variance = (numbers(arrays[k], name) for k, name in ((-2, "mean"), (-1, "variance")))
    gain = numbers(arrays[0], "gamma") if scale else np.ones(width)
    beta = numbers(arrays[int(scale)], "beta") if centre else np.zeros(width)
    gain = gain / np.sqrt(variance + number(config.get("epsilon", 1e-3), f"{where}: epsilon"))
    return Scale(gain, beta - mean * gain)
