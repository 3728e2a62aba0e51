"""torch's modules beside ours, and the comparison of what they return."""

import torch
from torch.nn.utils.rnn import PackedSequence

import undertow

PAIRS = {"LSTM": (torch.nn.LSTM, undertow.LSTM), "RNN": (torch.nn.RNN, undertow.RNN)}


def pair(cell, *args, **options):
    """torch's module and ours, made from the same seed."""
    made = []
    for kind in PAIRS[cell]:
        torch.manual_seed(7)
        made.append(kind(*args, **options))
    return made


def flat(result):
    """The tensors in a module's result."""
    if isinstance(result, torch.Tensor):
        return [result]
    return flat(result.data) if isinstance(result, PackedSequence) else [t for r in result for t in flat(r)]


def assert_same(actual, expected, tolerance=1e-6):
    """Same dtypes and shapes, and values within ``tolerance``, a number or one for each dtype.

    It is of the largest entry expected, or of 1 where all entries are smaller.
    """
    for a, e in zip(flat(actual), flat(expected), strict=True):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        largest = e.detach().abs().max().item() if e.numel() else 0.0
        within = tolerance[e.dtype] if isinstance(tolerance, dict) else tolerance
        torch.testing.assert_close(a, e, rtol=0, atol=within * max(1.0, largest))
