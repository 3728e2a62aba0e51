"""``undertow.load``: other people's networks as torch modules, which trace and doctor see."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from undertow import networks
from undertow.networks import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Unsupported,
)
from undertow.networks.formats import state_dict
from undertow.nn.module import LSTM, RNN

_Layer = Recurrent | Bidirectional
_OWN = {
    "gain_ih": "gain_x", "gain_hh": "gain_h", "shift_c": "bias_c", "peephole": "peepholes", "bias_ih": "bias",
}  # fmt: skip


def load(path: str | PathLike[str] | Network, part: str = "") -> "Loaded":
    """Load a trained network as a torch module. Public as ``undertow.load``.

    Args:
        path: A file of any format that ``undertow.networks.read`` knows, a run folder, or a Network.
        part: As of ``undertow.networks.read``.

    Returns:
        The module, in eval mode. It computes what the program that wrote the file computes.

    Raises:
        networks.Unsupported: The file holds what a Network cannot represent, or the two directions of a layer
            have different options.
        ValueError: The file cannot be read, is damaged, or of no known format.
    """
    network = path if isinstance(path, Network) else networks.read(path, part)  # type: ignore[arg-type]
    return Loaded(network).eval()


class Loaded(nn.Module):
    """A Network as a torch module.

    Consecutive recurrent layers with the same options are one ``undertow.LSTM`` or ``RNN``. The first such
    module is called ``rnn``, further ones ``rnn_2``, ``rnn_3``, ...

    Args:
        network: The network.

    Attributes:
        network: The network, as it was loaded.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._chain: list[str] = []
        for stages in network.grouped(_same):
            kind, module = _module(stages)
            count = sum(name == kind or name.startswith(f"{kind}_") for name in self._chain)
            name = f"{kind}_{count + 1}" if count else kind
            self.add_module(name, module)
            self._chain.append(name)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs.

        Args:
            x: [T,N,C] float32, or [T,N] int64 symbols with an embedding. The initial states are the file's.

        Returns:
            [T,N,O]; [N,O] of a network that answers once for the whole sequence.
        """
        y = x
        for name in self._chain:
            y = self.get_submodule(name)(y)
            y = y[0] if isinstance(y, tuple) else y
        if skip := self.network.skip:
            given = x[-1] if y.dim() == 2 else x
            y = torch.cat([y[..., :skip] + given[..., :skip], y[..., skip:]], dim=-1)
        return y[-1] if self.network.once and y.dim() == 3 else y

    def to_network(self) -> Network:
        """Return the network with the present weights, which training may have changed."""
        stages: list[Any] = []
        for name, old in zip(self._chain, self.network.grouped(_same), strict=True):
            held = self.get_submodule(name).state_dict()
            tensors = {key: value.detach().cpu().numpy() for key, value in held.items()}
            if isinstance(old[0], _Layer):
                for new, was in zip(state_dict.recurrent(tensors, ""), old, strict=True):
                    stages.append(_with_options(new, was))
            else:
                stages.append(replace(old[0], **tensors))
        return replace(self.network, stages=tuple(stages))


def _with_options(new: Any, was: Any) -> Any:
    """A layer with the options that a state dict does not hold."""
    if isinstance(was, Bidirectional):
        ends = ("forward", "backward")
        return Bidirectional(*(_with_options(getattr(new, end), getattr(was, end)) for end in ends))
    return replace(new, coupled=was.coupled, zoneout=was.zoneout, nonlinearity=was.nonlinearity)


def _same(one: _Layer, other: _Layer) -> bool:
    return _options(one) == _options(other)


def _options(stage: _Layer) -> dict[str, Any]:
    """What the layers of one module share."""
    layers = stage.directions()
    found = [
        {
            "cell": each.cell,
            "proj_size": each.output_size if each.weight_hr is not None else 0,
            "H of projections": each.hidden_size if each.weight_hr is not None else 0,
            "peepholes": any(one.peepholes is not None for one in layers),
            "coupled": each.coupled,
            "layer_norm": each.gain_x is not None,
            "zoneout": each.zoneout,
            "nonlinearity": each.nonlinearity,
        }
        for each in layers
    ]
    if found[0] != found[-1]:
        different = next(name for name in found[0] if found[0][name] != found[1][name])
        raise Unsupported(f"{different}: expected the same in both directions of a layer")
    return found[0] | {"bidirectional": len(layers) == 2}


def _module(stages: Sequence[Any]) -> tuple[str, nn.Module]:
    """The kind of a module, and the module."""
    first = stages[0]
    if isinstance(first, _Layer):
        return "rnn", _recurrent(stages)
    if isinstance(first, Embedding):
        return "embedding", _Embedding(first)
    kinds = {Normalise: _Normalise, Scale: _Scale, Dense: _Dense, Pool: _Pool}
    kind = type(first)
    return kind.__name__.lower(), kinds[kind](first)


def _recurrent(stages: Sequence[_Layer]) -> nn.Module:
    """One LSTM or RNN with the weights of its layers."""
    options, layers = _options(stages[0]), [stage.directions() for stage in stages]
    lstm = options["cell"] == "lstm"
    widths = [each[0].hidden_size for each in layers]
    given: dict[str, Any] = {"bidirectional": options["bidirectional"], "zoneout": options["zoneout"]}
    if lstm:
        given |= {name: options[name] for name in ("peepholes", "coupled", "layer_norm", "proj_size")}
    else:
        given["nonlinearity"] = options["nonlinearity"]
        given["zoneout"] = options["zoneout"][0]
    if options["zoneout"] == (0.0, 0.0):
        del given["zoneout"]
    states = any(np.any(each.h_0) or (lstm and np.any(each.c_0)) for pair in layers for each in pair)
    if states:
        given["learn_initial_state"] = True
    sizes: Any = widths[0] if len(set(widths)) == 1 else widths
    try:
        module = (LSTM if lstm else RNN)(layers[0][0].widths()[0], sizes, len(layers), **given)
    except (TypeError, ValueError) as error:  # options that exclude each other
        raise Unsupported(str(error)) from None
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(_tensor(_value(name, layers)))
    return module


def _value(name: str, layers: list[list[Recurrent]]) -> Any:
    """The value of a parameter, by torch's name: that of a layer, or initial states of all or of one."""
    field, _, end = name.partition("_l")
    if field in ("h_0", "c_0"):
        chosen = layers[int(end)] if end else [each for pair in layers for each in pair]
        return np.stack([getattr(each, field) for each in chosen])
    k, _, reverse = end.partition("_")
    layer = layers[int(k)][bool(reverse)]
    if field == "bias_hh":  # bias_ih holds the sum
        return np.zeros_like(layer.bias)
    if field == "peephole" and layer.peepholes is None:
        return np.zeros((3, layer.hidden_size))
    return getattr(layer, _OWN.get(field, field))


