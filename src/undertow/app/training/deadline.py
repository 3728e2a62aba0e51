"""An end for what torch may wait for without one: its store, once the process that holds it hangs."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from undertow.app.training.place import Place

POLL, GRACE = 0.2, 5.0  # seconds between two looks; beyond --timeout, which torch may keep itself


@contextmanager
def within(here: Place, timeout: float, broken: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """End this process with one line if a block, in which processes meet, takes too long.

    Nothing may be half written in the block: the process ends at once.

    Args:
        here: Which of several processes this is.
        timeout: Seconds that a process waits for the others.
        broken: Called now and then; returns why the others cannot be met any more.

    Yields:
        Nothing.
    """
    done, until = threading.Event(), time.monotonic() + timeout + GRACE

    def watch() -> None:
        while not done.wait(POLL):
            late = "the others do not answer in time" if time.monotonic() > until else None
            if why := broken() or late:
                said = f"process {here.rank + 1} of {here.size}: cannot join the others: {why}"
                print(f"undertow: {said}", file=sys.stderr, flush=True)
                os._exit(2)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
