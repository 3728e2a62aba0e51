"""Symbols in place of vectors: of W e there are only as many as there are symbols, so they are looked up."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from undertow.kernels import tensors
from undertow.nn import by_hand

STEPS = 2  # of them for each symbol, at least: with fewer, the products with all symbols save little


def serves(module: Any, symbols: Any, embedding: Any) -> bool:
    """Return whether the kernels take symbols, and whether that is faster than to embed them.

    Args:
        module: an ``LSTM``; an ``RNN`` is not served.
        symbols: what it is to read.
        embedding: the vectors that symbols stand for.
    """
    return (
        isinstance(symbols, Tensor)
        and isinstance(embedding, Tensor)
        and symbols.dtype is torch.int64
        and symbols.dim() == embedding.dim() == 2
        and symbols.numel() >= STEPS * embedding.shape[0]
        and embedding.is_cpu
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not tensors.transformed()
        and module.mode == "LSTM"
        and by_hand.serves(module)
    )


def columns(weight_ih: Tensor, embedding: Tensor) -> Tensor:
    """Compute W e of each symbol, in the precision of the weights also under autocast.

    Args:
        weight_ih: W, [G*H,C].
        embedding: e, [S,C].

    Returns:
        [G*H,S].
    """
    with tensors.without_autocast(embedding):
        return linear(weight_ih, embedding)
