"""nn.LSTM in a process of its own, whose malloc keeps its memory: it shows how much of our lead is malloc's.

glibc returns large blocks to the system, and their pages are faulted in again at each call. glibc's tunables
stop that, but only for a whole process and from its start. So a worker (``-m undertow.app.bench.tuned``)
receives a Task and answers with results, or receives a count and answers with seconds, all pickled.
"""

import os
import pickle
import platform
import subprocess
import sys
from typing import IO, Any

import torch

from undertow.app.bench.speed import HOME, Module, Results, Task
from undertow.app.errors import UserError

NAME = "tuned nn.LSTM"
TUNABLES = {"mmap_threshold": 2_000_000_000, "trim_threshold": 4_000_000_000, "top_pad": 268_435_456}


def available() -> bool:
    """Tell whether this system's malloc is glibc's, which has the tunables."""
    return platform.libc_ver()[0] == "glibc"


class Tuned:
    """The worker, as a contestant. It ends with the ``with`` block."""

    name = NAME
    trains = True

    def __init__(self) -> None:
        tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
        self._worker = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HOME,
            env=os.environ | {"GLIBC_TUNABLES": tunables},
            start_new_session=True,  # Ctrl-C is for us; we then close its input
        )

    def __enter__(self) -> "Tuned":
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.communicate()  # at the end of its input it ends

    def prepare(self, task: Task) -> Results:
        """Get ready for a task, as of Contestant. Raises UserError if the worker has ended."""
        results: Results = self._ask(task)
        return results

    def seconds(self, count: int) -> float:
        """Time the task, as of Contestant. Raises UserError if the worker has ended."""
        return float(self._ask(count))

    def _ask(self, request: Task | int) -> Any:
        worker = self._worker
        assert worker.stdin and worker.stdout
        try:
            pickle.dump(request, worker.stdin)
            worker.stdin.flush()
            return pickle.load(worker.stdout)
        except (EOFError, BrokenPipeError):
            raise UserError(f"{NAME}: its process ended with code {worker.wait()}") from None


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    module = Module(NAME, torch.nn.LSTM)
    while True:
        try:
            request: Task | int = pickle.load(requests)
        except EOFError:
            return
        answer = module.prepare(request) if isinstance(request, Task) else module.seconds(request)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
