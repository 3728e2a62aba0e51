"""A trace's layers for one sequence, and the gradient that enters them from the loss at each step."""

from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow import equations, flow
from undertow.layout import GATES
from undertow.records.layer import Layer, NotRecorded
from undertow.tape import Array, RNNTape, Tape

TOLERANCE = 1e-3  # relative difference of a layer's gradients from those through the layers above


@dataclass(frozen=True)
class Shown:
    """One layer in one direction, for one sequence.

    Attributes:
        name: the name on the page.
        cell: "lstm" or "rnn".
        values: arrays [T,H] in the order of time: i, f, g, o, c and h, of a plain RNN h alone; and the
            gradients dc and dh if backward was called. States and gradients are those after each step.
        c_0: [H], the initial cell state; zero for a plain RNN.
        h_0: [H], the initial hidden state.
        weight_ih: [G*H,C].
        weight_hh: [G*H,H].
        why_not: why the page cannot follow the error at one step back to this layer; "" if it can.
        own_equations: nothing was added to the equations that the page uses.
        reverse: this is the reverse direction.
    """

    name: str
    cell: str
    values: dict[str, Array]
    c_0: Array
    h_0: Array
    weight_ih: Array
    weight_hh: Array
    why_not: str = ""
    own_equations: bool = True
    reverse: bool = False

    @property
    def state(self) -> str:
        """The state that carries the memory: "c", for a plain RNN "h"."""
        return "c" if self.cell == "lstm" else "h"


@dataclass(frozen=True)
class Network:
    """One network, for one sequence.

    Attributes:
        name: the name on the page.
        layers: the layers, lowest first.
        entering: [T,H], ∂E/∂y_t of the top layer's output without the paths through later steps; None if
            backward was not called.
        entering_c: [H], the part of ∂E/∂c_n that does not pass through h_n; None for a plain RNN or if
            backward was not called.
        error: [T], the loss E_t at each step; None if it is not known.
        weight: backward was called on weight · ΣE_t.
        answer: the network's answer at the end, in words.
    """

    name: str
    layers: list[Shown]
    entering: Array | None
    entering_c: Array | None
    error: Array | None = None
    weight: float = 1.0
    answer: str = ""

    @property
    def T(self) -> int:
        """The number of steps of the sequence."""
        return len(self.layers[0].values["h"])

    @property
    def only_at_the_end(self) -> bool:
        """Whether the loss depends on the top layer's last step alone."""
        return self.entering is not None and not np.any(self.entering[:-1])


@dataclass(frozen=True)
class Sequence:
    """The sequence that the networks read, with its names.

    Attributes:
        T: the number of steps.
        steps: T names of the steps.
        symbols: [T] symbols that were read, or None.
        targets: [T] symbols that were to be predicted, or None; E_t is the error of predicting them.
        inputs: [T,C] numbers that were read, or None.
        input_names: C names of the inputs.
        error_unit: the unit of E_t, such as bits.
        title: the heading of the page.
        about: the line below the heading.
    """

    T: int
    steps: list[str]
    symbols: list[str] | None = None
    targets: list[str] | None = None
    inputs: Array | None = None
    input_names: list[str] = field(default_factory=list)
    error_unit: str = ""
    title: str = ""
    about: str = ""

    @property
    def predicts_next(self) -> bool:
        """Whether every target is the next symbol, as for a language model."""
        return self.targets is not None and self.targets[:-1] == (self.symbols or [])[1:]


def sequence_of(
    T: int,
    symbols: Several[str] | None = None,
    targets: Several[str] | None = None,
    inputs: npt.ArrayLike | None = None,
    input_names: Several[str] | None = None,
    steps: Several[str] | None = None,
    loss_unit: str = "",
    title: str = "",
    about: str = "",
) -> Sequence:
    """Check a sequence and its names.

    Args:
        T: the number of steps.
        symbols: [T] symbols that were read, or None.
        targets: [T] symbols that were to be predicted, or None; E_t is the error of predicting them.
        inputs: [T,C] finite numbers that were read, or None.
        input_names: C names of the inputs; None: x0, x1 ...
        steps: [T] names of the steps, such as dates; None: 0, 1 ...
        loss_unit: the unit of E_t, such as bits.
        title: the heading of the page.
        about: the line below the heading.

    Returns:
        The sequence, for ``write``.

    Raises:
        ValueError: an argument does not have T entries or C names, or is no Unicode text (a file cannot hold
            lone surrogates). The message names the argument.
    """
    for name, given in {"symbols": symbols, "targets": targets, "inputs": inputs, "steps": steps}.items():
        if given is not None and len(given) != T:  # type: ignore[arg-type]
            raise ValueError(f"{name}: expected {T}, one for each step, got {len(given)}")  # type: ignore[arg-type]
    words = {"symbols": symbols, "targets": targets, "input_names": input_names, "steps": steps}
    for name, given in (words | {"loss_unit": [loss_unit], "title": [title], "about": [about]}).items():
        must_be_text(name, () if given is None else given)
    values = None if inputs is None else np.asarray(inputs, np.float64)
    if values is not None and (values.ndim != 2 or not np.isfinite(values).all()):
        raise ValueError(f"inputs: expected finite numbers [T, C], got shape {list(values.shape)}")
    C = 0 if values is None else values.shape[1]
    names = [f"x{k}" for k in range(C)] if input_names is None else list(input_names)
    if len(names) != C:
        raise ValueError(f"input_names: expected {C}, one for each input, got {len(names)}")
    return Sequence(
        T,
        [str(t) for t in range(T)] if steps is None else list(steps),
        None if symbols is None else list(symbols),
        None if targets is None else list(targets),
        values,
        names,
        loss_unit,
        title,
        about,
    )


