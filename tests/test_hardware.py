"""What is measured of the machine: within what machines can do, and refused where it makes no sense."""

import pytest

from undertow import hardware


def peak_of_one():
    """The best of many tries: beside other tests and programs most of them are interrupted."""
    return max(hardware.fma_peak(1) for _ in range(30))


def test_the_peak_is_that_of_a_processor():
    """More than a processor of 1 GHz that does one multiply-add a cycle, less than any core there is."""
    assert 2 < peak_of_one() < 2000


def test_two_threads_reach_no_more_than_twice_the_peak_of_one():
    """With room for a clock that changes. How much more than one they reach depends on who else is there."""
    assert 0 < hardware.fma_peak(2) < 3 * peak_of_one()


def test_a_handover_takes_longer_than_a_cycle_and_less_than_a_scheduler_slice():
    assert 1e-10 < hardware.handover(100) < 1e-1


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads):
    with pytest.raises(ValueError, match=r"^threads: expected at least 1, got"):
        hardware.fma_peak(threads)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time(seconds):
    with pytest.raises(ValueError, match=r"^seconds: expected more than 0, got"):
        hardware.fma_peak(1, seconds)


def test_no_rounds():
    with pytest.raises(ValueError, match=r"^rounds: expected at least 1, got"):
        hardware.handover(0)
