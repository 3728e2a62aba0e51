"""Parts of a file that are read before they are wanted, by a process of its own (reader.py)."""

import mmap
import os
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from undertow.app.data.files import reader

SLOT = 1 << 24  # bytes of one request's parts at most; only what is used of it takes memory
SLOTS = 5  # requests under way at most


class Ahead:
    """What is read of a file meanwhile.

    A thread would take the interpreter's lock from the training at every part: see docs/decisions.md.

    Args:
        file: Its descriptor.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._expected: deque[bytes] = deque()  # requests in their order
        self._asked = 0  # the first so many of them are under way
        self._begin = 0  # of the slot of the first of them
        self._process: subprocess.Popen[bytes] | None = None
        self._works = hasattr(os, "memfd_create") and bool(sys.executable)

    def expect(self, offsets: NDArray[np.int64], size: int) -> bool:
        """Have parts read meanwhile.

        Args:
            offsets: [N], in bytes.
            size: Bytes of a part.

        Returns:
            False if that cannot be: the parts are too large together, or no process reads them.
        """
        if not self._works or len(offsets) * size > SLOT:
            return False
        with self._whole():
            self._expected.append(_request(offsets, size))
            self._ask()
        return self._works

    def take(self, offsets: NDArray[np.int64], found: NDArray[np.float32]) -> bool:
        """Take parts that were expected. What was expected before them is dropped.

        Args:
            offsets: [N], in bytes.
            found: Is filled, [N,...], contiguous.

        Returns:
            False if they were not expected or could not be read.
        """
        wanted, first, there = _request(offsets, found.nbytes // max(1, len(offsets))), b"", False
        if not self._works or wanted not in self._expected:
            return False
        with self._whole():
            while first != wanted:
                first, there = self._expected.popleft(), self._answer()
                if there and first == wanted:
                    read = np.frombuffer(self._memory, found.dtype, found.size, self._begin)
                    np.copyto(found, read.reshape(found.shape))
                self._asked -= 1
                self._begin = (self._begin + SLOT) % (SLOTS * SLOT)
                self._ask()
        return there and self._works

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is said to the process is said as a whole, or nothing after it."""
        works, self._works = self._works, False
        with suppress(OSError):  # the process is gone: the training goes on without it
            yield
            self._works = works

    def _ask(self) -> None:
        """Send the requests for which there is a slot."""
        pipe = self._started().stdin
        assert pipe is not None
        while self._asked < min(SLOTS, len(self._expected)):
            pipe.write(self._expected[self._asked])
            pipe.flush()
            self._asked += 1

    def _answer(self) -> bool:
        """Wait until the first request is answered; whether its parts were read."""
        pipe = self._started().stdout
        assert pipe is not None
        if not (answer := pipe.read(1)):
            raise BrokenPipeError
        return answer == b"\1"

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            shared = os.memfd_create("undertow")
            try:
                os.ftruncate(shared, SLOTS * SLOT)
                self._memory = mmap.mmap(shared, SLOTS * SLOT)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", reader.__file__, str(self._file), str(shared), str(SLOT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=(self._file, shared),
                    start_new_session=True,  # Ctrl-C is for the training
                )
            finally:
                os.close(shared)
            weakref.finalize(self, _end, self._process)
        return self._process


def _request(offsets: NDArray[np.int64], size: int) -> bytes:
    return np.concatenate([[len(offsets), size], offsets]).astype(np.int64).tobytes()


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(BrokenPipeError), process:  # closes its input, and waits
        pass
