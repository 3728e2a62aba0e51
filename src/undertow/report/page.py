"""Puts figures, arrays, style and scripts together into one file that needs nothing else."""

import base64
import json
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.resources import INLINE
from jinja2 import Template

from undertow import atomic
from undertow.palette import css_variables
from undertow.report.figures import LEFT, MOST_INPUTS, PANELS, RIGHT, figures, row_names
from undertow.report.follows import features_of, follow
from undertow.report.inputs import input_rows
from undertow.report.networks import Network, Sequence, Shown
from undertow.tape import Array

SCRIPTS = (
    "arrays",
    "flow",
    "state",
    "colours",
    "maps",
    "units",
    "gradient",
    "captions",
    "cursor",
    "controls",
)
LINE_COLOURS = (
    f":root {{ {css_variables('n')} }}\n:root[data-theme=dark] {{ {css_variables('n', dark=True)} }}\n"
)
LARGE = 16 * 2**20  # bytes in float32 above which the page keeps arrays in float16
LABELS = {
    "c": "cell state c_t",
    "h": "hidden state h_t",
    "f": "forget gate f_t",
    "i": "input gate i_t",
    "o": "output gate o_t",
    "g": "input modulation g_t",
}


def write(path: str | PathLike[str], networks: list[Network], sequence: Sequence) -> None:
    """Write the page on what networks did with one sequence.

    The page holds arrays in float32; above 16 MiB in float16, with 3 significant digits and gradients
    relative to the largest of each step. Weights are always float32. The page states the precision.

    Args:
        path: the file. An older page stays until the new one is complete.
        networks: the networks in the order of the page. They read the same T steps.
        sequence: the sequence that they read.

    Raises:
        OSError: the file cannot be written. An older page stays as it was.
    """
    plots = figures(networks, sequence)
    script, divs = components(plots)
    size = sum(4 * a.size for network in networks for layer in network.layers for a in layer.values.values())
    data = {
        "borders": [LEFT, RIGHT],
        "T": sequence.T,
        "steps": sequence.steps,
        "symbols": sequence.symbols,
        "targets": sequence.targets,
        "predictsNext": sequence.predicts_next,
        "inputNames": sequence.input_names,
        "inputRows": input_rows(sequence),
        "inputs": None if sequence.inputs is None else _packed(sequence.inputs, False),
        "errorUnit": sequence.error_unit,
        "half": size > LARGE,
        "networks": [_network(network, sequence, size > LARGE) for network in networks],
    }
    html = Template(_read("page.html"), autoescape=True).render(
        sequence=sequence, networks=networks, divs=divs, panels=PANELS, labels=LABELS, script=script,
        rows=row_names(sequence), more_inputs=max(0, len(sequence.input_names) - MOST_INPUTS),
        bokeh=INLINE.clone(components=["bokeh"]).render_js(), style=LINE_COLOURS + _read("page.css"),
        scripts=[_read(f"{name}.js") for name in SCRIPTS], data=_json(data),
        errors=any(network.error is not None for network in networks),
    )  # fmt: skip
    atomic.write(Path(path), lambda beside: beside.write_bytes(html.encode()))


def _read(name: str) -> str:
    return files("undertow.report").joinpath(name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """Return JSON that may stand inside a script element."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _network(network: Network, sequence: Sequence, half: bool) -> dict[str, Any]:
    features = features_of(sequence.T, sequence.symbols, sequence.inputs, sequence.input_names)
    weight = network.weight if network.error is not None else 1.0
    return {
        "name": network.name,
        "cell": network.layers[0].cell,
        "onlyAtTheEnd": network.only_at_the_end,
        "entering": None if network.entering is None else _packed(network.entering / weight, half, rows=True),
        "enteringC": None if network.entering_c is None else _packed(network.entering_c / weight, False),
        "error": None if network.error is None else _packed(network.error, False),
        "weight": weight,
        "layers": [_layer(layer, features, half) for layer in network.layers],
    }


def _layer(layer: Shown, features: dict[str, Array], half: bool) -> dict[str, Any]:
    followed = follow(layer.values[layer.state], features)
    state = np.asarray(layer.values[layer.state], np.float64)
    gradients = {name: values for name, values in layer.values.items() if name in ("dc", "dh")}
    forward = {name: values for name, values in layer.values.items() if name not in gradients}
    return {
        "name": layer.name,
        "reverse": layer.reverse,
        "H": state.shape[1],
        "state": layer.state,
        "values": {name: _packed(values, half) for name, values in forward.items()}
        | {name: _packed(values, half, rows=True) for name, values in gradients.items()},
        "c0": _packed(layer.c_0, False),
        "weightHH": _packed(layer.weight_hh, False),
        "weightIH": _packed(layer.weight_ih, False),
        "whyNot": layer.why_not,
        "ownEquations": layer.own_equations,
        "followed": {
            "names": followed.names,
            "match": followed.match.tolist(),
            "r": np.round(followed.r, 3).tolist(),
        },
        "alike": _alike(state),
    }


def _alike(state: Array) -> list[int]:
    """Order units so that similar time courses are neighbours: by the angle in the first principal plane."""
    course = state - state.mean(axis=0)
    length = np.linalg.norm(course, axis=0)
    course = np.divide(course, length, out=np.zeros_like(course), where=length > 0)
    _, _, directions = np.linalg.svd(course, full_matrices=False)
    first, second = (np.pad(directions, ((0, 2), (0, 0))))[:2]
    order: list[int] = np.argsort(np.arctan2(second, first), kind="stable").tolist()
    return order


def _packed(array: Array, half: bool, rows: bool = False) -> dict[str, Any]:
    """Pack an array as little-endian bytes in base64; with ``half`` and ``rows`` each row has a scale."""
    values = np.ascontiguousarray(array, dtype=np.float32)
    packed: dict[str, Any] = {"shape": values.shape, "type": "float16" if half else "float32"}
    if half and rows:
        scale = np.abs(values).max(axis=1, keepdims=True)
        values = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
        packed["scale"] = base64.b64encode(scale.astype("<f4").tobytes()).decode()
    packed["bytes"] = base64.b64encode(values.astype("<f2" if half else "<f4").tobytes()).decode()
    return packed
