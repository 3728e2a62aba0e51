"""Tensors of the program that a recording refers to, and arrays of their values."""

import torch
from torch import Tensor

from undertow.records.layer import NotRecorded
from undertow.tape import Array


class Kept:
    """A reference to a tensor of the program, which may write to it later.

    Args:
        name: what the message of ``NotRecorded`` calls the tensor.
        tensor: the tensor; it is not copied.
    """

    def __init__(self, name: str, tensor: Tensor) -> None:
        self._name, self._tensor, self._version = name, tensor.detach(), version(tensor)

    def get(self) -> Tensor:
        """Return the tensor. Raises NotRecorded if it was changed in place since."""
        if version(self._tensor) != self._version:
            raise NotRecorded(
                f"{self._name} was changed in place after the call, and the trace had not copied it"
            )
        return self._tensor


def version(tensor: Tensor) -> int:
    """Return torch's count of changes in place; 0 for tensors of inference mode, which have none."""
    return 0 if tensor.is_inference() else int(tensor._version)


def copy_of(tensor: Tensor) -> Tensor:
    """Return a contiguous copy without a graph."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def view(tensor: Tensor) -> Array:
    """Return a tensor as a read-only array. A later backward pass may still read the memory.

    Args:
        tensor: a tensor on any device.

    Returns:
        An array over the same memory; a copy of what lies on another device, in float32 of half precision.
    """
    tensor = tensor.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype.itemsize == 2 else tensor).numpy()
    array.flags.writeable = False
    return array
