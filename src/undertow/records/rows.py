"""Where the rows of the kernels' arrays belong: from the layout of native/lstm.h to that of tape.py."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.tape import Array, Lengths

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """How many steps each sequence of a call has, and where its rows lie, for all layers and directions."""

    T: int
    N: int
    lengths: Lengths | None  # [N]; None: every sequence has T steps, and all that follows is None
    batch_sizes: Index | None  # [T], how many ranks are active
    order: Index | None  # [N], the sequence of each rank
    packed: bool = False  # x and y are rows [R,·], in the order of time

    @staticmethod
    def of(ragged: Any, T: int, N: int) -> "Places":
        """Read the places of a call.

        Args:
            ragged: the ``kernels.call.Ragged`` of the call.
            T: steps of a padded y; ignored for packed sequences.
            N: sequences of a padded y; ignored for packed sequences.
        """
        if ragged.lengths is not None:
            lengths = ragged.lengths.numpy().copy()
            batch_sizes = (lengths > np.arange(T)[:, None]).sum(1)
            return Places(T, N, lengths, batch_sizes, np.argsort(-lengths, kind="stable"))
        if ragged.batch_sizes is not None:
            batch_sizes = ragged.batch_sizes.numpy().copy()
            T, N = len(batch_sizes), int(batch_sizes[0])
            order = np.arange(N) if ragged.order is None else ragged.order.numpy().copy()
            lengths = np.empty(N, np.int64)
            lengths[order] = (batch_sizes[:, None] > np.arange(N)).sum(0)
            return Places(T, N, lengths, batch_sizes, order, packed=True)
        return Places(T, N, None, None, None)

    def steps(self, array: Array, reverse: bool) -> Array:
        """Scatter rows into steps.

        Args:
            array: [R,...], a row for each active pair of step and rank; [T,N,...] if all lengths are T.
            reverse: whether the rows are of the reverse direction.

        Returns:
            [T,N,...] in the order of processing, zero where no step was taken.
        """
        if self.batch_sizes is None:
            return array
        dense = np.zeros((self.T, self.N, *array.shape[1:]), array.dtype)
        times, sequences = self._rows(reverse)
        dense[self.T - 1 - times if reverse else times, sequences] = array
        return dense

    def rows(self, array: Array, reverse: bool) -> Array:
        """Bring x or y, which are in the order of time, into the order of processing.

        Args:
            array: [R,...] if packed, else [T,N,...].
            reverse: whether the direction is the reverse one.

        Returns:
            [T,N,...], zero past a sequence's end.
        """
        if self.packed:
            array = self.steps(array, False)
        elif self.lengths is not None:  # the padding may hold anything
            alive = np.arange(self.T)[:, None] < self.lengths
            array = np.where(alive.reshape(*alive.shape, *[1] * (array.ndim - 2)), array, array.dtype.type(0))
        return array[::-1] if reverse else array

    def states(self, array: Array, reverse: bool, end: Array | None) -> Array:
        """Bring the gradients of states into the layout of a tape.

        Args:
            array: as ``Engine.step_gradients`` returns them.
            reverse: whether the direction is the reverse one.
            end: [N,H], the gradient of the final state; None: zero.

        Returns:
            [T+1,N,H], as ``with_start``.
        """
        if self.lengths is None:
            return array
        start, steps = array[: self.N], self.steps(array[self.N :], reverse)
        return self.with_start(start, steps, reverse, np.zeros_like(start) if end is None else end)

    def states_in_time(self, array: Array, reverse: bool, end: Array | None) -> Array:
        """Bring the gradients of states, whose steps are in the order of time, into the layout of a tape.

        Args:
            array: the gradients of the initial state, then the steps: [T+1,N,H]; packed [N+R,H].
            reverse: whether the direction is the reverse one.
            end: [N,H], the gradient of the final state; None: zero.

        Returns:
            [T+1,N,H], as ``with_start``.
        """
        start, after = (array[: self.N], array[self.N :]) if self.packed else (array[0], array[1:])
        end = np.zeros_like(start) if end is None else end
        return self.with_start(start, self.rows(after, reverse), reverse, end)

    def with_start(self, start: Array, steps: Array, reverse: bool, end: Array | None = None) -> Array:
        """Join initial states and the states after each step, carried where no step was taken.

        Args:
            start: [N,H].
            steps: [T,N,H] in the order of processing.
            reverse: whether the direction is the reverse one.
            end: [N,H], what a sequence holds past its end; None: what its last step left. Gradients come from
                there.

        Returns:
            [T+1,N,H] in the order of processing.
        """
        full: Array = np.concatenate([start[None], steps])
        if self.lengths is None:
            return full
        k = np.arange(self.T + 1)[:, None]  # [T+1,1]
        own = np.where(k > self.T - self.lengths, k, 0) if reverse else np.minimum(k, self.lengths)
        found: Array = full[own, np.arange(self.N)]
        if end is not None and not reverse:
            found = np.where((k > self.lengths)[..., None], end, found)
        return found

    def _rows(self, reverse: bool) -> tuple[Index, Index]:
        """Return the time and the sequence of each row, [R] each."""
        assert self.batch_sizes is not None
        assert self.order is not None
        times = np.arange(self.T)[::-1] if reverse else np.arange(self.T)
        active = self.batch_sizes[times]
        ranks = np.arange(self.N) < active[:, None]  # [T,N]
        return np.repeat(times, active), self.order[np.nonzero(ranks)[1]]
