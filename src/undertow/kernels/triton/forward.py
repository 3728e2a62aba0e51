"""The forward kernel: a program for some sequences and one direction, all units, all steps.

The gates' buffer comes in as W x_t + b, with layer normalisation as W x_t, and leaves as the gates after
their activation. U h is one product for each gate. With BK = 0 U stays in the program's memory; else it comes
in blocks of BK columns from the cache, and h goes through ``exchange``, where all threads of the program read
it. Sums and states are float32.
"""

import triton
import triton.language as tl

from undertow.kernels.triton.tiles import (
    four,
    marked,
    normed,
    normed_over_gates,
    peeping,
    place_of,
    row_of,
    sigmoid,
    store_four,
    tanh,
    tile,
    vector,
    zoneout_of,
)

NUMBERS = (
    "T", "N", "rows", "step", "row", "reverse",
    "zh_way", "zh_step", "zh_row", "zc_way", "zc_step", "zc_row",
)  # fmt: skip  # no new program for each of their values
STATES = ("h_0", "c_0", "reset_h", "reset_c", "recurrent")  # nor for where the part of a layer begins


@triton.jit
def block_of(U, unit, k, H: tl.constexpr):
    """Columns k of a gate's weights [H,H]."""
    at = unit[:, None] * H + k[None, :]
    return tl.load(U + at, mask=(unit[:, None] < H) & (k[None, :] < H), other=0.0)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=STATES)
