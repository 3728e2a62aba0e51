"""Run folders of ``undertow train``, read without torch and the libraries of the command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertow.networks.formats import state_dict, tensors
from undertow.networks.formats.content import (
    Object,
    array,
    entry,
    list_at,
    load_bytes,
    load_json,
    number,
    object_at,
    plain,
    text,
    whole,
)
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

FORMAT = 1  # of the run folder, as app/runs/folder.py writes it
CONFIG, MODEL = "config.json", "model.safetensors"


def from_folder(folder: Path) -> Network:
    """Make the network of a run: text, labelled sequences, ``--simulate``, a built-in problem or sound.

    Args:
        folder: The run folder.

    Returns:
        The network with its normaliser or embedding, its readout and, for numbers, their unit. Outputs of
        classes are logits, as the module's. The levels of sound are part of the weights, so that any format
        of LSTM and Dense holds them.

    Raises:
        Unsupported: The run is a forecast, whose windows and decoder no stage represents, has an embedding of
            the series, or is an ensemble.
        ValueError: The folder is no run, or damaged.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(f"not a run folder (it holds no {CONFIG})")
    content = object_at(load_json(load_bytes(folder / CONFIG), CONFIG), CONFIG)
    version = entry(content, "undertow_run", f"{CONFIG}: not written by undertow")
    if version != FORMAT:
        raise Unsupported(f"{CONFIG}: undertow_run: this version of undertow reads {FORMAT}, got {version!r}")
    if (folder / "members").is_dir():
        raise Unsupported("an ensemble; read one of its members, such as members/1")
    names = ("model", "data", "facts")
    model, data, facts = (object_at(entry(content, name, CONFIG), name) for name in names)
    task = text(entry(data, "task", "data"), "data.task")
    if model.get("residual") or model.get("ahead"):
        raise Unsupported("a forecast: its windows and its decoder have no counterpart; use undertow predict")
    if model.get("series"):
        raise Unsupported("an embedding of the series (--embed-group): it has no counterpart")
    try:
        held, _ = tensors.read(load_bytes(folder / MODEL))
    except ValueError as error:
        raise type(error)(f"{MODEL}: {error}") from None
    stages = _stages(model, held)
    if held:
        raise ValueError(f"{MODEL}: damaged: {next(iter(held))} is not expected")
    about = {name: content.get(name) for name in ("created", "versions", "unit")}
    source = Path(str(data.get("source", ""))).name  # a file that is passed on tells of no folders
    metadata = plain({"task": task, "source": source, **about})
    labels = _labels(task, model, data, facts)
    count = stages[-1].widths()[1]
    known = tuple(labels) if len(labels) == count else ()
    return Network(
        tuple(stages),
        skip=int(bool(model.get("skip"))),
        sample_rate=None if task != "sound" else number(facts.get("sample_rate"), "facts.sample_rate"),
        labels=known,
        metadata=metadata,
        once=model.get("readout") != "every",
    )


def _stages(model: Object, held: dict[str, Any]) -> list[Stage]:
    """The stages of a model; the tensors that they take are taken out of ``held``."""

    def take(name: str, *shape: int | None) -> Any:
        entry(held, name, f"{MODEL}: damaged")
        return array(held.pop(name), name, *shape)

    first: list[Stage]
    if whole(model.get("symbols", 0), "model.symbols"):
        first = [Embedding(take("embedding.weight", None, None))]
    else:
        first = [Normalise(take("centre", None), take("scale", None))]
    own = {name: held.pop(name) for name in list(held) if name.startswith("rnn.")}
    layers = state_dict.recurrent(own, "rnn.")
    cell, H, L = (entry(model, name, "model") for name in ("cell", "hidden_size", "num_layers"))
    for layer in layers:
        one = layer.forward if isinstance(layer, Bidirectional) else layer
        if getattr(one, "cell", "") != cell or getattr(one, "hidden_size", 0) != H or len(layers) != L:
            raise ValueError(f"{MODEL}: damaged: {CONFIG} asks for {L} layers of {H} units, {cell}")
    width, readout = layers[-1].widths()[1], text(entry(model, "readout", "model"), "model.readout")
    stages = first + layers
    if readout == "last" and isinstance(layers[-1], Bidirectional):
        stages.append(Pool("ends", width))
    elif readout not in ("every", "last"):
        query = take("readout.query", width) if readout == "attention" else None
        stages.append(Pool(readout, width, query))  # type: ignore[arg-type]
    stages.append(Dense(take("head.weight", None, None), take("head.bias", None)))
    if model.get("quantity"):
        stages.append(Scale(take("units.scale", None), take("units.centre", None)))
    return _folded(stages) if model.get("linear") else stages


def _folded(stages: list[Stage]) -> list[Stage]:
    """Layers and a head, with the levels around them in their weights: the scaling of sound is linear."""
    level, first, *layers, head, unit = stages
    if not (isinstance(level, Normalise) and isinstance(first, Recurrent)):
        raise ValueError("model.linear: damaged: expected layers that read features in one direction")
    if not (isinstance(head, Dense) and isinstance(unit, Scale)):
        raise ValueError("model.linear: damaged: expected a head with the unit of its numbers")
    W = first.weight_ih.astype(np.float64) / level.scale
    first = replace(first, weight_ih=W, bias=first.bias - W @ level.centre)
    weight, bias = (each.astype(np.float64) for each in (head.weight, head.bias))
    head = Dense(unit.scale[:, None] * weight, unit.scale * bias + unit.shift)
    return [first, *layers, head]


def _labels(task: str, model: Object, data: Object, facts: Object) -> list[str]:
    """What the outputs are called; empty where the run does not say."""
    if task == "classify":
        return [str(each) for each in list_at(facts.get("classes") or [], "facts.classes")]
    if task == "regress":
        return [str(data.get("label") or "")]
    if task != "text" or facts.get("symbols") == "bpe":
        return []
    if facts.get("symbols") == "bytes":
        return [repr(bytes([k]))[2:-1] for k in range(256)]
    return [str(each) for each in list_at(facts.get("vocabulary") or [], "facts.vocabulary")]
