"""The metrics of a training as event files of TensorBoard."""

import math
from typing import Any

from undertow.app.loop import Hook, Loop
from undertow.app.runs.folder import LOGS
from undertow.app.training.trainer import Trainer

TAGS = {  # entry of a row of the metrics -> name in TensorBoard
    "train": "error/training",
    "validation": "error/validation",
    "train_loss": "loss/training",
    "validation_loss": "loss/validation",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "clipped": "clipped steps",
}


class Events(Hook):
    """Writes each evaluation.

    Args:
        trainer: The training; the files lie in its run folder.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_start(self, loop: Loop) -> None:
        """Open the files; what lies after the step at which a training is resumed does not count any more."""
        from torch.utils.tensorboard import SummaryWriter

        step = self.trainer.progress.at.step
        self.writer = SummaryWriter(self.trainer.run.path(LOGS), purge_step=step + 1 if step else None)

    def on_evaluate(self, loop: Loop, found: dict[str, Any]) -> None:
        """Write a row of the metrics, by the step of the optimiser."""
        for name, tag in TAGS.items():
            if math.isfinite(found[name]):
                self.writer.add_scalar(tag, found[name], found["step"])

    def on_end(self, loop: Loop) -> None:
        """Close the files."""
        self.writer.close()
