"""What both kernels compute of a tile [HP,BN]: HP units, the power of two from H on, of BN sequences.

What lies past H or N is masked. Everything is float32 here.
"""

import triton
import triton.language as tl

EPSILON = tl.constexpr(1e-5)  # of layer normalisation, as torch has it


@triton.jit
def sigmoid(a):
    """σ(a)."""
    return 1.0 / (1.0 + tl.exp(-a))


@triton.jit
def tanh(a):
    """Tanh by one exponential; exact at both ends, where it is infinite or 0."""
    return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * a))


@triton.jit
def peeping(a, peephole, c):
    """A gate's sums with what it sees of the cell; without a peephole the sums."""
    if peephole is not None:
        a += peephole[:, None] * c
    return a


@triton.jit
def normed_over_gates(i, f, g, o, inside, H: tl.constexpr):
    """LN over all 4H of four tiles, and what it multiplied by, [BN]."""
    mean = (tl.sum(i, 0) + tl.sum(f, 0) + tl.sum(g, 0) + tl.sum(o, 0)) / (4 * H)
    i = tl.where(inside, i - mean[None, :], 0.0)
    f = tl.where(inside, f - mean[None, :], 0.0)
    g = tl.where(inside, g - mean[None, :], 0.0)
    o = tl.where(inside, o - mean[None, :], 0.0)
    squares = tl.sum(i * i, 0) + tl.sum(f * f, 0) + tl.sum(g * g, 0) + tl.sum(o * o, 0)
    scale = 1.0 / tl.sqrt(squares / (4 * H) + EPSILON)
    return i * scale[None, :], f * scale[None, :], g * scale[None, :], o * scale[None, :], scale


@triton.jit
def normed_over_gates_back(di, df, dg, do, i, f, g, o, scale, inside, H: tl.constexpr):
    """From the gradients of LN to those of what it normalised; i, f, g, o are what LN gave."""
    mean = (tl.sum(di, 0) + tl.sum(df, 0) + tl.sum(dg, 0) + tl.sum(do, 0)) / (4 * H)
    along = tl.sum(di * i, 0) + tl.sum(df * f, 0) + tl.sum(dg * g, 0) + tl.sum(do * o, 0)
    mean, along, scale = mean[None, :], (along / (4 * H))[None, :], scale[None, :]
    di = tl.where(inside, (di - mean - i * along) * scale, 0.0)
    df = tl.where(inside, (df - mean - f * along) * scale, 0.0)
    dg = tl.where(inside, (dg - mean - g * along) * scale, 0.0)
    do = tl.where(inside, (do - mean - o * along) * scale, 0.0)
    return di, df, dg, do


@triton.jit
def normed(c, inside, H: tl.constexpr):
    """LN over H, and what it multiplied by, [BN]."""
    c = tl.where(inside, c - (tl.sum(c, 0) / H)[None, :], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(c * c, 0) / H + EPSILON)
    return c * scale[None, :], scale


@triton.jit
def normed_back(dc, c, scale, inside, H: tl.constexpr):
    """From the gradient of LN to that of what it normalised; c is what LN gave."""
    mean, along = tl.sum(dc, 0) / H, tl.sum(dc * c, 0) / H
    return tl.where(inside, (dc - mean[None, :] - c * along[None, :]) * scale[None, :], 0.0)


@triton.jit
def vector(of_units, k: tl.constexpr, unit, H: tl.constexpr):
    """Row k of [·,H], [HP]; None of None."""
    if of_units is None:
        return None
    else:
        return tl.load(of_units + k * H + unit, mask=unit < H, other=0.0).to(tl.float32)


@triton.jit
def tile(states, at, here):
    """Values of a state at ``at``; zero of None."""
    if states is None:
        return tl.zeros(here.shape, tl.float32)
    else:
        return tl.load(states + at, mask=here, other=0.0).to(tl.float32)


@triton.jit
def four(rows, at, inside, H: tl.constexpr):
    """The tiles of i, f, g and o of rows [·,4H]."""
    return (
        tl.load(rows + at, mask=inside, other=0.0).to(tl.float32),
        tl.load(rows + at + H, mask=inside, other=0.0).to(tl.float32),
        tl.load(rows + at + 2 * H, mask=inside, other=0.0).to(tl.float32),
        tl.load(rows + at + 3 * H, mask=inside, other=0.0).to(tl.float32),
    )


@triton.jit
def store_four(rows, at, inside, i, f, g, o, H: tl.constexpr):
    """Write them."""
    tl.store(rows + at, i, mask=inside)
    tl.store(rows + at + H, f, mask=inside)
    tl.store(rows + at + 2 * H, g, mask=inside)
    tl.store(rows + at + 3 * H, o, mask=inside)


@triton.jit
def zoneout_of(factors, d, t, rank, place, starts, way, step, row, unit, inside):
    """The part of a state that stays, at a step."""
    if starts is None:
        at = t.to(tl.int64) * step + place * row
    else:
        at = (tl.load(starts + t) + rank) * row
    return tl.load(factors + d * way + at[None, :] + unit[:, None], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def marked(marks, t, place, known, N):
    """Booleans [T,N] at a step, [BN]; False where not known."""
    return tl.load(marks + t * N + place, mask=known, other=0) != 0


@triton.jit
def place_of(order, rank, known):
    """The sequence of each rank."""
    if order is None:
        return rank.to(tl.int64)
    else:
        return tl.load(order + rank, mask=known, other=0).to(tl.int64)


@triton.jit
def row_of(starts, t, rank, place, step, row):
    """Where the step t of sequences lies: padded or packed."""
    if starts is None:
        return t.to(tl.int64) * step + place * row
    else:
        return tl.load(starts + t) + rank.to(tl.int64)
