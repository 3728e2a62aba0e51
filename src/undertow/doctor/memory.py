"""Does the error reach as far back as the task needs? And if not, is it the forget gates?"""

import numpy as np

from undertow.doctor.finding import Chart, Evidence, Finding, InOrder, NotJudged, Outcome, Remedy, Severity
from undertow.doctor.patient import Array, Case, Patient, middle

LEARNT = 0.9  # of the guess's loss is gone: whatever the gradients look like, the task is learnt
GONE = 0.01  # a gradient is as good as gone at this fraction of its size at lag 0
EACH = 6  # layers named one by one in the evidence

CHRONO = Remedy(
    "Start forget gates that hold for 1 to {lag} steps (chrono initialisation, Tallec & Ollivier 2018):",
    'undertow.LSTM(..., init="chrono", max_lag={lag})',
)


def memory_horizon(case: Case) -> Outcome:
    """The lag at which the gradient of the last error is down to 1 %, against the lag of the task.

    ``flow.memory_horizon`` of ``flow.gradient_by_lag``, full back-propagation, ∂E/∂c of an LSTM and ∂E/∂h
    of a plain RNN; the median over sequences, of the layer that reaches furthest. A warning below the lag, a
    problem below half of it: what is 1 % at half the lag is 0.01 % at all of it (Hochreiter 1991; Bengio,
    Simard & Frasconi 1994). A task that is learnt all the same is not judged: a cell that latches onto what
    it saw has no gradient either, and needs none.
    """
    name = "memory-horizon"
    if case.lag is None:
        return NotJudged(name, "how far back the answer lies is not known")
    reaching = [patient for patient in case.patients if not np.isnan(patient.horizons[1])]
    if not reaching:
        return NotJudged(name, "no gradient of the last step's error was recorded")
    best = max(reaching, key=lambda patient: patient.horizons[1])
    evidence = horizons(reaching)
    if best.horizons[1] >= case.lag:
        return InOrder(name, evidence)
    if case.training.skill >= LEARNT:
        return NotJudged(
            name, f"the gradient is down to 1 % after {best.horizons[1]:.0f} steps, but the task is learnt"
        )
    evidence += (at_lag(best, case.lag),)
    severity: Severity = "problem" if best.horizons[1] < case.lag / 2 else "warning"
    return Finding(
        name,
        severity,
        f"The network forgets too soon: an error is felt {best.horizons[1]:.0f} steps back, "
        f"and the task asks for {case.lag}. What happened before that cannot be learnt.",
        evidence,
        remember(best, case.lag),
        reach_chart(reaching, case.lag),
        explains=("not-learning",),
    )


def horizons(patients: list[Patient]) -> tuple[Evidence, ...]:
    """1/e and 1 % of each layer."""
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
    """What is left of the gradient at the task's lag, or at the longest that was recorded."""
    size = middle(patient.log_size - patient.log_size[0])  # [lag]
    lag = min(lag, len(size) - 1)
    return Evidence(
        f"{state_of(patient)} at lag {lag}, of its size at lag 0", float(np.exp(size[lag])), "", patient.where
    )


def state_of(patient: Patient) -> str:
    return "∂E/∂c (full back-propagation)" if patient.is_lstm else "∂E/∂h (full back-propagation)"


def remember(patient: Patient, lag: int) -> tuple[Remedy, ...]:
    chrono = Remedy(CHRONO.text.format(lag=lag), CHRONO.code.format(lag=lag))
    if patient.is_lstm:
        return (chrono, Remedy("Shorten the way: fewer steps, or a coarser time step."))
    return (
        Remedy(
            "A plain RNN loses its gradient by construction; take an LSTM:", "undertow train ... --cell lstm"
        ),
        Remedy(
            "Or start its recurrent weights orthogonal, where the product of steps keeps its size "
            "(Saxe, McClelland & Ganguli 2014):",
            "torch.nn.init.orthogonal_(rnn.weight_hh_l0)",
        ),
    )


def reach_chart(patients: list[Patient], lag: int) -> Chart:
    sizes = {p.where: np.exp(np.asarray(middle(p.log_size - p.log_size[0]))) for p in patients[:EACH]}
    longest = max(map(len, sizes.values()))
    curves = {
        where: np.pad(size, (0, longest - len(size)), constant_values=np.nan) for where, size in sizes.items()
    }
    return Chart(
        "How far the last error reaches back",
        "lag, steps",
        "gradient, of lag 0",
        np.arange(longest, dtype=np.float64),
        curves,
        marks={"lag of the task": float(lag)},
        log=True,
    )


