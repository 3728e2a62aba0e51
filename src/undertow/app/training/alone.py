"""One process that trains by itself, and what several ask of each other: ``processes.Team`` overrides it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from undertow.app.signals import Interrupt

if TYPE_CHECKING:  # what can be refused is refused before torch is imported
    from torch import nn

    from undertow.app.runs.folder import Run
    from undertow.app.runs.model import State
    from undertow.app.runs.near import Figure
    from undertow.app.runs.objective import Batch, Objective, Score
    from undertow.app.training.place import Place

S = TypeVar("S", bound="Score")
T = TypeVar("T")


class Alone:
    """One process that trains by itself. Nothing is told to anybody, and nothing costs time."""

    leads, rank, size = True, 0, 1
    place: "Place | None" = None

    def interrupt(self) -> Interrupt:
        """Return what notes the signals during a training."""
        return Interrupt()

    def now(self) -> float:
        """Return the time in seconds, from any start."""
        return time.monotonic()

    def begin(self, model: "nn.Module") -> None:
        """Start together, with the same weights."""

    def cut(self, batch: "Batch", objective: "Objective", every: bool) -> "Batch":
        """Return the part of a batch that this process reads."""
        return batch

    def seed(self, *seeds: int) -> None:
        """Give this process its own random numbers of a step; a single process goes on with its stream."""

    def weigh(self, loss: "Figure") -> "Figure":
        """Return the loss of this process's part, so that ``Score`` adds up to the loss of the batch."""
        return loss

    def total(self, score: S) -> S:
        """Return the sum of the scores of all processes."""
        return score

    def whole(self, state: "State | None") -> "State | None":
        """Return the states of all sequences of the batch, from those of each process."""
        return state

    def own(self, state: "State | None") -> "State | None":
        """Return the states of this process's sequences, from those of all."""
        return state

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Do what may fail in one process: then it has failed in all of them."""
        yield

    def apart(self) -> "Alone":
        """Return what trains a network of its own."""
        return self

    def alive(self) -> None:
        """Show others, who wait for this process, that it works."""

    def gather(self, content: T) -> list[T]:
        """Return what each process passes, in their order."""
        return [content]

    def tell(self, content: T) -> T:
        """Return what the leader passes."""
        return content

    def check_alike(self, value: object, what: str) -> None:
        """Check that all processes have what the leader has."""

    def run(self, run: "Run") -> "Run":
        """Return the run as this process is to use it."""
        return run

    def opened(self, run: "Run | None") -> "Run":
        """Return the run that the leader has opened."""
        assert run is not None
        return run


ALONE = Alone()


@contextmanager
def led(team: Alone, context: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """Enter a context in the leader only.

    Args:
        team: The processes.
        context: Makes the context.

    Yields:
        What it yields, in all processes.
    """
    with ExitStack() as stack:
        found: Any = None
        with team.agreed():
            if team.leads:
                found = stack.enter_context(context())
        yield team.tell(found)
