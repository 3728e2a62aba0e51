"""Gradients that grow on the way back, and values that are NaN or infinite."""

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
    number,
    padded,
)
from undertow.doctor.memory import EACH, ORTHOGONAL, state_of
from undertow.doctor.patient import Case, Patient
from undertow.doctor.training import clipping, smaller_rate

EXPONENT = 0.02  # per step: a factor of e every 50 steps
GROWN = 100.0  # factor by which the gradient grows, over all lags


def not_finite(case: Case) -> Outcome:
    """Check for NaN or infinity in any h, or in the training loss of any evaluation.

    Everything computed from such an h is meaningless, so no other check is made then.
    """
    name = "not-finite"
    found: list[Evidence] = []
    for patient in case.patients:
        bad = ~np.isfinite(patient.layer.h[1:]) & patient.layer.mask[..., None]
        if bad.any():
            first = int(np.argmax(bad.any(axis=(1, 2))))
            found += [
                Evidence("first step at which h is no number", first, "", patient.where),
                Evidence("values of h that are no number", 100 * float(bad.mean()), "%", patient.where),
            ]
    losses = case.training.column("train_loss")
    broken = np.flatnonzero(
        ~np.isfinite(losses) & np.array(["train_loss" in row for row in case.training.rows], bool)
    )
    if len(broken):
        found.append(
            Evidence(
                "first evaluation with a training loss that is no number, of all",
                int(broken[0]) + 1,
                f"of {len(losses)}",
            )
        )
    if not found:
        return InOrder(name, (Evidence("values that are no number", 0),))
    return Finding(
        name,
        "problem",
        "The network computes values that are no numbers (NaN or infinity).",
        tuple(found),
        (
            Remedy("Look for NaN and infinity in the data first."),
            smaller_rate(case.training, 10),
            *clipping(case.training),
        ),
        explains=ALL_OTHERS,
    )


ALL_OTHERS = (
    "learning-rate-low", "learning-rate-high", "clip", "saturated-gates", "dead-units", "runaway-cells",
    "exploding", "forget-bias", "memory-horizon", "over-fitting", "not-learning",
)  # fmt: skip


def exploding(case: Case) -> Outcome:
    """Check for a gradient that grows on its way back and would go on growing.

    Two conditions must hold. The leading Lyapunov exponent of the state's full Jacobians (``flow.lyapunov``,
    without the first 20 steps, or the first half of fewer than 40) is above 0.02 per step. The gradient of
    the last error (``flow.gradient_by_lag``, full back-propagation, median over sequences) grows to more than
    100 times its size at lag 0. The gradient of a working network may grow for a while, and a saturated
    network has a positive exponent but no gradient that grows. The thresholds are our own. (Pascanu, Mikolov
    & Bengio 2013; Vogt et al. 2022.)
    """
    name = "exploding"
    judged = [
        patient
        for patient in case.patients
        if patient.by_lag is not None and not np.isnan(patient.horizons[1])
    ]
    if not judged:
        return NotJudged(name, "no gradient of the last step's error was recorded")
    evidence = tuple(line for patient in judged for line in about_growth(patient))
    sick = [p for p in judged if grown(p)[0] > GROWN and p.exponent > EXPONENT]
    if not sick:
        return InOrder(name, evidence, step_chart(judged))
    worst = max(sick, key=lambda patient: grown(patient)[0])
    factor, lag = grown(worst)
    return Finding(
        name,
        "problem",
        f"Gradients explode in {worst.where}: on its way back over {lag} steps an error grows "
        f"{number(factor)}-fold. The distant past then drowns everything else.",
        (*evidence, *largest_step(worst)),
        (
            Remedy(
                "Start with smaller recurrent weights; orthogonal ones keep lengths as they are:",
                ORTHOGONAL.format("LSTM" if worst.is_lstm else "RNN"),
            ),
            *clipping(case.training),
            smaller_rate(case.training, 3),
        ),
        growth_chart(worst),
        explains=("clip", "forget-bias", "memory-horizon", "not-learning"),
    )


def grown(patient: Patient) -> tuple[float, int]:
    """Return the largest factor by which the gradient has grown, and its lag; medians over sequences."""
    size = flow.lower_median(patient.faded)  # [lag]
    lag = int(np.nanargmax(size))
    with np.errstate(over="ignore"):
        return float(np.exp(size[lag])), lag


def about_growth(patient: Patient) -> list[Evidence]:
    """Return as evidence the largest growth and the leading Lyapunov exponent of one layer."""
    factor, lag = grown(patient)
    found = [
        Evidence(f"{state_of(patient)}, largest of all lags (lag {lag}), of lag 0", factor, "", patient.where)
    ]
    if not np.isnan(patient.exponent):
        found.append(
            Evidence(
                "leading Lyapunov exponent (full state Jacobian)", patient.exponent, "per step", patient.where
            )
        )
    return found


def largest_step(patient: Patient) -> list[Evidence]:
    """Return as evidence the step and the sequence at which the gradient grows most in one step."""
    with np.errstate(invalid="ignore"):  # zero after zero
        steps = np.diff(patient.faded, axis=0)  # [lag, N]
    steps = np.where(np.isfinite(steps), steps, -np.inf)
    lag, n = np.unravel_index(int(np.argmax(steps)), steps.shape)
    assert patient.by_lag is not None
    state = int(patient.by_lag.s[n]) - int(lag)  # the step led from the state before to this one
    time = len(patient.layer.tape.h) - 1 - state if patient.layer.tape.reverse else state - 1
    factor = float(np.exp(steps[lag, n]))
    return [
        Evidence(f"largest growth in one step, at t = {time} of sequence {n}", factor, "fold", patient.where)
    ]


def growth_chart(patient: Patient) -> Chart:
    """Chart the gradient of the last error by lag."""
    size = flow.lower_median(patient.faded)
    return Chart(
        f"The last error on its way back ({patient.where})",
        "lag, steps",
        "gradient, of lag 0",
        np.arange(len(size), dtype=np.float64),
        {state_of(patient): np.exp(np.minimum(size, 600))},
        log=True,
    )


def step_chart(patients: list[Patient]) -> Chart:
    """By what each step back multiplies the gradient, medians over sequences; 1 keeps its size."""
    with np.errstate(invalid="ignore", over="ignore"):  # zero after zero
        steps = {p.where: np.exp(np.diff(flow.lower_median(p.faded))) for p in patients[:EACH]}
    curves = padded(steps)
    longest = len(next(iter(curves.values())))
    return Chart(
        "Growth of the last error's gradient, step by step back",
        "lag, steps",
        "factor per step",
        np.arange(1, longest + 1, dtype=np.float64),
        curves,
    )
