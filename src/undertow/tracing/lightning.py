"""A FlowMonitor as a Callback of Lightning's Trainer. Imports neither of Lightning's two packages."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.tracing.monitor import FlowMonitor

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def make(monitor: "FlowMonitor") -> Any:
    """Make a Lightning callback for a monitor.

    Args:
        monitor: the monitor, made with the model that the Trainer trains.

    Returns:
        A Callback of each package in ``PACKAGES`` that has been imported, so that either Trainer accepts it.

    Raises:
        RuntimeError: none of the packages has been imported.
    """
    bases = tuple(sys.modules[name].Callback for name in PACKAGES if name in sys.modules)
    if not bases:
        raise RuntimeError(f"callback: expected {' or '.join(PACKAGES)} to have been imported, found neither")
    return type("FlowCallback", (_Methods, *bases), {})(monitor)


class _Methods:
    """The methods that the Trainer calls. A step is one of the optimizer, however many batches it takes."""

    def __init__(self, monitor: "FlowMonitor") -> None:
        super().__init__()
        self.monitor = monitor
        self._seen = 0  # steps of the optimizer so far

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.monitor.steps = self._seen = trainer.global_step  # above 0 if training is resumed

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self._seen:  # gradients are being accumulated
            return
        self._seen = trainer.global_step
        numbers: dict[str, float] = {}
        for record in self.monitor.step():
            numbers |= record.scalars()
        if numbers:
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=self.monitor.steps - 1)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.monitor.close()
