"""The LSTM and the plain RNN in differentiable torch operations, one loop over time.

This path is slow and general: any device, dtype and transform that torch's own operations support,
projections, double backward. The equations are those of ``equations``. With a ``Variant``,
``plain_variants`` computes each direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, one_hot, pad

from undertow.kernels import plain_variants
from undertow.kernels.call import EVEN, PLAIN, Call
from undertow.kernels.engine import Engine
from undertow.kernels.tensors import without_autocast

States = tuple[Tensor, ...]
Stepped = tuple[States, States]  # what a step makes: the states, and all that is kept of it


@dataclass(frozen=True)
class Steps:
    """An LSTM layer at every step, one direction, in torch tensors with their graph.

    Both directions are in the order of time: entry t of the gates belongs to time t, and h and c hold the
    initial state at 0 and the state that the step at time t made at t+1. All are zero past a sequence's own
    end. At a masked step the gates are zero, and h and c are those before the step.
    """

    gates: Tensor  # [T,N,4,H], after the activation, in the order i, f, g, o
    h: Tensor  # [T+1,N,R]
    c: Tensor  # [T+1,N,H]
    mask: Tensor  # bool [T,N], where there is data: a step inside its sequence, and not masked
    other: "Steps | None" = None

    @property
    def i(self) -> Tensor:
        """Input gate, [T,N,H]."""
        return self.gates[..., 0, :]

    @property
    def f(self) -> Tensor:
        """Forget gate, [T,N,H]."""
        return self.gates[..., 1, :]

    @property
    def g(self) -> Tensor:
        """Input modulation, [T,N,H]."""
        return self.gates[..., 2, :]

    @property
    def o(self) -> Tensor:
        """Output gate, [T,N,H]."""
        return self.gates[..., 3, :]

    @property
    def reverse(self) -> "Steps":
        """The other direction. Raises AttributeError if there is none."""
        if self.other is None:
            raise AttributeError("reverse: the layer has one direction")
        return self.other


class Plain(Engine):
    """The engine of all calls that no other engine serves."""

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``."""
        return True

    def layer(self, call: Call) -> States:
        """See ``Engine.layer``."""
        return layer(call)


ENGINE = Plain()


def layer(call: Call, steps: list[Steps] | None = None) -> States:
    """Compute the outputs of a call with their graph.

    Args:
        call: any call.
        steps: receives the Steps of an LSTM; None: they are not kept.

    Raises:
        ValueError: lengths are not from 0 to T.
    """
    with without_autocast(call.x):
        if call.reads_symbols:
            vectors = one_hot(call.x.squeeze(-1), call.weights[0][0].shape[1])
            call = call._replace(x=vectors.to(call.real.dtype))
        ranked = _ranked(call)
        starts = ranked.call.states
        if starts[0] is None:
            starts = _zeros(ranked.call)
        found = [_direction(ranked, starts, d, steps is not None) for d in range(call.D)]
        ys, ends, inside = zip(*found, strict=True)
        if steps is not None:
            steps.append(_steps(ranked, starts, ys, inside, call.variant.mask))
        return _unranked(ranked, torch.cat(ys, dim=2), [torch.stack(s) for s in zip(*ends, strict=True)])


@dataclass(frozen=True)
class _Ranked:
    """A call whose sequences are padded and sorted longest first."""

    call: Call
    batch_sizes: Tensor | None  # int64 [T] on the CPU: how many sequences are active; None: all
    order: Tensor | None  # the sequence of each rank; None: as they came
    rows: Tensor | None  # where packed rows lie in [T*N]


