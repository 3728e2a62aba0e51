"""Windows of a table's rows, as batches: read once if they are few, and then only gathered."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from undertow.app.runs.near import fits, moved
from undertow.app.runs.objective import Batch
from undertow.app.runs.windows import Window

AHEAD = 4  # batches that are expected while one is read
MOST_KEPT = 1 << 24  # numbers that the layers read in all windows of a part; of more, none is kept


class Windows:
    """The windows of the training or of the validation part.

    Args:
        read: Makes a batch of the windows that begin at some rows.
        starts: The rows at which the windows of the part begin, [windows].
        expect: Is told the windows of each batch, some batches before they are read.
    """

    def __init__(
        self,
        read: Callable[[Tensor], Batch],
        starts: Tensor,
        expect: Callable[[Tensor], None] = lambda starts: None,
    ) -> None:
        self.read, self.starts, self.expect = read, starts, expect
        self.kept: Batch | None = None
        self.there: Batch | None = None  # ``kept`` on a device
        self.device = torch.device("cpu")  # where windows that are not kept are read
        self.small: bool | None = None  # not known before the first batch

    def batches(self, size: int, places: Tensor | None = None) -> Iterator[Batch]:
        """Make batches, as ``read`` does.

        Args:
            size: N, the windows of a batch; the last one may have fewer.
            places: The numbers of their windows among those of the part. None: all of them, in order.

        Yields:
            The batches.
        """
        if not self._are_few():
            starts = moved(self.starts if places is None else self.starts[places], self.device)
            parts = torch.split(starts, size)
            following = iter(parts)
            for early in islice(following, AHEAD):
                self.expect(early)
            for chosen in parts:
                for late in islice(following, 1):
                    self.expect(late)
                yield self.read(chosen)
            return
        found, count = self.there or self._kept(), len(self.starts)
        if places is not None:
            places, count = moved(places, found.x.device), len(places)
            found = _changed(found, *[lambda each: each.index_select(0, places)] * 2)
        for start in range(0, count, size):
            part = slice(start, start + size)
            yield _changed(found, lambda each: each[part], lambda each: each[part].transpose(0, 1))  # noqa: B023

    def to(self, device: torch.device | None) -> bool:
        """Keep a copy of the windows on a device if they are few, and have room there.

        Args:
            device: The device. None: keep none.

        Returns:
            False if they are many: then they are read there if ``read`` can, which ``device`` tells.
        """
        self.device, self.there = torch.device("cpu"), None
        if not self._are_few():
            return False
        kept = self._kept()
        if device is not None and fits(device, kept.x, kept.y):
            self.there = _changed(kept, *[lambda each: moved(each, device)] * 2)
        return True

    def _kept(self) -> Batch:
        if self.kept is None:  # with the windows in the first dimension, side by side
            whole = self.read(self.starts)
            self.kept = _changed(whole, lambda each: each, lambda each: each.transpose(0, 1).contiguous())
        return self.kept

    def _are_few(self) -> bool:
        if self.small is None:
            self.small = self.read(self.starts[:1]).x.numel() * len(self.starts) <= MOST_KEPT
        return self.small


Change = Callable[[Tensor], Tensor]


def _changed(batch: Batch, change: Change, by_step: Change) -> Batch:
    """A batch whose tensors are changed, those of every step by ``by_step``."""
    window, unit = batch.window, batch.unit
    if window is not None:
        window = Window(change(window.last), change(window.size), by_step(window.moves))
    return replace(
        batch,
        x=by_step(batch.x),
        y=change(batch.y),
        unit=None if unit is None else change(unit),
        window=window,
    )
