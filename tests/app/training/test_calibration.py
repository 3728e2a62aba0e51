"""The pinball loss against NumPy, and the conformal correction against examples computed by hand."""

import numpy as np
import pytest
import torch

from undertow.app.runs.bounds import corrected
from undertow.app.training.calibration import conformal, coverage, cross_coverage, pinball


def reference(distances, errors, share):
    """The pinball loss of quantiles q: max(t (y - q), (t - 1) (y - q)), and its gradient by the distances."""
    loss, gradient, known = 0.0, np.zeros_like(distances), int(np.isfinite(errors).sum())
    for n, o in np.argwhere(np.isfinite(errors)):
        for side, level in ((0, (1 - share) / 2), (1, (1 + share) / 2)):
            sign = 1 if side else -1
            beyond = errors[n, o] - sign * distances[n, o, side]  # y - q
            loss += max(level * beyond, (level - 1) * beyond) / known
            gradient[n, o, side] = -sign * (level if beyond > 0 else level - 1) / known
    return loss, gradient


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_pinball_loss_and_its_gradient_are_those_of_the_definition(share):
    rng = np.random.default_rng(0)
    distances, errors = rng.exponential(size=(40, 3, 2)), 2 * rng.normal(size=(40, 3))
    errors[rng.random(errors.shape) < 0.2] = np.nan
    tensor = torch.tensor(distances, requires_grad=True)
    loss = pinball(tensor, torch.tensor(errors), share)
    loss.backward()
    wanted, gradient = reference(distances, errors, share)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, atol=1e-15)


def test_the_correction_is_the_one_computed_by_hand():
    """Nine truths, share 0.8: the ceil(10 * 0.8) = 8th smallest of how far they lie outside."""
    errors = torch.tensor([[-3.0], [-2.0], [-1.0], [0.0], [0.5], [1.0], [2.0], [3.0], [5.0]])
    distances = torch.tensor([1.0, 2.0]).expand(9, 1, 2)  # outside: 2, 1, 0, -1, -1.5, -1, 0, 1, 3
    assert conformal(distances, errors, 0.8).tolist() == [2.0]
    assert conformal(distances, errors, 0.5).tolist() == [0.0]  # the 5th of -1.5 -1 -1 0 0 1 1 2 3
    assert conformal(distances, errors, 0.1).tolist() == [-1.5]  # the 1st: narrower
    assert conformal(distances, errors, 0.99).tolist() == [3.0]  # too few: the largest
    assert conformal(distances, errors, 0.9).tolist() == [3.0]  # 10 * 0.9 is 9, not 10


def test_each_row_of_the_horizon_has_a_correction_of_its_known_truths():
    errors = torch.tensor([[1.0, 10.0, torch.nan], [2.0, torch.nan, torch.nan], [3.0, 30.0, torch.nan]])
    found = conformal(torch.zeros(3, 3, 2), errors, 0.5)
    assert found.tolist() == [2.0, 30.0, 0.0]


def test_no_bound_passes_the_forecast():
    distances = torch.tensor([[[1.0, 3.0]]])
    assert corrected(distances, torch.tensor([0.5])).tolist() == [[[1.5, 3.5]]]
    assert corrected(distances, torch.tensor([-2.0])).tolist() == [[[0.0, 1.0]]]


def test_coverage_counts_the_known_truths_and_both_bounds_belong_to_the_interval():
    errors = torch.tensor([[-1.0], [2.0], [2.1], [torch.nan]])
    distances = torch.tensor([1.0, 2.0]).expand(4, 1, 2)
    assert coverage(distances, errors) == pytest.approx(2 / 3)


def test_each_half_is_judged_by_the_correction_of_the_other():
    errors = torch.tensor([[1.0]] * 10 + [[2.0]] * 10)
    assert (
        cross_coverage(torch.zeros(20, 1, 2), errors, 0.9) == 0.5
    )  # 2 holds the first half, 1 not the second
    assert cross_coverage(torch.zeros(20, 1, 2), errors, 0.95) is None  # ten truths do not show one in twenty


def test_calibrated_intervals_hold_new_truths_of_the_same_kind():
    """Romano et al., theorem 1: at least the share; the bound is a binomial one, 4 standard deviations."""
    rng = torch.Generator().manual_seed(0)
    spread = 0.2 + 3 * torch.rand(4000, 1, generator=rng)
    errors = spread * torch.randn(4000, 1, generator=rng)
    distances = (0.5 * spread)[:, :, None].expand(-1, -1, 2)  # much too narrow
    found = corrected(distances[:2000], conformal(distances[2000:], errors[2000:], 0.9))
    assert abs(coverage(found, errors[:2000]) - 0.9) < 4 * (2 * 0.9 * 0.1 / 2000) ** 0.5
