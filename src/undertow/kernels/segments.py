"""A layer trained in segments of time, for sequences whose tape is too long to keep.

The forward pass keeps the states between the segments, and no tape. The backward pass takes the segments from
the last that was run to the first: it makes the tape of each anew, always in the same memory, goes back
through it, and carries dh and dc over to the one before. That is one more forward pass, for a tape of K steps
in place of T. Chen et al. 2016, arXiv:1604.06174; for recurrent networks, Gruslys et al. 2016,
arXiv:1606.03401.

A part of ``dispatch``, which decides when it serves.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undertow.kernels import dispatch, plain

_NO_TAPE = None


class _Segment(NamedTuple):
    """Some steps of a layer, and what the kernels are told of their lengths."""

    rows: slice  # of x, y and their gradients: steps, or packed rows
    batch: int  # N; packed, the n <= N first in rank, which have steps here
    ragged: dispatch.Ragged


class _Segmented(torch.autograd.Function):
    """The native kernel as a node of torch's graph, for one layer in segments of K steps."""

    @staticmethod
    def forward(ctx: Any, cell: str, ragged: dispatch.Ragged, K: int, *args: Any) -> tuple[Tensor, ...]:
        x, given = args[0], args[1 : 3 if cell == "lstm" else 2]
        D, N, H = len(args) // dispatch._DIRECTION, dispatch._batch(x, ragged), args[4].shape[1]
        segments = _cut(x, ragged, K)
        y = dispatch._pooled(x, (*x.shape[:-1], D * H))
        # h and for the LSTM c: before each segment in the order they are run, and after the last
        states = dispatch._pooled(x, (D, len(segments) + 1, len(given), N, H))
        _rank(given, ragged, states[:, 0])
        for d in range(D):
            one_way = _Direction(cell, args, d)
            for s, segment in enumerate(_as_run(segments, d)):
                before, after = states[d, s], states[d, s + 1]
                after.copy_(before)  # for sequences without steps here
                one_way.forward(segment, before, y[segment.rows][..., one_way.features], after)
        ctx.save_for_backward(states, *args)
        ctx.cell, ctx.ragged, ctx.segments = cell, ragged, segments
        ctx.set_materialize_grads(False)
        return y, *_unrank(states[:, -1], ragged)

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        states, *args = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or dispatch._transformed() or any(map(dispatch._batched, douts)):
            grads = dispatch._plain_backward(ctx.cell, ctx.ragged, args, douts, wanted)
        else:
            grads = _backward(ctx.cell, ctx.ragged, ctx.segments, args, states, douts, wanted)
        return None, None, None, *grads


apply: Any = super(torch.autograd.Function, _Segmented).apply  # as dispatch._apply


