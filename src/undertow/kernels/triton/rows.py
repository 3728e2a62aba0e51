"""How the rows of a call lie on a device: x, y, gates and cells alike, in the order of time."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.kernels.call import Call


class Rows(NamedTuple):
    """Step t of sequence n is row ``t * step + n * row``; packed, row ``starts[t]`` plus its rank."""

    T: int
    N: int
    total: int
    step: int
    row: int
    packed: bool
    lengths: Tensor | None = None  # int64 [N] on the device, by rank, non-increasing; None: all have T steps
    starts: Tensor | None = None  # int64 [T] on the device, packed: the first row of each step
    order: Tensor | None = None  # int64 [N] on the device, the sequence of each rank; None: as they come
    ends: Tensor | None = None  # int64 [N] on the device, padded: the lengths of the sequences as they come

    @classmethod
    def of(cls, call: Call) -> "Rows":
        """Read the rows of a call. Nothing waits for the device.

        Args:
            call: the call; ``lengths`` may lie on the CPU or on the device of x.

        Returns:
            Its rows. Padded, they lie as x does: steps first, or sequences first.

        Raises:
            ValueError: lengths on the CPU are not from 0 to T. Those on a GPU are checked there: the next
                operation that waits for it raises RuntimeError.
        """
        x, (lengths, batch_sizes, order) = call.x, call.ragged
        if batch_sizes is not None:
            N = int(batch_sizes[0])
            ends = batch_sizes.cumsum(0)
            starts = (ends - batch_sizes).to(x.device, non_blocking=True)
            ranks = torch.arange(N, device="cpu").unsqueeze(1)
            steps = (batch_sizes > ranks).sum(1).to(x.device, non_blocking=True)
            there = None if order is None else order.to(x.device, non_blocking=True).contiguous()
            return cls(len(batch_sizes), N, x.shape[0], 0, 0, True, steps, starts, there)
        T, N = x.shape[:2]
        step, row = (1, T) if not x.is_contiguous() and x.transpose(0, 1).is_contiguous() else (N, 1)
        if lengths is None:
            return cls(T, N, T * N, step, row, False)
        check(lengths, T)
        ends = lengths.to(x.device, non_blocking=True)
        steps, there = ends.sort(descending=True, stable=True)
        return cls(T, N, T * N, step, row, False, steps, None, there, ends)

    def flat(self, a: Tensor) -> Tensor:
        """Return [T,N,K] or packed rows as [rows,K], without a copy if they lie as these rows do."""
        if self.packed:
            return a.contiguous()
        a = a.transpose(0, 1) if self.by_sequence else a
        return a.reshape(-1, a.shape[-1])

    def shaped(self, flat: Tensor) -> Tensor:
        """Return [rows,...] as [T,N,...]; packed rows as they are."""
        if self.packed:
            return flat
        if self.by_sequence:
            return flat.view(self.N, self.T, *flat.shape[1:]).transpose(0, 1)
        return flat.view(self.T, self.N, *flat.shape[1:])

    def room(self, like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return room for a result; zero where lengths leave rows that no step writes."""
        make = torch.empty if self.packed or self.lengths is None else torch.zeros
        return make(shape, dtype=dtype or like.dtype, device=like.device)

    def inside(self, mask: Tensor | None) -> Tensor | None:
        """Return where x is read, bool [T,N,1] on the device; None: everywhere."""
        found = mask
        if self.ends is not None:
            found = torch.arange(self.T, device=self.ends.device).unsqueeze(1) < self.ends
            found = found if mask is None else found & mask
        return None if found is None else found.unsqueeze(2)

    @property
    def by_sequence(self) -> bool:
        """Whether all steps of a sequence lie together."""
        return self.row > 1

    @property
    def places(self) -> tuple[Any, ...]:
        """T, N, rows, step and row, as the kernels take them."""
        return self.T, self.N, self.total, self.step, self.row


def check(lengths: Tensor, T: int) -> None:
    """Raise ValueError unless lengths are from 0 to T; on a GPU the device raises it, and nobody waits."""
    if lengths.is_cpu:
        if lengths.numel() and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
            raise ValueError(f"lengths: expected values between 0 and T = {T}, got {lengths.tolist()}")
        return
    torch._assert_async(
        ((lengths >= 0) & (lengths <= T)).all(), f"lengths: expected values from 0 to T = {T}"
    )
