"""Rounding in float32 against float64, where a sum is long."""

import pytest
import torch

from undertow import LSTM


def root_mean_square(t):
    return t.double().pow(2).mean().sqrt().item()


@pytest.mark.parametrize(("T", "N"), [(2, 4), (1, 1)], ids=["packed weights", "one step"])
def test_rounding_does_not_grow_with_the_input(T, N):
    """Sums of 30,000 products, in one piece, are wrong by 6e-6 of y and 4.5e-5 of the gradients."""
    torch.manual_seed(0)
    C, H = 30_000, 16
    narrow, wide = LSTM(C, H), LSTM(C, H).double()
    wide.load_state_dict(narrow.state_dict())
    x, dy = torch.randn(T, N, C), torch.randn(T, N, H)
    results = []
    for lstm, dtype in ((narrow, torch.float32), (wide, torch.float64)):
        y, _ = lstm(x.to(dtype))
        parameters = [lstm.weight_ih_l0, lstm.bias_ih_l0]
        results.append((y.detach(), *torch.autograd.grad(y, parameters, dy.to(dtype))))
    for found, exact, limit in zip(*results, (2e-6, 1.5e-5, 1.5e-5), strict=True):
        assert root_mean_square(found - exact) < limit * root_mean_square(exact)
