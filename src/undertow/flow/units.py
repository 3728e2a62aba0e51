"""What the gates do over a recorded pass, unit by unit: saturated, closed, never forgetting, dead."""

from dataclasses import dataclass

import numpy as np

from undertow.flow.steps import Array, Mask, Recorded, lstm_only
from undertow.layout import unpack
from undertow.tape import Tape


@dataclass(frozen=True)
class GateSaturation:
    """Fractions, 0 to 1, of all steps of all sequences, [H] each; NaN if there was no step."""

    low: float  # the thresholds
    high: float
    i_closed: Array  # i < low
    i_open: Array  # i > high
    f_closed: Array
    f_open: Array
    o_closed: Array
    o_open: Array
    g_saturated: Array  # |g| > high
    c_saturated: Array  # |tanh(c)| > high


def gate_saturation(tape: Tape, low: float = 0.1, high: float = 0.9) -> GateSaturation:
    """Return how much of the time each gate of each unit is nearly closed or nearly open. O(TNH).

    Karpathy, Johnson & Fei-Fei 2015 (arXiv:1506.02078) use the same measure and the same thresholds. A
    saturated gate passes hardly any gradient to its own weights: there σ' = σ(1−σ) is below 0.09.

    Args:
        tape: the recorded pass of an LSTM.
        low: below it a gate counts as closed.
        high: above it a gate counts as open.

    Raises:
        ValueError: not 0 ≤ low < high ≤ 1, or the tape is not an LSTM's.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"low, high: expected 0 <= low < high <= 1, got {low}, {high}")
    steps = Recorded(lstm_only(tape))
    i, f, g, o = unpack(steps.live(tape.gates, 0))
    tanh_c = np.tanh(steps.after(tape.c, 0, steps.T))

    def fraction(true: Mask) -> Array:
        with np.errstate(invalid="ignore"):  # 0/0 is NaN: no step to count
            return np.asarray(
                (true & steps.alive[..., None]).sum(axis=(0, 1)) / np.float64(steps.alive.sum())
            )

    return GateSaturation(
        low=low,
        high=high,
        i_closed=fraction(i < low),
        i_open=fraction(i > high),
        f_closed=fraction(f < low),
        f_open=fraction(f > high),
        o_closed=fraction(o < low),
        o_open=fraction(o > high),
        g_saturated=fraction(np.abs(g) > high),
        c_saturated=fraction(np.abs(tanh_c) > high),
    )


@dataclass(frozen=True)
class UnitHealth:
    """Which units behaved in the same odd way at every step of every sequence; bool [H] each.

    All are False if there was no step.
    """

    constant_h: Mask  # h never left a band of width ``band``: it does not depend on the input
    i_closed: Mask  # i < ``closed`` throughout: nothing is ever written to the cell
    o_closed: Mask  # o < ``closed`` throughout: nothing of the cell is ever seen
    never_forgets: Mask  # f > ``kept`` throughout: a counter, or a cell about to saturate

    @property
    def dead(self) -> Mask:
        """Units that carry nothing from input to output: h constant, or i or o closed. bool [H]."""
        return self.constant_h | self.i_closed | self.o_closed


def unit_health(tape: Tape, *, band: float = 0.01, closed: float = 0.01, kept: float = 0.99) -> UnitHealth:
    """Find units that are dead or never forget, over this pass. O(TNH).

    A pass of few steps, or of inputs that vary little, proves little. The thresholds are our own.

    Args:
        tape: the recorded pass of an LSTM.
        band: the largest max h − min h, over all steps of all sequences, of a constant unit.
        closed: below it a gate counts as closed.
        kept: above it a forget gate counts as never forgetting.

    Raises:
        ValueError: a threshold is negative, or the tape is not an LSTM's.
    """
    for name, value in {"band": band, "closed": closed, "kept": kept}.items():
        if not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    steps = Recorded(lstm_only(tape))
    h = steps.after(tape.h, 0, steps.T)[steps.alive]  # [steps of all sequences, H]
    i, f, _, o = unpack(steps.live(tape.gates, 0)[steps.alive])
    seen = np.full(steps.H, len(h) > 0)
    return UnitHealth(
        constant_h=seen & (h.max(axis=0, initial=-np.inf) - h.min(axis=0, initial=np.inf) <= band),
        i_closed=seen & (i < closed).all(axis=0),
        o_closed=seen & (o < closed).all(axis=0),
        never_forgets=seen & (f > kept).all(axis=0),
    )
