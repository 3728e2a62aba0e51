"""A network's stages in C: what each needs of handwritten pieces, constants, fields of the state, calls."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.networks.network import (
    Dense,
    Embedding,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Stage,
    Unsupported,
)

Array = npt.NDArray[np.float32]
WHOLE = 8  # floats of the widest vector that the C code uses: rows of weights are padded to it
FEW = 7  # outputs of a dense layer that are computed one by one
HALVED = (0.5, 0.5, 1.0, 0.5)  # i, f, g, o: a sigmoid is computed of half the sum


@dataclass
class Part:
    """A stage in C.

    Attributes:
        about: What it is, for people.
        pieces: The files of handwritten code that it needs, without their suffix.
        step: Statements that take a step.
        y: Where its output lies then.
        arrays: Constants by name.
        layer: The initialiser of its constant struct, after the name; empty: it has none.
        fields: Of the state, with what they hold.
        gates: Floats of its gates, which are kept when asked for.
        reset: Statements that take its state back.
        room: Floats that it needs while it computes.
    """

    about: str
    pieces: tuple[str, ...]
    step: list[str]
    y: str
    arrays: dict[str, Array] = field(default_factory=dict)
    layer: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    gates: int = 0
    reset: list[str] = field(default_factory=list)
    room: int = 0

    def remember(self, name: str, initial: Any, holds: str) -> None:
        """Add a field of floats, padded, and the constants that it starts from."""
        padded = _padded(np.atleast_1d(initial))
        self.fields.append((f"float {name}[{len(padded)}]", holds))
        self.arrays[f"{name}_0"] = padded
        self.reset.append(f"restart({len(padded)}, state->{name}, {name}_0);")


def whole(n: int) -> int:
    """Round up to whole vectors."""
    return -(-n // WHOLE) * WHOLE


def part_of(k: int, stage: Stage, x: str) -> Part:
    """Describe stage ``k``.

    Args:
        k: Its number, which is part of each of its names.
        stage: The stage.
        x: Where its input lies, as a C expression.

    Raises:
        Unsupported: It reads from the last step to the first.
    """
    match stage:
        case Recurrent(reverse=True):
            raise Unsupported("C: reverse: a stream has no last step to start from")
        case Recurrent(cell="rnn"):
            return _rnn(k, stage, x)
        case Recurrent():
            return _lstm_with_options(k, stage, x) if _varied(stage) else _lstm(k, stage, x)
        case Dense():
            return _dense(k, stage, x)
        case Embedding():
            return _embedding(k, stage, x)
        case Normalise():
            arrays = {f"centre{k}": stage.centre, f"scale{k}": stage.scale}
            return _by_value(k, "normalise", "asinh((x - centre) / scale)", arrays, x)
        case Scale():
            arrays = {f"scale{k}": stage.scale, f"shift{k}": stage.shift}
            return _by_value(k, "scale", "shift + scale x", arrays, x)
        case Pool(kind="ends"):
            raise Unsupported("C: a pool of both ends: a stream has no last step to start from")
        case Pool():
            return _pool(k, stage, x)
    raise Unsupported("C: bidirectional: a stream has no last step to start from")


def _varied(layer: Recurrent) -> bool:
    given = (layer.weight_hr, layer.peepholes, layer.gain_x)
    return layer.coupled or any(layer.zoneout) or any(each is not None for each in given)


def _lstm(k: int, layer: Recurrent, x: str) -> Part:
    C, H = layer.widths()[0], layer.hidden_size
    gates = f"GATES(state->gates{k})"
    part = Part(
        f"LSTM, {C} -> {H}",
        ("affine", "lstm"),
        [f"step_lstm(&layer{k}, {x}, state->h{k}, state->c{k}, state->room, {gates});"],
        f"state->h{k}",
        _weights(k, layer),
        f"struct lstm layer{k} = {{{C}, {H}, {whole(H)}, bias{k}, W{k}, U{k}}}",
        gates=4 * whole(H),
        room=4 * whole(H),
    )
    return _with_state(k, layer, part)


def _lstm_with_options(k: int, layer: Recurrent, x: str) -> Part:
    C, H, R = layer.widths()[0], layer.hidden_size, layer.output_size
    optional = {
        "peepholes": _gates(layer.peepholes, (0.5, 0.5, 0.5)),
        "gain_x": _gates(layer.gain_x, HALVED),
        "gain_h": _gates(layer.gain_h, HALVED),
        "gain_c": _padded(layer.gain_c),
        "bias_c": _padded(layer.bias_c),
        "projection": None if layer.weight_hr is None else _padded(layer.weight_hr.T),
    }
    present = {f"{name}{k}": array for name, array in optional.items() if array is not None}
    arrays = _weights(k, layer) | present
    sizes = {"in": C, "hidden": H, "out": R, "padded": whole(H), "padded_out": whole(R)}
    entries = [f".{name} = {size}" for name, size in sizes.items()]
    entries += [f".{name[: -len(str(k))]} = {name}" for name in arrays]
    entries += [".coupled = 1"] * layer.coupled
    entries += [f".zoneout_{state} = {number(rate)}" for state, rate in zip("hc", layer.zoneout, strict=True)]
    gates = f"GATES(state->gates{k})"
    part = Part(
        f"LSTM with options, {C} -> {R}, {H} units",
        ("affine", "roots", "options"),
        [f"step_with_options(&layer{k}, {x}, state->h{k}, state->c{k}, state->room, {gates});"],
        f"state->h{k}",
        arrays,
        f"struct lstm_with_options layer{k} = {{\n  {', '.join(entries)}}}",
        gates=4 * whole(H),
        room=11 * whole(H) + whole(R),
    )
    return _with_state(k, layer, part)


def _rnn(k: int, layer: Recurrent, x: str) -> Part:
    C, H = layer.widths()
    relu, zoneout = int(layer.nonlinearity == "relu"), number(layer.zoneout[0])
    part = Part(
        f"RNN with {layer.nonlinearity}, {C} -> {H}",
        ("affine", "rnn"),
        [f"step_rnn(&layer{k}, {x}, state->h{k}, state->room);"],
        f"state->h{k}",
        {
            f"bias{k}": _padded(layer.bias),
            f"W{k}": _padded(layer.weight_ih.T),
            f"U{k}": _padded(layer.weight_hh.T),
        },
        f"struct rnn layer{k} = {{{C}, {H}, {whole(H)}, bias{k}, W{k}, U{k}, {relu}, {zoneout}}}",
        room=whole(H),
    )
    return _with_state(k, layer, part)


def _with_state(k: int, layer: Recurrent, part: Part) -> Part:
    part.remember(f"h{k}", layer.h_0, f"h of stage {k}: {layer.output_size} units")
    if layer.c_0 is not None:
        part.remember(f"c{k}", layer.c_0, f"c of stage {k}: {layer.hidden_size} units")
    return part


def _weights(k: int, layer: Recurrent) -> dict[str, Array]:
    """Bias, W and U, a row for each factor, those of sigmoids halved. Normalised sums halve their gains."""
    halved = (1.0,) * 4 if layer.gain_x is not None else HALVED
    H, bias = layer.hidden_size, _gates(layer.bias, HALVED)
    assert bias is not None
    found = {f"bias{k}": bias}
    for name, weight in ((f"W{k}", layer.weight_ih), (f"U{k}", layer.weight_hh)):
        of_gates = weight.T.reshape(-1, 4, H) * np.array(halved, np.float32)[:, None]
        found[name] = _padded(of_gates)
    return found


def _gates(given: Any, parts: tuple[float, ...]) -> Array | None:
    """[G*H] or [G,H] as [G][H padded], each gate times its part."""
    if given is None:
        return None
    found: Array = _padded(given.reshape(len(parts), -1) * np.array(parts, np.float32)[:, None])
    return found


def _padded(given: Any) -> Any:
    """Zeros after each row, up to whole vectors."""
    if given is None:
        return None
    missing = whole(given.shape[-1]) - given.shape[-1]
    return np.pad(given, [(0, 0)] * (given.ndim - 1) + [(0, missing)])


def _dense(k: int, stage: Dense, x: str) -> Part:
    I, out = stage.widths()  # noqa: E741
    few, activation = out <= FEW, stage.activation
    kind = activation.upper() if activation not in ("", "softmax") else "NONE"
    y, pieces = f"state->out{k}", ("affine", "dense")
    part = Part(
        f"dense{', ' * bool(activation)}{activation}, {I} -> {out}",
        pieces if activation != "softmax" else (*pieces, "exponential", "softmax"),
        [f"step_dense(&layer{k}, {kind}, {x}, {y});"],
        y,
        {
            f"bias{k}": stage.bias if few else _padded(stage.bias),
            f"weight{k}": stage.weight if few else _padded(stage.weight.T),
        },
        f"struct dense layer{k} = {{{I}, {out}, {0 if few else whole(out)}, bias{k}, weight{k}}}",
        fields=[_out(k, out)],
    )
    if activation == "softmax":
        part.step.append(f"softmax({out}, {y});")
    return part


def _embedding(k: int, stage: Embedding, x: str) -> Part:
    V, E = stage.weight.shape
    return Part(
        f"embedding of {V} symbols, -> {E}",
        ("embedding",),
        [f"step_embedding({V}, {E}, weight{k}, {x}[0], state->out{k});"],
        f"state->out{k}",
        {f"weight{k}": stage.weight},
        fields=[_out(k, E)],
    )


def _by_value(k: int, kind: str, about: str, arrays: dict[str, Array], x: str) -> Part:
    n = len(next(iter(arrays.values())))
    return Part(
        f"{about} of {n}",
        ("roots", kind) if kind == "normalise" else (kind,),
        [f"step_{kind}({n}, {', '.join(arrays)}, {x}, state->out{k});"],
        f"state->out{k}",
        arrays,
        fields=[_out(k, n)],
    )


def _pool(k: int, stage: Pool, x: str) -> Part:
    n, out = stage.widths()
    part = Part(f"pool: {stage.kind} of {n}", ("pool",), [], f"state->out{k}", fields=[_out(k, out)])
    if stage.kind == "attention":
        part.pieces = ("affine", "exponential", "attention")
        part.arrays[f"query{k}"] = stage.query / np.sqrt(np.float32(n))
        part.remember(
            f"total{k}",
            np.array([-np.finfo(np.float32).max, 0], np.float32),
            "the largest score, the sum of weights",
        )
        part.remember(f"mean{k}", np.zeros(n, np.float32), "the weighted mean")
        part.step = [f"step_attention({n}, query{k}, {x}, state->total{k}, state->mean{k}, state->out{k});"]
        return part
    part.fields.append((f"uint32_t count{k}", "steps so far"))
    part.reset.append(f"state->count{k} = 0;")
    part.step.append(f"state->count{k} = next(state->count{k});")
    for at, kind in enumerate(stage.kind.split("-")):
        name = {"mean": f"mean{k}", "max": f"largest{k}"}[kind]
        part.remember(name, np.zeros(n, np.float32), "of all steps so far")
        part.step.append(f"step_{kind}({n}, state->count{k}, {x}, state->{name}, state->out{k} + {at * n});")
    return part


def _out(k: int, n: int) -> tuple[str, str]:
    return f"float out{k}[{whole(n)}]", f"what stage {k} gives: {n}"


def number(value: float) -> str:
    """Write a float32 exactly, as C99 reads it."""
    mantissa, _, exponent = float(np.float32(value)).hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}f" if value else "0.0f"
