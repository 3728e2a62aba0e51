"""Forget gates that let go too soon, and mistakes in setting their bias."""

import numpy as np

from undertow.doctor.finding import Chart, Evidence, Finding, InOrder, NotJudged, Outcome, Remedy, Severity
from undertow.doctor.memory import EACH, LEARNT, chrono, memory_horizon
from undertow.doctor.patient import NO_LSTM, Array, Case, Patient

ONE = "undertow.LSTM(..., forget_bias=1.0)\nundertow train ... --forget-bias 1"
GONE = 0.01  # fraction of a cell; less than this counts as erased
NO_BIASES = "no biases were given: diagnose(trace, model) reads them"


def forget_bias(case: Case) -> Outcome:
    """Check whether forget gates can carry anything over the task's lag, along the cell alone.

    Along the cell a unit keeps Π f_t (``flow.carousel``; Hochreiter & Schmidhuber 1997). The gates are to
    blame if ``memory_horizon`` finds the lag out of reach and even the unit that keeps most keeps below 1 %
    over the lag. torch starts them at σ(±1/√H) ≈ ½, which halves the cell at each step (Jozefowicz, Zaremba &
    Sutskever 2015; pytorch/pytorch#20102). Without a known lag, gates that are closed (f < 0.1) in 95 % of
    all steps of all units, in every LSTM layer, give a warning: such layers have practically no memory.
    """
    name = "forget-bias"
    if not case.lstms:
        return NotJudged(name, NO_LSTM)
    evidence = tuple(line for patient in case.lstms[:EACH] for line in about_gates(patient))
    best = max(case.lstms, key=lambda patient: float(patient.log_carousel.max()))
    kept = float(np.exp(best.log_carousel.max() * (case.lag or 1)))
    short = memory_horizon(case)
    if case.lag is not None and isinstance(short, Finding) and kept < GONE:
        line = Evidence(
            f"left of c after {case.lag} steps along the cell alone, Π f, in the best unit",
            kept,
            "",
            best.where,
        )
        return too_short(name, case.lag, short.severity, (*evidence, line), best)
    shut = [patient for patient in case.lstms if patient.saturation.f_closed.mean() > 0.95]
    if shut and len(shut) == len(case.lstms) and not case.training.skill >= LEARNT:
        return Finding(
            name,
            "warning",
            "The forget gates are shut nearly all the time: the cells remember nothing, "
            "and the LSTM works as a network without memory.",
            evidence,
            (Remedy("Start with a forget bias of 1:", ONE),),
            bias_chart(shut[0]),
            explains=("memory-horizon", "not-learning"),
        )
    return InOrder(name, evidence)


def too_short(
    name: str, lag: int, severity: Severity, evidence: tuple[Evidence, ...], best: Patient
) -> Finding:
    """Make the finding for forget gates that erase the cell before the lag is over."""
    f = float(np.nanmean(best.layer.f))
    half_life = np.log(0.5) / float(best.log_carousel.mean())
    return Finding(
        name,
        severity,
        f"The forget gates let go at once: at f = {f:.2f} a cell loses half of what it holds in "
        f"{half_life:.1f} steps, and the task asks for {lag}.",
        evidence,
        (
            chrono(lag),
            Remedy(
                "By hand, with u drawn uniformly from 1 to the lag less one: b_f = log u and b_i = -log u in "
                "one of the two biases, zero in the other."
            ),
        ),
        bias_chart(best),
        explains=("memory-horizon", "not-learning"),
    )


def about_gates(patient: Patient) -> list[Evidence]:
    """Return as evidence the forget gate's bias and its mean value, in one layer."""
    bias = patient.bias("f")
    found = [
        Evidence(
            "forget gate f, mean over steps and units", float(np.nanmean(patient.layer.f)), "", patient.where
        )
    ]
    if bias is not None:
        found.insert(
            0, Evidence("forget bias b_ih + b_hh, mean over units", float(bias.mean()), "", patient.where)
        )
    return found


