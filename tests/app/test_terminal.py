"""What the verbs share in a terminal."""

import os
import signal

import pytest

from undertow.app.signals import Interrupt
from undertow.app.terminal import clock, sparkline


def test_a_sparkline_goes_from_the_lowest_to_the_highest_value():
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([1.0]) == "▁"
    assert sparkline([]) == ""


def test_a_sparkline_on_a_given_scale_stays_on_it():
    assert sparkline([-5.0, 0.0, 0.5, 1.0, 9.0], low=0.0, high=1.0) == "▁▁▅██"


def test_clock():
    assert (clock(59.9), clock(3600)) == ("00:59", "1:00:00")


def test_the_first_ctrl_c_asks_and_the_second_ends_the_command():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(SystemExit, match="130"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
