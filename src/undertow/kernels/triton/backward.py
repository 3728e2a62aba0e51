"""The backward kernel: through the steps of ``forward`` from the last to the first.

It leaves the gradients of the gates before their activation, ``dgates``; with layer normalisation also those
of W x_t and of U h. From these the weights' gradients are one product each. dh = Uᵀ da is one product for
each gate: with BK = 0 U stays in the program's memory, else it comes in blocks, and da is read from
``dgates``. No two programs add to the same number, so results repeat bit for bit.
"""

import triton
import triton.language as tl

from undertow.kernels.triton.forward import NUMBERS, STATES
from undertow.kernels.triton.tiles import (
    four,
    marked,
    normed,
    normed_back,
    normed_over_gates_back,
    place_of,
    row_of,
    store_four,
    tanh,
    tile,
    vector,
    zoneout_of,
)


@triton.jit
def block_of(U, unit, k, H: tl.constexpr):
    """Rows k of a gate's weights [H,H], transposed."""
    at = k[None, :] * H + unit[:, None]
    return tl.load(U + at, mask=(unit[:, None] < H) & (k[None, :] < H), other=0.0)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=(*STATES, "dh_n", "dc_n"))
def backward(
    gates,  # [D,rows,4H], of the forward pass
    cells,  # [D,rows,H]
    y,  # [rows,Y]
    U,  # [D,4H,H]
    h_0,
    c_0,
    dy,  # [rows,Y], None: zero
    dh_n,  # [D,N,H], None: zero
    dc_n,
    dgates,  # [D,rows,4H], out
    before,  # [D,rows,H], out: what U was multiplied with; None: not wanted
    dh_0,  # [D,N,H], out
    dc_0,
    dh_steps,  # [D,rows,H], out, or None
    dc_steps,
    lengths,
    starts,
    order,
    mask,
    reset,
    reset_h,
    reset_c,
    recurrent,
    zoneout_h,
    zoneout_c,
    peepholes,
    gain_x,
    gain_h,
    gain_c,
    bias_c,
    lines,
    scales,
    dlines,  # [D,rows,2,4H], out: gradients of W x_t and of U h, with norms
    dreset_h,  # [D,N,H], out
    dreset_c,
    sums,  # [D,programs,5,H], out: of p_i, p_f, p_o, gain_c, bias_c, for each program
    T, N, rows, step, row, reverse,
    zh_way, zh_step, zh_row, zc_way, zc_step, zc_row,
    H: tl.constexpr,
    Y: tl.constexpr,
    HP: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    COUPLED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps of BN sequences in one direction, the last first."""
    d = tl.program_id(1).to(tl.int64)
    back = (tl.program_id(1) + reverse) % 2
    unit, rank = tl.arange(0, HP), tl.program_id(0) * BN + tl.arange(0, BN)
    known = rank < N
    place = place_of(order, rank, known)
    here = (unit < H)[:, None] & known[None, :]
    length, steps = T, T
    if lengths is not None:
        length = tl.load(lengths + rank, mask=known, other=0).to(tl.int32)
        steps = tl.max(length, 0)

    state = (d * N + place)[None, :] * H + unit[:, None]
    dh, dc = tile(dh_n, state, here), tile(dc_n, state, here)
    start_c = tile(c_0, state, here)
    gates += d * rows * 4 * H
    dgates += d * rows * 4 * H
    cells += d * rows * H
    U += d * 4 * H * H
    y += d * H
    if before is not None:
        before += d * rows * H
        start_h = tile(h_0, state, here)
    if dy is not None:
        dy += d * H
    if dh_steps is not None:
        dh_steps += d * rows * H
        dc_steps += d * rows * H
    if reset is not None:
        fresh_h, fresh_c = tile(reset_h, state, here), tile(reset_c, state, here)
        dfresh_h, dfresh_c = tl.zeros((HP, BN), tl.float32), tl.zeros((HP, BN), tl.float32)
    if recurrent is not None:
        factors = tile(recurrent, state, here)
    if peepholes is not None:
        peepholes += d * 3 * H
        dp_i, dp_f = tl.zeros((HP, BN), tl.float32), tl.zeros((HP, BN), tl.float32)
        dp_o = tl.zeros((HP, BN), tl.float32)
    p_i, p_f, p_o = (
        vector(peepholes, 0, unit, H),
        vector(peepholes, 1, unit, H),
        vector(peepholes, 2, unit, H),
    )
    if gain_x is not None:
        gain_x += d * 4 * H
        gain_h += d * 4 * H
        lines += d * rows * 8 * H
        dlines += d * rows * 8 * H
        scales += d * rows * 2
        gain_c, bias_c = vector(gain_c + d * H, 0, unit, H), vector(bias_c + d * H, 0, unit, H)
        dgain_c, dbias_c = tl.zeros((HP, BN), tl.float32), tl.zeros((HP, BN), tl.float32)
    if BK == 0:
        U_i, U_f = block_of(U, unit, unit, H), block_of(U + H * H, unit, unit, H)
        U_g, U_o = block_of(U + 2 * H * H, unit, unit, H), block_of(U + 3 * H * H, unit, unit, H)

    for s in range(steps):
        t = tl.where(back == 1, s, steps - 1 - s)
        there = known
        if lengths is not None:
            there = known & (t < length)
        inside = (unit < H)[:, None] & there[None, :]
        at = row_of(starts, t, rank, place, step, row)[None, :]
        wide = at * (4 * H) + unit[:, None]
        i, f, g, o = four(gates, wide, inside, H)  # zero where no step was made, which makes da zero
        # the state before: of the step that ran before this one, or the first of its sequence
        earlier = tl.where(back == 1, t + 1, t - 1)
        ran = there & (earlier >= 0) & (earlier < length)
        at_earlier = row_of(starts, tl.maximum(tl.minimum(earlier, T - 1), 0), rank, place, step, row)[
            None, :
        ]
        ran_here = (unit < H)[:, None] & ran[None, :]
        c = tl.load(cells + at_earlier * H + unit[:, None], mask=ran_here, other=0.0).to(tl.float32)
        c = tl.where(ran[None, :], c, start_c)
        if dy is not None:
            dh += tl.load(dy + at * Y + unit[:, None], mask=inside, other=0.0).to(tl.float32)
        if reset is not None:
            later = t + back
            fresh = marked(reset, later, place, known & (later < length), N)[None, :]
            c = tl.where(fresh, fresh_c, c)
        if before is not None:
            h = tl.load(y + at_earlier * Y + unit[:, None], mask=ran_here, other=0.0).to(tl.float32)
            h = tl.where(ran[None, :], h, start_h)
            if reset is not None:
                h = tl.where(fresh, fresh_h, h)
            if recurrent is not None:
                h *= factors
            tl.store(before + at * H + unit[:, None], h, mask=inside)

        c_new = i * g + f * c
        seen = c_new
        if gain_x is not None:
            line_c, scale_c = normed(c_new, here, H)
            seen = line_c * gain_c[:, None] + bias_c[:, None]
        seen = tanh(seen)
        dh_new, stays_c = dh, 0.0
        if zoneout_h is not None:
            stays_h = zoneout_of(zoneout_h, d, t, rank, place, starts, zh_way, zh_step, zh_row, unit, inside)
            dh_new = (1.0 - stays_h) * dh
        dc_new = dc
        if zoneout_c is not None:
            stays_c = zoneout_of(zoneout_c, d, t, rank, place, starts, zc_way, zc_step, zc_row, unit, inside)
            dc_new = (1.0 - stays_c) * dc
        do = dh_new * seen * o * (1.0 - o)
        dseen = dh_new * o * (1.0 - seen * seen)
        if gain_x is not None:
            dgain_c += tl.where(inside, dseen * line_c, 0.0)
            dbias_c += tl.where(inside, dseen, 0.0)
            dc_new += normed_back(dseen * gain_c[:, None], line_c, scale_c, here, H)
        else:
            dc_new += dseen
        if peepholes is not None:
            dc_new += do * p_o[:, None]
            dp_o += do * c_new
        di = dc_new * g * i * (1.0 - i)
        df = dc_new * c * f * (1.0 - f)
        if COUPLED:
            di = dc_new * (g - c) * i * (1.0 - i)
            df = tl.zeros((HP, BN), tl.float32)
        dg = dc_new * i * (1.0 - g * g)
        dc_before = stays_c * dc + dc_new * f
        if peepholes is not None:
            dc_before += di * p_i[:, None] + df * p_f[:, None]
            dp_i += di * c
            dp_f += df * c
        live = inside
        if mask is not None:
            live = inside & marked(mask, t, place, known, N)[None, :]
        if dh_steps is not None:
            tl.store(dh_steps + at * H + unit[:, None], dh, mask=inside)
            tl.store(dc_steps + at * H + unit[:, None], tl.where(live, dc_new, dc), mask=inside)
        store_four(dgates, wide, inside, di, df, dg, do, H)

        if gain_x is not None:
            scale_x = tl.load(scales + at * 2, mask=there[None, :], other=0.0).to(tl.float32)
            scale_h = tl.load(scales + at * 2 + 1, mask=there[None, :], other=0.0).to(tl.float32)
            twice = at * (8 * H) + unit[:, None]
            l_i, l_f, l_g, l_o = four(lines, twice, inside, H)
            x_i, x_f = di * vector(gain_x, 0, unit, H)[:, None], df * vector(gain_x, 1, unit, H)[:, None]
            x_g, x_o = dg * vector(gain_x, 2, unit, H)[:, None], do * vector(gain_x, 3, unit, H)[:, None]
            x_i, x_f, x_g, x_o = normed_over_gates_back(
                x_i, x_f, x_g, x_o, l_i, l_f, l_g, l_o, tl.sum(scale_x, 0), here, H
            )
            store_four(dlines, twice, inside, x_i, x_f, x_g, x_o, H)
            l_i, l_f, l_g, l_o = four(lines, twice + 4 * H, inside, H)
            di, df = di * vector(gain_h, 0, unit, H)[:, None], df * vector(gain_h, 1, unit, H)[:, None]
            dg, do = dg * vector(gain_h, 2, unit, H)[:, None], do * vector(gain_h, 3, unit, H)[:, None]
            di, df, dg, do = normed_over_gates_back(
                di, df, dg, do, l_i, l_f, l_g, l_o, tl.sum(scale_h, 0), here, H
            )
            store_four(dlines, twice + 4 * H, inside, di, df, dg, do, H)

        du = tl.zeros((HP, BN), tl.float32)
        if BK == 0:
            du = tl.dot(U_i, di.to(U.dtype.element_ty), du, input_precision=PRECISION)
            du = tl.dot(U_f, df.to(U.dtype.element_ty), du, input_precision=PRECISION)
            du = tl.dot(U_g, dg.to(U.dtype.element_ty), du, input_precision=PRECISION)
            du = tl.dot(U_o, do.to(U.dtype.element_ty), du, input_precision=PRECISION)
        else:
            tl.debug_barrier()  # da is read as all threads of the program have written it
            if gain_x is not None:
                da, first = dlines, at * (8 * H) + 4 * H
            else:
                da, first = dgates, at * (4 * H)
            for k0 in range(0, HP, BK):
                k = k0 + tl.arange(0, BK)
                held, wanted = da + first + k[:, None], (k < H)[:, None] & there[None, :]
                for gate in tl.static_range(4):
                    part = tl.load(held + gate * H, mask=wanted, other=0.0)
                    du = tl.dot(block_of(U + gate * H * H, unit, k, H), part, du, input_precision=PRECISION)

        if recurrent is not None:
            du *= factors
        if zoneout_h is not None:
            du += stays_h * dh
        dh, dc = tl.where(live, du, dh), tl.where(live, dc_before, dc)
        if reset is not None:
            dfresh_h += tl.where(fresh, dh, 0.0)
            dfresh_c += tl.where(fresh, dc, 0.0)
            dh, dc = tl.where(fresh, 0.0, dh), tl.where(fresh, 0.0, dc)

    tl.store(dh_0 + state, dh, mask=here)
    tl.store(dc_0 + state, dc, mask=here)
    if reset is not None:
        tl.store(dreset_h + state, dfresh_h, mask=here)
        tl.store(dreset_c + state, dfresh_c, mask=here)
    if sums is not None:
        own = sums + ((d * tl.num_programs(0) + tl.program_id(0)) * 5) * H + unit
        if peepholes is not None:
            tl.store(own, tl.sum(dp_i, 1), mask=unit < H)
            tl.store(own + H, tl.sum(dp_f, 1), mask=unit < H)
            tl.store(own + 2 * H, tl.sum(dp_o, 1), mask=unit < H)
        if gain_x is not None:
            tl.store(own + 3 * H, tl.sum(dgain_c, 1), mask=unit < H)
            tl.store(own + 4 * H, tl.sum(dbias_c, 1), mask=unit < H)
