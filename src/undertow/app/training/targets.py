"""The errors of a network that forecasts several targets, each in the target's own unit."""

import torch

from undertow.app.data import Task
from undertow.app.runs.folder import Run
from undertow.app.runs.together import network_of
from undertow.app.training.fabric import device_of


def errors(run: Run, task: Task) -> dict[str, float]:
    """Compute the RMSE of each target on the validation part.

    Args:
        run: The run, whose best network is saved.
        task: Its data.

    Returns:
        The RMSE by target; empty unless the run forecasts several.
    """
    names = run.data.target
    if len(names) < 2:
        return {}
    device = device_of(run.training)
    model, squares, counts = network_of(run), torch.zeros(len(names)).double(), torch.zeros(len(names))
    model.to(device)
    with torch.no_grad():
        for batch in task.validation_batches():
            there = batch.to(device)
            error = (there.through(model)[0] - there.y).cpu().double().reshape(-1, len(names))
            squares += error.square().nansum(0)
            counts += error.isfinite().sum(0)
    return dict(zip(names, (squares / counts).sqrt().tolist(), strict=True))
