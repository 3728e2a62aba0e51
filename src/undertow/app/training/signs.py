"""Signs of life of processes that train networks of their own.

Nothing is sent while members train, so a process that hangs would not be missed. Now and then, between two
steps, each therefore takes part in a round: a message to all that is not waited for. A round that does not
end in time, or with an error, shows that a process hangs, was killed or cannot be reached. No thread of ours
does so: a training that hangs shows no life.
"""

import time
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

EVERY = 1.0  # seconds from the end of a round to the next one


class Signs:
    """The rounds of this process.

    Args:
        size: How many processes there are.
        timeout: Seconds within which each takes part in a round.
    """

    def __init__(self, size: int, timeout: float) -> None:
        self._group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._met = 0  # how often this process has come to a meeting
        self._found = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
        self._round: Any = None
        self._next = 0.0

    def alive(self) -> None:
        """Take part in a round if one is due.

        Raises:
            RuntimeError: Another process was silent for too long, or is gone.
        """
        if self._round is not None and self._round.is_completed():
            self._end()
        if self._round is None and time.monotonic() >= self._next:
            self._begin()

    def meet(self) -> None:
        """Wait until all processes have come here, as long as they take part in rounds.

        Raises:
            RuntimeError: Another process was silent for too long, or is gone.
        """
        if self._round is not None:
            self._end()
        self._met += 1
        while self._least() < self._met:
            self._begin()
            self._end()

    def _least(self) -> int:
        """How often all processes had come to a meeting at the last round."""
        return int(torch.cat(self._found).min())

    def _begin(self) -> None:
        mine = torch.tensor([self._met])
        self._round = distributed.all_gather(self._found, mine, self._group, async_op=True)

    def _end(self) -> None:
        self._round.wait()
        self._round, self._next = None, time.monotonic() + EVERY
