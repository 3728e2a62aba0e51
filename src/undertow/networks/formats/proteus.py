"""JSON of GuitarML's programs (Proteus, NeuralPi) and their training code, Automated-GuitarAmpModelling.

``model_data`` describes the network and ``state_dict`` holds the tensors of its torch modules, the recurrent
one ``rec`` and the linear one ``lin``. ``skip`` is 1 where the input is added to the output.
"""

from typing import Any

from undertow.networks.formats.content import Object, array, entry, object_at, text, whole
from undertow.networks.formats.state_dict import OF_LAYER, linear, recurrent
from undertow.networks.network import Network, Recurrent, Unsupported


def is_proteus(content: Any) -> bool:
    """Tell whether parsed JSON is a model of GuitarML's programs."""
    return isinstance(content, dict) and {"model_data", "state_dict"} <= set(content)


def from_json(content: Object) -> Network:
    """Make the network of a parsed model of GuitarML's programs.

    Args:
        content: The file's JSON.

    Returns:
        The layers of ``rec``, the dense layer ``lin``, and ``skip``.

    Raises:
        Unsupported: The model is no SimpleRNN of LSTM units.
        ValueError: An entry is missing or does not fit.
    """
    data = object_at(content["model_data"], "model_data")
    tensors = {
        name: array(value, f"state_dict.{name}")
        for name, value in object_at(content["state_dict"], "state_dict").items()
    }
    model = text(data.get("model", "SimpleRNN"), "model_data.model")
    unit = text(entry(data, "unit_type", "model_data"), "model_data.unit_type")
    if model != "SimpleRNN":
        raise Unsupported(f"model_data.model: expected SimpleRNN, got {model}")
    if unit != "LSTM":
        raise Unsupported(f"model_data.unit_type: expected LSTM, got {unit}")
    strange = [name for name in tensors if not _is_known(name)]
    if strange:
        raise Unsupported(f"state_dict.{strange[0]}: expected an LSTM rec and a linear layer lin only")
    skip = whole(data.get("skip", 0), "model_data.skip")
    layers, head = recurrent(tensors, "rec."), linear(tensors, "lin")
    if skip > min(len(head.weight), layers[0].widths()[0] if layers else 0):
        raise Unsupported(f"model_data.skip: {skip} inputs cannot be added to {len(head.weight)} outputs")
    network = Network((*layers, head), skip=skip, metadata={"model_data": data})
    sizes = {
        "input_size": network.input_size,
        "output_size": network.output_size,
        "num_layers": len(layers),
        "hidden_size": layers[0].hidden_size if isinstance(layers[0], Recurrent) else 0,
    }
    for name, found in sizes.items():
        if name in data and whole(data[name], f"model_data.{name}") != found:
            raise ValueError(f"model_data.{name}: the tensors have {found}, got {data[name]}")
    return network


def _is_known(name: str) -> bool:
    layer = OF_LAYER.fullmatch(name)
    return name in ("lin.weight", "lin.bias") or (layer is not None and layer[1] == "rec.")
