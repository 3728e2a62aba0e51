"""A layer on a GPU trained in segments of time: ``kernels.segments`` says why, and cuts a call.

The forward pass keeps the states between the segments, and no tape. The backward pass makes the tape of each
segment again. Nothing waits for the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from undertow.kernels.call import PLAIN, WEIGHTS, Call
from undertow.kernels.engine import Outputs
from undertow.kernels.node import Gradients, Kept
from undertow.kernels.segments import Segment, as_run, cut, part_of, rank, unrank
from undertow.kernels.tensors import features, made_plain
from undertow.kernels.triton import engine, passes
from undertow.kernels.triton.rows import check


class Segments(engine.Triton):
    """The engine on a GPU, trained in segments of K steps."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``."""
        return (
            call.checkpoint is not None
            and call.recording is None
            and call.variant is PLAIN
            and call.x.device.type in engine.DEVICES
            and self.computes(call)
        )

    def forward(self, call: Call) -> tuple[Outputs, Kept]:
        """See ``KernelEngine.forward``. It keeps h and c [D,S+1,2,N,H]: before each segment, at the end."""
        x, D, H, ragged = call.x, call.D, call.H, call.ragged
        if ragged.lengths is not None:
            check(ragged.lengths, len(x))
        parts = cut(call)
        y = x.new_empty(*x.shape[:-1], D * H)
        states = x.new_empty(D, len(parts) + 1, 2, call.N, H)
        rank(call.states, ragged, states[:, 0])
        for d in range(D):
            for s, segment in enumerate(as_run(parts, d)):
                before, after = states[d, s], states[d, s + 1]
                after.copy_(before)  # for sequences without steps here
                found, _ = passes.forward(part_of(call, d, segment, before), False, d == 1)
                features(y[segment.rows], d, D).copy_(found[0])
                after[:, : segment.batch] = torch.cat(found[1:])
        return (y, *unrank(states[:, -1], ragged)), (states,)

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """See ``KernelEngine.backward``."""
        (states,), want = kept, call.filled(wanted)
        dy, *dfinals = (None if dout is None else made_plain(dout) for dout in douts)
        dstates = torch.empty_like(states[:, 0])  # carried from each segment to the one run before it
        rank(dfinals, call.ragged, dstates)
        dx: Any = torch.zeros_like(call.x) if want.x else None
        parts, dweights = cut(call), []
        for d in range(call.D):
            sums: list[Any] = [None] * WEIGHTS
            asked = [bool(w) for w in want.weights[d]]
            for s, segment in reversed([*enumerate(as_run(parts, d))]):
                part = part_of(call, d, segment, states[d, s])
                heard = None if dy is None else features(dy[segment.rows], d, call.D)
                found = _back(part, d, segment, heard, dstates[d], [want.x, True, True, *asked])
                if dx is not None:
                    dx[segment.rows].add_(found[0])
                sums = [_added(total, new) for total, new in zip(sums, found[3:], strict=True)]
            dweights.append([None if g is None else g.to(call.x.dtype) for g in sums])
        starts = unrank(dstates, call.ragged)
        dh_0, dc_0 = (g if w else None for g, w in zip(starts, (want.h_0, want.c_0), strict=True))
        return call._replace(x=dx, h_0=dh_0, c_0=dc_0, weights=dweights).tensors


def _back(
    part: Call, d: int, segment: Segment, dy: Tensor | None, dstates: Tensor, wanted: Sequence[bool]
) -> Gradients:
    """Go back through a segment; ``dstates`` [2,N,H] are of the states after it, then of those before."""
    (y, *_), tape = passes.forward(part, True, d == 1)
    ends = dstates[:, None, : segment.batch]
    found = passes.Backward(part, (y, *tape), (dy, *ends), reverse=d == 1).gradients(wanted)
    for end, start in zip(ends, found[1:3], strict=True):
        end.copy_(start)
    return found


def _added(total: Tensor | None, new: Tensor | None) -> Tensor | None:
    """A sum in float32: hundreds of parts cannot be added in half precision."""
    if new is None:
        return None
    return new.float() if total is None else total.add_(new)


ENGINE = Segments()