def _ranked(call: Call) -> _Ranked:
    lengths, batch_sizes, order = call.ragged
    x, rows = call.x, None
    if batch_sizes is not None:
        live = _live(batch_sizes, call.N)
        rows = live.view(-1).nonzero().squeeze(1).to(x.device)
        x = plain_variants.spread(x, rows, *live.shape)
    elif lengths is not None:
        T, lengths = x.shape[0], lengths.cpu()
        check_lengths(lengths, T)
        order = lengths.argsort(descending=True, stable=True)
        batch_sizes = (lengths.unsqueeze(0) > torch.arange(T, device="cpu").unsqueeze(1)).sum(1)
        live = _live(batch_sizes, call.N).to(x.device)
        x = x.index_select(1, order.to(x.device)).where(live.unsqueeze(2), 0)  # padding may hold NaN
    variant = call.variant
    if variant is not PLAIN:
        variant = plain_variants.ranked(variant, order, rows, *x.shape[:2])
    h_0, c_0 = (s if s is None or order is None else _picked(s, order) for s in (call.h_0, call.c_0))
    return _Ranked(
        call._replace(x=x, h_0=h_0, c_0=c_0, variant=variant, ragged=EVEN), batch_sizes, order, rows
    )


def _unranked(ranked: _Ranked, y: Tensor, finals: list[Tensor]) -> States:
    if ranked.order is not None:
        inverse = ranked.order.argsort()
        finals = [_picked(s, inverse) for s in finals]
        y = y if ranked.rows is not None else _picked(y, inverse)
    if ranked.rows is not None:
        y = y.reshape(-1, y.shape[2]).index_select(0, ranked.rows)
    return y, *finals


def _direction(
    ranked: _Ranked, starts: Sequence[Tensor], d: int, keep: bool
) -> tuple[Tensor, States, States]:
    """Return y [T,N,R], the final states, and with ``keep`` c [T,N,H] and the gates [T,N,4,H] of an LSTM."""
    call, batch_sizes = ranked.call, ranked.batch_sizes
    start, weights = [s[d] for s in starts], call.weights[d]
    if call.variant is not PLAIN:
        own = plain_variants.direction(call.variant, d)
        return plain_variants.run(
            call.cell, call.x, start, weights, call.nonlinearity, d == 1, batch_sizes, own
        )
    if call.cell == "rnn":
        y, h_n = rnn(
            call.x, *start, *weights[:4],
            nonlinearity=call.nonlinearity, reverse=d == 1, batch_sizes=batch_sizes,
        )  # fmt: skip
        return y, (h_n,), ()
    inside: list[States] | None = [] if keep else None
    y, *ends = lstm(call.x, *start, *weights, reverse=d == 1, batch_sizes=batch_sizes, inside=inside)
    return y, tuple(ends), inside[0] if inside else ()


def _zeros(call: Call) -> tuple[Tensor, ...]:
    R, N = call.weights[0][1].shape[1], call.x.shape[1]
    sizes = (R, call.H) if call.cell == "lstm" else (R,)
    return tuple(call.x.new_zeros(call.D, N, size) for size in sizes)


def _live(batch_sizes: Tensor, N: int) -> Tensor:
    """Return whether the sequence of each rank has each step, bool [T,N] on the CPU."""
    return torch.arange(N, device="cpu") < batch_sizes.unsqueeze(1)


def _picked(stacked: Tensor, order: Tensor) -> Tensor:
    """Return the sequences of [...,N,...] in another order."""
    return stacked.index_select(1, order.to(stacked.device))


def check_lengths(lengths: Tensor, T: int) -> None:
    """Raise ValueError unless lengths are from 0 to T."""
    if lengths.numel() and not 0 <= int(lengths.min()) <= int(lengths.max()) <= T:
        raise ValueError(f"lengths: expected values between 0 and T = {T}, got {lengths.tolist()}")


def lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_hr: Tensor | None = None,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
    inside: list[States] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer in one direction.

    c_t = i ⊙ g + f ⊙ c_{t-1};  h_t = o ⊙ tanh(c_t), with a projection h_t = W_hr (o ⊙ tanh(c_t))

    Args:
        x: [T,N,C].
        h_0: [N,R].
        c_0: [N,H].
        weight_ih: [4H,C].
        weight_hh: [4H,R].
        bias_ih: [4H], or None.
        bias_hh: [4H], or None.
        weight_hr: [R,H], the projection, or None.
        reverse: go from each sequence's end to its start.
        batch_sizes: int64 [T] on the CPU, non-increasing: how many sequences, counted from the first, are
            active at each step; None: all.
        inside: receives c_t [T,N,H] and the gates [T,N,4,H], zero where a sequence is not active.

    Returns:
        y [T,N,R], h_n and c_n.
    """

    def step(pre_x: Tensor, h: Tensor, c: Tensor) -> Stepped:
        i, f, g, o = (pre_x + linear(h, weight_hh, bias_hh)).chunk(4, dim=-1)  # each [n,H]
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = i * g + f * c
        h = o * c.tanh()
        h = h if weight_hr is None else linear(h, weight_hr)
        return (h, c), (h,) if inside is None else (h, c, torch.stack((i, f, g, o), dim=1))

    (y, *seen), (h_n, c_n) = _unroll(step, linear(x, weight_ih, bias_ih), (h_0, c_0), reverse, batch_sizes)
    if inside is not None:
        inside.append(tuple(seen))
    return y, h_n, c_n


def rnn(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one plain RNN layer in one direction: h_t = φ(W x_t + U h_{t-1} + b), φ tanh or relu."""
    phi = {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity]

    def step(pre_x: Tensor, h: Tensor) -> Stepped:
        states = (phi(pre_x + linear(h, weight_hh, bias_hh)),)  # [n,H]
        return states, states

    (y,), (h_n,) = _unroll(step, linear(x, weight_ih, bias_ih), (h_0,), reverse, batch_sizes)
    return y, h_n


def _unroll(
    step: Callable[..., Stepped],
    pre_x: Tensor,
    states: States,
    reverse: bool,
    batch_sizes: Tensor | None,
) -> tuple[list[Tensor], States]:
    """Apply ``step`` to pre_x [T,N,G*H] along time; return its outputs [T,N,...] and the last states.

    ``states`` [N,...] keep their rows where fewer than N sequences are active. So a sequence that has ended
    holds its last state, and one that has not begun (reverse) its first.
    """
    T, N = pre_x.shape[:2]
    active = [N] * T if batch_sizes is None else batch_sizes.tolist()
    inputs = pre_x.unbind(0)  # one node in the graph; indexing by t would cost a [T,N,·] gradient per step
    given: list[States] = [()] * T
    for t in reversed(range(T)) if reverse else range(T):
        n = active[t]
        if n == N:
            states, given[t] = step(inputs[t], *states)
        else:
            new, some = step(inputs[t][:n], *(s[:n] for s in states))
            given[t] = tuple(pad(a, (0, 0) * (a.dim() - 1) + (0, N - n)) for a in some)
            states = tuple(torch.cat((a, b[n:])) for a, b in zip(new, states, strict=True))
    return [torch.stack(each) for each in zip(*given, strict=True)], states


def _steps(
    ranked: _Ranked,
    starts: Sequence[Tensor],
    ys: Sequence[Tensor],
    inside: Sequence[States],
    given: Tensor | None,
) -> Steps:
    """Build Steps from h_0 and c_0 [D,N,...] and from y, c and gates of each direction, in ranked order."""
    T, N = ys[0].shape[:2]
    mask = torch.ones(T, N, dtype=torch.bool, device="cpu")
    if ranked.batch_sizes is not None:
        mask = _live(ranked.batch_sizes, N)
    inverse = torch.arange(N, device="cpu") if ranked.order is None else ranked.order.argsort()
    mask = _picked(mask, inverse).to(ys[0].device)
    mask = mask if given is None else mask & given
    found = None
    for d in reversed(range(len(ys))):
        h, c, gates = (_picked(a, inverse) for a in (ys[d], *inside[d]))
        h, c = (torch.cat((_picked(s, inverse)[d : d + 1], a)) for s, a in zip(starts, (h, c), strict=True))
        found = Steps(gates, h, c, mask, found)
    assert found is not None
    return found
