"""What the course of a training shows: rates, clipping, over-fitting, no learning."""

import numpy as np

from undertow.doctor.finding import Chart, Evidence, Finding, InOrder, NotJudged, Outcome, Remedy, number
from undertow.doctor.patient import Array, Case, Training

ENOUGH = 4  # the fewest evaluations by which a course is judged
HARDLY = 0.05  # fraction of the guess's loss; chance alone gives this much on some hundred sequences
FAR = 100.0  # times the clip
TINY = 0.02  # the smallest sum of steps that moves weights of size 0.1


def learning_rate_low(case: Case) -> Outcome:
    """Check whether a training can have moved the weights.

    Adam and similar optimisers move a weight by about the learning rate a step (Kingma & Ba 2015), so by at
    most Σ lr over all steps. Weights are of size 1/√H, about 0.1, so a sum below 0.02 leaves them about where
    they started. With plain SGD the bound does not hold. It is in order once the loss is down to half of a
    guess's.
    """
    name = "learning-rate-low"
    training = case.training
    rates, steps = training.column("lr"), training.column("step")
    if len(rates) < 1 or not np.isfinite(rates).all() or not np.isfinite(steps).all():
        return NotJudged(name, "no steps and learning rates are known")
    moved = float(np.sum(rates * np.diff(steps, prepend=0)))
    evidence = (
        Evidence("sum of the learning rates over all steps", moved),
        Evidence("largest learning rate at an evaluation", float(rates.max())),
        Evidence("steps of the optimiser", steps[-1]),
    )
    if moved >= TINY or training.skill >= 0.5:
        return InOrder(name, evidence)
    short = steps[-1] < 200
    return Finding(
        name,
        "problem",
        f"The weights have hardly moved from where they started: over {steps[-1]:,.0f} steps none can have "
        f"gone further than about {moved:.2g}.",
        evidence,
        (Remedy("Train longer:", "undertow train --resume RUN --epochs MORE"),)
        if short
        else (Remedy("A larger learning rate:", "undertow train ... --lr 0.003"),),
        loss_chart(training),
        explains=("memory-horizon", "not-learning"),
    )


def learning_rate_high(case: Case) -> Outcome:
    """Check for a training loss that rises well above what it was, to worse than a guess.

    It is found if at some evaluation the training loss is 1.5 times its lowest so far and above the loss of
    the guess, and the best validation loss is still more than half of the guess's. A spike from which the
    network recovers does not count. The thresholds are our own.
    """
    name = "learning-rate-high"
    losses, baseline = case.training.column("train_loss"), case.training.baseline
    if np.isfinite(losses).sum() < ENOUGH or baseline is None:
        return NotJudged(name, f"it takes {ENOUGH} evaluations and the loss of a guess")
    rise = losses / np.fmin.accumulate(losses)
    bad = np.where(np.isfinite(losses) & (losses > baseline), rise, 0)
    at = int(np.argmax(bad))
    evidence = (
        Evidence("largest rise of the training loss above its lowest before", float(np.nanmax(rise)), "fold"),
    )
    if bad[at] < 1.5 or case.training.skill >= 0.5:
        return InOrder(name, evidence)
    return Finding(
        name,
        "problem",
        f"The steps are too large: the training loss rises {bad[at]:.2g}-fold from what it had been, "
        "and above that of a guess.",
        (
            *evidence,
            Evidence("training loss at its worst", float(losses[at])),
            Evidence(f"loss of {case.training.baseline_name}", baseline),
            *(
                Evidence("learning rate then", rate)
                for rate in case.training.column("lr")[at : at + 1]
                if rate > 0
            ),
        ),
        (
            smaller_rate(case.training, 10),
            *clipping(case.training),
        ),
        loss_chart(case.training),
        explains=(
            "saturated-gates",
            "dead-units",
            "runaway-cells",
            "exploding",
            "clip",
            "forget-bias",
            "memory-horizon",
            "not-learning",
            "over-fitting",
        ),
    )


