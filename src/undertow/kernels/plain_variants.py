"""The LSTM and the plain RNN with a ``Variant``, in differentiable torch operations: one layer and direction.

It is to ``equations.variants`` what ``plain`` is to ``equations``; ``plain.layer`` calls it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from undertow.kernels.call import Variant

_OF_SEQUENCES = ("mask", "reset", "reset_h", "reset_c", "recurrent")  # whose second dimension is N
_OF_BOTH = ("mask", "reset", "coupled")  # which have no dimension D

States = tuple[Tensor, ...]
Step = Callable[
    ..., tuple[States, States]
]  # t, h and c before it -> the states after it, and what else is kept


def spread(rows: Tensor, places: Tensor, T: int, N: int) -> Tensor:
    """Spread packed rows [..., R, K] to their ``places`` in [T*N]: [..., T, N, K], zero elsewhere."""
    *outer, _, width = rows.shape
    padded = rows.new_zeros(*outer, T * N, width).index_copy(-2, places, rows)
    return padded.view(*outer, T, N, width)


def ranked(variant: Variant, order: Tensor | None, places: Tensor | None, T: int, N: int) -> Variant:
    """Return ``variant`` with its sequences in ``order`` and, if packed, zoneout's rows in ``places``."""
    changed: dict[str, Any] = {}
    for name, dim in (("zoneout_h", 2), ("zoneout_c", 2), *((n, 1) for n in _OF_SEQUENCES)):
        given = getattr(variant, name)
        if given is None:
            continue
        if places is not None and dim == 2:  # whose packed rows are in order
            changed[name] = spread(given, places, T, N)
        elif order is not None:
            changed[name] = given.index_select(dim, order.to(given.device))
    return variant._replace(**changed)


def direction(variant: Variant, d: int) -> Variant:
    """Return direction d's variant: fields except mask, reset and coupled lose their first dimension."""
    own = {n: v[d] for n, v in variant._asdict().items() if v is not None and n not in _OF_BOTH}
    return variant._replace(**own)


def run(
    cell: str,
    x: Tensor,
    states: list[Tensor],
    weights: Any,
    nonlinearity: str,
    reverse: bool,
    batch_sizes: Tensor | None,
    variant: Variant,
) -> tuple[Tensor, States, States]:
    """Run one layer in one direction with a variant.

    Args:
        cell: "lstm" or "rnn".
        x: [T,N,C].
        states: h_0 [N,R] and, for an LSTM, c_0 [N,H].
        weights: as in ``Call``.
        nonlinearity: "tanh" or "relu", of the RNN.
        reverse: go from each sequence's end to its start.
        batch_sizes: int64 [T], how many sequences are active at each step; None: all.
        variant: of one direction, see ``direction``.

    Returns:
        y [T,N,R]; h_n and, for an LSTM, c_n; for an LSTM c [T,N,H] and gates [T,N,4,H]. y and c are zero past
        a sequence's end; gates are zero there and at masked steps.
    """
    when = _when(x, batch_sizes, reverse, variant)
    if when.live is not None:
        x = x.where(when.live, 0)  # what is not read may be NaN, and 0 * NaN would come back in gradients
    if cell == "lstm":
        step = _lstm_step(x, *weights, v=variant)
    else:
        step = _rnn_step(x, *weights[:4], nonlinearity=nonlinearity, v=variant)
    resets = (variant.reset_h, variant.reset_c)[: len(states)]
    found, finals = _unroll(step, tuple(states), resets, when, reverse, x.shape[0])
    seen, gates = found[: len(finals)], found[len(finals) :]
    if when.inside is not None:
        seen = [a.where(when.inside, 0) for a in seen]
    if when.live is not None:
        gates = [a.where(when.live.unsqueeze(-1), 0) for a in gates]
    return seen[0], finals, (*seen[1:], *gates)


class _When(NamedTuple):
    """Booleans [T,N,1] in time, None where they are the same everywhere."""

    inside: Tensor | None  # before a sequence's end
    live: Tensor | None  # and not masked: a step is made
    fresh: Tensor | None  # the step starts from the state of a reset


