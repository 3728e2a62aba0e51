"""How far a long piece of work is: a live line in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from undertow.app.terminal import REFRESH, clock

BAR = 12  # columns of the bar: the line must fit into 80
PLAIN_EVERY = 10.0  # seconds between lines in a log

Item = TypeVar("Item")
_CONSOLE: ContextVar[Console | None] = ContextVar("console", default=None)


def bars(console: Console) -> Progress:
    """Make the live line of all verbs: a spinner, a description, a bar and what follows it (``tail``).

    Args:
        console: The terminal.

    Returns:
        The line, which is removed when it stops.
    """
    tail = TextColumn(
        "{task.fields[tail]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
    )
    said = TextColumn("{task.description}", markup=False)
    return Progress(SpinnerColumn(), said, BarColumn(bar_width=BAR), tail, console=console, transient=True)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Show on ``console`` how far each ``through`` is that runs in the block."""
    token = _CONSOLE.set(console)
    try:
        yield
    finally:
        _CONSOLE.reset(token)


def console() -> Console | None:
    """Return where work is shown; None if it is not."""
    return _CONSOLE.get()


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show in a terminal that the block works, if it is shown; how far it is is not known.

    Args:
        what: What it does, for example ``reading sales.csv``.
    """
    where = console()
    if where is None or not sys.stdout.isatty():
        yield
        return
    with bars(where) as line:
        line.add_task(what, total=None, tail="")
        yield


def through(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Go through items, and show how far that is if it is shown.

    Args:
        items: What the work is done on, one after the other.
        total: How many they are.
        what: What they are, for example ``windows``.

    Yields:
        The items.
    """
    where = console()
    if where is None:
        yield from items
    elif sys.stdout.isatty():
        yield from _live(items, total, what, where)
    else:
        yield from _plain(items, total, what, where)


def _live(items: Iterable[Item], total: int, what: str, where: Console) -> Iterator[Item]:
    began = drawn = time.monotonic()
    with bars(where) as line:
        bar = line.add_task(what, total=total, tail="")
        for done, item in enumerate(items, 1):
            yield item
            if time.monotonic() - drawn >= REFRESH:
                drawn = time.monotonic()
                line.update(bar, completed=done, tail=_left(began, done, total))


def _plain(items: Iterable[Item], total: int, what: str, where: Console) -> Iterator[Item]:
    began = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= PLAIN_EVERY:
            said = time.monotonic()
            where.print(f"{what}: {100 * done / total:.0f}%  {_left(began, done, total)}")


def _left(began: float, done: int, total: int) -> str:
    return f"{clock((time.monotonic() - began) * (total - done) / done)} left"
