"""Intervals are added when a training has ended: fitted to the training, calibrated on the validation part.

The best network stays as it is. Its forecasts are those of a run without intervals, and the checkpoint of an
interrupted training needs nothing more. The same network, data and seed give the same intervals.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from undertow.app.data import Task
from undertow.app.errors import UserError
from undertow.app.runs import bounds, interval
from undertow.app.runs.bounds import Bounds, corrected
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch
from undertow.app.training.calibration import conformal, cross_coverage, pinball
from undertow.app.training.fabric import device_of
from undertow.app.training.optimizer import AdamW

MOST_WINDOWS = 20_000  # of the training part that the bounds are fitted to
STEPS, RATE, BATCH = 600, 0.01, 256  # of the fit
JUDGED, JUDGE_EVERY = 5_000, 30  # windows of the validation part by which a step of the fit is chosen; steps

Part = tuple[Tensor, Tensor]  # what the head reads, [N,F], and the errors in units of the windows, [N,O]


def missing(run: Run) -> bool:
    """Whether the run is to have intervals and has none."""
    return run.training.interval > 0 and not run.path(interval.FILE).exists()


def add(run: Run, task: Task, alive: Callable[[], None]) -> None:
    """Give a trained run its intervals.

    Args:
        run: The run, whose task is to forecast.
        task: Its data.
        alive: Called again and again while it works.
    """
    model, share = run.load_model().to(device_of(run.training)), run.training.interval
    features, errors, sizes = read(model, task.validation_batches(), alive)
    train = read(model, _some(task.train_batches(0)), alive)[:2]
    found = fit(train, (features, errors), share, run.training.seed)
    distances = found.distances(features)
    found.get_buffer("correction").copy_(conformal(distances, errors, share))
    widths = _widths(found(features), sizes, len(run.data.target))
    bounds.write(
        run.folder,
        found.state_dict(),
        interval.About(share, cross_coverage(distances, errors, share), widths),
    )


def _widths(distances: Tensor, sizes: Tensor, targets: int) -> list[float]:
    """The mean width of the intervals of each target, in its own unit; the targets alternate in O."""
    widths = distances.sum(-1) * sizes  # [N, O]
    found: list[float] = widths.reshape(len(widths), -1, targets).mean((0, 1)).tolist()
    return found


def add_common(run: Run, members: Sequence[Run], task: Task, alive: Callable[[], None]) -> None:
    """Calibrate the intervals of an ensemble, whose bounds are the means of its members' bounds.

    Args:
        run: The ensemble.
        members: Its members, trained and with intervals.
        task: Their data.
        alive: Called again and again while it works.
    """
    parts = [_uncalibrated(member, task, alive) for member in members]
    distances, errors, sizes = (torch.stack(each).mean(0) for each in zip(*parts, strict=True))
    share, correction = run.training.interval, conformal(distances, errors, run.training.interval)
    widths = _widths(corrected(distances, correction), sizes, len(run.data.target))
    about = interval.About(share, cross_coverage(distances, errors, share), widths)
    bounds.write(run.folder, {"correction": correction}, about)


def _uncalibrated(run: Run, task: Task, alive: Callable[[], None]) -> tuple[Tensor, Tensor, Tensor]:
    """In the validation part the distances to the bounds, [N,O,2], errors and sizes of windows, [N,O]."""
    model = run.load_model().to(device_of(run.training))
    features, errors, sizes = read(model, task.validation_batches(), alive)
    layer = bounds.read(run.folder, model)
    if layer is None:
        raise UserError(f"{run.path(interval.FILE)}: missing from the run folder")
    return layer.distances(features), errors, sizes


def _some(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The first batches, of MOST_WINDOWS windows together."""
    seen = 0
    for batch in batches:
        yield batch
        seen += batch.x.shape[1]
        if seen >= MOST_WINDOWS:
            return


def read(
    model: SequenceModel, batches: Iterable[Batch], alive: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Let a network forecast.

    Args:
        model: The network, in eval mode.
        batches: What it reads.
        alive: Called before each batch.

    Returns:
        What its head reads, [N,F]; the errors of its forecasts, truth minus forecast, in units of how much
        each window moves, [N,O], NaN where the truth is unknown; and these units, [N,O] or [N,1]. All lie on
        the CPU.
    """
    found = []
    with torch.no_grad(), bounds.listening(model) as heard:
        for batch in batches:
            alive()
            batch = batch.to(model.head.weight.device)
            found.append(batch.y - batch.through(model)[0])
    features, errors, sizes = (torch.cat(each).cpu() for each in (heard.features, found, heard.sizes))
    return features, errors / sizes, sizes


def fit(train: Part, validation: Part, share: float, seed: int) -> Bounds:
    """Fit the distances to both bounds by the pinball loss, with AdamW and a cosine.

    A network errs less in its training part. The step whose calibrated bounds are best in the validation part
    is therefore kept. The first step, constant distances, is one of them.

    Args:
        train: Features [N,F], of a decoder [N,ahead,F], and errors [N,O] of the training part.
        validation: Those of the validation part.
        share: The share of the truths that are to lie inside.
        seed: Of the batches.

    Returns:
        The layer, without a correction.
    """
    features, errors = train
    rows, every_row = features[0].numel() // features.shape[-1], features.flatten(0, -2)  # [..., F]
    found = Bounds(features.shape[-1], errors.shape[1], rows)
    unit = conformal(torch.zeros(1, 1, 2), errors, share)  # [O], of constant distances
    unit = torch.where(unit > 0, unit, 1.0)
    centre, scale = every_row.mean(0), every_row.std(0, correction=0).clamp(min=1e-6)  # [F]
    every = -(-len(validation[1]) // JUDGED)
    parts = [((x - centre) / scale, error / unit) for x, error in (train, validation)]
    _descend(found, parts[0], (parts[1][0][::every], parts[1][1][::every]), share, seed)
    found.get_buffer("unit").copy_(unit)
    found.linear.weight.div_(scale)  # the same function of features that are not standardised
    found.linear.bias.sub_(found.linear.weight @ centre)
    return found


def _descend(found: Bounds, train: Part, validation: Part, share: float, seed: int) -> None:
    """Fit the layer to features and errors of size 1, from distances of 1 everywhere."""
    nn.init.zeros_(found.linear.weight)
    nn.init.constant_(found.linear.bias, math.log(math.expm1(1.0)))  # softplus makes it 1
    optimizer = AdamW(found.linear.parameters(), lr=RATE)
    rng = torch.Generator().manual_seed(seed)
    best = math.inf
    for step in range(STEPS + 1):
        if step % JUDGE_EVERY == 0 and (loss := _judge(found, validation, share)) < best:
            best, kept = loss, deepcopy(found.state_dict())
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        chosen = torch.randint(len(train[0]), (BATCH,), generator=rng)
        optimizer.zero_grad()
        torch.autograd.backward(pinball(found.distances(train[0][chosen]), train[1][chosen], share))
        optimizer.step()
    found.load_state_dict(kept)
    found.requires_grad_(False)


@torch.no_grad()
def _judge(found: Bounds, part: Part, share: float) -> float:
    """The pinball loss of bounds that are calibrated on the same part."""
    distances = found.distances(part[0])
    return pinball(corrected(distances, conformal(distances, part[1], share)), part[1], share).item()
