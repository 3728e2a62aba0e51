"""What is wrong with a recurrent network, in plain words, with the evidence and what to try. NumPy alone.

    >>> import torch, undertow
    >>> model = torch.nn.ModuleDict({"lstm": undertow.LSTM(3, 8)})
    >>> with undertow.trace(model) as trace:
    ...     y, _ = model["lstm"](torch.randn(100, 4, 3))
    ...     y[-1].sum().backward()
    >>> [finding.name for finding in undertow.diagnose(trace, model, lag=80).findings]
    ['forget-bias', 'memory-horizon']

A check is a function of a ``Case`` that returns a ``Finding``, ``InOrder`` or ``NotJudged``. Its docstring
states what it measures, its threshold and the reason. A check that the evidence does not decide reports
nothing, because a false alarm is a mistake. docs/doctor.md lists the checks.
"""

from undertow.doctor.diagnosis import CHECKS, Diagnosis, diagnose
from undertow.doctor.finding import Chart, Evidence, Finding, InOrder, NotJudged, Outcome, Remedy
from undertow.doctor.patient import Case, Patient, Training

__all__ = [
    "CHECKS",
    "Case",
    "Chart",
    "Diagnosis",
    "Evidence",
    "Finding",
    "InOrder",
    "NotJudged",
    "Outcome",
    "Patient",
    "Remedy",
    "Training",
    "diagnose",
]
