"""The symbols of documents one after another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.app.data.files.disk import Mapped


@dataclass(frozen=True)
class Stream:
    """Documents one after another.

    Args:
        symbols: [symbols], integers.
        begins: [symbols], whether a document begins here.
        mapped: The files that hold both; none in memory.
    """

    symbols: NDArray[Any]
    begins: NDArray[np.bool_]
    mapped: tuple[Mapped, ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)

    def lanes(
        self, n: int, start: int, stop: int, ahead: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cut a window out of ``n`` lanes of equal length that are read side by side.

        Args:
            n: N, the lanes.
            start: The first place in each lane.
            stop: The place after the last one.
            ahead: How many symbols later it is read.

        Returns:
            Symbols, and whether a document begins at them, [T,N] both.
        """
        length = (len(self) - 1) // n
        both = (each[ahead : ahead + n * length] for each in (self.symbols, self.begins))
        symbols, begins = (each.reshape(n, length).T[start:stop] for each in both)
        return symbols.astype(np.int64), np.ascontiguousarray(begins)

    def release(self) -> None:
        """Give back the memory that was used to read files."""
        for each in self.mapped:
            each.release()
