"""A Network as a program: a file of Python whose module needs PyTorch alone, and the weights for it.

The program is meant to be read and changed: torch's own modules under torch's names, one line for each stage.
The weights, a state dict, are a safetensors file beside it.
"""

import keyword
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from undertow import atomic
from undertow.networks.formats.content import only_plain
from undertow.networks.network import (
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

Tensors = dict[str, npt.NDArray[Any]]
WEIGHTS = "_weights.safetensors"  # goes on after the program's stem


def sources(network: Network, name: str) -> tuple[str, Tensors]:
    """Write a network as a program.

    Args:
        network: Any network without peepholes, coupled gates, layer normalisation and zoneout.
        name: Of the two files, without their suffixes.

    Returns:
        The program, and the state dict of its ``Model``.

    Raises:
        Unsupported: The network has one of these.
    """
    program = _Program(network)
    for stages in network.grouped(_same):
        program.add(stages)
    return program.text(name), program.tensors


def write(network: Network, path: Path) -> None:
    """Write the program to ``path`` and the weights to the file that ``beside`` names.

    Raises Unsupported as ``sources`` does, ValueError where Python could not import a file of this name, and
    OSError where a file cannot be written.
    """
    if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise ValueError(f"expected a name that Python can import, such as network.py, got {path.name}")
    text, tensors = sources(network, path.stem)
    data = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    atomic.write(beside(path), lambda new: new.write_bytes(data))
    atomic.write(path, lambda new: new.write_text(text, encoding="utf-8"))


def beside(path: Path) -> Path:
    """Return the file of the weights of the program ``path``."""
    return path.with_name(path.stem + WEIGHTS)


def streams(network: Network) -> bool:
    """Return whether the network answers at every step from what came before: states go in and out."""
    whole = any(isinstance(stage, Pool | Bidirectional) for stage in network.stages)
    return not whole and not network.once


def _same(one: Any, other: Any) -> bool:
    """Whether two layers can be layers of one module of torch."""
    a, b = one.directions()[0], other.directions()[0]
    names = ("cell", "hidden_size", "output_size", "nonlinearity")
    alike = all(getattr(a, name) == getattr(b, name) for name in names)
    return alike and type(one) is type(other) and (a.weight_hr is None) == (b.weight_hr is None)


class _Program:
    """The lines of the constructor and of forward, as stages are added, and the tensors."""

    def __init__(self, network: Network) -> None:
        self._network, self._streams = network, streams(network)
        self._made: list[str] = []
        self._run: list[str] = []
        self._names: list[str] = []
        self._layers = 0  # recurrent modules so far
        self._alone = (
            sum(isinstance(group[0], Recurrent | Bidirectional) for group in network.grouped(_same)) == 1
        )
        self.tensors: Tensors = {}

    def add(self, stages: list[Any]) -> None:
        """Add a stage, or recurrent layers that are one module."""
        match stages[0]:
            case Embedding(weight=weight):
                name = self._module("embedding", "nn.Embedding({}, {})".format(*weight.shape), weight=weight)
                self._run.append(f"x = self.{name}(x)")
            case Normalise(centre=centre, scale=scale):
                name = self._buffers("normalise", centre=centre, scale=scale)
                self._run.append(f"x = torch.asinh((x - self.{name}_centre) / self.{name}_scale)")
            case Scale(scale=scale, shift=shift):
                name = self._buffers("units", scale=scale, shift=shift)
                self._run.append(f"x = self.{name}_shift + self.{name}_scale * x")
            case Dense() as dense:
                sizes = ", ".join(map(str, dense.widths()))
                name = self._module("head", f"nn.Linear({sizes})", weight=dense.weight, bias=dense.bias)
                linear = f"self.{name}(x)"
                of = ", dim=-1" if dense.activation == "softmax" else ""
                self._run.append(
                    f"x = torch.{dense.activation}({linear}{of})" if dense.activation else f"x = {linear}"
                )
            case Pool() as pool:
                self._pool(pool)
            case _:
                self._recurrent(stages)

    def _name(self, kind: str) -> str:
        """A name that no module has: kind, kind_2, kind_3, ..."""
        count = sum(each == kind for each in self._names)
        self._names.append(kind)
        return f"{kind}_{count + 1}" if count else kind

    def _module(self, kind: str, made: str, **tensors: Any) -> str:
        name = self._name(kind)
        self._made.append(f"self.{name} = {made}")
        self.tensors |= {f"{name}.{key}": value for key, value in tensors.items()}
        return name

    def _buffers(self, kind: str, **tensors: Any) -> str:
        name = self._name(kind)
        for key, value in tensors.items():
            self._buffer(f"{name}_{key}", value)
        return name

    def _buffer(self, name: str, value: Any) -> None:
        shape = ", ".join(map(str, value.shape))
        self._made.append(f'self.register_buffer("{name}", torch.zeros({shape}))')
        self.tensors[name] = value

    def _recurrent(self, stages: list[Any]) -> None:
        layers = [stage.directions() for stage in stages]
        for each in (one for pair in layers for one in pair):
            only_plain(each, "PyTorch", "initial state", "relu", "reverse", "weight_hr")
        first, L, D = layers[0][0], len(layers), len(layers[0])
        options = f", num_layers={L}" if L > 1 else ""
        options += ", bidirectional=True" if D == 2 else ""
        options += f", proj_size={first.output_size}" if first.weight_hr is not None else ""
        options += ', nonlinearity="relu"' if first.nonlinearity == "relu" else ""
        kind = "LSTM" if first.cell == "lstm" else "RNN"
        made = f"nn.{kind}({first.widths()[0]}, {first.hidden_size}{options})"
        name = self._module("rnn", made, **_weights(layers))
        own = self._own(name, layers)
        state = "states" if self._alone else f"states_{self._layers}"
        self._layers += 1
        if self._streams:
            if own:
                self._run += [f"if {state} is None:", f"    {state} = {own}"]
            self._run.append(f"x, {state} = self.{name}(x, {state})")
        else:
            self._run.append(f"x, _ = run(self.{name}, x, lengths, {own or 'None'})")

    def _own(self, name: str, layers: list[list[Recurrent]]) -> str:
        """The network's own initial states as an expression; empty where they are zero."""
        flat = [one for pair in layers for one in pair]
        kinds = ("h_0", "c_0") if flat[0].cell == "lstm" else ("h_0",)
        states = {kind: np.stack([getattr(each, kind) for each in flat])[:, None] for kind in kinds}
        if not any(map(np.any, states.values())):
            return ""
        for kind, value in states.items():
            self._buffer(f"{name}_{kind}", value)
        each = [f"self.{name}_{kind}.expand(-1, x.shape[1], -1).contiguous()" for kind in kinds]
        return f"({', '.join(each)})" if len(each) == 2 else each[0]

    def _pool(self, pool: Pool) -> None:
        if pool.kind == "ends":
            half = pool.width // 2
            self._run.append(_LAST)
            self._run.append("every = torch.arange(x.shape[1], device=x.device)")
            self._run.append(f"x = torch.cat([x[last, every, :{half}], x[0, :, {half}:]], dim=-1)")
            return
        self._run.append("inside = within(x, lengths)")
        if pool.kind == "attention":
            name = self._buffers("pool", query=pool.query)
            score = f"(x @ self.{name}_query / {pool.width}**0.5)[..., None]"
            self._run.append(f"score = {score}.masked_fill(~inside, -torch.inf)")
            self._run.append("x = (score.softmax(dim=0) * x).sum(dim=0)")
            return
        made = {
            "mean": "(x * inside).sum(dim=0) / inside.sum(dim=0)",
            "max": "x.masked_fill(~inside, -torch.inf).amax(dim=0)",
        }
        found = [made[kind] for kind in pool.kind.split("-")]
        self._run.append(
            f"x = {found[0]}" if len(found) == 1 else f"x = torch.cat([{', '.join(found)}], dim=-1)"
        )

    def text(self, name: str) -> str:
        """Return the program."""
        network, run = self._network, list(self._run)
        pooled = any(isinstance(stage, Pool) for stage in network.stages)
        if network.skip:
            if pooled:
                raise Unsupported("PyTorch: skip: expected an answer at every step")
            run.insert(0, "given = x")
            added = f"x[..., :{network.skip}] + given[..., :{network.skip}]"
            rest = f", x[..., {network.skip}:]" if network.skip < network.output_size else ""
            run.append(f"x = torch.cat([{added}{rest}], dim=-1)" if rest else f"x = {added}")
        if network.once and not pooled:
            run += [_LAST, "x = x[last, torch.arange(x.shape[1], device=x.device)]"]
        return self._streaming(name, run) if self._streams else self._whole(name, run)

    def _streaming(self, name: str, run: list[str]) -> str:
        """The program of a network that answers at every step, with states in and out."""
        each = [f"states_{k}" for k in range(self._layers)]
        states = "states" if self._alone else f"({', '.join(each)})"
        if not self._alone:
            run.insert(0, f"{', '.join(each)} = states or {(None,) * self._layers}")
        kind = "(h, c)" if self._alone and "nn.LSTM" in "".join(self._made) else "those"
        meaning = f"states: {kind} that the last call returned; None at the start of a sequence."
        return self._filled(
            name, run, "", call="y, states = model(x)", arguments="states=None", result=f"x, {states}",
            meaning=meaning,
        )  # fmt: skip

    def _whole(self, name: str, run: list[str]) -> str:
        """The program of a network that reads a sequence to its end, with lengths."""
        helpers = _RUN + (_WITHIN if any("within(" in line for line in run) else "")
        return self._filled(
            name, run, helpers, call="y = model(x, lengths)", arguments="lengths=None", result="x",
            meaning="lengths: the steps of each sequence, [N]; None: all T.",
        )  # fmt: skip

    def _filled(self, name: str, run: list[str], helpers: str, **words: str) -> str:
        network = self._network
        packed = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence\n"
        return _TEMPLATE.format(
            name=name,
            x="[T,N], whole numbers" if network.symbols else f"[T,N,{network.input_size}]",
            shape=f"[N,{network.output_size}]" if network.once else f"[T,N,{network.output_size}]",
            made=_lines(self._made),
            run=_lines(run),
            helpers=helpers,
            packed=packed if helpers else "",
            labels=f"\nLABELS = {list(network.labels)!r}\n" if network.labels else "",
            **words,
        )


def _weights(layers: list[list[Recurrent]]) -> Tensors:
    """By torch's names. bias_ih holds the sum of the two."""
    found: Tensors = {}
    for k, pair in enumerate(layers):
        for layer, end in zip(pair, (f"_l{k}", f"_l{k}_reverse"), strict=False):
            found |= {f"{name}{end}": getattr(layer, name) for name in ("weight_ih", "weight_hh")}
            found |= {f"bias_ih{end}": layer.bias, f"bias_hh{end}": np.zeros_like(layer.bias)}
            if layer.weight_hr is not None:
                found[f"weight_hr{end}"] = layer.weight_hr
    return found


def _lines(lines: list[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)


_LAST = "last = (len(x) if lengths is None else lengths.to(x.device)) - 1"
_TEMPLATE = '''"""A network for PyTorch alone, written by undertow. Its weights: {name}_weights.safetensors

    from {name} import load

    model = load()
    {call}  # x {x}; y {shape}
"""

import json
from pathlib import Path

import torch
from torch import nn
{packed}{labels}

class Model(nn.Module):
    """The network. T steps, N sequences."""

    def __init__(self):
        super().__init__()
{made}

    def forward(self, x, {arguments}):
        """Return y {shape} of x {x}.

        {meaning}
        """
{run}
        return {result}

{helpers}
def load(path=Path(__file__).with_name("{name}_weights.safetensors")):
    """Return the model with its weights. The file has the names, then the numbers (safetensors)."""
    data = bytearray(path.read_bytes())
    begin, state = 8 + int.from_bytes(data[:8], "little"), {{}}
    for name, each in json.loads(data[8:begin]).items():
        numbers = data[begin:][slice(*each["data_offsets"])]
        state[name] = torch.frombuffer(numbers, dtype=torch.float32).reshape(each["shape"])
    model = Model()
    model.load_state_dict(state)
    return model.eval()
'''
_RUN = '''
def run(rnn, x, lengths, states):
    """Run layers over sequences of different lengths."""
    if lengths is None:
        return rnn(x, states)
    packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    y, last = rnn(packed, states)
    return pad_packed_sequence(y, total_length=len(x))[0], last

'''
_WITHIN = '''
def within(x, lengths):
    """Return which steps belong to their sequence, [T,N,1]."""
    steps = torch.arange(len(x), device=x.device)[:, None]
    inside = steps < (len(x) if lengths is None else lengths.to(x.device))
    return inside.expand(x.shape[:2])[..., None]

'''