def _tensor(value: Any) -> Tensor:
    return torch.tensor(np.asarray(value, np.float32), device="cpu")


class _Embedding(nn.Embedding):
    """Rows of a table."""

    def __init__(self, stage: Embedding) -> None:
        super().__init__(*stage.weight.shape)
        with torch.no_grad():
            self.weight.copy_(_tensor(stage.weight))


class _Normalise(nn.Module):
    """asinh((x - centre) / scale)."""

    def __init__(self, stage: Normalise) -> None:
        super().__init__()
        self.register_buffer("centre", _tensor(stage.centre))
        self.register_buffer("scale", _tensor(stage.scale))

    def forward(self, x: Tensor) -> Tensor:
        return torch.asinh((x - cast(Tensor, self.centre)) / cast(Tensor, self.scale))


class _Scale(nn.Module):
    """shift + scale * x."""

    def __init__(self, stage: Scale) -> None:
        super().__init__()
        self.register_buffer("scale", _tensor(stage.scale))
        self.register_buffer("shift", _tensor(stage.shift))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.shift) + cast(Tensor, self.scale) * x


class _Dense(nn.Linear):
    """A linear map and its activation."""

    def __init__(self, stage: Dense) -> None:
        super().__init__(*stage.widths())
        self.activation = stage.activation
        with torch.no_grad():
            self.weight.copy_(_tensor(stage.weight))
            self.bias.copy_(_tensor(stage.bias))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.activation == "softmax":
            return y.softmax(-1)
        return y if not self.activation else cast(Tensor, getattr(torch, self.activation)(y))


class _Pool(nn.Module):
    """All steps [T,N,D] in one vector [N,·]."""

    def __init__(self, stage: Pool) -> None:
        super().__init__()
        self.kind, self.width = stage.kind, stage.width
        if stage.query is not None:
            self.query = nn.Parameter(_tensor(stage.query))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "ends":
            half = self.width // 2
            return torch.cat([x[-1, :, :half], x[0, :, half:]], dim=-1)
        if self.kind == "attention":
            score = (x @ self.query / self.width**0.5).softmax(0)
            return cast(Tensor, (score[..., None] * x).sum(0))
        found = {"mean": x.mean(0), "max": x.amax(0)}
        return torch.cat([found[kind] for kind in self.kind.split("-")], dim=-1)
