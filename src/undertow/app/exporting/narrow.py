"""What fewer bits cost: a run with the rounded weights that a file is to hold."""

from dataclasses import replace
from pathlib import Path

import torch

from undertow.app.runs import weights
from undertow.app.runs.folder import Run
from undertow.networks import rounded as matrix


def rounded(run: Run, dtype: str, folder: Path) -> Run:
    """Make a run of a run, whose matrices are rounded.

    Args:
        run: The run.
        dtype: ``int16`` or ``int8``.
        folder: An existing folder, where its weights are written.

    Returns:
        The run; only its weights lie in the folder.
    """
    tensors = dict(run.load_model().state_dict())
    for name, value in tensors.items():
        if value.dim() == 2 and name.rpartition(".")[2].startswith("weight"):
            tensors[name] = torch.from_numpy(matrix(value.float().numpy(), dtype)).to(value.dtype)
    weights.write_model(folder / "model.safetensors", tensors)
    return replace(run, folder=folder)
