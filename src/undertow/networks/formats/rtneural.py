"""JSON of RTNeural, and of AIDA-X, which adds to it.

RTNeural's ``python/model_utils.py`` writes the weights of Keras layers and ``RTNeural/model_loader.h`` reads
them: ``in_shape``, and ``layers`` with ``type``, ``activation``, ``shape`` and ``weights``. Kernels are
[in, out], those of an LSTM [in,4H], [H,4H] and [4H] with gates i, f, c, o. AIDA-X (``aidadsp-plugin.cpp``)
adds ``in_skip``, ``in_gain`` and ``out_gain`` in decibels, and ``metadata`` with ``samplerate``.
"""

from typing import Any

import numpy as np

from undertow.networks.formats.activations import with_activation
from undertow.networks.formats.content import (
    Object,
    array,
    dump_json,
    entry,
    frequency,
    from_order,
    list_at,
    number,
    object_at,
    only_plain,
    text,
    to_order,
    whole,
)
from undertow.networks.network import Dense, Network, Recurrent, Scale, Stage, Unsupported

ORDER = "ifco"
DENSE = ("dense", "time-distributed-dense")


def is_rtneural(content: Any) -> bool:
    """Tell whether parsed JSON is a model of RTNeural or AIDA-X."""
    return isinstance(content, dict) and {"in_shape", "layers"} <= set(content)


def from_json(content: Object) -> Network:
    """Make the network of a parsed model of RTNeural or AIDA-X.

    Args:
        content: The file's JSON.

    Returns:
        The layers; ``in_skip`` is ``skip``, and gains are Scale stages.

    Raises:
        Unsupported: A layer is neither an LSTM, a dense layer nor an activation, or the gains and the skip
            cannot be told apart.
        ValueError: An entry is missing or does not fit.
    """
    shape = list_at(content["in_shape"], "in_shape")
    width = whole(shape[-1] if shape else None, "in_shape", 1)
    inputs, stages = width, []  # type: int, list[Stage]
    for k, each in enumerate(list_at(content["layers"], "layers")):
        stages = _add(stages, object_at(each, f"layers[{k}]"), width, f"layers[{k}]")
        width = stages[-1].widths()[1] if stages else width
    skip = whole(content.get("in_skip") or 0, "in_skip", 0, 1)
    gains = [_factor(number(content.get(name) or 0, name), name) for name in ("in_gain", "out_gain")]
    if skip and gains != [1, 1]:
        raise Unsupported("in_gain, out_gain: expected none together with in_skip")
    if gains[0] != 1:  # the sound only; further inputs are knobs
        stages.insert(0, Scale([gains[0], *[1] * (inputs - 1)], [0] * inputs))
    if gains[1] != 1:
        stages.append(Scale([gains[1]] * width, [0] * width))
    metadata = object_at(content.get("metadata") or {}, "metadata")
    rate = content.get("samplerate", metadata.get("samplerate"))
    return Network(
        tuple(stages),
        skip=skip,
        sample_rate=frequency(rate, "samplerate"),
        metadata=metadata,
    )


def _factor(decibels: float, where: str) -> float:
    return float(array(np.float64(10) ** (decibels / 20), where))


def _add(stages: list[Stage], layer: Object, width: int, where: str) -> list[Stage]:
    """The stages with one layer more."""
    kind = text(entry(layer, "type", where), f"{where}.type")
    activation = text(layer.get("activation") or "", f"{where}.activation")
    if kind == "activation":
        return with_activation(stages, activation, width, where)
    if kind not in ("lstm", *DENSE):
        raise Unsupported(f"{where}: expected an LSTM, a dense layer or an activation, got {kind}")
    weights = list_at(entry(layer, "weights", where), f"{where}.weights")
    count = 3 if kind == "lstm" else 2
    if len(weights) != count and not (count == 2 and len(weights) == 1):
        raise ValueError(f"{where}.weights: expected {count} arrays, got {len(weights)}")
    names = [f"{where}.weights[{k}]" for k in range(count)]
    kernel = array(weights[0], names[0], width, None)
    if kind == "lstm":
        if activation not in ("", "tanh"):
            raise Unsupported(f"{where}.activation: expected tanh, got {activation}")
        H = kernel.shape[1] // 4
        recurrent, bias = array(weights[1], names[1], H, 4 * H), array(weights[2], names[2], 4 * H)
        W, U, b = (from_order(each, ORDER).T for each in (kernel, recurrent, bias))
        found: list[Stage] = [*stages, Recurrent("lstm", W, U, b)]
        out = H
    else:
        out = kernel.shape[1]
        flat = array(weights[1], names[1], out) if len(weights) == 2 else np.zeros(out)
        found = with_activation([*stages, Dense(kernel.T, flat)], activation, out, where)
    said = list_at(layer.get("shape") or [out], f"{where}.shape")
    if said and whole(said[-1], f"{where}.shape") != out:
        raise ValueError(f"{where}.shape: expected {out} as of the weights, got {said[-1]}")
    return found


def to_json(network: Network) -> str:
    """Write a network as RTNeural's JSON, with AIDA-X's ``in_skip`` and ``samplerate`` where it has them.

    Args:
        network: LSTM layers without initial states, and dense layers.

    Returns:
        The file's JSON.

    Raises:
        Unsupported: The network has something else.
    """
    if network.skip > 1:
        raise Unsupported(f"RTNeural: skip: expected 0 or 1, got {network.skip}")
    layers = [_layer(stage) for stage in network.stages]
    content: Object = {"in_shape": [None, None, network.input_size], "layers": layers}
    if network.skip:
        content["in_skip"] = network.skip
    metadata = dict(network.metadata)
    if network.sample_rate is not None:
        metadata["samplerate"] = network.sample_rate
    return dump_json(content | ({"metadata": metadata} if metadata else {}))


def _layer(stage: Stage) -> Object:
    weights: list[Any]
    if isinstance(stage, Scale):  # as a dense layer, whose products with zero add nothing
        stage = Dense(np.diag(stage.scale), stage.shift)
    if isinstance(stage, Dense):
        kind, activation = "dense", stage.activation
        weights = [stage.weight.T, stage.bias]
    elif isinstance(stage, Recurrent) and stage.cell == "lstm":
        only_plain(stage, "RTNeural")
        kind, activation = "lstm", "tanh"
        weights = [to_order(each.T, ORDER) for each in (stage.weight_ih, stage.weight_hh, stage.bias)]
    else:
        name = "a plain RNN" if isinstance(stage, Recurrent) else type(stage).__name__
        raise Unsupported(f"RTNeural: no place for {name}")
    return {
        "type": kind,
        "activation": activation,
        "shape": [None, None, stage.widths()[1]],
        "weights": [each.astype(float).tolist() for each in weights],
    }
