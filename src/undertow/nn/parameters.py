"""Parameters that torch's modules do not have: initial states, norms, peepholes, a width for each layer.

torch's lists (``all_weights``, ``_flat_weights``) do not contain them. Their names follow torch's:
``_l0`` for the layer, counted from 0, and ``_reverse`` for the direction.
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
    """Return H of each layer.

    Args:
        layer: an ``LSTM`` or ``RNN``.

    Returns:
        L widths.
    """
    H = layer.hidden_size
    return H if isinstance(H, tuple) else (H,) * layer.num_layers


def pop_widths(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Separate the widths of the layers from the arguments for torch's constructor.

    Args:
        args: the positional arguments of the module's constructor.
        options: its keyword arguments; those that the result holds as positional arguments are removed.

    Returns:
        The positional arguments for torch, with the first width as hidden_size, and the widths; the arguments
        as they are and None if hidden_size is not a list or tuple.

    Raises:
        TypeError: a width is not an int.
        ValueError: a width is below 1, or the widths do not agree with num_layers.
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
    """Give each layer its own width, and draw new weights.

    Args:
        layer: an ``LSTM`` or ``RNN`` that torch's constructor has made.
        found: L widths.

    Raises:
        ValueError: the module has projections.
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
    """Names and shapes of the parameters that the module's options ask for."""
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
    """Add the parameters that the module's options ask for, with the dtype and device of its weights.

    Args:
        layer: an ``LSTM`` or ``RNN`` with options.
    """
    for name, shape in _shapes(layer).items():
        layer.register_parameter(name, Parameter(getattr(layer, layer._all_weights[0][0]).new_empty(shape)))
    start(layer)


@torch.no_grad()
def start(layer: Any) -> None:
    """Set gains to one and the package's other parameters to zero.

    So the module starts as the LSTM without them, with the same weights for a seed. Peepholes may start
    at zero because their gradient, the gate's gradient times c, is not zero there.

    Args:
        layer: an ``LSTM`` or ``RNN`` with options.
    """
    for name in _shapes(layer):
        if hasattr(layer, name):  # they do not exist yet when torch's constructor first draws the weights
            getattr(layer, name).fill_(1 if name.startswith("gain") else 0)


@torch.no_grad()
def draw(layer: Any) -> None:
    """Draw torch's initial values for torch's parameters, U(-1/√H, 1/√H) with each layer's own H.

    Args:
        layer: an ``LSTM`` or ``RNN`` with options.
    """
    others, H = _shapes(layer), widths(layer)
    for name, p in layer.named_parameters():
        if name not in others:
            found = re.search(r"_l(\d+)", name)
            bound = 1 / math.sqrt(H[int(found[1]) if found else 0])  # 0: others may add parameters
            p.uniform_(-bound, bound)


def initial(layer: Any) -> list[Any]:
    """Return the learnt initial states.

    Args:
        layer: an ``LSTM`` or ``RNN``.

    Returns:
        h and for the LSTM c: [L*D,·] each, a tuple of L tensors [D,H] each if each layer has its own width;
        an empty list if the module learns no initial states.
    """
    if layer._options is None or not layer._options.learn_initial_state:
        return []
    kinds = ("h_0", "c_0") if layer.mode == "LSTM" else ("h_0",)
    if isinstance(layer.hidden_size, tuple):
        return [tuple(getattr(layer, f"{s}_l{k}") for k in range(layer.num_layers)) for s in kinds]
    return [getattr(layer, s) for s in kinds]


def of_layer(states: Any, k: int, D: int) -> Tensor:
    """Return the states of one layer.

    Args:
        states: h or c of a module, [L*D,...], or a tuple of L tensors [D,...].
        k: the layer, counted from 0.
        D: the number of directions.

    Returns:
        [D,...].
    """
    return states[k] if isinstance(states, tuple | list) else states[k * D : (k + 1) * D]  # type: ignore[no-any-return]


def variant(layer: Any, k: int) -> Variant:
    """Collect what the module's parameters add to the equations of one layer.

    Args:
        layer: an ``LSTM`` or ``RNN`` with options.
        k: the layer, counted from 0.

    Returns:
        The ``Variant``, with tensors of all directions stacked, [D,...].
    """
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
