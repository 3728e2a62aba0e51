"""Gates that do not move, and units that carry nothing."""

from dataclasses import dataclass

import numpy as np

from undertow import flow
from undertow.doctor.finding import Chart, Evidence, Finding, InOrder, NotJudged, Outcome, Remedy
from undertow.doctor.forget import ONE
from undertow.doctor.patient import NO_LSTM, Array, Case, Patient
from undertow.doctor.training import clipping, smaller_rate
from undertow.records.layer import Mask

LOW, HIGH = 0.01, 0.99  # outside of these σ' is below 4 % of its largest value
BAND = 1e-3  # a unit whose h stays within it carries nothing
FEW = 0.1  # fraction of dead units that a healthy layer may have
STEPS = 20  # the fewest by which to judge that a unit never moves


def saturated_gates(case: Case) -> Outcome:
    """Check whether at least three of i, f, g and o are saturated in over half of all steps of all units.

    Saturated means below 0.01 or above 0.99, for g beyond ±0.99 (``flow.gate_saturation``). A sigmoid's
    derivative σ(1-σ) is then below 4 % of its largest value, so the gate's weights hardly learn any more. One
    or two saturated gates are healthy: after a chrono start, and in every cell that holds for long, f stays
    near 1 and i near 0. Karpathy, Johnson & Fei-Fei 2015 (arXiv:1506.02078) find many such units in networks
    that work, so it is only a warning if the loss is below half of a guess's. The thresholds are our own.
    """
    name = "saturated-gates"
    if not case.lstms:
        return NotJudged(name, NO_LSTM)
    found = [(patient, by_gate(patient)) for patient in case.lstms]
    evidence = tuple(
        Evidence(f"{gate} saturated, of all steps and units", 100 * float(part.mean()), "%", patient.where)
        for patient, parts in found
        for gate, part in parts.items()
    )
    sick = [(p, parts) for p, parts in found if sum(part.mean() > 0.5 for part in parts.values()) >= 3]
    if not sick:
        return InOrder(name, evidence, level_chart(case.lstms[-1]))
    patient, parts = sick[0]
    stuck = np.mean([part >= 0.99 for part in parts.values()])
    return Finding(
        name,
        "warning" if case.training.skill >= 0.5 else "problem",
        "The gates are shut or wide open most of the time. At either end a gate passes on hardly any "
        "gradient, so training can hardly move it any more.",
        (
            *evidence,
            Evidence("gates that are saturated in 99 % of steps", 100 * float(stuck), "%", patient.where),
        ),
        (
            smaller_rate(case.training, 10),
            *clipping(case.training),
            Remedy("Bring the inputs to a size of about 1; `undertow train` does."),
        ),
        saturation_chart(patient, parts),
        explains=(
            "exploding",
            "dead-units",
            "runaway-cells",
            "forget-bias",
            "memory-horizon",
            "not-learning",
        ),
    )


def by_gate(patient: Patient) -> dict[str, Array]:
    """Return the fraction of steps in which each gate of each unit is saturated, [H] for i, f, g and o."""
    s = flow.gate_saturation(patient.tape, LOW, HIGH)
    return {
        "i": s.i_closed + s.i_open,
        "f": s.f_closed + s.f_open,
        "g": s.g_saturated,
        "o": s.o_closed + s.o_open,
    }


def saturation_chart(patient: Patient, parts: dict[str, Array]) -> Chart:
    """Chart the fraction of saturated steps by unit."""
    return Chart(
        f"Saturated steps by unit ({patient.where})",
        "units, each gate sorted for itself",
        "of all steps",
        np.arange(patient.layer.h.shape[-1], dtype=np.float64),
        {gate: np.sort(part) for gate, part in parts.items()},
    )


def level_chart(patient: Patient) -> Chart:
    """Means over the steps of all sequences, of the gates that lie between 0 and 1."""
    layer = patient.layer
    means = {gate: getattr(layer, gate)[layer.mask].astype(np.float64).mean(axis=0) for gate in "ifo"}
    return Chart(
        f"How far gates are open, by unit ({patient.where})",
        "units, each gate sorted for itself",
        "mean, 0 shut, 1 open",
        np.arange(layer.h.shape[-1], dtype=np.float64),
        {gate: np.sort(mean) for gate, mean in means.items()},
    )


@dataclass(frozen=True)
class Dead:
    """The dead units of one layer, [H] each."""

    constant: Mask
    by_i: Mask  # those whose input gate stays closed
    by_o: Mask  # those whose output gate stays closed

    @staticmethod
    def of(patient: Patient) -> "Dead":
        """Find the dead units of a layer."""
        if not patient.is_lstm:
            h = patient.layer.h[1:][patient.layer.mask]  # [steps of all sequences, H]
            constant = np.ptp(h, axis=0) <= BAND
            return Dead(constant, np.zeros_like(constant), np.zeros_like(constant))
        health = flow.unit_health(patient.tape, band=BAND)
        return Dead(
            health.constant_h, health.constant_h & health.i_closed, health.constant_h & health.o_closed
        )