def must_be_text(name: str, words: Several[str]) -> None:
    """Check that words can be written into a file.

    Args:
        name: the name of the argument.
        words: the words.

    Raises:
        ValueError: a word is no Unicode text. The message names the argument, the word and its place.
    """
    for k, word in enumerate(words):
        try:
            str.encode(word)
        except (TypeError, UnicodeEncodeError):
            at = f" at {k}" if len(words) > 1 else ""
            raise ValueError(f"{name}: expected Unicode text, got {word!r}{at}") from None


def network(
    name: str,
    layers: Several[Layer],
    n: int = 0,
    loss_per_step: npt.ArrayLike | None = None,
    weight: float | None = None,
    answer: str = "",
    module: str = "",
) -> Network:
    """Select one sequence from the layers of a traced module.

    Args:
        name: the network's name on the page.
        layers: the layers of the module's last call, lowest first, as ``trace[module].layers``.
        n: the index of the sequence in the batch.
        loss_per_step: E_t, [T] or [T,N], in the unit that the page names; None: not known.
        weight: backward was called on weight · ΣE_t. None: the loss is the mean of all finite E_t.
        answer: the network's answer at the end, in words.
        module: the module's name in its model, such as ``encoder.lstm``; "" if it has none.

    Returns:
        The network, with float arrays [T,H] in the order of time.

    Raises:
        IndexError: the batch has no such sequence.
        ValueError: the sequence is empty, E_t does not fit it, or a name is no Unicode text.
    """
    must_be_text("name", [name])
    must_be_text("answer", [answer])
    must_be_text("module", [module])
    N = len(layers[0].lengths)
    if not 0 <= n < N:
        raise IndexError(f"sequence: expected 0 to {N - 1}, got {n}")
    T = int(layers[0].lengths[n])
    if T < 1:
        raise ValueError(f"sequence: expected a sequence with at least 1 step, got {n}, which is empty")
    error = None
    if loss_per_step is not None:
        error, weight = _error(np.asarray(loss_per_step, dtype=np.float64), weight, n, T, N)
    shown = [
        _shown(direction, n, T, _name(module, k, len(layers), direction, len(layer.directions)))
        for k, layer in enumerate(layers)
        for direction in layer.directions
    ]
    entering, entering_c = _entering(layers[-1], n, T)
    shown = _followed(shown, layers, entering, entering_c)
    return Network(name, shown, entering, entering_c, error, 1.0 if weight is None else weight, answer)


def _error(E: Array, weight: float | None, n: int, T: int, N: int) -> tuple[Array, float]:
    """E_t [T] of sequence n, and the weight of ΣE_t in the loss."""
    error = E if E.ndim == 1 else E[:T, n] if E.shape[1:] == (N,) else E.ravel()
    if error.shape != (T,):
        raise ValueError(f"loss_per_step: expected [{T}] or [{T}, {N}], got {list(E.shape)}")
    return error, 1 / max(1, np.isfinite(E).sum()) if weight is None else weight


def _followed(
    shown: list[Shown], layers: Several[Layer], entering: Array | None, entering_c: Array | None
) -> list[Shown]:
    """Set ``why_not`` in each layer to which the page cannot follow the error at one step back."""
    added = sorted({name for layer in layers for name in layer.tape.added})
    if added:
        reason = f"with {', '.join(added)} added to the equations only the whole loss is followed back"
        return [replace(_without(each, reason), own_equations=False) for each in shown]
    if any(len(layer.directions) > 1 for layer in layers):
        reason = "of a network with two directions only the whole loss is followed back"
        return [_without(each, reason) for each in shown]
    if any(layer.dtype == "bfloat16" for layer in layers):
        reason = "bfloat16 rounds away what enters at one step, so only the whole loss is followed back"
        return [_without(each, reason) for each in shown]
    return shown if entering is None else _checked(shown, entering, entering_c)


