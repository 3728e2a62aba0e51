"""A trace's layers as one sequence went through them, and what enters them from the loss at each step."""

from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow import equations, flow
from undertow.layout import GATES
from undertow.records.layer import Layer, NotRecorded
from undertow.tape import Array, RNNTape, Tape

TOLERANCE = 1e-3  # by which a layer's gradients may differ from those found again through the layers above


@dataclass(frozen=True)
class Shown:
    """One layer in one direction: arrays [T,H] in the order of time, states those after each step."""

    name: str
    cell: str  # lstm or rnn
    values: dict[str, Array]  # i, f, g, o, c, h; of a plain RNN h; and dc or dh where backward was called
    c_0: Array  # [H]
    h_0: Array  # [H]
    weight_ih: Array  # [G*H, C]
    weight_hh: Array  # [G*H, H]
    why_not: str = ""  # why the error at one step cannot be followed back to this layer; "" where it can
    own_equations: bool = True  # nothing was added to those that the page goes back by
    reverse: bool = False  # it read from the end to the beginning

    @property
    def state(self) -> str:
        """What carries its memory: c, of a plain RNN h."""
        return "c" if self.cell == "lstm" else "h"


@dataclass(frozen=True)
class Network:
    """One network's layers, lowest first, and the gradient of the loss by each of its top outputs."""

    name: str
    layers: list[Shown]
    entering: Array | None  # [T,H]: ∂E/∂y_t as it comes to the top layer from outside; None: no backward
    entering_c: Array | None  # [H]: what comes to c_n beside
    error: Array | None = None  # [T], E_t
    weight: float = 1.0  # the loss that was differentiated is weight·ΣE_t
    answer: str = ""  # what it answered at the end, in words

    @property
    def T(self) -> int:
        """How many steps the sequence has."""
        return len(self.layers[0].values["h"])

    @property
    def only_at_the_end(self) -> bool:
        """Whether the loss sees nothing but the last step."""
        return self.entering is not None and not np.any(self.entering[:-1])


@dataclass(frozen=True)
class Sequence:
    """What was read, and what to call it."""

    T: int
    steps: list[str]  # names of the T steps
    symbols: list[str] | None = None  # [T]
    targets: list[str] | None = None  # [T], what E_t is the error of
    inputs: Array | None = None  # [T,C]
    input_names: list[str] = field(default_factory=list)
    error_unit: str = ""
    title: str = ""
    about: str = ""

    @property
    def foretold(self) -> bool:
        """Whether every target is the symbol that comes next: then the text is what is foretold."""
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
    """What was read and what it is called, checked.

    Args:
        T: Steps of the sequence.
        symbols: [T] symbols that were read, or None.
        targets: [T] symbols that E_t is the error of, or None.
        inputs: [T,C] finite numbers that were read, or None.
        input_names: C names of the inputs; None: x0, x1 ...
        steps: [T] names of the steps, such as dates; None: 0, 1 ...
        loss_unit: Unit of E_t, such as bits.
        title: Heading of the page.
        about: The line below it.

    Returns:
        The sequence, for ``write``.

    Raises:
        ValueError: An argument has not T entries, or C names; or it is no Unicode text, as lone surrogates
            are not: no file could hold it. The message names the argument.
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
        name: The argument that they were given as.
        words: The words.

    Raises:
        ValueError: One is no Unicode text. The message names the argument, the word and its place.
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
    """One sequence as it went through a traced module's layers.

    Args:
        name: What the page calls the network.
        layers: Of the module's last call, lowest first, as ``trace[module].layers``.
        n: Number of the sequence in the batch.
        loss_per_step: E_t, [T] or [T,N], in the unit that the page names; None: there is none.
        weight: The loss that was differentiated is weight·ΣE_t. None: their mean over the finite ones.
        answer: What the network answered at the end, in words.
        module: The module's name in its model, such as ``encoder.lstm``; "" where it has none.

    Returns:
        The network with float arrays [T,H] in the order of time.

    Raises:
        IndexError: There is no such sequence.
        ValueError: The sequence is empty, E_t does not fit it, or a name is no Unicode text.
    """
    must_be_text("name", [name])
    must_be_text("answer", [answer])
    must_be_text("module", [module])
    N = len(layers[0].lengths)
    if not 0 <= n < N:
        raise IndexError(f"sequence: expected 0 to {N - 1}, got {n}")
    T = int(layers[0].lengths[n])
    if T < 1:
        raise ValueError(f"sequence: expected one with at least 1 step, and {n} has none")
    error = None
    if loss_per_step is not None:
        E = np.asarray(loss_per_step, dtype=np.float64)
        weight = 1 / max(1, np.isfinite(E).sum()) if weight is None else weight
        error = E if E.ndim == 1 else E[:T, n] if E.shape[1:] == (N,) else E.ravel()
        if error.shape != (T,):
            raise ValueError(f"loss_per_step: expected [{T}] or [{T}, {N}], got {list(E.shape)}")
    shown = [
        _shown(direction, n, T, _name(module, k, len(layers), direction, len(layer.directions)))
        for k, layer in enumerate(layers)
        for direction in layer.directions
    ]
    entering, entering_c = _entering(layers[-1], n, T)
    added = sorted({name for layer in layers for name in layer.tape.added})
    if added:
        reason = f"with {', '.join(added)} added to the equations only the whole loss is followed back"
        shown = [replace(_without(each, reason), own_equations=False) for each in shown]
    elif any(len(layer.directions) > 1 for layer in layers):
        reason = "of a network with two directions only the whole loss is followed back"
        shown = [_without(each, reason) for each in shown]
    elif any(layer.dtype == "bfloat16" for layer in layers):
        reason = (
            "in bfloat16 what enters at one step is lost in rounding; only the whole loss is followed back"
        )
        shown = [_without(each, reason) for each in shown]
    elif entering is not None:
        shown = _checked(shown, entering, entering_c)
    return Network(name, shown, entering, entering_c, error, 1.0 if weight is None else weight, answer)


def _name(module: str, k: int, layers: int, layer: Layer, ways: int) -> str:
    """``encoder.lstm, layer 1 of 2, reverse``, without what goes without saying."""
    number = f"layer {k + 1} of {layers}" if layers > 1 else ""
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
    """What the loss gives y_t directly: dh_t less what came back from step t+1, Uᵀ dgates_{t+1}.

    At the last step all of it, and the part of dc_T that does not pass through h_T (``flow.error_at``).
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
    """A difference of two nearly equal vectors is float32's rounding and nothing else: zero then.

    So is one near the smallest numbers that float32 has, where a vanishing gradient ends.
    """
    size = np.linalg.norm(difference, axis=-1, keepdims=True)
    rounding = 1e-5 * np.linalg.norm(of, axis=-1, keepdims=True) + 1e3 * np.finfo(np.float32).tiny
    return np.asarray(np.where(size > rounding, difference, 0.0))


def _checked(shown: list[Shown], entering: Array, entering_c: Array | None) -> list[Shown]:
    """Go back from everything that enters at the top, and see that each layer's gradients come out."""
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