def clip(case: Case) -> Outcome:
    """Check whether nearly every step is clipped to far below the gradient's own size.

    It is a warning if, over the later half of the evaluations, more than 90 % of steps are clipped and the
    median gradient norm is more than 100 times the clip; with more than 1000 times it is a problem. Adam is
    insensitive to a constant factor, so a clip that is several times too small does no harm. With a clip far
    smaller, every step counts alike whatever its gradient, and the gradients of single weights approach
    Adam's ε, 1e-8. A clip that is never reached is in order; it is there for rare steps (Pascanu, Mikolov &
    Bengio 2013). The thresholds are our own.
    """
    name = "clip"
    training = case.training
    later = slice(len(training.rows) // 2, None)
    clipped, norms = training.column("clipped")[later], training.column("grad_norm")[later]
    if not training.clip > 0:
        return NotJudged(name, "the gradient is not clipped")
    if not np.isfinite(clipped).any() or not np.isfinite(norms).any():
        return NotJudged(name, "nothing is known of the gradient's norm")
    part, norm = float(np.nanmean(clipped)), float(np.nanmedian(norms))
    evidence = (
        Evidence("steps clipped, later half of the training", 100 * part, "%"),
        Evidence("gradient norm before clipping, median of the evaluations there", norm),
        Evidence("clipped at", training.clip),
    )
    ratio = norm / training.clip
    if part <= 0.9 or ratio <= FAR:
        return InOrder(name, evidence)
    return Finding(
        name,
        "problem" if ratio > 1000 else "warning",
        f"{100 * part:.0f} % of the steps are clipped, to {number(float(f'{ratio:.2g}'))} times below the "
        "gradient's own norm: its size no longer counts.",
        evidence,
        (Remedy("Clip just above the usual norm:", f"undertow train ... --clip {_round(norm)}"),),
        explains=("not-learning",),
    )


def not_learning(case: Case) -> Outcome:
    """Check whether the validation loss is better than that of a guess that needs no learning.

    It is a problem if it is not below the guess's at all, and a warning if it is lower by less than 5 %.
    Chance alone gives that much on a validation part of some hundred sequences.
    """
    name = "not-learning"
    training = case.training
    if np.isnan(training.skill) or training.baseline is None:
        return NotJudged(name, "no loss of a guess to compare with is known")
    best = float(np.nanmin(training.column("validation_loss")))
    evidence = (
        Evidence("validation loss at its best", best),
        Evidence(f"loss of {training.baseline_name}", training.baseline),
        Evidence("that is, of its loss", 100 * (1 - training.skill), "%"),
    )
    if training.skill > HARDLY:
        return InOrder(name, evidence)
    hardly = "hardly" if training.skill > 0 else "not"
    return Finding(
        name,
        "problem" if training.skill <= 0 else "warning",
        f"The network is {hardly} better than {training.baseline_name}, which takes no learning.",
        evidence,
        (
            Remedy("See what else is found; if nothing is, train longer, or with more units."),
            Remedy("The data may not hold what you ask of them: try a target that you know they do."),
        ),
        loss_chart(training),
    )


def over_fitting(case: Case) -> Outcome:
    """Check whether the validation loss rises while the training loss goes on falling.

    It is found if the median validation loss of the last three evaluations is at least 25 % above the best
    one, by no less than a fifth of a guess's loss where that is known, and the median training loss of the
    three is at least 25 % below that of the best evaluation. A classifier that grows ever surer of one wrong
    answer in ten sequences makes a smaller rise. The best weights are kept either way, so it is only a
    warning. The thresholds are our own.
    """
    name = "over-fitting"
    train, validation = case.training.column("train_loss"), case.training.column("validation_loss")
    if np.isfinite(train).sum() < ENOUGH or np.isfinite(validation).sum() < ENOUGH:
        return NotJudged(name, f"it takes {ENOUGH} evaluations")
    best = int(np.nanargmin(validation))
    risen = float(np.nanmedian(validation[-3:]) / validation[best])
    fallen = float(np.nanmedian(train[-3:]) / train[best])
    evidence = (
        Evidence("best evaluation", best + 1, f"of {len(validation)}"),
        Evidence("validation loss in the end, of its best", risen),
        Evidence("training loss in the end, of what it was then", fallen),
    )
    far = (risen - 1) * validation[best] >= 0.2 * (case.training.baseline or 0)
    if risen < 1.25 or fallen > 0.75 or not far:
        return InOrder(name, evidence)
    return Finding(
        name,
        "warning",
        f"The network learns its training part by heart: since evaluation {best + 1} of {len(validation)} "
        "it gets better there and worse on what it has not seen. (The weights of that evaluation are kept.)",
        evidence,
        (
            Remedy("More dropout, or noise on the features:", "undertow train ... --dropout 0.5 --noise 0.5"),
            Remedy("Fewer units, or more data."),
        ),
        loss_chart(case.training),
    )


def smaller_rate(training: Training, by: int) -> Remedy:
    """Suggest a learning rate ``by`` times smaller than the largest there was."""
    rates = training.column("lr")
    known = np.isfinite(rates).any() and np.nanmax(rates) > 0
    smaller = f"{np.nanmax(rates) / by:.1g}" if known else f"LR/{by}"
    return Remedy(f"A learning rate {by} times smaller:", f"undertow train ... --lr {smaller}")


def clipping(training: Training) -> tuple[Remedy, ...]:
    """Suggest to clip the gradient, unless that is done already."""
    if training.clip > 0:
        return ()
    return (Remedy("Clip the gradient (Pascanu, Mikolov & Bengio 2013):", "undertow train ... --clip 1"),)


def loss_chart(training: Training) -> Chart:
    """Chart both losses by step, and the guess's."""
    steps = training.column("step")
    x: Array = steps if np.isfinite(steps).all() else np.arange(len(steps), dtype=np.float64)
    curves = {"training": training.column("train_loss"), "validation": training.column("validation_loss")}
    if training.baseline is not None:
        curves[training.baseline_name] = np.full(len(x), training.baseline)
    return Chart("Loss", "step", "loss", x, curves, log=True)


def _round(norm: float) -> str:
    """One figure, rounded up: 2.39 -> 3."""
    size = 10.0 ** np.floor(np.log10(norm))
    return f"{np.ceil(norm / size) * size:g}"
