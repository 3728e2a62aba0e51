"""A layer trained in segments of time, for sequences whose tape is too long to keep.

The forward pass keeps the states between the segments, and no tape. The backward pass takes the segments from
the last one to the first. It makes the tape of each again, always in the same memory, goes back through it,
and passes dh and dc on to the segment before. That costs one more forward pass, and needs a tape of K steps
in place of T. Chen et al. 2016, arXiv:1604.06174; for recurrent networks, Gruslys et al. 2016,
arXiv:1606.03401.

It serves calls with ``checkpoint=K`` that the CPU engine serves and that are not recorded.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.kernels import plain, tensors
from undertow.kernels.call import EVEN, PLAIN, Call, Ragged
from undertow.kernels.cpu import CPU, received, room_for_sums, run_backward, run_forward, shared_out
from undertow.kernels.engine import Outputs
from undertow.kernels.node import Gradients, Kept
from undertow.kernels.tensors import features, made_plain, unit_stride


class Segment(NamedTuple):
    """Some steps of a layer."""

    rows: slice  # of x, y and their gradients: steps, or packed rows
    batch: int  # N; packed, the n <= N first in rank, which have steps here
    ragged: Ragged


class Segments(CPU):
    """The CPU engine, trained in segments of K steps."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``."""
        return (
            call.checkpoint is not None
            and call.recording is None
            and call.variant is PLAIN
            and super().serves(call)
        )

    def forward(self, call: Call, tapes: Sequence[Any] = ()) -> tuple[Outputs, Kept]:
        """See ``KernelEngine.forward``. It keeps h and c [D,S+1,Z,N,H]: before each segment, at the end."""
        segments = cut(call)
        y = tensors.outputs(call)[0]
        states = tensors.empty(call.x, (call.D, len(segments) + 1, len(call.states), call.N, call.H))
        rank(call.states, call.ragged, states[:, 0])
        for d in range(call.D):
            for s, segment in enumerate(as_run(segments, d)):
                before, after = states[d, s], states[d, s + 1]
                after.copy_(before)  # for sequences without steps here
                part = part_of(call, d, segment, before)
                _forward(part, d, features(y[segment.rows], d, call.D), _of(segment, after), None)
        return (y, *unrank(states[:, -1], call.ragged)), (states,)

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """See ``KernelEngine.backward``."""
        return _Backward(call, kept[0], douts, call.filled(wanted)).run()


ENGINE = Segments()


class _Backward:
    """One backward pass through all segments.

    The memory for one segment's y, tape and dx is made for the first segment, the largest; others use its
    front.
    """

    def __init__(self, call: Call, states: Tensor, douts: Sequence[Tensor | None], want: Call) -> None:
        self.call, self.states, self.want = call, states, want
        self.segments = cut(call)
        _, dfinals = received((None, *douts[1:]))
        self.dy = None if douts[0] is None else made_plain(douts[0])
        self.dstates = torch.empty_like(states[:, 0])  # carried from each segment to the one run before it
        rank(dfinals[: len(call.states)], call.ragged, self.dstates)
        largest = part_of(call, 0, self.segments[0], states[0, 0])
        self.y, self.tape = tensors.outputs(largest)[0], tensors.tape(largest)
        self.dx = tensors.like(call.x, want.x)
        self.dx_reverse: Any = tensors.like(largest.x, want.x and call.D == 2)

    def run(self) -> Gradients:
        """Return the gradients of ``call.tensors``, None where they are not wanted."""
        dweights = [self._direction(d) for d in range(self.call.D)]
        dstarts = [*unrank(self.dstates, self.call.ragged), None][:2]
        wanted = (self.want.h_0, self.want.c_0)
        dh_0, dc_0 = (start if want else None for start, want in zip(dstarts, wanted, strict=True))
        return self.call._replace(x=self.dx, h_0=dh_0, c_0=dc_0, weights=dweights).tensors

    def _direction(self, d: int) -> tuple[Any, ...]:
        """Return the gradients of one direction's weights; write those of x and of the states."""
        want, (W, U, *_) = self.want.weights[d], self.call.weights[d]
        parts = room_for_sums(W, U, want)
        exact = torch.promote_types(W.dtype, torch.float32)  # hundreds of parts cannot be added in bfloat16
        sums = [None if part is None else torch.zeros_like(part, dtype=exact) for part in parts]
        for s, segment in reversed([*enumerate(as_run(self.segments, d))]):
            self._segment(d, segment, self.states[d, s], parts)
            for total, part in zip(sums, parts, strict=True):
                if total is not None:
                    total.add_(part)
        return shared_out([None if total is None else total.to(W.dtype) for total in sums], want)

    def _segment(self, d: int, segment: Segment, before: Tensor, parts: Sequence[Any]) -> None:
        call, rows, dstates = self.call, segment.rows, self.dstates[d]
        part = part_of(call, d, segment, before)
        steps = part.x.shape[0]
        y, tape = self.y[:steps], _front(self.tape, part)
        other = torch.empty_like(dstates)  # a kernel's outputs may not be its inputs
        _forward(part, d, y, _of(segment, other), tape)  # nobody reads the states in which it ends
        dy = None if self.dy is None else unit_stride(features(self.dy[rows], d, call.D))
        dx: Any = None if self.dx is None else self.dx[rows] if d == 0 else self.dx_reverse[:steps]
        dins = (dx, *_of(segment, other), *parts)
        run_backward(part, 0, (y, *tape), (dy, *_of(segment, dstates)), dins, reverse=d == 1)
        dstates[:, : segment.batch] = other[:, : segment.batch]
        if self.dx is not None and d == 1:
            self.dx[rows].add_(dx)


