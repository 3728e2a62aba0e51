"""Whether the error reaches as far back as the task asks."""

import numpy as np

from undertow import flow
from undertow.doctor.finding import (
    Chart,
    Evidence,
    Finding,
    InOrder,
    NotJudged,
    Outcome,
    Remedy,
    Severity,
    padded,
)
from undertow.doctor.patient import Case, Patient

LEARNT = 0.9  # skill from which a task counts as learnt, whatever the gradients look like
LEFT = 1e-3  # fraction of a gradient; less than this at the task's lag counts as nothing
EACH = 6  # layers named one by one in the evidence
ORTHOGONAL = 'undertow.{}(..., init="orthogonal")\nundertow train ... --init orthogonal'


def memory_horizon(case: Case) -> Outcome:
    """Compare the lag at which the last error's gradient is down to 1 % with the lag of the task.

    It is ``flow.memory_horizon`` of ``flow.gradient_by_lag``, full back-propagation, of ∂E/∂c for an LSTM and
    ∂E/∂h for a plain RNN: the median over sequences, in the layer that keeps most. It is a finding if the
    gradient is down to 1 % before the task's lag and below 0.1 % at the lag itself; a gradient that falls a
    little and then stays is enough to learn from. It is a problem if 1 % is reached before half the lag, else
    a warning (Hochreiter 1991; Bengio, Simard & Frasconi 1994). A task that is learnt is not judged: a cell
    that has stored what it saw has no gradient left, and needs none.
    """
    name, lag = "memory-horizon", case.lag
    reaching = [patient for patient in case.patients if not np.isnan(patient.horizons[1])]
    if lag is None:
        unknown = "how far back the answer lies is not known"
        return NotJudged(name, unknown, horizons(reaching), reach_chart(reaching, lag) if reaching else None)
    if not reaching:
        return NotJudged(name, "no gradient of the last step's error was recorded")
    best = max(reaching, key=lambda patient: (left(patient, lag), patient.horizons[1]))
    horizon, evidence = best.horizons[1], (*horizons(reaching), at_lag(best, lag))
    if horizon >= lag or left(best, lag) >= LEFT:
        if best.steps < lag:
            return NotJudged(
                name, f"the {steps(best.steps)} recorded are fewer than {lag}, and reached across"
            )
        return InOrder(name, evidence, reach_chart(reaching, lag))
    if case.training.skill >= LEARNT:
        return NotJudged(name, f"the gradient is down to 1 % after {steps(horizon)}, but the task is learnt")
    severity: Severity = "problem" if horizon < lag / 2 else "warning"
    return Finding(
        name,
        severity,
        f"The network forgets too soon: an error is felt {steps(horizon)} back, and the task asks for {lag}. "
        "What happened before that can hardly be learnt.",
        evidence,
        remember(best, lag),
        reach_chart(reaching, lag),
        explains=("not-learning",),
    )


def left(patient: Patient, lag: int) -> float:
    """Return the gradient at a lag, or at the longest recorded one, relative to its size at lag 0."""
    size = flow.lower_median(patient.faded)  # [lag]
    with np.errstate(over="ignore"):
        return float(np.exp(size[min(lag, len(size) - 1)]))


def horizons(patients: list[Patient]) -> tuple[Evidence, ...]:
    """Return as evidence the lags at which the gradient is down to 1/e and to 1 %, of each layer."""
    found: list[Evidence] = []
    for patient in patients[:EACH]:
        of = state_of(patient)
        for fraction, lag in zip(("1/e", "1 %"), patient.horizons, strict=True):
            if np.isfinite(lag):
                found.append(
                    Evidence(f"{of} falls to {fraction} of its size after", lag, "steps", patient.where)
                )
            else:
                found.append(
                    Evidence(
                        f"{of} stays above {fraction} of its size for all",
                        patient.steps,
                        "steps",
                        patient.where,
                    )
                )
    return tuple(found)


def at_lag(patient: Patient, lag: int) -> Evidence:
    """Return as evidence what is left of the gradient at the task's lag."""
    lag = min(lag, patient.steps)
    what = f"{state_of(patient)} at lag {lag}, of its size at lag 0"
    return Evidence(what, left(patient, lag), "", patient.where)


def steps(lag: float) -> str:
    """Format a number of steps."""
    return "1 step" if lag == 1 else f"{lag:.0f} steps"


def state_of(patient: Patient) -> str:
    """Name the gradient that is measured, of an LSTM's c or a plain RNN's h."""
    return "∂E/∂c (full back-propagation)" if patient.is_lstm else "∂E/∂h (full back-propagation)"


def chrono(lag: int) -> Remedy:
    """Suggest a chrono start for a lag."""
    lag = max(3, lag)  # u is drawn from 1 to max_lag - 1
    return Remedy(
        f"Start with forget gates that hold for 1 to {lag} steps (chrono: Tallec & Ollivier 2018):",
        f'undertow.LSTM(..., init="chrono", max_lag={lag})\nundertow train ... --init chrono',
    )


def remember(patient: Patient, lag: int) -> tuple[Remedy, ...]:
    """Suggest what lengthens the memory of a layer."""
    if patient.is_lstm:
        return (chrono(lag), Remedy("Shorten the way: fewer steps, or a coarser time step."))
    return (
        Remedy("A plain RNN has no cell to carry it; take an LSTM:", "undertow train ... --cell lstm"),
        Remedy(
            "Or start with orthogonal recurrent weights (Saxe, McClelland & Ganguli 2014):",
            ORTHOGONAL.format("RNN"),
        ),
    )


def reach_chart(patients: list[Patient], lag: int | None) -> Chart:
    """Chart the gradient of the last error by lag, of each layer, with the task's lag if there is one."""
    curves = padded({p.where: np.exp(flow.lower_median(p.faded)) for p in patients[:EACH]})
    longest = len(next(iter(curves.values())))
    return Chart(
        "How far the last error reaches back",
        "lag, steps",
        "gradient, of lag 0",
        np.arange(longest, dtype=np.float64),
        curves,
        marks={} if lag is None else {"lag of the task": float(lag)},
        log=True,
    )