def _name(module: str, k: int, layers: int, layer: Layer, ways: int) -> str:
    """Name a layer, such as ``encoder.lstm, layer 0, reverse``, without parts that are the only choice.

    Layers are counted from 0, as in torch's parameter names.
    """
    number = f"layer {k}" if layers > 1 else ""
    way = "" if ways == 1 and not layer.tape.reverse else "reverse" if layer.tape.reverse else "forward"
    return ", ".join(filter(None, (module, number, way)))


def _shown(layer: Layer, n: int, T: int, name: str) -> Shown:
    lstm = layer.cell == "lstm"
    values: dict[str, Array] = {gate: getattr(layer, gate)[:T, n] for gate in GATES if lstm}
    values |= {state: getattr(layer, state)[1 : T + 1, n] for state in ("ch" if lstm else "h")}
    try:
        for gradient in ("dc", "dh") if lstm else ("dh",):
            values[gradient] = getattr(layer, gradient)[1 : T + 1, n]
    except NotRecorded:
        pass
    h_0 = layer.h[0, n]
    c_0 = layer.c[0, n] if lstm else np.zeros_like(h_0)
    return Shown(
        name, layer.cell, values, c_0, h_0, layer.weight_ih, layer.weight_hh, reverse=bool(layer.tape.reverse)
    )


def _entering(top: Layer, n: int, T: int) -> tuple[Array | None, Array | None]:
    """∂E/∂y_t [T,H] without the paths through later steps: dh_t less Uᵀ dgates_{t+1}.

    At the last step it is dh_T; the second result is the part of dc_T that does not pass through h_T
    (``flow.error_at``).
    """
    lstm, U = top.cell == "lstm", np.asarray(top.weight_hh, np.float64)
    try:
        dh = np.asarray(top.dh[1 : T + 1, n], np.float64)
    except NotRecorded:
        return None, None
    gates = [top.di, top.df, top.dg, top.do] if lstm else [top.da]
    dgates = np.concatenate([gate[:T, n] for gate in gates], axis=-1).astype(np.float64)  # [T, G*H]
    back = np.concatenate([dgates[1:] @ U, np.zeros_like(dh[:1])])
    entering = _without_rounding(dh - back, dh)
    gradients = top.source.steps
    _, dc_n = flow.error_at(top.tape, gradients.dh, gradients.dc)
    return entering, None if dc_n is None else _without_rounding(dc_n[n], top.dc[T, n])


def _without_rounding(difference: Array, of: Array) -> Array:
    """Set differences to zero that are only float32's rounding.

    These are differences of two nearly equal vectors, and those near the smallest numbers of float32, where a
    vanishing gradient ends.
    """
    size = np.linalg.norm(difference, axis=-1, keepdims=True)
    rounding = 1e-5 * np.linalg.norm(of, axis=-1, keepdims=True) + 1e3 * np.finfo(np.float32).tiny
    return np.asarray(np.where(size > rounding, difference, 0.0))


def _checked(shown: list[Shown], entering: Array, entering_c: Array | None) -> list[Shown]:
    """Propagate all that enters at the top back, and check that it reproduces each layer's gradients."""
    found: list[Shown] = []
    dy, dc_n = entering, entering_c
    for layer in reversed(shown):
        gradients = _backward(layer, dy, dc_n)
        traced = np.asarray(layer.values["dh"], np.float64)
        apart = np.linalg.norm(gradients.dh[1:, 0] - traced)
        if not apart <= TOLERANCE * np.linalg.norm(traced):
            reason = (
                "what comes down from the layers above does not account for it "
                "(its own h_n is read, or dropout between layers)"
            )
            return [_without(each, reason) for each in shown[: len(shown) - len(found)]] + found
        found.insert(0, layer)
        dy, dc_n = gradients.dx[:, 0], None
    return found


def _backward(layer: Shown, dy: Array, dc_n: Array | None) -> Any:
    h = np.concatenate([layer.h_0[None], layer.values["h"]])[:, None]  # [T+1, 1, H]
    T, _, H = h[1:].shape
    x = np.zeros((T, 1, layer.weight_ih.shape[1]))
    if layer.cell == "rnn":
        return equations.rnn_backward(RNNTape(h), x, layer.weight_ih, layer.weight_hh, dy[:, None])
    gates = np.stack([layer.values[gate] for gate in GATES], axis=1)[:, None]  # [T, 1, 4, H]
    c = np.concatenate([layer.c_0[None], layer.values["c"]])[:, None]
    dc = np.zeros((1, H)) if dc_n is None else dc_n[None]
    return equations.lstm_backward(
        Tape(gates, h, c), x, layer.weight_ih, layer.weight_hh, dy[:, None], dc_n=dc
    )


def _without(layer: Shown, reason: str) -> Shown:
    return replace(layer, why_not=reason)