def forget_bias(case: Case) -> Outcome:
    """Forget gates that cannot carry anything over the task's lag, even along the cell alone.

    Along the cell a unit keeps Π f_t (``flow.carousel``; Hochreiter & Schmidhuber 1997). If over the task's
    lag even the unit that keeps most is below 1 %, while ``memory_horizon`` finds the lag out of reach, the
    gates are why. torch starts them at σ(±1/√H) ≈ ½, which halves the cell at each step (Jozefowicz,
    Zaremba & Sutskever 2015; pytorch/pytorch#20102). Where the lag is not known, gates that are shut
    (f < 0.1) in 95 % of all steps of all units are a warning: such a layer has no memory to speak of.
    """
    name = "forget-bias"
    if not case.lstms:
        return NotJudged(name, "there is no LSTM")
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
            (Remedy("Start with a forget bias of 1:", "undertow.LSTM(..., forget_bias=1.0)"),),
            bias_chart(shut[0]),
            explains=("not-learning",),
        )
    return InOrder(name, evidence)


def too_short(
    name: str, lag: int, severity: Severity, evidence: tuple[Evidence, ...], best: Patient
) -> Finding:
    f = float(np.nanmean(best.layer.f))
    half_life = np.log(0.5) / float(best.log_carousel.mean())
    return Finding(
        name,
        severity,
        f"The forget gates let go at once: at f = {f:.2f} a cell loses half of what it holds in "
        f"{half_life:.1f} steps, and the task asks for {lag}.",
        evidence,
        (
            Remedy(CHRONO.text.format(lag=lag), CHRONO.code.format(lag=lag)),
            Remedy(
                "By hand, with u drawn uniformly from 1 to the lag: b_f = log u and b_i = -log u, each in one "
                "of the two biases, zero in the other."
            ),
        ),
        bias_chart(best),
        explains=("memory-horizon", "not-learning"),
    )


def about_gates(patient: Patient) -> list[Evidence]:
    """The forget gate's bias and what the gate does, in one layer."""
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
    """The forget gate of every unit, smallest first."""
    f: Array = np.sort(np.nanmean(patient.layer.f, axis=(0, 1)))
    return Chart(
        f"Forget gate by unit ({patient.where})",
        "units, sorted",
        "mean f",
        np.arange(len(f), dtype=np.float64),
        {"f": np.asarray(f, dtype=np.float64)},
        bars=True,
    )


def biases_twice(case: Case) -> Outcome:
    """The forget bias set to a constant in both of torch's two biases, whose sum is what counts.

    bias_ih and bias_hh are added before the gate and have the same gradient, so a difference between them
    stays what it was at the start, and none betrays that both were set alike: more than half of units where
    they differ by less than 1e-4, their sum being 1.5 or more on average. torch's own start draws the two
    apart, ours sets one of them to zero. (pytorch/pytorch#750: "it's redundant".)
    """
    name = "forget-bias-twice"
    judged = [(patient, pair) for patient in case.lstms if (pair := f_biases(patient)) is not None]
    if not judged:
        return NotJudged(name, "no LSTM with biases was given: diagnose(trace, model) reads them")
    twice = [
        (p, ih, hh) for p, (ih, hh) in judged if np.median(np.abs(ih - hh)) < 1e-4 and (ih + hh).mean() >= 1.5
    ]
    if not twice:
        return InOrder(
            name,
            tuple(
                Evidence(
                    "forget bias in b_ih, b_hh differ by, median",
                    float(np.median(np.abs(ih - hh))),
                    "",
                    p.where,
                )
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
                "undertow.LSTM(..., forget_bias=1.0)",
            ),
        ),
    )


def f_biases(patient: Patient) -> tuple[Array, Array] | None:
    if patient.bias_ih is None or patient.bias_hh is None:
        return None
    H = patient.layer.h.shape[-1]
    return patient.bias_ih[H : 2 * H], patient.bias_hh[H : 2 * H]


def biases_uneven(case: Case) -> Outcome:
    """A forget bias that was given to some layers or directions of a module, and not to the others.

    Code that sets ``bias_hh_l0`` by its name misses ``bias_hh_l1`` and ``bias_hh_l0_reverse``. Found where a
    layer's forget bias is 0.8 or more in nine of ten units, and below 0.2 on average in another.
    """
    name = "forget-bias-uneven"
    means = [(patient, bias) for patient in case.lstms if (bias := patient.bias("f")) is not None]
    if len(means) < 2:
        return NotJudged(name, "it takes two layers or directions with biases to compare")
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
                "undertow.LSTM(..., forget_bias=1.0)",
            ),
        ),
    )
