"""The device and the precision of a training.

Lightning Fabric takes as long to import as torch, so it is imported only for the precisions that need it.
"""

from typing import Any

import torch
from torch import nn

from undertow.app.errors import UserError, one_of
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


def checked(device: str, *kinds: str) -> str:
    """Return the value of ``--device``. Raises UserError unless it is one of ``kinds``: auto, cpu, cuda."""
    if device not in (known := kinds or ("auto", "cpu", "cuda")):
        raise UserError(f"--device {device}: expected {one_of(list(known))}")
    return device


def chosen(device: str) -> str:
    """Choose the kind of device.

    Args:
        device: auto, cpu or cuda.

    Returns:
        cpu or cuda.

    Raises:
        UserError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: expected a CUDA device, and this machine or this build of torch has none"
        )
    return device


def make_fabric(device: torch.device, precision: str) -> Any:
    """Choose what sets up a network and its optimiser, and computes its gradients.

    Args:
        device: The device of this process.
        precision: 32-true, 64-true, bf16-mixed or 16-mixed.

    Returns:
        A ``_Plain`` for 32-true and bf16-mixed, else a lightning_fabric.Fabric.
    """
    if precision in (PLAIN, MIXED):
        return _Plain(device, precision)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    how: Any = {"precision": precision}
    fabric = Fabric(accelerator=device.type, strategy=SingleDeviceStrategy(device), **how)
    fabric.launch()
    return fabric
