"""What may be added to one layer and direction, and its fields as the loop over time needs them."""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.equations.common import Array
from undertow.layout import check_shape
from undertow.tape import Gradients, Lengths, RNNGradients, RNNTape, Tape

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Variant:
    """What is added in one layer and direction, None wherever nothing is. Steps are in the order of time."""

    mask: npt.ArrayLike | None = None  # bool [T,N]; False: the step is passed over, h and c stay as they are
    reset: npt.ArrayLike | None = None  # bool [T,N]; True: the first step of a new sequence
    reset_h: npt.ArrayLike | None = None  # [N,H], the state that it begins from; None: zero
    reset_c: npt.ArrayLike | None = None  # [N,H]
    recurrent: npt.ArrayLike | None = None  # [N,H], factors of h_{t−1} on its way into the gates
    zoneout_h: npt.ArrayLike | None = None  # [T,N,H] or what broadcasts to it: the part of h_{t−1} that stays
    zoneout_c: npt.ArrayLike | None = None  # the same of c_{t−1}
    peepholes: npt.ArrayLike | None = None  # [3,H]: p_i, p_f, p_o
    gain_x: npt.ArrayLike | None = None  # [4H], of layer normalisation: all four or none
    gain_h: npt.ArrayLike | None = None  # [4H]
    gain_c: npt.ArrayLike | None = None  # [H]
    bias_c: npt.ArrayLike | None = None  # [H]
    coupled: bool = False  # f = 1 − i

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the fields that add something."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not f.default)


PLAIN = Variant()
NORMS = ("gain_x", "gain_h", "gain_c", "bias_c")


@dataclass(frozen=True)
class VariantTape(Tape):
    """A ``Tape`` and what was added. ``gates`` are zero at masked steps; with coupled gates f is 1 − i."""

    variant: Variant = PLAIN


@dataclass(frozen=True)
class RNNVariantTape(RNNTape):
    """An ``RNNTape``, what was added, and h̃ of each step, which zoneout mixes with h_{t−1}."""

    variant: Variant = PLAIN
    candidates: Array = field(kw_only=True)


@dataclass(frozen=True)
class VariantGradients(Gradients):
    """``Gradients``, and those of what was added; zero where nothing was.

    ``dgates`` is the gradient of a_t, after the norms. ``dh`` is that of the state h_t. ``dc`` is that of
    c̃_t, the cell before zoneout, which is c_t without zoneout; at a masked step it is that of c_t, carried
    over.
    """

    dreset_h: Array  # [N,H]
    dreset_c: Array  # [N,H]
    dpeepholes: Array  # [3,H]
    dgain_x: Array  # [4H]
    dgain_h: Array  # [4H]
    dgain_c: Array  # [H]
    dbias_c: Array  # [H]


@dataclass(frozen=True)
class RNNVariantGradients(RNNGradients):
    """``RNNGradients``, and the gradient of reset_h."""

    dreset_h: Array  # [N,H]


class Norms(NamedTuple):
    """The parameters of layer normalisation."""

    gain_x: Array  # [4H]
    gain_h: Array  # [4H]
    gain_c: Array  # [H]
    bias_c: Array  # [H]


class Terms(NamedTuple):
    """What is added to one step, with neutral values where nothing is."""

    r: Array  # [N,H]
    z_h: Array  # [N,H]
    z_c: Array  # [N,H]
    p: Array  # [3,H]
    coupled: bool
    norms: Norms | None


class Running:
    """A Variant in the order of processing, with neutral values in place of None.

    Raises ValueError naming the field whose shape does not fit, or that lacks the others it needs.
    """

    def __init__(
        self, variant: Variant, T: int, N: int, H: int, lengths: Lengths | None, reverse: bool
    ) -> None:
        v, order = variant, slice(None, None, -1 if reverse else 1)
        ends = np.full(N, T) if lengths is None else lengths
        inside = np.arange(T)[:, None] < ends  # [T, N]
        mask, reset = _bools("mask", v.mask, True, T, N), _bools("reset", v.reset, False, T, N) & inside
        if reverse:  # the same boundary is crossed from t to t−1
            reset = np.concatenate((reset[1:], np.zeros((min(T, 1), N), bool)))
        self.read = mask[:, :, None]  # [T, N, 1], in time: where x is
        self.live = (mask & inside)[order, :, None]  # [T, N, 1]: a step is made
        self.fresh = reset[order, :, None]  # [T, N, 1]: it starts from the state of a reset
        self.h_reset = _array("reset_h", v.reset_h, 0, N, H)
        self.c_reset = _array("reset_c", v.reset_c, 0, N, H)
        self.z_h = _steps("zoneout_h", v.zoneout_h, T, N, H)[order]
        self.z_c = _steps("zoneout_c", v.zoneout_c, T, N, H)[order]
        self.r, self.p = _array("recurrent", v.recurrent, 1, N, H), _array("peepholes", v.peepholes, 0, 3, H)
        self.coupled, self.norms = v.coupled, _norms(v, H)

    def step(self, t: int) -> Terms:
        """Return what is added to step t, in the order of processing."""
        return Terms(self.r, self.z_h[t], self.z_c[t], self.p, self.coupled, self.norms)


def only(variant: Variant, *names: str) -> None:
    """Raise ValueError naming a field that is given and not among ``names``."""
    for f in fields(variant):
        if f.name not in names and getattr(variant, f.name) is not f.default:
            raise ValueError(f"{f.name}: expected none for the plain RNN, which has only {', '.join(names)}")


def _bools(name: str, given: npt.ArrayLike | None, otherwise: bool, T: int, N: int) -> Bools:
    found = np.full((T, N), otherwise) if given is None else np.asarray(given)
    check_shape(name, found, T, N)
    if found.dtype != np.bool_:
        raise ValueError(f"{name}: expected booleans, got {found.dtype}")
    return found


def _array(name: str, given: npt.ArrayLike | None, otherwise: float, *shape: int) -> Array:
    found = np.full(shape, float(otherwise)) if given is None else np.asarray(given, np.float64)
    check_shape(name, found, *shape)
    return found


def _steps(name: str, given: npt.ArrayLike | None, T: int, N: int, H: int) -> Array:
    found = np.asarray(0 if given is None else given, np.float64)
    try:
        return np.broadcast_to(found, (T, N, H))
    except ValueError:
        raise ValueError(f"{name}: expected shape [{T}, {N}, {H}], got {list(found.shape)}") from None


def _norms(v: Variant, H: int) -> Norms | None:
    missing = [name for name in NORMS if getattr(v, name) is None]
    if len(missing) == len(NORMS):
        return None
    if missing:
        raise ValueError(f"{missing[0]}: expected with {', '.join(NORMS)}, all or none")
    wide, narrow = (4 * H,), (H,)
    shapes = dict(zip(NORMS, (wide, wide, narrow, narrow), strict=True))
    return Norms(*(_array(name, getattr(v, name), 1, *shape) for name, shape in shapes.items()))