def _backward(
    cell: str,
    ragged: dispatch.Ragged,
    segments: Sequence[_Segment],
    args: Sequence[Any],
    states: Tensor,
    douts: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``args``, None where not wanted, from those of the outputs, None where there are none."""
    x, (dy, *dfinals), (D, _, _, N, H) = args[0], douts, states.shape
    dstates = torch.empty_like(states[:, 0])  # carried from each segment to the one that was run before it
    _rank(dfinals, ragged, dstates)
    dx: Any = dispatch._pooled(x, x.shape) if wanted[0] else None
    # What holds one segment's y, tape and dx is made for the first, the largest; others use its front.
    largest = x[segments[0].rows]
    y = dispatch._pooled(x, (*largest.shape[:-1], H))
    tape = dispatch._new_tape(largest, N, H, segments[0].ragged) if cell == "lstm" else None
    dx_reverse: Any = dispatch._pooled(x, largest.shape) if wanted[0] and D == 2 else None
    exact = torch.promote_types(x.dtype, torch.float32)  # hundreds of parts cannot be added in bfloat16
    dweights: list[Tensor | None] = []
    for d in range(D):
        one_way = _Direction(cell, args, d)
        want_W, want_U, *want_b = wanted[3 + d * dispatch._DIRECTION : 3 + (d + 1) * dispatch._DIRECTION]
        W, U, *_ = one_way.weights
        sizes = (W.shape, want_W), (U.shape, want_U), (W.shape[:1], any(want_b))
        sums = [x.new_zeros(size, dtype=exact) if want else None for size, want in sizes]
        parts: list[Any] = [
            None if total is None else torch.empty_like(total, dtype=x.dtype) for total in sums
        ]
        other = torch.empty_like(dstates[d])  # a kernel's outputs may not be its inputs
        for s, segment in reversed([*enumerate(_as_run(segments, d))]):
            before, rows = states[d, s], segment.rows
            steps = x[rows].shape[0]
            y_s, tape_s = y[:steps], _front(tape, segment, steps)
            one_way.forward(segment, before, y_s, other, tape_s)  # the states it ends in nobody reads
            dy_s = None if dy is None else dispatch._unit_stride(dy[rows][..., one_way.features])
            dx_s = None if dx is None else dx[rows] if d == 0 else dx_reverse[:steps]
            one_way.backward(segment, before, y_s, tape_s, dy_s, dstates[d], dx_s, other, parts)
            dstates[d, :, : segment.batch] = other[:, : segment.batch]
            if dx is not None and d == 1:
                dx[rows].add_(dx_s)
            for total, part in zip(sums, parts, strict=True):
                if total is not None:
                    total.add_(part)
        dW, dU, db = (None if total is None else total.to(x.dtype) for total in sums)
        dweights += [dW, dU, *(db if want else None for want in want_b)]
    dstarts = [*_unrank(dstates, ragged), None][:2]
    return [
        dx,
        *(start if want else None for start, want in zip(dstarts, wanted[1:3], strict=True)),
        *dweights,
    ]


class _Direction:
    """One direction of a layer, and the kernels called on a segment of it.

    States and their gradients are [Z,N,H]: h and for the LSTM c, of all sequences.
    """

    def __init__(self, cell: str, args: Sequence[Any], d: int) -> None:
        weights = args[3 + d * dispatch._DIRECTION : 3 + (d + 1) * dispatch._DIRECTION]
        H = weights[1].shape[1]
        self.weights: list[Any] = [dispatch._contiguous(w) for w in weights]
        self.features = slice(d * H, (d + 1) * H)  # of y
        self._cell, self._x = cell, args[0]
        self._order = d == 1, torch.get_num_threads()

    def forward(
        self, segment: _Segment, before: Tensor, y: Tensor, after: Tensor, tape: Any = _NO_TAPE
    ) -> None:
        given = (dispatch._unit_stride(self._x[segment.rows]), _of(segment, before), self.weights)
        made = ((y, *_of(segment, after)), tape)
        dispatch.native.forward(self._cell, *given, *made, segment.ragged, None, *self._order)

    def backward(
        self,
        segment: _Segment,
        before: Tensor,
        y: Tensor,
        tape: Any,
        dy: Tensor | None,
        dafter: Tensor,
        dx: Tensor | None,
        dbefore: Tensor,
        dweights: Sequence[Tensor | None],
    ) -> None:
        given = (
            dispatch._unit_stride(self._x[segment.rows]),
            _of(segment, before),
            self.weights[:2],
            y,
            tape,
        )
        made = ((dx, *_of(segment, dbefore), *dweights), None)
        inputs = (*given, (dy, *_of(segment, dafter)))
        dispatch.native.backward(self._cell, *inputs, *made, segment.ragged, None, None, *self._order)


def _cut(x: Tensor, ragged: dispatch.Ragged, K: int) -> list[_Segment]:
    """Segments of K steps, in the order of time, the last shorter. None has more rows than the first."""
    if ragged.batch_sizes is not None:
        found, end = [], 0
        for sizes in torch.split(ragged.batch_sizes, K):
            start, end = end, end + int(sizes.sum())
            found.append(_Segment(slice(start, end), int(sizes[0]), dispatch.Ragged(batch_sizes=sizes)))
        return found
    T, N, lengths = *x.shape[:2], ragged.lengths
    if lengths is None:
        return [_Segment(slice(t, t + K), N, dispatch.EVEN) for t in range(0, T, K)]
    plain.check_lengths(lengths, T)
    return [
        _Segment(slice(t, t + K), N, dispatch.Ragged((lengths - t).clamp(0, min(K, T - t))))
        for t in range(0, T, K)
    ]


def _as_run(segments: Sequence[_Segment], d: int) -> Sequence[_Segment]:
    return segments[::-1] if d == 1 else segments


def _of(segment: _Segment, states: Tensor) -> Sequence[Tensor | None]:
    """h and c of a segment's sequences, from [Z,N,H]; c is None for the RNN."""
    return (*states[:, : segment.batch], None)[:2]


def _front(tape: Any, segment: _Segment, steps: int) -> Any:
    """As much of the largest segment's tape as this one takes, with its ``steps`` or packed rows."""
    if tape is None:
        return _NO_TAPE
    gates, c = tape
    rows = steps if segment.ragged.lengths is None else int(segment.ragged.lengths.sum())
    first = 1 if segment.ragged is dispatch.EVEN else segment.batch  # c_0: one step of N rows, or n rows
    return gates[:rows], c[: first + rows]


def _rank(states: Sequence[Tensor | None], ragged: dispatch.Ragged, out: Tensor) -> None:
    """h and c, [D,N,H] or None for zero, into ``out`` [D,Z,N,H]; packed, in the order of rank."""
    for k, state in enumerate(states):
        if state is None:
            out[:, k].zero_()
        else:
            out[:, k].copy_(state if ragged.order is None else state.index_select(1, ragged.order))


def _unrank(ranked: Tensor, ragged: dispatch.Ragged) -> list[Tensor]:
    """The way back from [D,Z,N,H], each in memory of its own."""
    states = [state.clone(memory_format=torch.contiguous_format) for state in ranked.unbind(1)]
    if ragged.order is None:
        return states
    return [torch.empty_like(s).index_copy_(1, ragged.order, s) for s in states]
