"""What sets up a network on its device, in a precision.

Lightning Fabric takes as long to import as torch, so it is imported only for the precisions that need it.
"""

from typing import Any

import torch
from torch import nn

from undertow.app.runs.config import TrainConfig
from undertow.app.runs.device import chosen, placed
from undertow.app.runs.near import Figure

PLAIN = "32-true"  # the precision of torch's parameters
MIXED = "bf16-mixed"  # products in bfloat16; parameters, their gradients and their steps as before


class _Mixed(nn.Module):
    """A network under autocast, whose results are in float32.

    Args:
        network: Returns an output and a state.
        kind: That of the device.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, *given: Any) -> Any:
        with torch.autocast(self.kind, torch.bfloat16):
            output, state = self.network(*given)
        return output.float(), tuple(each.float() for each in state)


class _Plain:
    """The methods of ``lightning_fabric.Fabric`` that the loop calls, for one device and no scaling."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        module = module.to(self.device)
        return _Mixed(module, self.device.type) if self.precision == MIXED else module, optimizer

    def backward(self, loss: torch.Tensor) -> None:
        torch.autograd.backward(loss)

    def clip_gradients(
        self, module: nn.Module, optimizer: Any, max_norm: float, error_if_nonfinite: bool
    ) -> Figure:
        found: Figure = optimizer.clip(max_norm)
        return found


def device_of(config: TrainConfig) -> torch.device:
    """Return the device of a training in one process. Raises UserError if there is none of its kind."""
    return placed(chosen(config.device))


def make_fabric(device: torch.device, precision: str) -> Any:
    """Choose what sets up a network and its optimiser, and computes its gradients.

    Args:
        device: The device of this process.
        precision: 32-true, 64-true, bf16-mixed or 16-mixed, which on the CPU is bf16-mixed.

    Returns:
        A ``_Plain`` for 32-true and bf16-mixed, else a lightning_fabric.Fabric.
    """
    if precision in (PLAIN, MIXED):
        return _Plain(device, precision)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    halved = precision == "16-mixed" and device.type == "cuda"
    how: Any = {"plugins": half(device.type)} if halved else {"precision": precision}
    fabric = Fabric(accelerator=device.type, strategy=SingleDeviceStrategy(device), **how)
    fabric.launch()
    return fabric


def half(kind: str) -> Any:
    """Return what computes in 16-mixed for a Fabric.

    Fabric refuses to clip the gradients of an optimiser that is told of the scaler, since torch's then divide
    them in their step. Our AdamW is told so that nothing waits, and its gradients are divided before.

    Args:
        kind: That of the device.
    """
    from lightning_fabric.plugins import MixedPrecision

    class Half(MixedPrecision):
        def unscale_gradients(self, optimizer: Any) -> None:
            assert self.scaler is not None
            self.scaler.unscale_(optimizer)

    return Half("16-mixed", kind)


def scaling(fabric: Any) -> dict[str, Any]:
    """Return where the scaler of 16-mixed stands, as numbers; nothing in other precisions."""
    precision = None if isinstance(fabric, _Plain) else fabric.strategy.precision
    return {} if precision is None else precision.state_dict()


def resume_scaling(fabric: Any, found: dict[str, Any]) -> None:
    """Take over what ``scaling`` returned; a training that goes on in another precision does not."""
    if found and scaling(fabric).keys() == found.keys():
        fabric.strategy.precision.load_state_dict(found)
