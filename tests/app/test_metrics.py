"""Metrics against values computed by hand, and NaN where they are not defined."""

import numpy as np
import pytest

from undertow.app import metrics

TRUTH, FORECAST = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 2.0, 1.0, 5.0])  # errors 1, 0, -2, -1


def test_errors_of_numbers():
    assert metrics.rmse(TRUTH, FORECAST) == pytest.approx(np.sqrt(6 / 4))
    assert metrics.mae(TRUTH, FORECAST) == pytest.approx(1.0)
    assert metrics.bias(TRUTH, FORECAST) == pytest.approx(-0.5)


def test_efficiencies():
    # mean 3; squared distances from it 4 + 1 + 0 + 9 = 14
    assert metrics.nse(TRUTH, FORECAST) == pytest.approx(1 - 6 / 14)
    # forecast: mean 2.5, distances -0.5 -0.5 -1.5 2.5 (squares 9), products with -2 -1 0 3: 1 + 0.5 + 7.5 = 9
    r, alpha, beta = 9 / np.sqrt(14 * 9), np.sqrt(9 / 14), 2.5 / 3
    by_hand = 1 - np.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)
    assert metrics.kge(TRUTH, FORECAST) == pytest.approx(by_hand)
    assert metrics.nse(TRUTH, TRUTH) == metrics.kge(TRUTH, TRUTH) == 1
    assert metrics.nse(TRUTH, np.full(4, 3.0)) == 0  # the mean of the truths


def test_scaled_error():
    # |2-1|, |4-2|, |4-4| -> mean 1; two rows apart |4-1|, |4-2| -> 2.5
    assert metrics.naive_error([1, 2, 4, 4]) == pytest.approx(1.0)
    assert metrics.naive_error([1, 2, 4, 4], season=2) == pytest.approx(2.5)
    assert metrics.naive_error([1, np.nan, 4, 4]) == pytest.approx(0.0)  # one pair is known
    assert np.isnan(metrics.naive_error([1, 2], season=2))
    assert metrics.mase(TRUTH, FORECAST, 2.0) == pytest.approx(0.5)
    scales = np.array([1.0, 1.0, 0.0, 4.0])  # errors 1/1, 0/1, left out, 1/4
    assert metrics.mase(TRUTH, FORECAST, scales) == pytest.approx(1.25 / 3)


def test_intervals():
    assert metrics.coverage(TRUTH, [1, 0, 0, 0], [2, 1, 3, 5]) == 0.5  # the bounds belong to it
    assert metrics.coverage([1.0, np.nan], [0, 0], [2, 2]) == 1


NUMBERS = [metrics.rmse, metrics.mae, metrics.bias, metrics.nse, metrics.kge]


@pytest.mark.parametrize("metric", NUMBERS, ids=lambda metric: metric.__name__)
def test_pairs_that_are_not_known_do_not_count(metric):
    truth, forecast = [*TRUTH, np.nan, 7.0], [*FORECAST, 9.0, np.nan]
    assert metric(truth, forecast) == metric(TRUTH, FORECAST)
    assert np.isnan(metric([np.nan], [1.0]))


def test_efficiencies_are_not_defined_without_variance():
    assert np.isnan(metrics.nse([2.0, 2.0], [1.0, 2.0]))
    assert np.isnan(metrics.kge([2.0, 2.0], [1.0, 2.0]))
    assert np.isnan(metrics.kge([1.0, 2.0], [2.0, 2.0]))
    assert np.isnan(metrics.kge([-1.0, 1.0], [1.0, 2.0]))
    assert np.isnan(metrics.mase([1.0], [2.0], 0.0))


def test_classes():
    truth, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    counts = metrics.confusion(truth, predicted, 4)  # class 3 never occurs, class 2 is never predicted
    np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert metrics.accuracy(counts) == 3 / 6
    np.testing.assert_allclose(metrics.recall(counts), [2 / 3, 1 / 2, 0, np.nan])
    np.testing.assert_allclose(metrics.precision(counts), [2 / 4, 1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(metrics.f1(counts), [4 / 7, 1 / 2, 0, np.nan])
    assert metrics.balanced_accuracy(counts) == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert metrics.macro_f1(counts) == pytest.approx((4 / 7 + 1 / 2) / 3)


def test_no_classes_at_all():
    counts = metrics.confusion([], [], 2)
    assert np.isnan(metrics.accuracy(counts))
    assert np.isnan(metrics.balanced_accuracy(counts))
    assert np.isnan(metrics.macro_f1(counts))
