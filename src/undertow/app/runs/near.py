"""Numbers that lie on a device. Who reads one waits until the device has done all that it was told.

A training step on a GPU reads none: its numbers stay there as tensors, and are read together now and then.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:  # what reads runs imports this file, and needs no torch
    import torch
    from torch import Tensor

Figure = Union[float, "Tensor"]  # a number, or a scalar on a device that nobody has waited for
Row = tuple[Figure, ...]
NEAR: tuple[str, ...] = ("cpu",)  # tests take it out, and the CPU trains as a GPU would
MOST = 0.5  # of the free memory of a GPU that data may take


def is_near(where: "Tensor | torch.device") -> bool:
    """Return whether reading the numbers of a tensor, or of those on a device, takes no waiting."""
    return getattr(where, "device", where).type in NEAR


def figure(value: Figure) -> Figure:
    """Return a scalar as a number if that takes no waiting, else as it is, without its graph."""
    if isinstance(value, float):
        return value
    return value.item() if is_near(value) else value.detach()


def is_known(value: Figure) -> bool:
    """Return whether nobody has to wait for a number."""
    return isinstance(value, float | int)


def read(rows: Sequence[Row]) -> list[tuple[float, ...]]:
    """Read numbers, waiting once.

    Args:
        rows: Each has the same columns, which hold numbers or scalars of one dtype.

    Returns:
        The rows as numbers.
    """
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    far = [k for k, column in enumerate(columns) if not is_known(column[0])]
    if far:
        import torch

        found = torch.stack([torch.stack(columns[k]).double() for k in far]).tolist()
        for k, values in zip(far, found, strict=True):
            columns[k] = values
    return list(zip(*columns, strict=True))


def moved(tensor: "Tensor", device: "torch.device") -> "Tensor":
    """Return a tensor on a device. Nothing waits for a copy from the CPU to a GPU.

    Args:
        tensor: On any device.
        device: Where it is wanted.
    """
    if tensor.device == device:
        return tensor
    if tensor.is_cpu and device.type == "cuda":  # only pinned memory is copied without waiting
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=tensor.is_cpu)


def fits(device: "torch.device", *tensors: "Tensor") -> bool:
    """Return whether tensors have room on a device beside the network and its gradients."""
    if device.type != "cuda":
        return True
    import torch

    return sum(each.nbytes for each in tensors) <= MOST * torch.cuda.mem_get_info(device)[0]


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: "torch.dtype", device: "torch.device") -> "Tensor":
    """Return numbers as a tensor, copied to the device at the first call alone."""
    import torch

    return torch.tensor(values, dtype=dtype, device=device)