def dead_units(case: Case) -> Outcome:
    """Check for units whose h never leaves a band of 0.001, at every step of every sequence.

    It is ``flow.unit_health`` with ``band`` = 0.001; closed input or output gates are named as the reason. An
    input gate that stays below 0.01 is healthy by itself: a unit that is to hold for hundreds of steps starts
    there and accumulates what little it lets in. More than 10 % of a layer's units give a warning, more than
    half a problem. The thresholds are our own. It is not judged with fewer than 20 steps.
    """
    name = "dead-units"
    if min(int(patient.layer.mask.sum()) for patient in case.patients) < STEPS:
        return NotJudged(name, f"it takes {STEPS} steps to say that a unit never moves")
    judged = [(p, Dead.of(p)) for p in case.patients]
    evidence = tuple(line for patient, dead in judged for line in about_units(patient, dead))
    worst, dead = max(judged, key=lambda pair: float(pair[1].constant.mean()))
    part = float(dead.constant.mean())
    if part <= FEW:
        return InOrder(name, evidence)
    return Finding(
        name,
        "problem" if part > 0.5 else "warning",
        f"{int(dead.constant.sum())} of {len(dead.constant)} units of {worst.where} say the same whatever "
        f"the input: {reason(dead)}.",
        evidence,
        revive(dead),
        range_chart(worst),
        explains=("memory-horizon", "forget-bias", "not-learning") if part > 0.5 else (),
    )


def about_units(patient: Patient, dead: Dead) -> list[Evidence]:
    """Return as evidence how many units of a layer are dead, and through which gate."""
    found = [
        Evidence(
            "units with a constant h", int(dead.constant.sum()), f"of {len(dead.constant)}", patient.where
        )
    ]
    for part, text in (
        (dead.by_i, "input gate never above 0.01"),
        (dead.by_o, "output gate never above 0.01"),
    ):
        if part.any():
            found.append(Evidence(f"... {text}", int(part.sum()), f"of {len(part)}", patient.where))
    return found


def reason(dead: Dead) -> str:
    """Say why the units are dead."""
    n = dead.constant.sum()
    if dead.by_i.sum() > n / 2:
        return "their input gates are shut, so nothing gets into the cell"
    if dead.by_o.sum() > n / 2:
        return "their output gates are shut, so nothing of the cell is seen"
    return "nothing that reaches them moves them"


def revive(dead: Dead) -> tuple[Remedy, ...]:
    """Suggest what brings dead units back."""
    n = dead.constant.sum()
    for part, gate, rows in ((dead.by_i, "input", ":H"), (dead.by_o, "output", "3 * H :")):
        if part.sum() > n / 2:
            return (
                Remedy(
                    f"Look at the {gate} gate's bias, and set it back to 0:",
                    f"lstm.bias_ih_l0.data[{rows}] = lstm.bias_hh_l0.data[{rows}] = 0",
                ),
                Remedy("If training drove it there, start again with a smaller learning rate."),
            )
    return (
        Remedy("Start again with a smaller learning rate, or bring the inputs to a size of about 1."),
        Remedy("If the others solve the task, fewer units will do:", "undertow train ... --hidden-size H/2"),
    )


def range_chart(patient: Patient) -> Chart:
    """Chart how far h of each unit moves."""
    h = patient.layer.h[1:][patient.layer.mask]
    moves = np.sort(np.ptp(h, axis=0).astype(np.float64))
    return Chart(
        f"How far h moves, by unit ({patient.where})",
        "units, sorted",
        "largest h - smallest h",
        np.arange(len(moves), dtype=np.float64),
        {"h": np.maximum(moves, 1e-12)},
        log=True,
    )


def runaway_cells(case: Case) -> Outcome:
    """Check for cells that never forget and have saturated tanh, so they neither move h nor learn.

    It is found if more than a tenth of the units have f > 0.99 throughout (``flow.unit_health``) and
    |tanh(c)| > 0.9 in nine of ten steps (``flow.gate_saturation``). Either condition alone is normal memory.
    Gers, Schmidhuber & Cummins (2000) introduced the forget gate against cells with both.
    """
    name = "runaway-cells"
    if not case.lstms:
        return NotJudged(name, NO_LSTM)
    parts = [(p, p.health.never_forgets & (p.saturation.c_saturated > 0.9)) for p in case.lstms]
    evidence = tuple(
        line
        for p, gone in parts
        for line in (
            Evidence(
                "units that never forget and are saturated", int(gone.sum()), f"of {len(gone)}", p.where
            ),
            Evidence("largest |c|", float(np.nanmax(np.abs(p.layer.c), initial=0)), "", p.where),
        )
    )
    patient, gone = max(parts, key=lambda pair: float(pair[1].mean()))
    if gone.mean() <= FEW:
        return InOrder(name, evidence)
    return Finding(
        name,
        "warning",
        f"{int(gone.sum())} of {len(gone)} cells of {patient.where} only ever add up and have run out of "
        "range: tanh(c) is stuck near ±1 there.",
        evidence,
        (
            Remedy("Let them forget: a smaller forget bias,", ONE),
            Remedy("Reset the state where a new sequence begins, if it is carried from one to the next."),
        ),
    )
