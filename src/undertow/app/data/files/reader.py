"""A process that reads parts of a file ahead, into memory shared with the process that started it.

python -I -S reader.py FILE MEMORY SLOT: two file descriptors, and the bytes of a slot of the memory. Requests
on its input are int64: the number of parts, the bytes of each, and their offsets. The parts of a request
stand side by side in the slot after that of the request before; after the last slot comes the first one
again. One byte answers: 1, or 0 if a part could not be read. The process ends with its input. It imports
little, so it is there at once.
"""

import mmap
import os
import select
import sys
from array import array
from collections import deque
from contextlib import suppress

WORD = 8  # bytes of an int64


def serve(file: int, shared: int, slot: int) -> None:
    """Answer requests in their order. The system begins to read for each as soon as it comes."""
    memory = memoryview(mmap.mmap(shared, 0))
    wanted: deque[tuple[int, array[int]]] = deque()
    begin = 0
    while True:
        if not wanted or select.select([0], [], [], 0)[0]:
            head = _received(2)
            offsets = _received(head[0]) if head else head
            if len(head) < 2 or len(offsets) < head[0]:
                return
            for offset in offsets:
                os.posix_fadvise(file, offset, head[1], os.POSIX_FADV_WILLNEED)
            wanted.append((head[1], offsets))
        else:
            read = _read(file, *wanted.popleft(), memory[begin : begin + slot])
            os.write(1, bytes([read]))
            begin = (begin + slot) % len(memory)


def _received(count: int) -> "array[int]":
    """So many int64, or fewer where the input ends."""
    data = b""
    while len(data) < count * WORD and (more := os.read(0, count * WORD - len(data))):
        data += more
    return array("q", data[: len(data) // WORD * WORD])


def _read(file: int, size: int, offsets: "array[int]", into: memoryview) -> bool:
    try:
        return all(
            os.preadv(file, [into[k * size : (k + 1) * size]], offset) == size
            for k, offset in enumerate(offsets)
        )
    except OSError:
        return False


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # whoever asked is gone
        serve(*(int(each) for each in sys.argv[1:]))
