"""Signals that end a command: Ctrl-C, SIGTERM, and SIGHUP, which comes when the terminal closes.

The first signal lets a training finish its current step and save. The second one, or any signal while nothing
trains, ends the command at once. The exit code is 128 plus the signal's number, as in shells.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP
AGAIN = 0.01  # seconds after which a signal is sent again
REPEATED = 3.0  # seconds in which several processes may get the same signal twice


class Ended(SystemExit):
    """The end of the command by a signal."""


def _end(number: int, frame: FrameType | None = None) -> None:
    """The handler that ends the command at once, without a traceback."""
    raise Ended(128 + number)


def end_at_once() -> None:
    """Make each of SIGNALS end the command at once from now on, with exit code 128 and its number."""
    _handle(_end)
    sys.unraisablehook = _end_again


def _end_again(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal again that came inside a finalizer or a callback, where Python drops every exception."""
    if not isinstance(lost.exc_value, Ended):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), int(str(lost.exc_value)) - 128))
    again.daemon = True
    with suppress(RuntimeError):  # no thread can start, since the command is about to end
        again.start()


def ignore() -> None:
    """Ignore all of SIGNALS from now on: the command ends by itself, and has said why."""
    _handle(signal.SIG_IGN)


def _handle(handler: Any) -> dict[int, Any]:
    """Set ``handler`` for all SIGNALS that are not ignored (nohup ignores SIGHUP); the previous handlers."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


class Interrupt:
    """While it is entered, the first of SIGNALS sets ``asked``; the second ends the command."""

    def __init__(self) -> None:
        self.asked = False
        self.number = int(signal.SIGINT)  # of the signal that asked
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = _handle(self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)

    @property
    def code(self) -> int:
        """The exit code of the command: 0, or 128 and the signal's number if a signal asked it to end."""
        return 128 + self.number if self.asked else 0

    @property
    def name(self) -> str:
        """The name of the signal that asked: ``Ctrl-C``, ``SIGTERM`` or ``SIGHUP``."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            _end(number)
        self.asked, self.number = True, number
        _silence_lost_terminal()


class SharedInterrupt(Interrupt):
    """Notes a signal, and sets ``asked`` when all processes of a training know of it.

    A terminal and a launcher may both send a signal: it counts as the second one only after REPEATED seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0  # the number of the first signal that came to this process
        self._heard_at = 0.0

    def agree(self, counts: list[float]) -> None:
        """Take over what all processes have heard: how many of them each of SIGNALS."""
        for number, count in zip(SIGNALS, counts, strict=True):
            if count and not self.asked:
                self.asked, self.number = True, int(number)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.heard and time.monotonic() - self._heard_at > REPEATED:
            _end(number)
        if not self.heard:
            self.heard, self._heard_at = number, time.monotonic()
        _silence_lost_terminal()


def _silence_lost_terminal() -> None:
    """Redirect output to nowhere if its terminal is gone, as after SIGHUP: printing would be an error."""
    for output in (1, 2):
        try:
            os.write(output, b"")
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
