"""The device on which a network computes, as ``--device`` names it; torch is imported for a GPU alone."""

from typing import TYPE_CHECKING

from undertow.app.errors import UserError, one_of

if TYPE_CHECKING:
    import torch


KINDS = ("auto", "cpu", "cuda")


def chosen(device: str, kinds: tuple[str, ...] = KINDS) -> str:
    """Choose the kind of device.

    Args:
        device: The value of ``--device``.
        kinds: The values that it may have.

    Returns:
        cpu or cuda.

    Raises:
        UserError: The value is none of these, or there is no such device.
    """
    if device not in kinds:
        raise UserError(f"--device {device}: expected {one_of(list(kinds))}")
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            "--device cuda: expected a CUDA device, and this machine or this build of torch has none"
        )
    return device


def placed(kind: str) -> "torch.device":
    """Return the device of a kind that this process uses: of several GPUs torch's current one."""
    import torch

    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
