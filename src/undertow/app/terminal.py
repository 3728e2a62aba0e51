"""What the verbs share in a terminal: Ctrl-C, times, and curves drawn with blocks."""

import signal
import threading
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
REFRESH = 0.2  # seconds between updates of a live line


def clock(seconds: float) -> str:
    """``00:59``, ``1:00:00``: a time without its fraction of a second."""
    return str(timedelta(seconds=int(seconds)))[2 if seconds < 3600 else 0 :]


def sparkline(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """Values as blocks from ``low`` to ``high``, by default the lowest and the highest of them."""
    low = min(values, default=0.0) if low is None else low
    high = max(values, default=0.0) if high is None else high
    span = (high - low) or 1.0
    heights = (min(1.0, max(0.0, (value - low) / span)) for value in values)
    return "".join(BLOCKS[round(height * (len(BLOCKS) - 1))] for height in heights)


class Interrupt:
    """Ctrl-C: asked once, training ends cleanly after the current step; asked twice, at once.

    While it is entered, the first SIGINT sets ``asked``; the second raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
