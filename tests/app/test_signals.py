"""A signal ends a command wherever it comes."""

import os
import signal
import subprocess
import sys

import pytest

FINALIZER = """
import signal, time
from undertow.app import signals

class Slow:
    def __del__(self):
        signal.raise_signal({number})

signals.end_at_once()
Slow()
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without a handler")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_in_a_finalizer_ends_the_command(name):
    number = int(getattr(signal, name))
    script = FINALIZER.format(number=number)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False
    )
    assert (ended.returncode, ended.stderr) == (128 + number, "")


def test_other_errors_in_finalizers_are_still_printed():
    script = (
        FINALIZER.format(number=2).replace("signal.raise_signal(2)", "1 / 0").replace("time.sleep(60)", "")
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False
    )
    assert (ended.returncode, "ZeroDivisionError" in ended.stderr) == (0, True)