def forward(
    gates,  # [D,rows,4H], in and out
    U,  # [D,4H,H]
    h_0,  # [D,N,H], None: zero
    c_0,
    y,  # [rows,Y], out; its columns of the first direction here
    h_n,  # [D,N,H], out
    c_n,
    cells,  # [D,rows,H], out; None: no tape, and the gates stay as they are
    exchange,  # [2,D,N,H] where BK > 0
    lengths,  # int64 [N], by rank; None: T
    starts,  # int64 [T], packed: the first row of each step
    order,  # int64 [N], the sequence of each rank; None: as they come
    mask,  # bool [T,N]
    reset,
    reset_h,  # [D,N,H]
    reset_c,
    recurrent,  # [D,N,H]
    zoneout_h,  # rows of H, by three strides
    zoneout_c,
    peepholes,  # [D,3,H]
    bias,  # [D,4H], with norms
    gain_x,  # [D,4H]
    gain_h,
    gain_c,  # [D,H]
    bias_c,
    lines,  # [D,rows,2,4H], out: the norms of W x_t and of U h
    scales,  # [D,rows,2], out: what they multiplied by
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
    """All steps of BN sequences in one direction. Step t of sequence n: row t * step + n * row."""
    d = tl.program_id(1).to(tl.int64)
    back = (tl.program_id(1) + reverse) % 2  # 1: from the end to the start
    unit, rank = tl.arange(0, HP), tl.program_id(0) * BN + tl.arange(0, BN)
    known = rank < N
    place = place_of(order, rank, known)
    here = (unit < H)[:, None] & known[None, :]
    length, steps = T, T
    if lengths is not None:
        length = tl.load(lengths + rank, mask=known, other=0).to(tl.int32)
        steps = tl.max(length, 0)

    state = (d * N + place)[None, :] * H + unit[:, None]
    h, c = tile(h_0, state, here), tile(c_0, state, here)
    gates += d * rows * 4 * H
    U += d * 4 * H * H
    y += d * H
    if cells is not None:
        cells += d * rows * H
    if reset is not None:
        fresh_h, fresh_c = tile(reset_h, state, here), tile(reset_c, state, here)
    if recurrent is not None:
        factors = tile(recurrent, state, here)
    if peepholes is not None:
        peepholes += d * 3 * H
    p_i, p_f, p_o = (
        vector(peepholes, 0, unit, H),
        vector(peepholes, 1, unit, H),
        vector(peepholes, 2, unit, H),
    )
    if gain_x is not None:
        gain_x += d * 4 * H
        gain_h += d * 4 * H
        gain_c, bias_c = vector(gain_c + d * H, 0, unit, H), vector(bias_c + d * H, 0, unit, H)
        if bias is not None:
            bias += d * 4 * H
        if cells is not None:
            lines += d * rows * 8 * H
            scales += d * rows * 2
    if BK == 0:
        U_i, U_f = block_of(U, unit, unit, H), block_of(U + H * H, unit, unit, H)
        U_g, U_o = block_of(U + 2 * H * H, unit, unit, H), block_of(U + 3 * H * H, unit, unit, H)

    for s in range(steps):
        t = tl.where(back == 1, steps - 1 - s, s)
        inside = here & (t < length)[None, :] if lengths is not None else here
        at = row_of(starts, t, rank, place, step, row)[None, :]
        live = inside
        if mask is not None:
            live = inside & marked(mask, t, place, known, N)[None, :]
        x_i, x_f, x_g, x_o = four(gates, at * (4 * H) + unit[:, None], live, H)

        if reset is not None:
            later = t + back  # the reverse direction crosses a boundary on the way from t + 1 to t
            fresh = marked(reset, later, place, known & (later < length), N)[None, :]
            h, c = tl.where(fresh, fresh_h, h), tl.where(fresh, fresh_c, c)
        held = h
        if recurrent is not None:
            held = h * factors
        held = held.to(U.dtype.element_ty)
        if BK == 0:
            i, f = tl.dot(U_i, held, input_precision=PRECISION), tl.dot(U_f, held, input_precision=PRECISION)
            g, o = tl.dot(U_g, held, input_precision=PRECISION), tl.dot(U_o, held, input_precision=PRECISION)
        else:
            i, f = tl.zeros((HP, BN), tl.float32), tl.zeros((HP, BN), tl.float32)
            g, o = tl.zeros((HP, BN), tl.float32), tl.zeros((HP, BN), tl.float32)
            # two places in turn: a thread that is one step ahead writes to the other one
            there = exchange + (s % 2) * (tl.num_programs(1).to(tl.int64) * N * H)
            tl.store(there + state, held, mask=here)
            tl.debug_barrier()
            for k0 in range(0, HP, BK):
                k = k0 + tl.arange(0, BK)
                column = (d * N + place)[None, :] * H + k[:, None]
                part = tl.load(there + column, mask=(k < H)[:, None] & known[None, :], other=0.0)
                i = tl.dot(block_of(U, unit, k, H), part, i, input_precision=PRECISION)
                f = tl.dot(block_of(U + H * H, unit, k, H), part, f, input_precision=PRECISION)
                g = tl.dot(block_of(U + 2 * H * H, unit, k, H), part, g, input_precision=PRECISION)
                o = tl.dot(block_of(U + 3 * H * H, unit, k, H), part, o, input_precision=PRECISION)

        if gain_x is not None:
            x_i, x_f, x_g, x_o, scale_x = normed_over_gates(x_i, x_f, x_g, x_o, here, H)
            i, f, g, o, scale_h = normed_over_gates(i, f, g, o, here, H)
            if cells is not None:
                store_four(lines, at * (8 * H) + unit[:, None], inside, x_i, x_f, x_g, x_o, H)
                store_four(lines, at * (8 * H) + 4 * H + unit[:, None], inside, i, f, g, o, H)
                first = known & (t < length)
                tl.store(scales + at * 2, scale_x[None, :], mask=first[None, :])
                tl.store(scales + at * 2 + 1, scale_h[None, :], mask=first[None, :])
            x_i, x_f = x_i * vector(gain_x, 0, unit, H)[:, None], x_f * vector(gain_x, 1, unit, H)[:, None]
            x_g, x_o = x_g * vector(gain_x, 2, unit, H)[:, None], x_o * vector(gain_x, 3, unit, H)[:, None]
            i, f = i * vector(gain_h, 0, unit, H)[:, None], f * vector(gain_h, 1, unit, H)[:, None]
            g, o = g * vector(gain_h, 2, unit, H)[:, None], o * vector(gain_h, 3, unit, H)[:, None]
            if bias is not None:
                i, f = i + vector(bias, 0, unit, H)[:, None], f + vector(bias, 1, unit, H)[:, None]
                g, o = g + vector(bias, 2, unit, H)[:, None], o + vector(bias, 3, unit, H)[:, None]

        i = sigmoid(peeping(i + x_i, p_i, c))
        if COUPLED:
            f = 1.0 - i
        else:
            f = sigmoid(peeping(f + x_f, p_f, c))
        g = tanh(g + x_g)
        c_new = i * g + f * c
        o = sigmoid(peeping(o + x_o, p_o, c_new))
        seen = c_new
        if gain_x is not None:
            seen, _ = normed(c_new, here, H)
            seen = seen * gain_c[:, None] + bias_c[:, None]
        h_new = o * tanh(seen)
        if zoneout_h is not None:
            stays = zoneout_of(zoneout_h, d, t, rank, place, starts, zh_way, zh_step, zh_row, unit, inside)
            h_new = stays * h + (1.0 - stays) * h_new
        if zoneout_c is not None:
            stays = zoneout_of(zoneout_c, d, t, rank, place, starts, zc_way, zc_step, zc_row, unit, inside)
            c_new = stays * c + (1.0 - stays) * c_new
        h, c = tl.where(live, h_new, h), tl.where(live, c_new, c)
        tl.store(y + at * Y + unit[:, None], h, mask=inside)
        if cells is not None:
            tl.store(cells + at * H + unit[:, None], c, mask=inside)
            if mask is not None:  # no step, no gates
                i, f = tl.where(live, i, 0.0), tl.where(live, f, 0.0)
                g, o = tl.where(live, g, 0.0), tl.where(live, o, 0.0)
            store_four(gates, at * (4 * H) + unit[:, None], inside, i, f, g, o, H)

    tl.store(h_n + state, h, mask=here)
    tl.store(c_n + state, c, mask=here)
