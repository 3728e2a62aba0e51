"""Run all checks on one case, and find which finding explains which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from undertow.doctor import forget, gates, growth, memory, training
from undertow.doctor.finding import Finding, InOrder, NotJudged, Outcome
from undertow.doctor.patient import Case, Training, admit

# Causes come before their possible consequences: the first finding is the one to put right first.
CHECKS: tuple[Callable[[Case], Outcome], ...] = (
    growth.not_finite,
    training.learning_rate_low,
    training.learning_rate_high,
    gates.saturated_gates,
    growth.exploding,
    training.clip,
    gates.dead_units,
    gates.runaway_cells,
    forget.forget_bias,
    memory.memory_horizon,
    forget.forget_bias_twice,
    forget.forget_bias_uneven,
    training.over_fitting,
    training.not_learning,
)


@dataclass(frozen=True)
class Diagnosis:
    """The results of the checks, in the order of CHECKS."""

    outcomes: tuple[Outcome, ...]

    @property
    def findings(self) -> list[Finding]:
        """Everything wrong: first what no other finding explains, problems before warnings, then the rest."""
        found = [outcome for outcome in self.outcomes if isinstance(outcome, Finding)]
        return sorted(found, key=lambda finding: (bool(finding.because), finding.severity != "problem"))

    @property
    def causes(self) -> list[Finding]:
        """The findings that no other explains."""
        return [finding for finding in self.findings if not finding.because]

    @property
    def in_order(self) -> list[InOrder]:
        """What was checked and is healthy."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, InOrder)]

    @property
    def not_judged(self) -> list[NotJudged]:
        """What was not judged, and why."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, NotJudged)]


def diagnose(
    trace: Mapping[str, Any], model: Any = None, *, lag: int | None = None, training: Training | None = None
) -> Diagnosis:
    """Find what is wrong with a traced network. Public as ``undertow.diagnose``.

    Checks that lack an argument do not judge, and the result says so. O(T N H²) for each layer; sixteen
    sequences are enough.

    Args:
        trace: of ``undertow.trace`` or ``load_trace``. Each module's last call is judged. Judging gradients
            needs a backward pass from an error at the last step, or at every step, of several typical
            sequences.
        model: the torch module that was traced, for its biases, which a trace does not hold.
        lag: steps between what the network must remember and where it answers.
        training: the course of the training.

    Raises:
        TypeError: ``lag`` is not an int.
        ValueError: ``lag`` is below 1, ``trace`` recorded no step, or ``model`` is not what was traced.
    """
    if lag is not None and (not isinstance(lag, int) or isinstance(lag, bool)):
        raise TypeError(f"lag: expected an int or None, got {type(lag).__name__}")
    if lag is not None and lag < 1:
        raise ValueError(f"lag: expected at least 1 step, got {lag}")
    patients, missing = admit(trace, model)
    if not patients:
        raise ValueError(f"trace: expected a recorded call with steps in it, got none: {'; '.join(missing)}")
    case = Case(patients, missing, lag, training or Training())
    first = growth.not_finite(case)
    if not all(patient.finite for patient in patients):
        return Diagnosis((first,))
    return Diagnosis(explained([first, *(check(case) for check in CHECKS[1:])]))


def explained(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
    """Return the outcomes with ``because`` filled in."""
    found = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    done: list[Outcome] = []
    for outcome in outcomes:
        if isinstance(outcome, Finding):
            causes = [cause.name for cause in found if outcome.name in cause.explains]
            outcome = replace(outcome, because=tuple(causes))
        done.append(outcome)
    return tuple(done)
