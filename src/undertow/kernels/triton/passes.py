"""The two passes over a call: torch's products, and the kernels between them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from undertow.kernels.call import PLAIN, WEIGHTS, Call, Variant
from undertow.kernels.engine import Outputs
from undertow.kernels.tensors import contiguous, made_plain, without_autocast
from undertow.kernels.triton import device, precision, rules
from undertow.kernels.triton.rows import Rows

SUMS = 5  # rows of a program's sums: p_i, p_f, p_o, gain_c, bias_c


@cache
def kernels() -> tuple[Any, Any]:
    """Return the kernels, forward and backward. Imports Triton, which takes some time."""
    from undertow.kernels.triton import backward, forward

    return forward.forward, backward.backward


@contextmanager
def on_device(x: Tensor) -> Iterator[None]:
    """Launch on the device of x, with products as torch is set for recurrent layers, without autocast."""
    there = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with there, without_autocast(x), precision.of_products():
        yield


def forward(call: Call, taped: bool, reverse: bool = False) -> tuple[Outputs, tuple[Tensor, ...]]:
    """Run the forward pass.

    Args:
        call: a call that the engine serves.
        taped: whether to keep a tape.
        reverse: the call has one direction, and it is the reverse one.

    Returns:
        y, h_n and c_n; and the tape: gates [D,rows,4,H] and cells [D,rows,H], with layer normalisation also
        the normed sums [D,rows,2,4H] and their scales [D,rows,2]; or nothing.
    """
    with on_device(call.x):
        return _forward(call, Rows.of(call), taped, reverse)


def _forward(call: Call, rows: Rows, taped: bool, reverse: bool) -> tuple[Outputs, tuple[Tensor, ...]]:
    x, D, H, variant = call.x, call.D, call.H, call.variant
    norms = variant.gain_x is not None
    gates = _input_sums(call, rows)
    y = rows.room(x, rows.total, D * H)
    h_n = x.new_empty(D, rows.N, H)
    c_n = torch.empty_like(h_n)
    cells = rows.room(x, D, rows.total, H, dtype=torch.float32) if taped else None
    lines = rows.room(x, D, rows.total, 2, 4 * H) if taped and norms else None
    scales = rows.room(x, D, rows.total, 2, dtype=torch.float32) if taped and norms else None
    how = _launch(call, rows)
    exchange = x.new_empty(2, D, rows.N, H) if how.BK else None
    v, strides = _ready(variant, rows)
    kernels()[0][_grid(how, rows, D)](
        gates, _stacked(call, 1), contiguous(call.h_0), contiguous(call.c_0), y, h_n, c_n, cells, exchange,
        rows.lengths, rows.starts, rows.order,
        v.mask, v.reset, v.reset_h, v.reset_c, v.recurrent, v.zoneout_h, v.zoneout_c, v.peepholes,
        _bias(call) if norms else None, v.gain_x, v.gain_h, v.gain_c, v.bias_c, lines, scales,
        *rows.places, int(reverse), *strides,
        **_constants(call, how, D * H),
    )  # fmt: skip
    outputs = rows.shaped(y).data, h_n, c_n  # a view, as a node's result, could not be written to
    if not taped:
        return outputs, ()
    tape = gates.view(D, rows.total, 4, H), cells, lines, scales
    return outputs, tuple(t for t in tape if t is not None)


def _input_sums(call: Call, rows: Rows) -> Tensor:
    """W x + b of every row and direction, [D,rows,4H]; W x with layer normalisation."""
    x, D = rows.flat(call.x), call.D
    sums = x.new_empty(D, rows.total, 4 * call.H)
    bias = _bias(call) if call.variant.gain_x is None else None
    for d, (W, *_) in call.directions():
        if bias is None:
            torch.mm(x, W.t(), out=sums[d])
        else:
            torch.addmm(bias[d], x, W.t(), out=sums[d])
    return sums


def _bias(call: Call) -> Tensor | None:
    """b_ih + b_hh, [D,4H]; None if there is none."""
    found = []
    for _, (_, _, b_ih, b_hh, _) in call.directions():
        found.append(b_hh if b_ih is None else b_ih if b_hh is None else b_ih + b_hh)
    if found[0] is None:
        return None
    return found[0].contiguous().unsqueeze(0) if len(found) == 1 else torch.stack(found)


def _stacked(call: Call, k: int) -> Tensor:
    """Weight k of all directions, [D,...]."""
    each: list[Tensor] = [weights[k] for weights in call.weights]
    return each[0].contiguous().unsqueeze(0) if len(each) == 1 else torch.stack(each)


def _ready(variant: Variant, rows: Rows) -> tuple[Variant, tuple[int, ...]]:
    """The variant as the kernels read it, and the strides of zoneout: way, step and row of h, then of c."""
    if variant is PLAIN:
        return variant, (0,) * 6
    ready: dict[str, Any] = {}
    strides: list[int] = []
    for name, t in zip(Variant._fields[:-1], variant[:-1], strict=True):
        if not name.startswith("zoneout"):
            ready[name] = contiguous(t)
            continue
        if t is not None and t.stride(-1) != 1:
            t = t.contiguous()
        ready[name] = t
        if t is None:
            strides += (0, 0, 0)
        else:
            strides += (t.stride(0), *((0,) if rows.packed else ()), *t.stride()[1:-1])
    return Variant(**ready, coupled=variant.coupled), tuple(strides)


def _launch(call: Call, rows: Rows) -> rules.Launch:
    x = call.x
    return rules.launch(call.H, rows.N, x.element_size(), device.shared_memory(x.device))


def _grid(how: rules.Launch, rows: Rows, D: int) -> tuple[int, int]:
    return -(-rows.N // how.BN), D


def _constants(call: Call, how: rules.Launch, Y: int) -> dict[str, Any]:
    return {
        "H": call.H,
        "Y": Y,
        "HP": rules.units(call.H),
        "BN": how.BN,
        "BK": how.BK,
        "COUPLED": call.variant.coupled,
        "PRECISION": precision.of_kernels(call.x.dtype),
        "num_warps": how.warps,
        "num_stages": how.stages,
    }


class Backward:
    """The backward pass of a call, down to the gates.

    Args:
        call: the call of the forward pass.
        kept: y and the tape that ``forward`` returned.
        douts: gradients of y, h_n and c_n, None where there is none.
        steps: whether to keep dh and dc of every step.
        reverse: the call has one direction, and it is the reverse one.

    Attributes:
        rows: how the call's rows lie.
        dgates: of the gates before their activation, [D,rows,4H].
        dsums: of W x_t and of U h, [D,rows,4H] each; both are ``dgates`` without layer normalisation.
        before: what U was multiplied with at each step, [D,rows,H].
        dh_0: [D,N,H], as are dc_0, dreset_h and dreset_c, the last two None without ``reset``.
        of_programs: the sums of each program, [D,programs,5,H]: of p_i, p_f, p_o, gain_c, bias_c; or None.
        dsteps: dh and dc of every step, [D,rows,H] each; or None.
    """

    def __init__(
        self,
        call: Call,
        kept: Sequence[Tensor],
        douts: Sequence[Tensor | None],
        steps: bool = False,
        reverse: bool = False,
    ) -> None:
        self.call, self.rows = call, Rows.of(call)
        self.lines = kept[3] if len(kept) > 3 else None
        with on_device(call.x):
            self._make_room(steps)
            self._run(kept, douts, reverse)

    def _make_room(self, steps: bool) -> None:
        call, rows = self.call, self.rows
        x, D, H, variant = call.x, call.D, call.H, call.variant
        self.how = _launch(call, rows)
        self.dgates = rows.room(x, D, rows.total, 4 * H)
        self.before = rows.room(x, D, rows.total, H)
        self.dh_0 = x.new_empty(D, rows.N, H)
        self.dc_0 = torch.empty_like(self.dh_0)
        resets = variant.reset is not None
        self.dreset_h, self.dreset_c = (torch.empty_like(self.dh_0) if resets else None for _ in range(2))
        self.dlines = None if self.lines is None else rows.room(x, *self.lines.shape)
        programs = _grid(self.how, rows, D)[0]
        summed = self.lines is not None or variant.peepholes is not None
        self.of_programs = x.new_zeros(D, programs, SUMS, H, dtype=torch.float32) if summed else None
        self.dsteps = None
        if steps:
            self.dsteps = rows.room(x, D, rows.total, H), rows.room(x, D, rows.total, H)

    def _run(self, kept: Sequence[Tensor], douts: Sequence[Tensor | None], reverse: bool) -> None:
        call, rows, (y, gates, cells, *norms) = self.call, self.rows, kept
        lines, scales = norms or (None, None)
        dy, dh_n, dc_n = (None if d is None else made_plain(d) for d in douts)
        v, strides = _ready(call.variant, rows)
        kernels()[1][_grid(self.how, rows, call.D)](
            gates, cells, rows.flat(y), _stacked(call, 1), contiguous(call.h_0), contiguous(call.c_0),
            None if dy is None else rows.flat(dy).contiguous(), contiguous(dh_n), contiguous(dc_n),
            self.dgates, self.before, self.dh_0, self.dc_0, *(self.dsteps or (None, None)),
            rows.lengths, rows.starts, rows.order,
            v.mask, v.reset, v.reset_h, v.reset_c, v.recurrent, v.zoneout_h, v.zoneout_c, v.peepholes,
            v.gain_x, v.gain_h, v.gain_c, v.bias_c, lines, scales, self.dlines,
            self.dreset_h, self.dreset_c, self.of_programs,
            *rows.places, int(reverse), *strides,
            **_constants(call, self.how, call.D * call.H),
        )  # fmt: skip

    @property
    def dsums(self) -> tuple[Tensor, Tensor]:
        """See the class."""
        if self.dlines is None:
            return self.dgates, self.dgates
        return self.dlines[:, :, 0], self.dlines[:, :, 1]

    def gradients(self, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Return the gradients of ``call.tensors``, None where they are not wanted."""
        call, D = self.call, self.call.D
        with on_device(call.x):
            dx = self._dx() if wanted[0] else None
            found: list[Tensor | None] = [dx, self.dh_0, self.dc_0]
            x = self._read(any(wanted[3 + WEIGHTS * d] for d in range(D)))
            for d in range(D):
                found += self._weights(d, x, wanted[3 + WEIGHTS * d : 3 + WEIGHTS * (d + 1)])
            if call.variant is not PLAIN:
                found += self._variant(wanted[3 + WEIGHTS * D :])
        given = zip(found, wanted, call.tensors, strict=True)
        return [g if w and t is not None else None for g, w, t in given]

    def _dx(self) -> Tensor:
        of_x, rows = self.dsums[0], self.rows
        dx = of_x[0] @ self.call.weights[0][0]
        if self.call.D == 2:
            torch.addmm(dx, of_x[1], self.call.weights[1][0], out=dx)
        return rows.shaped(dx)

    def _read(self, wanted: bool) -> Tensor | None:
        """x as rows, zero where no step read it: what lies there may be NaN."""
        if not wanted:
            return None
        x, inside = self.call.x, self.rows.inside(self.call.variant.mask)
        return self.rows.flat(x if inside is None else x.where(inside, 0))

    def _weights(self, d: int, x: Tensor | None, want: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of one direction's weights; the biases share none, as programs scale them in place."""
        of_x, of_h = (each[d] for each in self.dsums)
        dW = of_x.t() @ x if want[0] and x is not None else None
        dU = of_h.t() @ self.before[d] if want[1] else None
        db = self.dgates[d].sum(0) if want[2] or want[3] else None
        both = want[2] and want[3]
        return [dW, dU, db, db.clone() if both and db is not None else db, None]

    def _variant(self, want: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of the variant's fields, all but ``coupled``."""
        dtype = self.call.x.dtype
        found: dict[str, Tensor | None] = {"reset_h": self.dreset_h, "reset_c": self.dreset_c}
        if self.of_programs is not None:
            sums = self.of_programs.sum(1).to(dtype)
            found |= {"peepholes": sums[:, :3], "gain_c": sums[:, 3], "bias_c": sums[:, 4]}
        if self.lines is not None:
            for k, name in enumerate(("gain_x", "gain_h")):
                if want[Variant._fields.index(name)]:
                    found[name] = (self.dgates * self.lines[:, :, k]).sum(1)
        return [None if (t := found.get(n)) is None else t.contiguous() for n in Variant._fields[:-1]]
