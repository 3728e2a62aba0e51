"""State dicts of torch: which modules they hold, and the chain that they form.

Names are those of ``torch.nn.LSTM`` and ``RNN`` (``weight_ih_l0``, ``_reverse``, ``weight_hr_l0``), of
``undertow.LSTM``'s own parameters (``peephole_l0``, ``gain_ih_l0``, ``h_0``), of ``nn.Linear`` and
``nn.Embedding``. A state dict has no activations and no order of calls, so only a chain that these names and
sizes leave no doubt about is read: one way in which all modules fit, and no linear layer but the last.

Tensors do not show ``coupled``, ``zoneout`` and relu either. undertow's modules note these in the state
dict's ``_metadata``, which ``torch.save`` keeps. Where nothing is noted torch's equations are assumed.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from undertow.networks.formats.content import array, join
from undertow.networks.network import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Recurrent,
    Stage,
    Unsupported,
)

Tensors = Mapping[str, Any]  # arrays by name
OF_LAYER = re.compile(r"(.*?)(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr|peephole|gain_ih|gain_hh|gain_c|"
                      r"shift_c)_l(\d+)(_reverse)?")  # fmt: skip
OF_STATE = re.compile(r"(.*?)(h_0|c_0)(?:_l(\d+))?")
MOST = 8  # modules of a chain


def from_tensors(
    tensors: Tensors, metadata: dict[str, Any] | None = None, noted: Mapping[str, Any] | None = None
) -> Network:
    """Make the network of a state dict.

    Args:
        tensors: Its arrays by name.
        metadata: What else the file says.
        noted: What the state dict's ``_metadata`` say of each module, by its name.

    Returns:
        The only chain that all modules fit into. Its metadata say what had to be ``assumed``.

    Raises:
        Unsupported: It holds other modules, such as a GRU, or the chain is not clear without the program.
        ValueError: Shapes do not fit.
    """
    modules, assumed = _modules(tensors), ""
    for name, stages in modules.items():
        if isinstance(stages[0], Recurrent | Bidirectional):
            modules[name], own = _with_options(stages, (noted or {}).get(name.rstrip(".")))
            assumed = assumed or own
    if assumed:
        metadata = (metadata or {}) | {"assumed": assumed}
    if not any(isinstance(stages[0], Recurrent | Bidirectional) for stages in modules.values()):
        raise Unsupported("no weight_ih_l0: expected the state dict of an LSTM or RNN")
    chain = _order(modules)
    for one, after in pairwise(chain):
        if isinstance(modules[one][0], Dense):
            raise Unsupported(
                f"{one}: a linear layer before {after}: a state dict does not say which activation follows it"
            )
    return Network(tuple(stage for name in chain for stage in modules[name]), metadata=metadata or {})


def recurrent(tensors: Tensors, prefix: str) -> list[Stage]:
    """Make the layers of one module of torch.

    Args:
        tensors: Arrays by name.
        prefix: What stands before ``weight_ih_l0`` in their names, with its dot.

    Returns:
        One stage for each layer.

    Raises:
        Unsupported: It is a GRU.
        ValueError: Something is missing or does not fit.
    """
    own = {name[len(prefix) :]: tensors[name] for name in tensors if name.startswith(prefix)}
    pattern = re.compile(r"weight_ih_l(\d+)")
    count = len({found[1] for name in own if (found := pattern.fullmatch(name))})
    if not count:
        raise ValueError(f"damaged: {prefix}weight_ih_l0 is missing")
    both = "weight_ih_l0_reverse" in own
    for name in own:
        layer, state = OF_LAYER.fullmatch(name), OF_STATE.fullmatch(name)
        beyond = layer and not layer[1] and (int(layer[3]) >= count or (layer[4] and not both))
        if beyond or (state and not state[1] and int(state[3] or 0) >= count):
            raise ValueError(f"damaged: {prefix}{name} belongs to no layer")
        rows = (1 + both) * (1 if state and state[3] else count)
        if state and not state[1] and np.shape(own[name])[:1] != (rows,):
            raise ValueError(f"{prefix}{name}: expected {rows} rows, got shape {list(np.shape(own[name]))}")
    stages: list[Stage] = []
    for k in range(count):
        stages.append(
            Bidirectional(_layer(own, prefix, k, False, 2), _layer(own, prefix, k, True, 2))
            if both
            else _layer(own, prefix, k, False, 1)
        )
    return stages


def linear(tensors: Tensors, prefix: str, activation: str = "") -> Dense:
    """Make a dense layer of ``prefix.weight`` [O,I] and ``prefix.bias`` [O], zero where it is missing."""
    weight = array(_get(tensors, f"{prefix}.weight"), f"{prefix}.weight", None, None)
    bias = tensors.get(f"{prefix}.bias")
    flat = np.zeros(len(weight)) if bias is None else array(bias, f"{prefix}.bias", len(weight))
    return Dense(weight, flat, activation)  # type: ignore[arg-type]


def _layer(own: Tensors, prefix: str, k: int, reverse: bool, D: int) -> Recurrent:
    """One layer in one direction."""
    end = f"_l{k}{'_reverse' * reverse}"

    def get(name: str) -> Any:
        found = own.get(name + end)
        return None if found is None else array(found, prefix + name + end)

    W = array(_get(own, "weight_ih" + end, prefix), f"{prefix}weight_ih{end}", None, None)
    U = array(_get(own, "weight_hh" + end, prefix), f"{prefix}weight_hh{end}", len(W), None)
    projected = get("weight_hr")
    H = U.shape[1] if projected is None else projected.shape[-1]
    cells = {4 * H: "lstm", H: "rnn"}
    if len(W) == 3 * H:
        raise Unsupported(f"{prefix or 'weight_ih' + end}: expected an LSTM or RNN, got a GRU")
    if not H or len(W) not in cells:
        raise ValueError(f"{prefix}weight_ih{end}: {len(W)} rows do not fit {H} units")
    biases = [get(name) for name in ("bias_ih", "bias_hh")]
    bias = sum((each.astype(np.float64) for each in biases if each is not None), np.zeros(len(W)))
    norms = {"gain_x": "gain_ih", "gain_h": "gain_hh", "gain_c": "gain_c", "bias_c": "shift_c"}
    return Recurrent(
        cells[len(W)],  # type: ignore[arg-type]
        W,
        U,
        bias,
        weight_hr=projected,
        peepholes=get("peephole"),
        reverse=reverse,
        **{name: get(theirs) for name, theirs in norms.items()},
        **{name: _state(own, prefix, name, k, reverse, D) for name in ("h_0", "c_0")},
    )


def _state(own: Tensors, prefix: str, name: str, k: int, reverse: bool, D: int) -> Any:
    """The initial state that a layer has learnt, of ``h_0`` [L*D,.] or ``h_0_l0`` [D,.]; None: zero."""
    for key, row in ((name, k * D + reverse), (f"{name}_l{k}", int(reverse))):
        if key in own:
            return array(own[key], prefix + key, None, None)[row]
    return None


def _with_options(stages: list[Stage], noted: Any) -> tuple[list[Stage], str]:
    """The layers of a module with what was noted of it, and what had to be assumed."""
    layers = [layer for stage in stages for layer in stage.directions()]  # type: ignore[union-attr]
    lstm, said = layers[0].cell == "lstm", noted.get("undertow") if isinstance(noted, dict) else None
    if said is None:
        own = any(layer.peepholes is not None or layer.gain_x is not None for layer in layers)
        usual = "coupled=False and zoneout=0" if lstm else "nonlinearity='tanh' and zoneout=0"
        return stages, "" if lstm and noted is not None and not own else usual
    about = said if isinstance(said, dict) else {}
    coupled, relu, zoneout = about.get("coupled"), about.get("relu"), about.get("zoneout")
    pair = zoneout if isinstance(zoneout, tuple | list) else ()
    if [type(rate) for rate in pair] != [float, float] or type(coupled) is not bool or type(relu) is not bool:
        raise ValueError(f"damaged: the options of a module are noted as {said!r}")
    options: dict[str, Any] = {"zoneout": tuple(pair), "nonlinearity": "relu" if relu else "tanh"}
    if not lstm:
        options["zoneout"] = (pair[0], 0.0)

    def given(layer: Recurrent) -> Recurrent:
        return replace(layer, coupled=coupled, **options)

    return [
        Bidirectional(given(stage.forward), given(stage.backward))
        if isinstance(stage, Bidirectional)
        else given(stage)  # type: ignore[arg-type]
        for stage in stages
    ], ""


def _modules(tensors: Tensors) -> dict[str, list[Stage]]:
    """The stages of each module, by its name."""
    found: dict[str, list[Stage]] = {}
    used: set[str] = set()
    for name in tensors:
        layer, state = OF_LAYER.fullmatch(name), OF_STATE.fullmatch(name)
        if layer or (state and f"{state[1]}weight_ih_l0" in tensors):
            prefix = (layer or state)[1]  # type: ignore[index]
            used.add(name)
            if prefix not in found:
                found[prefix] = recurrent(tensors, prefix)
        elif name.endswith((".weight", ".bias")) or name in ("weight", "bias"):
            module = name.rpartition(".")[0]
            if module in found:
                used.add(name)
                continue
            weight = tensors.get(f"{module}.weight" if module else "weight")
            if weight is None or np.ndim(weight) != 2:
                continue
            used.add(name)
            embeds = "emb" in module.lower() and f"{module}.bias" not in tensors
            found[module] = [Embedding(array(weight, name))] if embeds else [linear(tensors, module)]
    rest = [name for name in tensors if name not in used]
    if rest:
        raise Unsupported(f"{join(rest)}: expected parameters of LSTM, RNN, Linear and Embedding only")
    return found


def _order(modules: dict[str, list[Stage]]) -> list[str]:
    """The only order in which each module reads what the one before it gives."""
    if len(modules) > MOST:
        raise Unsupported(f"{len(modules)} modules: expected at most {MOST}")
    ends = {name: (stages[0].widths()[0], stages[-1].widths()[1]) for name, stages in modules.items()}
    last = [name for name, stages in modules.items() if isinstance(stages[0], Dense)]
    first = [name for name, stages in modules.items() if isinstance(stages[0], Embedding)]
    found: list[list[str]] = []

    def extend(chain: list[str]) -> None:
        if len(chain) == len(modules):
            found.append(chain)
        for name in modules:
            fits = not chain or ends[chain[-1]][1] == ends[name][0]
            early = name in first and chain  # an embedding reads symbols
            if name not in chain and fits and not early:
                extend([*chain, name])

    extend([])
    if not found:
        raise Unsupported(f"{_named(modules)}: their sizes do not form a chain")
    heads_last = [chain for chain in found if not last or set(chain[-len(last) :]) == set(last)]
    found = heads_last or found
    if len(found) > 1:
        ways = " or ".join(_named(each) for each in found[:2])
        raise Unsupported(f"the order of the modules is not clear: {ways}")
    return found[0]


def _named(modules: Any) -> str:
    return " → ".join(name.rstrip(".") or "the recurrent module" for name in modules)


def _get(tensors: Tensors, name: str, prefix: str = "") -> Any:
    if name not in tensors:
        raise ValueError(f"damaged: {prefix}{name} is missing")
    return tensors[name]
