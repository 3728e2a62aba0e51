"""What the fuzz tests share: a way to call the command in this process, and trainings of a few steps."""

import contextlib
import io
import signal
import sys
import traceback
from dataclasses import dataclass

import pytest

from undertow.app import cli
from undertow.app.data.tasks import problem
from undertow.app.training import curve

SECONDS = 600  # a case that takes longer hangs; the machine may be busy
TINY = ("--hidden-size", 3, "--num-layers", 1, "--epochs", 1, "-q")
TRAIN = {
    "text": ("rhyme.txt", "--steps", 40, "--batch-size", 4, *TINY),
    "forecast": (
        "waves.csv",
        "--target",
        "level",
        "--group",
        "place",
        "--steps",
        5,
        "--batch-size",
        16,
        *TINY,
    ),
    "classify": ("walks.csv", "--sequence", "id", "--label", "way", "--batch-size", 4, *TINY),
    "sound": ("clean.wav", "amp.wav", "--steps", 256, "--batch-size", 2, "--delay", 0, *TINY),
    "problem": ("adding", "--steps", 6, "--batch-size", 4, *TINY),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``traceback`` is empty where it caught all errors."""

    code: int
    out: str
    err: str
    traceback: str = ""

    def check(self, case: object) -> None:
        """Exit code 0, or 2 with something said; never a traceback."""
        assert not self.traceback, f"{case}\n{self.traceback}"
        assert "Traceback" not in self.err, f"{case}\n{self.err}"
        assert self.code in (0, 2), f"{case}: exit code {self.code}\n{self.err}"
        if self.code == 2:
            assert self.err.startswith("undertow: ") and self.err.count("\n") == 1, f"{case}\n{self.err}"


def too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def call(*arguments: object) -> Ended:
    """``undertow ...`` in this process."""
    out, err, code, raised = io.StringIO(), io.StringIO(), 0, ""
    sys.argv = ["undertow", *map(str, arguments)]
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        raised = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Ended(code, out.getvalue(), err.getvalue(), raised)


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Problems of a few sequences, and no picture."""
    patch.setattr(problem, "BATCHES", 2)
    patch.setattr(problem, "VALIDATION", 8)
    patch.setattr(problem, "VALIDATION_BATCH", 4)
    patch.setattr(curve, "draw", lambda run, rows: run.path("curve.png").write_bytes(b"a picture"))
    patch.setenv("COLUMNS", "200")
