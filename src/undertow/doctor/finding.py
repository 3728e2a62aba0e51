"""The results of a check: a finding with its evidence, in order, or not judged and why."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Severity = Literal["problem", "warning"]  # a problem keeps the network from learning; a warning may
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """One number, what it measures, and where it was taken."""

    what: str  # "forget gate f, mean over steps"
    value: float
    unit: str = ""  # "steps", "%", "per step"; empty for a pure number
    where: str = ""  # "rnn, layer 0"; empty for the whole run

    @property
    def amount(self) -> str:
        """The number with its unit: "9 steps", "74 %"."""
        unit = "step" if self.unit == "steps" and self.value == 1 else self.unit
        return f"{number(self.value)} {unit}".strip()

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return f"{self.what}: {self.amount}{where}"


@dataclass(frozen=True)
class Remedy:
    """One thing to try: a sentence, and code to type, a line each for Python and for the shell."""

    text: str
    code: str = ""


@dataclass(frozen=True)
class Chart:
    """A small picture of the evidence: curves over x, or bars if ``bars``."""

    title: str
    x_label: str
    y_label: str
    x: Curve  # [K]
    curves: dict[str, Curve]  # name -> [K]; NaN is a gap
    marks: dict[str, float] = field(default_factory=dict)  # name -> place on x
    log: bool = False  # y in powers of ten
    bars: bool = False


def padded(curves: dict[str, Curve]) -> dict[str, Curve]:
    """Return curves of one length: those that are shorter end in NaN, a gap."""
    longest = max(map(len, curves.values()))
    return {
        name: np.pad(each, (0, longest - len(each)), constant_values=np.nan) for name, each in curves.items()
    }


@dataclass(frozen=True)
class Finding:
    """Something wrong."""

    name: str  # of the check
    severity: Severity
    sentence: str  # what is wrong, in plain words
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...]  # the likeliest first
    chart: Chart | None = None
    explains: tuple[str, ...] = ()  # checks whose findings would follow from this one
    because: tuple[
        str, ...
    ] = ()  # findings of this diagnosis that explain this one; filled in by ``diagnose``


@dataclass(frozen=True)
class InOrder:
    """Checked and found healthy, with the numbers that show it."""

    name: str
    evidence: tuple[Evidence, ...]
    chart: Chart | None = None


@dataclass(frozen=True)
class NotJudged:
    """Not checked, or inconclusive, and the reason in one line."""

    name: str
    reason: str
    evidence: tuple[Evidence, ...] = ()  # what was measured all the same
    chart: Chart | None = None


Outcome = Finding | InOrder | NotJudged


def number(value: float) -> str:
    """Format a number for people: whole ones whole, others with three figures, 7.73 × 10⁻³⁰."""
    if not np.isfinite(value):
        return "not a number" if np.isnan(value) else "infinite"
    if abs(value) < 1e7 and float(value).is_integer():
        return f"{int(value):,}".replace("-", "−")
    digits, _, power = f"{value:.3g}".partition("e")
    tens = f" × 10{str(int(power)).translate(_RAISED)}" if power else ""
    return f"{digits}{tens}".replace("-", "−")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