def _when(x: Tensor, batch_sizes: Tensor | None, reverse: bool, variant: Variant) -> _When:
    mask, fresh, N = variant.mask, variant.reset, x.shape[1]
    inside = None
    if batch_sizes is not None:
        inside = (torch.arange(N, device="cpu") < batch_sizes.unsqueeze(1)).to(x.device)  # [T, N]
    live = inside if mask is None else mask if inside is None else mask & inside
    if fresh is not None:
        fresh = fresh if inside is None else fresh & inside
        if reverse:  # the same boundary is crossed from t to t-1
            fresh = torch.cat((fresh[1:], torch.zeros_like(fresh[:1])))
    return _When(*(None if a is None else a.unsqueeze(-1) for a in (inside, live, fresh)))


def _unroll(
    step: Step, states: States, resets: Sequence[Tensor | None], when: _When, reverse: bool, T: int
) -> tuple[list[Tensor], States]:
    """Apply ``step`` along time; return each step's states and outputs [T,N,...], and the last states."""
    back_to = [torch.zeros_like(s) if r is None else r for r, s in zip(resets, states, strict=True)]
    kept: list[States] = [()] * T
    for t in reversed(range(T)) if reverse else range(T):
        if when.fresh is not None:
            states = _where(when.fresh[t], back_to, states)
        new, more = step(t, *states)
        states = new if when.live is None else _where(when.live[t], new, states)
        kept[t] = (*states, *more)
    return [torch.stack(each) for each in zip(*kept, strict=True)], states


def _where(condition: Tensor, these: Any, those: Any) -> States:
    return tuple(torch.where(condition, a, b) for a, b in zip(these, those, strict=True))


def _mixed(zoneout: Tensor | None, t: int, before: Tensor, new: Tensor) -> Tensor:
    """Return z ⊙ the state before + (1 - z) ⊙ the new one."""
    return new if zoneout is None else zoneout[t] * before + (1 - zoneout[t]) * new


def _lstm_step(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    *,
    v: Variant,
) -> Step:
    """Return ``equations.variants.lstm_step`` as a step; with projections h̃ = W_hr (o ⊙ tanh(s))."""
    inputs = _sums(x, weight_ih, bias_ih, v.gain_x).unbind(0)
    p_i, p_f, p_o = (None,) * 3 if v.peepholes is None else v.peepholes.unbind(0)

    def step(t: int, h: Tensor, c: Tensor) -> tuple[States, States]:
        a = inputs[t] + _sums(h if v.recurrent is None else h * v.recurrent, weight_hh, bias_hh, v.gain_h)
        i, f, g, o = a.chunk(4, dim=1)  # [N, H] each
        i = _peeping(i, p_i, c).sigmoid()
        f = 1 - i if v.coupled else _peeping(f, p_f, c).sigmoid()
        g = g.tanh()
        c_new = i * g + f * c
        o = _peeping(o, p_o, c_new).sigmoid()
        seen = c_new if v.gain_c is None else layer_norm(c_new, v.gain_c.shape, v.gain_c, v.bias_c)
        h_new = o * seen.tanh()
        h_new = h_new if weight_hr is None else linear(h_new, weight_hr)
        states = _mixed(v.zoneout_h, t, h, h_new), _mixed(v.zoneout_c, t, c, c_new)
        return states, (torch.stack((i, f, g, o), dim=1),)

    return step


def _sums(a: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None) -> Tensor:
    """Return W a + b, or LN(W a) ⊙ gain + b."""
    if gain is None:
        return linear(a, weight, bias)
    sums = layer_norm(linear(a, weight), gain.shape, gain)
    return sums if bias is None else sums + bias


def _peeping(a: Tensor, peephole: Tensor | None, c: Tensor) -> Tensor:
    return a if peephole is None else a + peephole * c


def _rnn_step(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *,
    nonlinearity: str,
    v: Variant,
) -> Step:
    """Return the step of ``equations.variants.rnn``, with tanh or relu."""
    phi = {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity]
    inputs = linear(x, weight_ih, bias_ih).unbind(0)

    def step(t: int, h: Tensor) -> tuple[States, States]:
        h_new = phi(inputs[t] + linear(h if v.recurrent is None else h * v.recurrent, weight_hh, bias_hh))
        return (_mixed(v.zoneout_h, t, h, h_new),), ()

    return step
