"""The parameters that torch's modules do not have: initial states, norms, peepholes; and a width a layer.

They are registered beside torch's, whose lists (``all_weights``, ``_flat_weights``) do not hold them. Names
are in torch's manner, ``_l0`` for the layer and ``_reverse`` for the direction.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from undertow.kernels.call import Variant
from undertow.layout import N_GATES

_TORCHS = ("input_size", "hidden_size", "num_layers")  # the first arguments of its constructors


def widths(layer: Any) -> Sequence[int]:
    """H of each layer."""
    H = layer.hidden_size
    return H if isinstance(H, tuple) else (H,) * layer.num_layers


def pop_widths(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """The arguments for torch's constructor, and the widths, or None where hidden_size is no list or tuple.

    torch is given the first width; ``options`` loses what then stands in the arguments. Raises TypeError or
    ValueError, naming it, for what cannot be widths or does not agree with num_layers.
    """
    given = {**dict(zip(_TORCHS, args, strict=False)), **options}
    found = given.get("hidden_size")
    if not isinstance(found, list | tuple) or "input_size" not in given:
        return args, None
    for H in found:
        if not isinstance(H, int) or isinstance(H, bool):
            raise TypeError(f"hidden_size: expected an int for each layer, got {type(H).__name__}")
    if not found or min(found) < 1:
        raise ValueError(f"hidden_size: expected a width of at least 1 for each layer, got {found}")
    L = len(found)
    if given.get("num_layers", L) != L:
        raise ValueError(f"num_layers: expected {L}, as hidden_size has widths, got {given['num_layers']}")
    for name in _TORCHS:
        options.pop(name, None)
    return (given["input_size"], found[0], L, *args[3:]), tuple(found)


def set_widths(layer: Any, found: tuple[int, ...]) -> None:
    """Give a module that torch has made its own width in each layer; its weights are drawn anew.

    Raises ValueError where it has projections.
    """
    if layer.proj_size:
        raise ValueError(
            f"proj_size: expected 0 with hidden_size={found}, got {layer.proj_size}: "
            "it would give all layers the same width of h"
        )
    layer.hidden_size = found
    D, G = 2 if layer.bidirectional else 1, N_GATES["lstm" if layer.mode == "LSTM" else "rnn"]
    for k, H in enumerate(found):
        C = layer.input_size if k == 0 else D * found[k - 1]
        shapes = {"weight_ih": (G * H, C), "weight_hh": (G * H, H), "bias_ih": (G * H,), "bias_hh": (G * H,)}
        for names in layer._all_weights[k * D : (k + 1) * D]:
            for name in names:
                new = getattr(layer, name).new_empty(shapes[name.partition("_l")[0]])
                setattr(layer, name, Parameter(new))
    layer._init_flat_weights()
    layer.reset_parameters()


def _ends(layer: Any, k: int) -> list[str]:
    return [f"_l{k}", f"_l{k}_reverse"] if layer.bidirectional else [f"_l{k}"]


def _shapes(layer: Any) -> dict[str, tuple[int, ...]]:
    """Of what the module's options ask for: name -> shape."""
    found: dict[str, tuple[int, ...]] = {}
    D, L, options = 2 if layer.bidirectional else 1, layer.num_layers, layer._options
    if options.learn_initial_state:
        kinds = ("h_0", "c_0") if layer.mode == "LSTM" else ("h_0",)
        if isinstance(layer.hidden_size, tuple):
            found |= {f"{s}_l{k}": (D, H) for k, H in enumerate(layer.hidden_size) for s in kinds}
        else:
            H = layer.hidden_size
            sizes = {"h_0": layer.proj_size or H, "c_0": H}
            found |= {s: (L * D, sizes[s]) for s in kinds}
    for k, H in enumerate(widths(layer)):
        for end in _ends(layer, k):
            if options.layer_norm:
                found |= {f"gain_ih{end}": (4 * H,), f"gain_hh{end}": (4 * H,)}
                found |= {f"gain_c{end}": (H,), f"shift_c{end}": (H,)}
            if options.peepholes:
                found[f"peephole{end}"] = (3, H)
    return found


def register(layer: Any) -> None:
    """Add the parameters that the module's options ask for, of the dtype and on the device of its weights."""
    for name, shape in _shapes(layer).items():
        layer.register_parameter(name, Parameter(getattr(layer, layer._all_weights[0][0]).new_empty(shape)))
    start(layer)


@torch.no_grad()
def start(layer: Any) -> None:
    """Gains one, all else zero: so it begins as the LSTM without, from the same seed with the same weights.

    Peepholes may begin at zero because their gradients, those of the gates times c, do not vanish there.
    """
    for name in _shapes(layer):
        if hasattr(layer, name):  # not yet, when torch's constructor first draws the weights
            getattr(layer, name).fill_(1 if name.startswith("gain") else 0)


@torch.no_grad()
def draw(layer: Any) -> None:
    """torch's initial values of its own parameters, U(-1/√H, 1/√H) with each layer's own H."""
    others, H = _shapes(layer), widths(layer)
    for name, p in layer.named_parameters():
        if name not in others:
            found = re.search(r"_l(\d+)", name)
            bound = 1 / math.sqrt(H[int(found[1]) if found else 0])  # torch draws what others added, too
            p.uniform_(-bound, bound)


def initial(layer: Any) -> list[Any]:
    """The learnt initial states, h and for the LSTM c: each [L*D,·], with widths L of [D,·]; or none."""
    if layer._options is None or not layer._options.learn_initial_state:
        return []
    kinds = ("h_0", "c_0") if layer.mode == "LSTM" else ("h_0",)
    if isinstance(layer.hidden_size, tuple):
        return [tuple(getattr(layer, f"{s}_l{k}") for k in range(layer.num_layers)) for s in kinds]
    return [getattr(layer, s) for s in kinds]


def of_layer(states: Any, k: int, D: int) -> Tensor:
    """Of h or c of a whole module, in torch's form or a tensor for each layer, those of layer k: [D,...]."""
    return states[k] if isinstance(states, tuple | list) else states[k * D : (k + 1) * D]  # type: ignore[no-any-return]


def variant(layer: Any, k: int) -> Variant:
    """What the module's parameters add to the equations of layer k."""
    options = layer._options

    def stacked(name: str) -> Tensor:
        found = [getattr(layer, name + end) for end in _ends(layer, k)]
        return found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)

    found = Variant(coupled=options.coupled)
    if options.peepholes:
        found = found._replace(peepholes=stacked("peephole"))
    if options.layer_norm:
        found = found._replace(gain_x=stacked("gain_ih"), gain_h=stacked("gain_hh"))
        found = found._replace(gain_c=stacked("gain_c"), bias_c=stacked("shift_c"))
    return found