def bias_chart(patient: Patient) -> Chart:
    """Chart the mean forget gate of every unit, smallest first."""
    f: Array = np.sort(np.nanmean(patient.layer.f, axis=(0, 1)))
    return Chart(
        f"Forget gate by unit ({patient.where})",
        "units, sorted",
        "mean f",
        np.arange(len(f), dtype=np.float64),
        {"f": np.asarray(f, dtype=np.float64)},
        bars=True,
    )


def forget_bias_twice(case: Case) -> Outcome:
    """Check whether the forget bias was set in both of torch's two biases, whose sum is in force.

    bias_ih and bias_hh are added before the gate and have the same gradient, so their difference stays as it
    was at the start. They count as set twice if they differ by less than 1e-4 in at least half of the units
    and their sum is at least 1.2 in nine of ten units. torch draws the two at random, and undertow sets one
    of them to zero, so neither start is mistaken for it. (pytorch/pytorch#750: the second bias is redundant.)
    """
    name = "forget-bias-twice"
    judged = [(patient, pair) for patient in case.lstms if (pair := f_biases(patient)) is not None]
    if not judged:
        return NotJudged(name, NO_BIASES if case.lstms else NO_LSTM)
    twice = [
        (p, ih, hh) for p, (ih, hh) in judged if apart(ih, hh) < 1e-4 and np.quantile(ih + hh, 0.1) >= 1.2
    ]
    if not twice:
        return InOrder(
            name,
            tuple(
                Evidence("|b_ih - b_hh| of the forget gate, median", apart(ih, hh), "", p.where)
                for p, (ih, hh) in judged[:EACH]
            ),
        )
    sums = tuple(
        Evidence(f"{part} of the forget gate, mean over units", float(value.mean()), "", p.where)
        for p, ih, hh in twice[:EACH]
        for part, value in (("b_ih", ih), ("b_hh", hh), ("b_ih + b_hh", ih + hh))
    )
    total = float(np.mean([(ih + hh).mean() for _, ih, hh in twice]))
    return Finding(
        name,
        "warning",
        f"The forget bias seems to be set in both bias_ih and bias_hh. The two are added, so {total:.2g} is "
        f"in force where {total / 2:.2g} may have been meant.",
        sums,
        (
            Remedy(
                "Set it in one of the two and zero in the other; undertow.LSTM does:",
                ONE,
            ),
        ),
    )


def apart(ih: Array, hh: Array) -> float:
    """Return how far the two biases are apart, median over units."""
    return float(np.median(np.abs(ih - hh)))


def f_biases(patient: Patient) -> tuple[Array, Array] | None:
    """Return the forget gate's rows of bias_ih and bias_hh, [H] each; None without them."""
    if patient.bias_ih is None or patient.bias_hh is None:
        return None
    H = patient.layer.h.shape[-1]
    return patient.bias_ih[H : 2 * H], patient.bias_hh[H : 2 * H]


def forget_bias_uneven(case: Case) -> Outcome:
    """Check whether the forget bias was set in some layers or directions of a module and not in others.

    Code that sets ``bias_hh_l0`` by name misses ``bias_hh_l1`` and ``bias_hh_l0_reverse``, as in
    google-research/flood-forecasting before its pull request 289. It is found if one layer's forget bias is
    at least 0.8 in nine of ten units and another's is below 0.2 on average.
    """
    name = "forget-bias-uneven"
    means = [(patient, bias) for patient in case.lstms if (bias := patient.bias("f")) is not None]
    if not means:
        return NotJudged(name, NO_BIASES if case.lstms else NO_LSTM)
    evidence = tuple(
        Evidence("forget bias b_ih + b_hh, mean over units", float(b.mean()), "", p.where) for p, b in means
    )
    given = [p.where for p, bias in means if np.quantile(bias, 0.1) >= 0.8]
    missed = [p.where for p, bias in means if bias.mean() < 0.2]
    if not given or not missed:
        return InOrder(name, evidence[:EACH])
    return Finding(
        name,
        "warning",
        f"The forget bias was set in {' and '.join(given)} but not in {' and '.join(missed)}.",
        evidence,
        (
            Remedy(
                "Set it in every layer and direction; undertow.LSTM does:",
                ONE,
            ),
        ),
    )
