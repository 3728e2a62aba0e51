"""Signals that end a command: Ctrl-C, SIGTERM, and SIGHUP where the terminal goes.

Asked once, training ends cleanly after the current step; asked twice, or while nothing trains, at once. The
exit code is 128 and the signal's number, as shells have it.
"""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP


def end(number: int, frame: FrameType | None = None) -> None:
    """The handler that ends the command at once, without a traceback."""
    raise SystemExit(128 + number)


def end_at_once() -> None:
    """Let all SIGNALS end the command, from now on."""
    handle(end)


def handle(handler: Any) -> dict[int, Any]:
    """Give ``handler`` all SIGNALS but the ignored ones, as under nohup; the handlers before."""
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
            self._before = handle(self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)

    @property
    def code(self) -> int:
        """The exit code of a command that was asked to end."""
        return 128 + self.number

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            end(number)
        self.asked, self.number = True, number
