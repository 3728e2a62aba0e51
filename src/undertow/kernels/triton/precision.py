"""The precision of float32 products, ours and torch's, as torch is set for recurrent layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def allowed() -> str:
    """Return "tf32" or "ieee": ``torch.backends.cudnn.rnn.fp32_precision``, or what it takes over."""
    for setting in (torch.backends.cudnn.rnn, torch.backends.cudnn, torch.backends):
        found = str(setting.fp32_precision)
        if found != "none":
            return found
    return "ieee"


def of_kernels(dtype: torch.dtype) -> str:
    """Return Triton's ``input_precision`` for products of ``dtype``.

    "tf32x3" takes each product three times in tf32, with an error near that of float32.
    """
    if dtype is not torch.float32:
        return "ieee"
    return "tf32" if allowed() == "tf32" else "tf32x3"


@contextmanager
def of_products() -> Iterator[None]:
    """Give torch's own products the precision of recurrent layers; without effect on the CPU."""
    matmul = torch.backends.cuda.matmul
    before, wanted = matmul.fp32_precision, allowed()
    if before == wanted:
        yield
        return
    matmul.fp32_precision = wanted
    try:
        yield
    finally:
        matmul.fp32_precision = before