def part_of(call: Call, d: int, segment: Segment, before: Tensor) -> Call:
    """Return direction d of a segment as a call of its own, from the states ``before`` [Z,N,H]."""
    h_0, c_0 = _of(segment, before)
    return call._replace(
        x=call.x[segment.rows], h_0=h_0, c_0=c_0, weights=call.weights[d : d + 1], ragged=segment.ragged
    )


def _forward(part: Call, d: int, y: Tensor, ends: Sequence[Any], tape: Any) -> None:
    run_forward(part, (y, *ends), (tape,), reverse=d == 1)


def cut(call: Call) -> list[Segment]:
    """Return segments of K steps in the order of time; none has more rows than the first."""
    x, ragged, K = call.x, call.ragged, call.checkpoint
    assert K is not None
    if ragged.batch_sizes is not None:
        found, end = [], 0
        for sizes in torch.split(ragged.batch_sizes, K):
            start, end = end, end + int(sizes.sum())
            found.append(Segment(slice(start, end), int(sizes[0]), Ragged(batch_sizes=sizes)))
        return found
    (T, N), lengths = x.shape[:2], ragged.lengths
    if lengths is None:
        return [Segment(slice(t, t + K), N, EVEN) for t in range(0, T, K)]
    if lengths.is_cpu:
        plain.check_lengths(lengths, T)
    return [
        Segment(slice(t, t + K), N, Ragged((lengths - t).clamp(0, min(K, T - t)))) for t in range(0, T, K)
    ]


def as_run(segments: Sequence[Segment], d: int) -> Sequence[Segment]:
    """Return segments in the order in which direction d runs them."""
    return segments[::-1] if d == 1 else segments


def _of(segment: Segment, states: Tensor) -> Sequence[Tensor | None]:
    """Return h and c of a segment's sequences, [1,n,H] from [Z,N,H]; c is None for the RNN."""
    return (*states[:, None, : segment.batch], None)[:2]


def _front(tape: Sequence[Tensor], part: Call) -> Sequence[Tensor]:
    """Return as much of the largest segment's tape as this one takes."""
    if not tape:
        return ()
    gates, c = tape
    rows = part.rows_shape
    return gates[: rows[0]], c[: tensors.states_shape(rows, part.N, part.H)[0]]


def rank(states: Sequence[Tensor | None], ragged: Ragged, out: Tensor) -> None:
    """Write h and c, [D,N,H] or None for zero, into ``out`` [D,Z,N,H]; packed, in the order of rank."""
    for k, state in enumerate(states):
        if state is None:
            out[:, k].zero_()
        else:
            out[:, k].copy_(state if ragged.order is None else state.index_select(1, ragged.order))


def unrank(ranked: Tensor, ragged: Ragged) -> list[Tensor]:
    """Undo ``rank``: return h and c from [D,Z,N,H], each in memory of its own."""
    states = [state.clone(memory_format=torch.contiguous_format) for state in ranked.unbind(1)]
    if ragged.order is None:
        return states
    return [torch.empty_like(s).index_copy_(1, ragged.order, s) for s in states]
