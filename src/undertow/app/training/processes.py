"""The processes that train one network together, and what they tell each other.

Every process draws the same batches, reads its part of each and computes the same step. One message a step
adds up the gradients, the loss and the signals that came; every further message is such a sum as well. The
leader, process 0, writes the run folder and speaks. All times that decide anything are those of the leader.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from undertow.app.errors import UserError, is_out_of_memory
from undertow.app.runs.folder import Run
from undertow.app.runs.members import is_ensemble
from undertow.app.runs.model import State
from undertow.app.runs.near import Figure
from undertow.app.runs.objective import Batch, Objective, Score
from undertow.app.signals import SIGNALS, Interrupt, SharedInterrupt
from undertow.app.training import shares
from undertow.app.training.alone import Alone
from undertow.app.training.deadline import within
from undertow.app.training.follower import Follower
from undertow.app.training.place import Lost, Place
from undertow.app.training.signs import Signs

S = TypeVar("S", bound=Score)
T = TypeVar("T")


@dataclass
class Share:
    """The part of the present batch that this process reads.

    Args:
        n: The sequences of the batch.
        weight: How much the targets of the part count in the mean over the batch, 0 to 1.
        scored: The targets of the part, as a share of those of the batch.
    """

    n: int
    weight: float
    scored: float


class Team(Alone):
    """One of several processes.

    Args:
        place: Which of the processes this is.
        device: The device of this process.
        timeout: Seconds that a process waits for the others.
    """

    place: Place

    def __init__(self, place: Place, device: torch.device, timeout: float) -> None:
        self.place, self.device, self.size, self.timeout = place, device, place.size, timeout
        self.rank = place.rank
        self.leads = place.rank == 0
        self._clock, self._told_at = 0.0, time.monotonic()
        self._interrupt = SharedInterrupt()
        self._share = Share(0, 0.0, 0.0)
        self._signs: Signs | None = None  # of processes that train networks of their own
        self._sequences = 0  # of the batch after which the carried states stand

    # -- messages ---------------------------------------------------------------------------------

    def _sum(self, *values: Tensor) -> list[Tensor]:
        """The sums of tensors over all processes, as vectors; the clock and the signals go with them."""
        asked = [float(self._interrupt.heard == number) for number in SIGNALS]
        passed = time.monotonic() - self._told_at if self.leads else 0.0
        told = values[0].new_tensor([passed, *asked])
        message = torch.cat([*(each.flatten() for each in values), told])
        with self.connected():
            distributed.all_reduce(message)
            passed, *asked = message[-len(told) :].tolist()
        self._clock, self._told_at = self._clock + passed, time.monotonic()
        self._interrupt.agree(asked)
        return list(torch.split(message, [*(each.numel() for each in values), len(told)]))[:-1]

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Turn torch's errors of a broken connection into one line. Raises Lost."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise Lost.of(self.rank, self.size, error) from error

    def interrupt(self) -> Interrupt:
        """Return what notes the signals; they count once all processes know of them."""
        return self._interrupt

    def now(self) -> float:
        """Return the leader's time as of the last message."""
        return self._clock

    def begin(self, model: nn.Module) -> None:
        """Start together, with the leader's weights."""
        with self.connected():
            for value in model.state_dict().values():
                distributed.broadcast(value, 0)
        self._sum(torch.zeros(0, device=self.device))  # the clock starts again

    # -- a step -----------------------------------------------------------------------------------

    def cut(self, batch: Batch, objective: Objective, every: bool) -> Batch:
        """Return the part of a batch that this process reads."""
        part = shares.part(batch, self.rank, self.size, every)
        (weight, scored), (weights, all_scored) = objective.targets(part.y), objective.targets(batch.y)
        self._share = Share(
            batch.x.shape[1], weight / weights if weights else 0.0, scored / all_scored if all_scored else 0.0
        )
        return part

    def seed(self, *seeds: int) -> None:
        """Give this process its own random numbers of a step.

        They follow from the seeds and the process, so a training that goes on needs no state of them.
        """
        seed = seeds_to_one(*seeds, self.rank)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def weigh(self, loss: Figure) -> Figure:
        """Return the loss of this process's part, so that ``Score`` adds up to the loss of the batch."""
        return loss * self._share.weight / self._share.scored if self._share.scored else 0.0

    def part_of_loss(self, loss: Tensor) -> Tensor:
        """Return what the loss of this process's part adds to that of the batch."""
        return loss * self._share.weight

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Replace the gradients by their sums over all processes.

        Args:
            parameters: Those of the network.
            loss: The part of the loss of this process, a scalar.

        Returns:
            The loss of the batch.
        """
        gradients = [each.grad for each in parameters if each.grad is not None]
        *sums, total = self._sum(*gradients, loss.detach().to(gradients[0]))
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        self._sequences = self._share.n
        return float(total)

    # -- sums now and then ------------------------------------------------------------------------

    def total(self, score: S) -> S:
        """Return the sum of the scores of all processes."""
        values = {name: value for name, value in vars(score).items() if value is not None}
        double: dict[str, Any] = {"dtype": torch.float64, "device": self.device}
        sums = self._sum(*(torch.as_tensor(value, **double) for value in values.values()))
        found: dict[str, Any] = {
            name: each.view_as(value).to(value) if isinstance(value, Tensor) else type(value)(each)
            for (name, value), each in zip(values.items(), sums, strict=True)
        }
        return replace(score, **found)

    def whole(self, state: State | None) -> State | None:
        """Return the states of all sequences of the batch, from those of each process."""
        if state is None:
            return None
        mine = shares.places(self._sequences, self.rank, self.size)
        whole = [each.new_zeros(each.shape[0], self._sequences, each.shape[2]) for each in state]
        for all_of_it, each in zip(whole, state, strict=True):
            all_of_it[:, mine] = each[:, : mine.stop - mine.start]
        return tuple(found.view_as(each) for found, each in zip(self._sum(*whole), whole, strict=True))

    def own(self, state: State | None) -> State | None:
        """Return the states of this process's sequences, from those of all."""
        if state is None:
            return None
        self._sequences = state[0].shape[1]
        mine = shares.read_places(self._sequences, self.rank, self.size)
        return tuple(each[:, mine].contiguous() for each in state)

    # -- beginning and end ------------------------------------------------------------------------

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Do what may fail in one process: then it has failed in all of them.

        Raises:
            UserError: It failed; the leader's error, or one that names the process.
        """
        error: Exception | None = None
        try:
            yield
        except Lost:
            raise
        except Exception as found:
            error = found
        said = self.gather(str(error) or type(error).__name__ if error else None)
        first = next((rank for rank, each in enumerate(said) if each is not None), None)
        if first is None:
            return
        raise error or UserError(f"process {first + 1} of {self.size}: {said[first]}")

    def apart(self) -> Alone:
        """Return what trains a network of its own; from now on the others wait for it while it shows life."""
        with self.connected(), within(self.place, self.timeout):
            self._signs = self._signs or Signs(self.size, self.timeout)
        return Apart(self)

    def alive(self) -> None:
        """Show the others that this process works, where it trains a network of its own."""
        if self._signs is not None:
            with self.connected():
                self._signs.alive()

    def gather(self, content: T) -> list[T]:
        """Return what each process passes, in their order."""
        found: list[Any] = [None] * self.size
        with self.connected():
            if self._signs is not None:
                self._signs.meet()
            distributed.all_gather_object(found, content)
        return found

    def tell(self, content: T) -> T:
        """Return what the leader passes."""
        found: list[Any] = [content]
        with self.connected():
            distributed.broadcast_object_list(found, 0, device=self.device)
        told: T = found[0]
        return told

    def check_alike(self, value: object, what: str) -> None:
        """Check that all processes have what the leader has. Raises UserError."""
        leaders = self.tell(value)
        with self.agreed():
            if value != leaders:
                raise UserError(f"{what}: differs from what process 1 has")

    def opened(self, run: Run | None) -> Run:
        """Return the run that the leader has opened, with all that a training goes on from."""
        content: Any = None
        with self.agreed():
            if run is not None:
                content = (run,) if is_ensemble(run) else (run, run.read_last(), run.read_metrics())
        found, *read = self.tell(content)
        return run or (Follower(**vars(found), last=read[0], rows=read[1]) if read else found)

    def run(self, run: Run) -> Run:
        """Return the run as this process is to use it: only the leader writes a run."""
        return run if self.leads or is_ensemble(run) else Follower(**vars(run))


class Apart(Alone):
    """One of several processes while it trains a network of its own: alone, but the others watch it.

    Args:
        team: The processes.
    """

    def __init__(self, team: Team) -> None:
        self.team = team

    def alive(self) -> None:
        """Show the others that this process works, and see that they do. Raises Lost."""
        self.team.alive()


def seeds_to_one(*seeds: int) -> int:
    """Make one seed of several, as NumPy does it."""
    from numpy.random import SeedSequence

    return int(SeedSequence(seeds).generate_state(1)[0])
