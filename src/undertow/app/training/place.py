"""Which of several processes this is, as torchrun, SLURM or ``--devices`` say; it needs no torch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from undertow.app import signals
from undertow.app.errors import UserError

MOST, DAY = 1000, 86_400  # processes on a machine; seconds
TIMEOUT = 300.0  # seconds that a process waits for the others


@dataclass(frozen=True)
class Place:
    """Which of the processes of a training this is.

    Args:
        rank: Its number, from 0.
        size: How many there are.
        local_rank: Its number on this machine, from 0.
        local_size: How many there are on this machine.
        launcher: What started them: ``torchrun``, ``SLURM`` or ``--devices``.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    launcher: str

    @property
    def speaks(self) -> bool:
        """Whether this process reports errors that all have; one on each machine until they are connected."""
        return self.rank == 0 or (self.local_rank == 0 and not _connected())


class Lost(UserError):
    """The connection to another process is lost."""

    @classmethod
    def of(cls, rank: int, size: int, error: Exception) -> "Lost":
        """Make the error of a process from what torch says."""
        slow = "timed out" in str(error).lower() or "timeout" in str(error).lower()
        why = "they do not answer in time" if slow else "a connection was closed"
        return cls(
            f"process {rank + 1} of {size}: lost the other processes: {why}; "
            "what was saved stays, and --resume continues from it"
        )


def checked(devices: int | None, timeout: float) -> int | None:
    """Check ``--devices`` and ``--timeout``.

    Args:
        devices: The value of ``--devices``.
        timeout: The value of ``--timeout``, in seconds.

    Returns:
        ``devices``.

    Raises:
        UserError: One is out of range.
    """
    if devices is not None and not 1 <= devices <= MOST:
        raise UserError(f"--devices {devices}: expected a whole number from 1 to {MOST:,}")
    if not 1 <= timeout <= DAY:
        raise UserError(f"--timeout {timeout:g}: expected a number of seconds from 1 to {DAY:,}")
    return devices


def started() -> Place | None:
    """Return which of the processes of a launcher this is; None if torchrun or SLURM started none."""
    return _of_torchrun() or _of_slurm()


def find(devices: int | None) -> Place | None:
    """Find out which of several processes this is.

    Args:
        devices: The value of ``--devices``.

    Returns:
        Its place; None if it trains alone.

    Raises:
        UserError: Another number of processes was started.
    """
    found = started()
    if found is not None and found.launcher == "SLURM":
        _check_tasks()
    if found is not None and devices not in (None, found.local_size):
        raise UserError(
            f"--devices {devices}: {found.launcher} started {found.local_size} on this machine; "
            "leave the option out"
        )
    if found is None and devices is not None:
        rank = int(os.environ.get("LOCAL_RANK", 0))
        found = Place(rank, devices, rank, devices, "--devices")
    if found is None or found.size == 1:
        return None
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # before torch is imported: one line is enough
    return found


def _of_torchrun() -> Place | None:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    return Place(rank, size, local_rank, local_size, "torchrun")


def _of_slurm() -> Place | None:
    """Its tasks, where srun started them; a batch script without srun is one process."""
    if "SLURM_STEP_ID" not in os.environ or "SLURM_PROCID" not in os.environ:
        return None
    rank, size, local = (int(os.environ[f"SLURM_{name}"]) for name in ("PROCID", "NTASKS", "LOCALID"))
    return Place(rank, size, local, size // int(os.environ.get("SLURM_NNODES", 1)), "SLURM")


def _check_tasks() -> None:
    if "," in (each := os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")):
        raise UserError(
            f"srun: expected as many tasks on each machine, got {each}; --ntasks-per-node says it"
        )


def _connected() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_initialized()


@contextmanager
def one_voice(here: Place | None) -> Iterator[None]:
    """Let one process report an error that all have."""
    try:
        yield
    except UserError as error:
        if here is not None:
            signals.ignore()  # a launcher asks all processes to end when one has ended
        if here is None or here.speaks or isinstance(error, Lost):
            raise
        raise SystemExit(2) from None
