"""Dropout before the head: how much is zero, and that nothing else follows from it."""

import pytest
import torch

from undertow.app.runs.dropout import Dropout, mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_is_zero_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    like = torch.empty(1000, 7, 143, dtype=dtype).transpose(0, 1)
    found = mask(like, p)
    n = found.numel()
    assert (found.shape, found.dtype) == (like.shape, dtype)
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-2)
    assert float(found.eq(0).double().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5 + 1e-5)
    assert mask(torch.empty(1), 1 - 1e-9).isfinite().all()


def test_neighbours_lanes_and_calls_are_independent():
    torch.manual_seed(1)
    one, two = (mask(torch.empty(400_000), 0.5).eq(0).double() for _ in range(2))
    for first, second in ((one[:-1], one[1:]), (one[:-4], one[4:]), (one, two)):
        assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / 400_000**0.5
    for lane in range(4):  # of the four numbers that one draw makes
        assert float(one[lane::4].mean()) == pytest.approx(0.5, abs=5 * 0.5 / 100_000**0.5)


def test_the_seed_decides_and_the_gradient_is_that_of_what_stayed():
    features, dropout = torch.randn(9, 5, requires_grad=True), Dropout(0.4)
    torch.manual_seed(2)
    found = dropout(features)
    found.sum().backward()
    torch.manual_seed(2)
    kept = mask(features, 0.4)
    torch.testing.assert_close(features.grad, kept)
    torch.testing.assert_close(found, features * kept)
    assert dropout.eval()(features) is features


@pytest.mark.parametrize("shape", [(6, 5, 16), (6, 5, 7)])
def test_the_seed_decides_alike_for_every_dtype_and_shape(shape):
    found = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for like in (torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype).flatten()):
            torch.manual_seed(3)
            found.append(mask(like, 0.3).ne(0).flatten())
    assert all(each.equal(found[0]) for each in found)
    assert 0 < found[0].sum() < found[0].numel()
