"""``.nam`` files of Neural Amp Modeler, architecture LSTM.

The layout is that of NeuralAmpModelerCore (NAM/lstm.cpp): one flat list of numbers. Each layer has
[4H, in+H] row by row with gates i, f, g, o, one bias [4H], then h_0 and c_0 [H], which training leaves
different from zero. The head follows, [outputs, H] row by row and [outputs].
"""

from typing import Any

import numpy as np

from undertow.networks.formats.content import (
    Object,
    array,
    dump_json,
    entry,
    frequency,
    list_at,
    object_at,
    only_plain,
    text,
    whole,
)
from undertow.networks.network import Dense, Network, Recurrent, Unsupported

VERSION = "0.5.4"  # of the files that are written: the newest with LSTMs that all players read


def is_nam(content: Any) -> bool:
    """Tell whether parsed JSON is a ``.nam`` file."""
    return isinstance(content, dict) and {"architecture", "config", "weights"} <= set(content)


def from_json(content: Object) -> Network:
    """Make the network of a parsed ``.nam`` file.

    Args:
        content: The file's JSON.

    Returns:
        The LSTM layers and the linear head, with their initial states.

    Raises:
        Unsupported: The architecture is not LSTM.
        ValueError: An entry is missing or does not fit.
    """
    architecture = text(entry(content, "architecture", ""), "architecture")
    if architecture != "LSTM":
        raise Unsupported(f"architecture: expected LSTM, got {architecture}")
    config = object_at(content["config"], "config")
    L, C, H = (
        whole(entry(config, name, "config"), f"config.{name}", 1, 100_000)
        for name in ("num_layers", "input_size", "hidden_size")
    )
    outputs = whole(config.get("out_channels", 1), "config.out_channels", 1)
    sizes = [C] + [H] * (L - 1)
    expected = sum(4 * H * (size + H + 1) + 2 * H for size in sizes) + outputs * (H + 1)
    flat = array(list_at(content["weights"], "weights"), "weights", expected)
    stages: list[Any] = []
    for size in sizes:
        taken, flat = np.split(flat, [4 * H * (size + H + 1) + 2 * H])
        matrix, bias, h_0, c_0 = np.split(taken, np.cumsum([4 * H * (size + H), 4 * H, H]))
        matrix = matrix.reshape(4 * H, size + H)
        stages.append(Recurrent("lstm", matrix[:, :size], matrix[:, size:], bias, h_0, c_0))
    stages.append(Dense(flat[: outputs * H].reshape(outputs, H), flat[outputs * H :]))
    rest = {name: content[name] for name in content if name not in ("weights", "config", "sample_rate")}
    return Network(
        tuple(stages), sample_rate=frequency(content.get("sample_rate"), "sample_rate"), metadata=rest
    )


def to_json(network: Network) -> str:
    """Write a network as a ``.nam`` file.

    Args:
        network: LSTM layers of equal size and a linear head.

    Returns:
        The file's JSON.

    Raises:
        Unsupported: The network has something else.
    """
    *layers, head = network.stages
    if network.skip:
        raise Unsupported("nam: no place for skip")
    if not isinstance(head, Dense) or head.activation or not layers:
        raise Unsupported("nam: expected LSTM layers and a Dense head without activation")
    H = network.recurrent()[0].hidden_size if network.recurrent() else 0
    flat = []
    for layer in layers:
        if not isinstance(layer, Recurrent) or layer.cell != "lstm":
            raise Unsupported(f"nam: no place for {_name(layer)}")
        only_plain(layer, "nam", "initial state")
        if layer.hidden_size != H:
            raise Unsupported(f"nam: expected layers of equal size, got {H} and {layer.hidden_size}")
        both = np.concatenate([layer.weight_ih, layer.weight_hh], axis=1)
        flat += [both.ravel(), layer.bias, layer.h_0, layer.c_0]
    flat += [head.weight.ravel(), head.bias]
    known = network.metadata if is_nam({**network.metadata, "config": {}, "weights": []}) else {}
    metadata = known.get("metadata", network.metadata)
    content = {
        "version": known.get("version", VERSION),
        "metadata": metadata,
        "architecture": "LSTM",
        "config": _config(network, H, len(layers)),
        "weights": np.concatenate(flat).astype(float).tolist(),
    }
    if network.sample_rate is not None:
        content["sample_rate"] = network.sample_rate
    return dump_json(content)


def _config(network: Network, H: int, L: int) -> Object:
    config = {"input_size": network.input_size, "hidden_size": H, "num_layers": L}
    if network.input_size > 1:
        config["in_channels"] = network.input_size
    if network.output_size > 1:
        config["out_channels"] = network.output_size
    return config


def _name(stage: Any) -> str:
    return f"a plain {stage.cell.upper()}" if isinstance(stage, Recurrent) else type(stage).__name__
