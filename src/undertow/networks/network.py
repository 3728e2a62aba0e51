"""A trained network as a chain of stages: what readers of files return, and what the streaming runtime runs.

Every array is float32, C-contiguous and read-only. Each step of the input passes all stages in order; only a
recurrent layer and a pool remember earlier steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from undertow.layout import N_GATES, check_shape

Array = npt.NDArray[np.float32]
Activation: TypeAlias = Literal["", "tanh", "sigmoid", "relu", "softmax"]
ACTIVATIONS: tuple[Activation, ...] = ("", "tanh", "sigmoid", "relu", "softmax")
POOLS = ("mean", "max", "mean-max", "attention", "ends")
NORMS = ("gain_x", "gain_h", "gain_c", "bias_c")


class Unsupported(ValueError):
    """A file holds something that a Network cannot represent; the message names it."""


class Assumed(UserWarning):
    """A file does not say what its network computes, and the usual was assumed; the message says what."""


class _Frozen:
    """A dataclass whose array fields become float32, contiguous, read-only."""

    def _freeze(self, *names: str) -> None:
        for name in names:
            if (given := getattr(self, name)) is None:
                continue
            array = np.array(given, np.float32, order="C")  # a copy: the caller's array may change
            array.flags.writeable = False
            object.__setattr__(self, name, array)


@dataclass(frozen=True, eq=False)
class Embedding(_Frozen):
    """Rows of a table. The input is a symbol's number.

    Attributes:
        weight: [V,E], one row for each symbol.
    """

    weight: Any

    def __post_init__(self) -> None:
        self._freeze("weight")
        _two_dimensions("weight", self.weight)

    def widths(self) -> tuple[int, int]:
        """Return what comes in and what goes out, 1 and E."""
        return 1, int(self.weight.shape[1])


@dataclass(frozen=True, eq=False)
class Normalise(_Frozen):
    """Features made comparable: asinh((x - centre) / scale).

    Attributes:
        centre: [C].
        scale: [C], above 0.
    """

    centre: Any
    scale: Any

    def __post_init__(self) -> None:
        self._freeze("centre", "scale")
        check_shape("scale", self.scale, *self.centre.shape)

    def widths(self) -> tuple[int, int]:
        """Return C and C."""
        return len(self.centre), len(self.centre)


@dataclass(frozen=True, eq=False)
class Scale(_Frozen):
    """Features in other units: shift + scale * x.

    Attributes:
        scale: [C].
        shift: [C].
    """

    scale: Any
    shift: Any

    def __post_init__(self) -> None:
        self._freeze("scale", "shift")
        check_shape("shift", self.shift, *self.scale.shape)

    def widths(self) -> tuple[int, int]:
        """Return C and C."""
        return len(self.scale), len(self.scale)


@dataclass(frozen=True, eq=False)
class Recurrent(_Frozen):
    """One recurrent layer in one direction. Gates are i, f, g, o, as everywhere in undertow.

    Attributes:
        cell: ``lstm``, or ``rnn``, the plain recurrence h_t = tanh(W x_t + U h_{t-1} + b).
        weight_ih: W, [G*H,C].
        weight_hh: U, [G*H,R]; R is P with a projection, else H.
        bias: b, [G*H], the sum of torch's two.
        h_0: [R], the state before the first step. None: zero.
        c_0: [H], the same of the cell. None: zero.
        weight_hr: [P,H], the projection h_t = weight_hr (o * tanh(c_t)). None: none.
        peepholes: [3,H], p_i, p_f and p_o. None: none.
        coupled: f = 1 - i.
        gain_x: [4H], of layer normalisation, with gain_h [4H], gain_c [H] and bias_c [H]: all four or none.
        gain_h: [4H].
        gain_c: [H].
        bias_c: [H].
        zoneout: the part of h_{t-1} and of c_{t-1} that stays at each step.
        nonlinearity: of a plain recurrence, ``tanh`` or ``relu``.
        reverse: Whether the layer reads from the last step to the first: Bidirectional holds such layers.
    """

    cell: Literal["lstm", "rnn"]
    weight_ih: Any
    weight_hh: Any
    bias: Any
    h_0: Any = None
    c_0: Any = None
    weight_hr: Any = None
    peepholes: Any = None
    coupled: bool = False
    gain_x: Any = None
    gain_h: Any = None
    gain_c: Any = None
    bias_c: Any = None
    zoneout: tuple[float, float] = (0.0, 0.0)
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.cell not in N_GATES:
            raise Unsupported(f"cell: expected {' or '.join(N_GATES)}, got {self.cell}")
        G = N_GATES[self.cell]
        self._freeze("weight_ih", "weight_hh", "bias", "weight_hr", "peepholes", *NORMS)
        _two_dimensions("weight_ih", self.weight_ih)
        _two_dimensions("weight_hh", self.weight_hh)
        rows, R = len(self.weight_ih), self.output_size
        if rows % G or not rows:
            raise ValueError(f"weight_ih: expected shape [{G}*H, C], got {list(self.weight_ih.shape)}")
        H = self.hidden_size
        check_shape("weight_hh", self.weight_hh, G * H, R)
        check_shape("bias", self.bias, G * H)
        if self.weight_hr is None and R != H:
            raise ValueError(f"weight_hh: expected shape [{G * H}, {H}], got {[G * H, R]}")
        for name, shape in self._shapes().items():
            if getattr(self, name) is not None:
                check_shape(name, getattr(self, name), *shape)
        states = {"h_0": (R,), "c_0": (H,)} if self.cell == "lstm" else {"h_0": (R,)}
        for name, shape in states.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(shape, np.float32))
            self._freeze(name)
            check_shape(name, getattr(self, name), *shape)
        self._check_options()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        H = self.hidden_size
        return {
            "weight_hr": (self.output_size, H),
            "peepholes": (3, H),
            "gain_x": (4 * H,),
            "gain_h": (4 * H,),
            "gain_c": (H,),
            "bias_c": (H,),
        }

    def _check_options(self) -> None:
        if self.nonlinearity not in ("tanh", "relu"):
            raise Unsupported(f"nonlinearity: expected tanh or relu, got {self.nonlinearity}")
        if not all(0 <= rate <= 1 for rate in self.zoneout) or (self.cell == "rnn" and self.zoneout[1]):
            expected = "between 0 and 1" if self.cell == "lstm" else "between 0 and 1, for h only"
            raise ValueError(f"zoneout: expected {expected}, got {self.zoneout}")
        missing = [name for name in NORMS if getattr(self, name) is None]
        if missing and len(missing) < len(NORMS):
            raise ValueError(f"{missing[0]}: expected with {', '.join(NORMS)}, all or none")
        if self.cell == "lstm" and self.nonlinearity != "tanh":
            raise ValueError(f"nonlinearity: expected tanh for an LSTM, got {self.nonlinearity}")
        if self.cell == "rnn":
            for f in fields(self):
                of_lstm = f.name in ("c_0", "weight_hr", "peepholes", "coupled", *NORMS)
                if of_lstm and getattr(self, f.name) is not f.default:
                    raise ValueError(f"{f.name}: expected none for the plain RNN")

    @property
    def hidden_size(self) -> int:
        """H."""
        return len(self.weight_ih) // N_GATES[self.cell]

    @property
    def output_size(self) -> int:
        """R: P with a projection, else H."""
        return int(self.weight_hh.shape[1])

    def widths(self) -> tuple[int, int]:
        """Return C and R."""
        return int(self.weight_ih.shape[1]), self.output_size

    def directions(self) -> "list[Recurrent]":
        """Return the layer itself, as Bidirectional returns two."""
        return [self]


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """Two layers that read the same input in both directions; their outputs stand side by side.

    Attributes:
        forward: Reads from the first step to the last.
        backward: Reads from the last step to the first.
    """

    forward: Recurrent
    backward: Recurrent

    def __post_init__(self) -> None:
        if self.forward.reverse or not self.backward.reverse:
            raise ValueError("backward: expected the layer with reverse=True, and forward the other")
        if self.forward.widths() != self.backward.widths():
            raise ValueError(
                f"backward: expected widths {self.forward.widths()}, got {self.backward.widths()}"
            )

    def widths(self) -> tuple[int, int]:
        """Return C and 2R."""
        C, R = self.forward.widths()
        return C, 2 * R

    def directions(self) -> list[Recurrent]:
        """Return the forward layer and the backward one."""
        return [self.forward, self.backward]


@dataclass(frozen=True, eq=False)
class Dense(_Frozen):
    """A linear map and its activation: activation(weight x + bias).

    Attributes:
        weight: [O,I].
        bias: [O].
        activation: ``""`` for none, ``tanh``, ``sigmoid``, ``relu`` or ``softmax`` over all O.
    """

    weight: Any
    bias: Any
    activation: Activation = ""

    def __post_init__(self) -> None:
        self._freeze("weight", "bias")
        _two_dimensions("weight", self.weight)
        check_shape("bias", self.bias, len(self.weight))
        if self.activation not in ACTIVATIONS:
            known = ", ".join(name for name in ACTIVATIONS if name)
            raise Unsupported(f"activation: expected {known} or none, got {self.activation}")

    def widths(self) -> tuple[int, int]:
        """Return I and O."""
        return int(self.weight.shape[1]), len(self.weight)


@dataclass(frozen=True, eq=False)
class Pool(_Frozen):
    """All steps so far in one vector, as if the sequence ended at this step.

    Attributes:
        kind: ``mean``, ``max``, ``mean-max`` (both side by side), ``attention``, the mean weighted by
            softmax(h · query / √D), or ``ends``, after two directions: the first half of D from the last step
            and the second half from the first, where the layer that reads backward has read everything.
        width: D, of each step.
        query: [D], of attention. None for the others.
    """

    kind: Literal["mean", "max", "mean-max", "attention", "ends"]
    width: int
    query: Any = None

    def __post_init__(self) -> None:
        self._freeze("query")
        if self.kind not in POOLS:
            raise Unsupported(f"kind: expected {', '.join(POOLS)}, got {self.kind}")
        if self.kind == "ends" and self.width % 2:
            raise ValueError(f"width: expected an even number for ends, got {self.width}")
        if (self.query is not None) != (self.kind == "attention"):
            raise ValueError("query: expected for attention, and for attention only")
        if self.query is not None:
            check_shape("query", self.query, self.width)

    def widths(self) -> tuple[int, int]:
        """Return D and the width of the vector."""
        return self.width, self.width * (2 if self.kind == "mean-max" else 1)


Stage: TypeAlias = Embedding | Normalise | Scale | Recurrent | Bidirectional | Dense | Pool


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of stages.

    Attributes:
        stages: In the order in which a step passes them. An embedding can only be the first.
        skip: How many of the first inputs are added to the first outputs, as models of amplifiers do.
        sample_rate: Hz; None where it is not known.
        labels: What the outputs are called, one name each; empty: not known.
        metadata: What else the file says, as JSON would hold it. Nothing is computed from it.
        once: Whether its program answers once, after the last step, as always after a pool. The output at a
            step is then the answer of a sequence that ends there.
    """

    stages: tuple[Stage, ...]
    skip: int = 0
    sample_rate: float | None = None
    labels: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    once: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if any(isinstance(stage, Pool) for stage in self.stages):
            object.__setattr__(self, "once", True)
        if not self.stages:
            raise ValueError("stages: expected at least one, got none")
        for k, (one, after) in enumerate(zip(self.stages, self.stages[1:], strict=False), 1):
            if isinstance(after, Embedding):
                raise ValueError(f"stages: expected an embedding first only, got one as stage {k}")
            if one.widths()[1] != after.widths()[0]:
                raise ValueError(
                    f"stages: expected stage {k} to read {one.widths()[1]} values, "
                    f"got {type(after).__name__} of {after.widths()[0]}"
                )
        if not 0 <= self.skip <= min(self.input_size, self.output_size):
            raise ValueError(
                f"skip: expected between 0 and {min(self.input_size, self.output_size)}, got {self.skip}"
            )
        if self.labels and len(self.labels) != self.output_size:
            raise ValueError(f"labels: expected {self.output_size}, got {len(self.labels)}")

    @property
    def input_size(self) -> int:
        """C, values of each step of the input; 1 with an embedding, the symbol."""
        return self.stages[0].widths()[0]

    @property
    def output_size(self) -> int:
        """O, values of each step of the output."""
        return self.stages[-1].widths()[1]

    @property
    def symbols(self) -> int:
        """V, the size of the embedding's table; 0 without an embedding."""
        first = self.stages[0]
        return len(first.weight) if isinstance(first, Embedding) else 0

    def count_parameters(self) -> int:
        """Count the weights: all numbers but those of Normalise and Scale, and initial states of zero."""
        counted = [stage for stage in self.stages if isinstance(stage, Embedding | Dense | Pool)]
        held = [getattr(each, f.name) for each in (*counted, *self.recurrent()) for f in fields(each)]
        states = [each for layer in self.recurrent() for each in (layer.h_0, layer.c_0) if each is not None]
        zero = sum(each.size for each in states if not each.any())
        return int(sum(each.size for each in held if isinstance(each, np.ndarray)) - zero)

    def grouped(self, same: Callable[[Any, Any], bool]) -> list[list[Any]]:
        """Return the stages, with consecutive recurrent layers together that one module can compute.

        Args:
            same: tells whether a layer fits into the module of the layer before it.
        """
        found: list[list[Any]] = []
        for stage in self.stages:
            last, layer = found[-1][-1] if found else None, Recurrent | Bidirectional
            if isinstance(last, layer) and isinstance(stage, layer) and same(last, stage):
                found[-1].append(stage)
            else:
                found.append([stage])
        return found

    def recurrent(self) -> Sequence[Recurrent]:
        """Return the recurrent layers, from the input up; of two directions the forward one first."""
        found: list[Recurrent] = []
        for stage in self.stages:
            if isinstance(stage, Bidirectional):
                found += [stage.forward, stage.backward]
            elif isinstance(stage, Recurrent):
                found.append(stage)
        return found


def _two_dimensions(name: str, array: Array) -> None:
    if array.ndim != 2:
        raise ValueError(f"{name}: expected two dimensions, got {array.ndim}")
