"""Gradient flow against finite differences, the equations' backward, torch's autograd and known answers.

float64 throughout. Every tape is spoilt first: whatever lies past a sequence's own end is NaN, so a result
that had read any of it would show.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cases import Case, all_sizes, any_lengths, both_cells, both_ways, derivative, relative_error
from undertow import equations as eq
from undertow import flow
from undertow.layout import gate, unpack
from undertow.tape import Gradients, RNNTape, Tape

LAGS = [1, 2, 3, 5, 10, 20, 50, 100, 150, 200]
at_lags = pytest.mark.parametrize("lag", LAGS)


def own(tape):
    """First and last state of each sequence, [N] each."""
    T, N = len(tape.h) - 1, tape.h.shape[1]
    lengths = np.full(N, T) if tape.lengths is None else tape.lengths
    first = T - lengths if tape.reverse else np.zeros(N, dtype=int)
    return first, first + lengths


def alive(tape):
    """Which steps were taken, [T,N]."""
    k, (first, last) = np.arange(len(tape.h) - 1)[:, None], own(tape)
    return (first <= k) & (k < last)


def spoilt(tape):
    """The tape with NaN wherever no sequence left anything."""
    first, last = own(tape)
    t = np.arange(len(tape.h))[:, None]
    states = (((t > first) & (t <= last)) | (t == 0))[..., None]  # the initial state is entry 0
    changed = {name: np.where(states, getattr(tape, name), np.nan) for name in "hc" if hasattr(tape, name)}
    if isinstance(tape, Tape):
        changed["gates"] = np.where(alive(tape)[..., None, None], tape.gates, np.nan)
    return replace(tape, **changed)


def run(kind, size, how="full", reverse=False, seed=0):
    """A case, its tape, the tape spoilt, and its weight_hh."""
    case = Case(kind, size, how, reverse, seed=seed)
    tape = case.forward()[1]
    return case, tape, spoilt(tape), case.given["weight_hh"]


def random_tape(T=12, N=3, H=5, seed=0):
    """An LSTM's tape of full length and its weight_hh, for what needs nothing else."""
    _, tape, _, U = run("lstm", (T, N, 3, H), seed=seed)
    return tape, U


class Long:
    """One sequence of 200 steps whose gradients live that long: f near 1, with every path in use."""

    T, C, H = 200, 3, 5

    def __init__(self):
        rng, H = np.random.default_rng(5), self.H
        self.x = rng.normal(size=(self.T, 1, self.C))
        self.W, self.U = rng.normal(size=(4 * H, self.C)), rng.normal(size=(4 * H, H)) / np.sqrt(H)
        self.b = np.zeros(4 * H)
        gate(self.b, "f", H)[:] = 5.0
        gate(self.U, "f", H)[:] *= 0.3
        gate(self.W, "f", H)[:] *= 0.3
        self.tape = eq.lstm(self.x, *rng.normal(size=(2, 1, H)), self.W, self.U, self.b)[1]

    def end(self, state, t):
        """(h_T, c_T) from (h_t, c_t), both [2H]."""
        h, c = np.split(state[None], 2, axis=1)
        tape = eq.lstm(self.x[t:], h, c, self.W, self.U, self.b)[1]
        return np.concatenate([tape.h[-1, 0], tape.c[-1, 0]])

    def state(self, t):
        return np.concatenate([self.tape.h[t, 0], self.tape.c[t, 0]])


@pytest.fixture(scope="module")
def long():
    return Long()


def numeric_jacobian(function, at):
    """∂function/∂at by finite differences, a column for each entry of ``at`` [D]."""
    return np.stack([derivative(lambda s, e=e: function(at + s * e), 2e-3) for e in np.eye(len(at))], axis=-1)


# --------------------------------------------------------------------------- 1. the carousel


@any_lengths
@both_ways
def test_the_carousel_is_f_and_its_products(how, reverse):
    _, tape, given, _ = run("lstm", (9, 5, 3, 4), how, reverse)
    carousel = flow.carousel(given)
    f = np.where(alive(tape)[..., None], tape.gates[:, :, 1], 1)
    np.testing.assert_array_equal(carousel.f, f)
    for t, s in [(0, 9), (2, 6), (4, 4), (8, 9)]:
        assert relative_error(carousel.product(t, s), f[t:s].prod(axis=0)) < 1e-14
        assert relative_error(np.exp(carousel.log_products_to(s)[t]), f[t:s].prod(axis=0)) < 1e-14
    assert carousel.log_products_to(6).shape == (7, 5, 4)


def test_the_carousels_logarithms_outlast_its_products():
    gates = np.full((400, 1, 4, 2), 0.5)
    gates[:, :, 1, 0], gates[7, :, 1, 1] = 1e-3, 0  # one unit forgets fast, the other once and for all
    carousel = flow.carousel(Tape(gates, *np.zeros((2, 401, 1, 2))))
    assert carousel.product()[0, 0] == 0
    assert carousel.log_product()[0, 0] == pytest.approx(400 * np.log(1e-3), rel=1e-14)
    assert carousel.log_product()[0, 1] == -np.inf
    assert carousel.log_products_to()[8, 0, 1] == pytest.approx(392 * np.log(0.5), rel=1e-14)


# ------------------------------------------------------------------------ 2. the four-term step


@all_sizes
@any_lengths
@both_ways
def test_each_of_the_four_terms_is_its_own_derivative(size, how, reverse):
    """c_t as a function of c_{t−1}, o_{t−1} fixed: h_{t−1} = o_{t−1} ⊙ tanh(c_{t−1}) moves one gate alone."""
    case, tape, given, U = run("lstm", size, how, reverse)
    terms = flow.step_terms(given, U)
    (T, N, _, H), (first, _), live = size, own(tape), alive(tape)
    x = case.given["x"][::-1] if reverse else case.given["x"]
    for k, n in [(0, 0), (T // 2, N - 1), (T - 1, N // 2)]:
        if not live[k, n]:
            for name in ("through_f", "through_i", "through_g"):
                assert not getattr(terms, name)[k, n].any()
            np.testing.assert_array_equal(terms.direct[k, n], 1)
            continue
        o = np.zeros(H) if k == first[n] else unpack(tape.gates[k - 1, n])[3]
        h_0, c_0 = tape.h[k, n], tape.c[k, n]

        def pre(name, c, k=k, n=n, o=o, h_0=h_0, c_0=c_0):
            """A gate before its activation, at c_{t−1} = c."""
            h = h_0 + o * (np.tanh(c) - np.tanh(c_0))
            return sum(
                gate(case.given[w], name, H) @ a for w, a in (("weight_ih", x[k, n]), ("weight_hh", h))
            ) + gate(case.given["bias"], name, H)

        def c_t(c, moved, direct=False, c_0=c_0, pre=pre):
            """c_t where c_{t−1} = c acts through the gates ``moved`` only, and directly or not."""
            i, f, g = (pre(name, c if name in moved else c_0) for name in "ifg")
            return eq.sigmoid(i) * np.tanh(g) + eq.sigmoid(f) * (c if direct else c_0)

        for name in "fig":
            expected = numeric_jacobian(lambda c, name=name, c_t=c_t: c_t(c, name), c_0)
            assert relative_error(getattr(terms, f"through_{name}")[k, n], expected) < 1e-8 or (
                k == first[n] and not getattr(terms, f"through_{name}")[k, n].any() and not expected.any()
            )
        whole = numeric_jacobian(lambda c, c_t=c_t: c_t(c, "ifg", direct=True), c_0)
        assert relative_error(terms.total[k, n], whole) < 1e-8
        np.testing.assert_array_equal(terms.direct[k, n], tape.gates[k, n, 1])


def test_terms_of_some_steps_are_those_of_all():
    tape, U = random_tape()
    whole, some = flow.step_terms(tape, U), flow.step_terms(tape, U, 3, 7)
    for name, value in vars(some).items():
        np.testing.assert_array_equal(value, getattr(whole, name)[3:7])


# ------------------------------------------------------------------- 3. the full state Jacobian


@both_cells
@all_sizes
@any_lengths
@both_ways
def test_one_steps_jacobian_agrees_with_finite_differences(kind, size, how, reverse):
    case, tape, given, U = run(kind, size, how, reverse)
    J, g, live = flow.state_jacobian(given, U), case.given, alive(tape)
    (T, N, _, H), x = size, g["x"][::-1] if reverse else g["x"]
    step, D = getattr(eq, f"{kind}_step"), H * len(case.states)
    assert J.shape == (T, N, D, D)
    for k, n in [(0, 0), (T // 2, N - 1), (T - 1, N // 2)]:
        if not live[k, n]:
            np.testing.assert_array_equal(J[k, n], np.eye(D))
            continue

        def after(state, k=k, n=n):
            states = np.split(state[None], len(case.states), axis=1)
            new = step(x[k, n : n + 1], *states, g["weight_ih"], g["weight_hh"], g["bias"])
            return np.concatenate(new[:2], axis=-1)[0] if kind == "lstm" else new[0]

        state = np.concatenate([getattr(tape, s)[k, n] for s in case.states])
        assert relative_error(J[k, n], numeric_jacobian(after, state)) < 1e-8


@both_cells
@both_ways
@any_lengths
def test_the_product_is_that_of_the_steps(kind, how, reverse):
    _, _, given, U = run(kind, (9, 5, 3, 4), how, reverse)
    J = flow.state_jacobian(given, U)
    expected = np.broadcast_to(np.eye(J.shape[-1]), J[0].shape)
    for k in range(2, 8):
        expected = J[k] @ expected
    assert relative_error(flow.state_product(given, U, 2, 8), expected) < 1e-13
    np.testing.assert_array_equal(flow.state_product(given, U, 4, 4)[0], np.eye(J.shape[-1]))


@at_lags
def test_the_product_agrees_with_finite_differences_at_every_lag(long, lag):
    P = flow.state_product(long.tape, long.U, long.T - lag)[0]
    assert np.abs(P).max() > 0.05  # else the comparison would be of rounding errors
    t = long.T - lag
    assert relative_error(P, numeric_jacobian(lambda state: long.end(state, t), long.state(t))) < 1e-8


@at_lags
def test_the_product_agrees_with_back_propagation_at_every_lag(long, lag):
    t, H = long.T - lag, long.H
    P = flow.state_product(long.tape, long.U, t)[0]
    rest = Tape(long.tape.gates[t:], long.tape.h[t:], long.tape.c[t:])
    for row, d in enumerate(np.eye(2 * H)):
        g = eq.lstm_backward(
            rest, long.x[t:], long.W, long.U, np.zeros((lag, 1, H)), d[None, :H], d[None, H:]
        )
        assert relative_error(P[row], np.concatenate([g.dh_0[0], g.dc_0[0]])) < 1e-11


@at_lags
def test_the_product_agrees_with_torch_at_every_lag(long, lag):
    t, H = long.T - lag, long.H
    module = torch.nn.LSTM(long.C, H, dtype=torch.float64)
    weights = zip(
        ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
        map(torch.tensor, (long.W, long.U, long.b, np.zeros(4 * H))),
        strict=True,
    )
    module.load_state_dict(dict(weights))

    def end(state):
        h, c = state[None, None].split(H, dim=-1)
        return torch.cat([s[0, 0] for s in module(torch.tensor(long.x[t:]), (h, c))[1]])

    expected = torch.autograd.functional.jacobian(end, torch.tensor(long.state(t)))
    assert relative_error(flow.state_product(long.tape, long.U, t)[0], expected) < 1e-11


@at_lags
def test_the_plain_rnns_product_agrees_with_finite_differences_and_torch(lag):
    rng, H, T = np.random.default_rng(6), 4, 200
    U, x = 1.1 * np.linalg.qr(rng.normal(size=(H, H)))[0], 0.1 * rng.normal(size=(T, 1, H))
    W, b, t = np.eye(H), np.zeros(H), T - lag
    tape = eq.rnn(x, np.zeros((1, H)), W, U, b)[1]
    P = flow.state_product(tape, U, t)[0]
    assert np.abs(P).max() > 0.05

    def end(h):
        return eq.rnn(x[t:], h[None], W, U, b)[1].h[-1, 0]

    def end_torch(h):
        for x_k in torch.tensor(x[t:, 0]):
            h = torch.tanh(x_k + torch.tensor(U) @ h)
        return h

    h_t = tape.h[t, 0]
    assert relative_error(P, numeric_jacobian(end, h_t)) < 1e-8
    assert relative_error(P, torch.autograd.functional.jacobian(end_torch, torch.tensor(h_t))) < 1e-11


# ------------------------------------------------------- the textbook chain against the truth


@any_lengths
@both_ways
def test_the_textbook_chain_is_the_product_of_the_four_term_steps(how, reverse):
    _, _, given, U = run("lstm", (9, 5, 3, 4), how, reverse)
    M = flow.step_terms(given, U).total
    for t, s in [(0, 9), (3, 8), (5, 5), (6, 7)]:
        expected = np.broadcast_to(np.eye(4), M[0].shape)
        for k in range(t, s):
            expected = M[k] @ expected
        assert relative_error(flow.textbook_chain(given, U, t, s), expected) < 1e-13


@at_lags
def test_the_true_cell_product_is_back_propagations_dc(long, lag):
    t, H = long.T - lag, long.H
    R = flow.cell_product(long.tape, long.U, t)[0]
    for row, d in enumerate(np.eye(H)):
        g = eq.lstm_backward(long.tape, long.x, long.W, long.U, np.zeros((long.T, 1, H)), dc_n=d[None])
        assert relative_error(R[row], g.dc[t, 0]) < 1e-11


def test_the_true_cell_product_is_built_from_the_state_product():
    tape, U = random_tape()
    P = flow.state_product(tape, U, 4, 9)
    out = tape.gates[3, :, 3] * (1 - np.tanh(tape.c[4]) ** 2)
    expected = P[:, 5:, :5] * out[:, None, :] + P[:, 5:, 5:]
    assert relative_error(flow.cell_product(tape, U, 4, 9), expected) < 1e-13
    from_the_start = flow.state_product(tape, U, 0, 9)[:, 5:, 5:]  # h_0 does not depend on c_0
    assert relative_error(flow.cell_product(tape, U, 0, 9), from_the_start) < 1e-13


def test_the_textbook_chain_is_true_at_lag_1_and_not_beyond():
    tape, U = random_tape()
    for t in range(12):
        one = flow.textbook_chain(tape, U, t, t + 1)
        assert relative_error(one, flow.cell_product(tape, U, t, t + 1)) < 1e-14
    for t in range(1, 11):
        two = flow.textbook_chain(tape, U, t, t + 2)
        assert relative_error(two, flow.cell_product(tape, U, t, t + 2)) > 1e-3
    # h_0 does not depend on c_0, so from the initial state the path left out opens a step later
    at_2, at_3 = ((flow.textbook_chain(tape, U, 0, s), flow.cell_product(tape, U, 0, s)) for s in (2, 3))
    assert relative_error(*at_2) < 1e-14
    assert relative_error(*at_3) > 1e-3


def test_the_textbook_chain_is_true_where_o_does_not_read_h():
    """What it leaves out passes through U_o, so with U_o = 0 it leaves out nothing."""
    case = Case("lstm", (12, 3, 3, 5))
    gate(case.given["weight_hh"], "o", 5)[:] = 0
    tape, U = case.forward()[1], case.given["weight_hh"]
    assert relative_error(flow.textbook_chain(tape, U, 1, 12), flow.cell_product(tape, U, 1, 12)) < 1e-13


@any_lengths
@both_ways
def test_departure_measures_the_two_matrices(how, reverse):
    _, tape, given, U = run("lstm", (9, 5, 3, 4), how, reverse)
    (first, last), d = own(tape), flow.departure(given, U)
    np.testing.assert_array_equal(d.s, last)
    for n in range(5):
        length = last[n] - first[n]
        assert np.isnan(d.relative_error[length + 1 :, n]).all()
        for lag in range(length + 1):
            P, R = (f(given, U, last[n] - lag, last[n])[n] for f in (flow.textbook_chain, flow.cell_product))
            norm = np.linalg.norm
            assert d.relative_error[lag, n] == pytest.approx(norm(P - R) / norm(R), rel=1e-9, abs=1e-14)
            assert d.cosine[lag, n] == pytest.approx((P * R).sum() / norm(P) / norm(R), rel=1e-12)
            assert d.log_chain_norm[lag, n] == pytest.approx(np.log(norm(P)), rel=1e-12, abs=1e-12)
            assert d.log_true_norm[lag, n] == pytest.approx(np.log(norm(R)), rel=1e-12, abs=1e-12)
            true_up_to = 2 if lag == length else 1  # from the initial state one lag more
            assert (d.relative_error[lag, n] < 1e-14) == (lag <= true_up_to)


def test_departure_from_a_chosen_state_and_by_probes():
    tape, U = random_tape(T=12, N=3, H=20)
    whole, chosen = flow.departure(tape, U, s=7), flow.departure(tape, U, s=[7, 0, 5])
    assert whole.relative_error.shape == (8, 3)
    np.testing.assert_array_equal(chosen.relative_error[:, 0], whole.relative_error[:, 0])
    assert np.isnan(chosen.relative_error[1:, 1]).all()
    estimate = flow.departure(tape, U, s=7, probes=400)
    assert relative_error(estimate.relative_error[2:], whole.relative_error[2:]) < 0.2
    np.testing.assert_allclose(estimate.log_true_norm, whole.log_true_norm, atol=0.2)
    assert np.any(estimate.relative_error != whole.relative_error)


# ----------------------------------------------------------------------------- by step and by lag


@both_cells
@any_lengths
@both_ways
def test_norms_by_step(kind, how, reverse):
    case, tape, given, _ = run(kind, (9, 5, 3, 4), how, reverse)
    gradients = case.backward()
    first, last = own(tape)
    t = np.arange(10)[:, None]
    padding = (((t <= first) | (t > last)) & (t > 0))[..., None]  # what a backward may leave undefined
    states = {f"d{s}": np.where(padding, np.nan, getattr(gradients, f"d{s}")) for s in case.states}
    norms = flow.gradient_norms(given, replace(gradients, **states))
    assert (norms.dc is None) == (kind == "rnn")
    for s in case.states:
        d, norm = getattr(gradients, f"d{s}"), getattr(norms, f"d{s}")
        for n in range(5):
            mine = slice(first[n], last[n] + 1)
            np.testing.assert_allclose(norm[mine, n], np.sqrt((d[mine, n] ** 2).sum(-1)), rtol=1e-14)
            assert np.isnan(np.delete(norm[:, n], mine)).all()


@both_cells
@all_sizes
@any_lengths
@both_ways
def test_gradients_by_lag_are_back_propagations(kind, size, how, reverse):
    case, tape, given, U = run(kind, size, how, reverse)
    g, (T, N, _, H), (first, last) = case.given, size, own(tape)
    d_n = case.d_n
    by_lag = flow.gradient_by_lag(
        given, U, *([d_n["dh_n"], None, d_n["dc_n"]] if kind == "lstm" else [d_n["dh_n"]])
    )
    backward = getattr(eq, f"{kind}_backward")
    expected = backward(tape, g["x"], g["weight_ih"], U, np.zeros((T, N, H)), **d_n)
    for s in case.states:
        mine, theirs = getattr(by_lag, f"d{s}"), getattr(expected, f"d{s}")
        norms = getattr(by_lag, f"log_d{s}_norm")
        assert len(mine) == (last - first).max() + 1
        for n in range(N):
            length = last[n] - first[n]
            assert relative_error(mine[: length + 1, n], theirs[first[n] : last[n] + 1, n][::-1]) < 1e-11
            np.testing.assert_allclose(
                norms[: length + 1, n], np.log(np.linalg.norm(mine[: length + 1, n], axis=-1))
            )
            assert np.isnan(mine[length + 1 :, n]).all()
    if kind == "rnn":
        assert by_lag.dc is by_lag.log_dc_norm is by_lag.growth_c is None


def test_gradients_of_one_step_in_the_middle():
    case, tape, _, U = run("lstm", (12, 3, 3, 5))
    s, g = [7, 0, 12], case.given
    by_lag = flow.gradient_by_lag(tape, U, case.d_n["dh_n"], s)
    assert by_lag.dh.shape == (13, 3, 5)
    for n, at in enumerate(s):
        if at:
            dy = np.zeros((12, 3, 5))
            dy[at - 1, n] = case.d_n["dh_n"][n]
            expected = eq.lstm_backward(tape, g["x"], g["weight_ih"], U, dy)
            assert relative_error(by_lag.dh[: at + 1, n], expected.dh[: at + 1, n][::-1]) < 1e-12
            assert relative_error(by_lag.dc[: at + 1, n], expected.dc[: at + 1, n][::-1]) < 1e-12
        assert np.isnan(by_lag.dh[at + 1 :, n]).all()
    np.testing.assert_array_equal(by_lag.dh[0], case.d_n["dh_n"])
    np.testing.assert_allclose(np.exp(by_lag.growth[:, 2]), np.exp(np.diff(by_lag.log_dh_norm[:, 2])))


def still_rnn(T, U, N=1):
    """A plain RNN that rests at h = 0, where every step's Jacobian is U."""
    return RNNTape(np.zeros((T + 1, N, len(U))))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_ten_thousand_lags_neither_underflow_nor_overflow(factor):
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        by_lag = flow.gradient_by_lag(still_rnn(10_000, Q), factor * Q, np.full((1, 4), 0.5))
    np.testing.assert_allclose(by_lag.log_dh_norm[:, 0], np.arange(10_001) * np.log(factor), rtol=1e-12)
    np.testing.assert_allclose(by_lag.growth, np.log(factor), atol=1e-11)
    assert np.all(by_lag.dh[-1] == 0) if factor < 1 else np.all(np.isinf(by_lag.dh[-1]))


# -------------------------------------------------------------------------------- memory horizon


def cell_only(f, T=400):
    """An LSTM with U = 0 and constant gates: ∂E/∂c falls by exactly f a step, ∂E/∂h at once."""
    gates = np.full((T, 1, 4, len(f)), 0.5)
    gates[:, :, 1] = f
    return Tape(gates, *np.zeros((2, T + 1, 1, len(f)))), np.zeros((4 * len(f), len(f)))


def test_horizons_of_a_cell_that_fades_at_a_known_rate():
    f = np.array([0.5, 0.9, 0.99, 1.0, 0.9])
    tape, U = cell_only(f)
    dh = np.array([[1.0, 1, 1, 1, 0]])  # the error does not see the last unit
    horizon = flow.memory_horizon(flow.gradient_by_lag(tape, U, dh))
    assert horizon.fractions == (1 / np.e, 0.01)
    np.testing.assert_array_equal(
        horizon.c_units[:, 0], [[2, 10, 100, np.inf, np.nan], [7, 44, np.inf, np.inf, np.nan]]
    )
    np.testing.assert_array_equal(horizon.h_units[:, 0], [[1, 1, 1, 1, np.nan]] * 2)
    np.testing.assert_array_equal(horizon.h, [[1], [1]])
    np.testing.assert_array_equal(horizon.c, [[np.inf], [np.inf]])  # the third unit keeps half for ever

    tape, U = cell_only(np.array([0.9]))
    horizon = flow.memory_horizon(flow.gradient_by_lag(tape, U, [[3.0]]), fractions=[0.5])
    np.testing.assert_array_equal(horizon.c, [[7]])  # 0.9⁷ = 0.478

    tape, U = cell_only(np.array([0.5]))
    horizon = flow.memory_horizon(flow.gradient_by_lag(tape, U, [[2.0]]), fractions=[0.5])
    np.testing.assert_array_equal(horizon.c, [[1]])  # reached exactly is reached


def test_horizons_of_a_plain_rnn_and_of_a_short_sequence():
    tape = replace(still_rnn(30, np.eye(2), N=2), lengths=np.array([30, 3]))
    horizon = flow.memory_horizon(flow.gradient_by_lag(tape, 0.5 * np.eye(2), np.ones((2, 2))), [0.3, 0.01])
    np.testing.assert_array_equal(horizon.h, [[2, 2], [7, np.inf]])  # 0.5⁷ = 0.0078, beyond 3 steps
    np.testing.assert_array_equal(horizon.h_units, [[[2, 2], [2, 2]], [[7, 7], [np.inf, np.inf]]])
    assert horizon.c is horizon.c_units is None


# ---------------------------------------------------------------------------- Lyapunov exponents


def test_exponents_at_rest_are_the_logarithms_of_the_eigenvalues():
    rng, values = np.random.default_rng(1), np.array([1.3, -0.9, 0.5, 0.2])
    V = rng.normal(size=(4, 4))
    U = V @ np.diag(values) @ np.linalg.inv(V)
    result = flow.lyapunov(still_rnn(400, U, N=2), U, k=4, skip=200)
    np.testing.assert_allclose(result.exponents, np.log(np.abs([values, values])), rtol=1e-10)
    assert np.isnan(result.growth[:200]).all()
    assert np.isfinite(result.growth[200:]).all()


def test_exponents_of_a_resting_lstm():
    """At h = c = g = 0 and U = (0, 0, diag(d), 0): a unit's Jacobian has the eigenvalues f + o i d and 0."""
    i, f, o, d = 0.3, np.array([0.95, 0.8, 0.6]), 0.7, np.array([0.5, -0.4, 0.1])
    gates = np.zeros((300, 1, 4, 3))
    gates[..., 0, :], gates[..., 1, :], gates[..., 3, :] = i, f, o
    U = np.zeros((12, 3))
    gate(U, "g", 3)[:] = np.diag(d)
    result = flow.lyapunov(Tape(gates, *np.zeros((2, 301, 1, 3))), U, k=3, skip=150)
    np.testing.assert_allclose(result.exponents[0], np.log(f + o * i * d), rtol=1e-10)


@both_cells
@any_lengths
@both_ways
def test_all_exponents_together_are_the_growth_of_volume(kind, how, reverse):
    """Σ growth = log |det J| at every step, whatever the directions."""
    _, tape, given, U = run(kind, (9, 5, 3, 4), how, reverse)
    D = 8 if kind == "lstm" else 4
    result, live = flow.lyapunov(given, U, k=D), alive(tape)
    log_det = np.linalg.slogdet(flow.state_jacobian(given, U))[1]
    np.testing.assert_allclose(result.growth.sum(-1)[live], log_det[live], rtol=1e-9)
    assert np.isnan(result.growth[~live]).all()
    for n in range(5):
        if live[:, n].any():
            np.testing.assert_allclose(result.exponents[n], result.growth[live[:, n], n].mean(axis=0))
        else:
            assert np.isnan(result.exponents[n]).all()


@any_lengths
@both_ways
def test_skipped_steps_are_each_sequences_own_first(how, reverse):
    _, tape, given, U = run("lstm", (9, 5, 3, 4), how, reverse)
    whole, skipped = flow.lyapunov(given, U, k=2), flow.lyapunov(given, U, k=2, skip=2)
    counted = alive(tape) & (np.arange(9)[:, None] >= own(tape)[0] + 2)
    np.testing.assert_array_equal(np.isfinite(skipped.growth[..., 0]), counted)
    np.testing.assert_array_equal(skipped.growth[counted], whole.growth[counted])


@pytest.mark.parametrize("gain", [0.2, 8.0])
def test_ten_thousand_steps_do_not_overflow(gain):
    """The leading exponent of a long run is the mean growth of a gradient over it, to the transient's 1/T."""
    rng, H = np.random.default_rng(2), 8
    W, U = rng.normal(size=(4 * H, 1)), gain * rng.normal(size=(4 * H, H))
    tape = eq.lstm(rng.normal(size=(10_000, 1, 1)), *np.zeros((2, 1, H)), W, U)[1]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = flow.lyapunov(tape, U, k=2)
        by_lag = flow.gradient_by_lag(tape, U, np.ones((1, H)))
    assert np.isfinite(result.exponents).all()
    assert result.exponents[0, 0] > result.exponents[0, 1]
    grown = 10_000 * result.exponents[0, 0]
    assert grown < -750 if gain < 1 else grown > 710  # a plain product would have left float64's range
    growth = np.diff(by_lag.log_dh_norm[[0, -1], 0]) / 10_000
    np.testing.assert_allclose(growth, result.exponents[0, 0], atol=2e-3)


# ----------------------------------------------------------------------------------------- units


@any_lengths
@both_ways
def test_saturation_counts_steps(how, reverse):
    _, tape, given, _ = run("lstm", (9, 5, 3, 4), how, reverse)
    live, saturation = alive(tape), flow.gate_saturation(given, low=0.3, high=0.6)
    i, f, g, o = unpack(tape.gates[live])
    tanh_c = np.tanh(tape.c[1:][live])
    expected = {
        "i_closed": i < 0.3, "i_open": i > 0.6, "f_closed": f < 0.3, "f_open": f > 0.6,
        "o_closed": o < 0.3, "o_open": o > 0.6, "g_saturated": abs(g) > 0.6, "c_saturated": abs(tanh_c) > 0.6,
    }  # fmt: skip
    for name, true in expected.items():
        assert 0 < true.mean() < 1 or how == "zero", name  # few steps are left there
        np.testing.assert_allclose(getattr(saturation, name), true.mean(axis=0), rtol=1e-14, err_msg=name)


def test_health_names_each_unit_that_is_odd():
    """One healthy unit, then each oddity in a unit of its own, in two sequences of which one is short."""
    T, N, H = 20, 2, 5
    rng = np.random.default_rng(0)
    gates, h = rng.uniform(0.2, 0.8, size=(T, N, 4, H)), rng.normal(size=(T + 1, N, H))
    h[1:, :, 1] = 0.4 + 1e-3 * rng.random(size=(T, N))  # constant, though not zero
    gates[:, :, 0, 2] = 0.001
    gates[:, :, 3, 3] = 0.001
    gates[:, :, 1, 4] = 0.999
    tape = spoilt(Tape(gates, h, h, lengths=np.array([20, 4])))
    health = flow.unit_health(tape)
    np.testing.assert_array_equal(health.constant_h, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(health.i_closed, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(health.o_closed, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(health.never_forgets, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(health.dead, [0, 1, 1, 1, 0])
    tape.gates[3, 1, :, :] = 0.5  # a single step clears all but the constant one
    tape.h[3, 1, 1] = 0.9
    for name, odd in vars(flow.unit_health(tape)).items():
        assert not odd.any(), name


# ------------------------------------------------------------------------- what must also hold


def everything(tape, U, dh):
    """Every result there is of a tape, flat: name -> array."""
    results = [
        flow.state_jacobian(tape, U), flow.state_product(tape, U),
        flow.gradient_by_lag(tape, U, dh), flow.lyapunov(tape, U),
    ]  # fmt: skip
    if isinstance(tape, Tape):
        results += [
            flow.carousel(tape), flow.step_terms(tape, U), flow.textbook_chain(tape, U),
            flow.cell_product(tape, U), flow.departure(tape, U),
            flow.gate_saturation(tape), flow.unit_health(tape),
        ]  # fmt: skip
    arrays = [a for r in results for a in ([r] if isinstance(r, np.ndarray) else vars(r).values())]
    return [a for a in arrays if isinstance(a, np.ndarray)]


@both_cells
@both_ways
def test_a_sequence_does_not_depend_on_its_company(kind, reverse):
    """Each sequence alone, cut to its length, gives what it gives in a batch."""
    case, tape, given, U = run(kind, (9, 5, 3, 4), "ragged", reverse)
    dh = case.d_n["dh_n"]
    by_lag, exponents = flow.gradient_by_lag(given, U, dh), flow.lyapunov(given, U, k=2).exponents
    for n, (first, last) in enumerate(zip(*own(tape), strict=True)):
        cut = {s: getattr(tape, s)[first : last + 1, n : n + 1] for s in case.states}
        alone = Tape(tape.gates[first:last, n : n + 1], **cut) if kind == "lstm" else RNNTape(**cut)
        P = flow.state_product(given, U, 0, 9)[n]
        assert relative_error(flow.state_product(alone, U)[0], P) < 1e-13
        expected = flow.gradient_by_lag(alone, U, dh[n : n + 1])
        assert relative_error(by_lag.dh[: last - first + 1, n], expected.dh[:, 0]) < 1e-13
        np.testing.assert_allclose(exponents[n], flow.lyapunov(alone, U, k=2).exponents[0], rtol=1e-9)


@both_cells
def test_float32_is_taken_to_float64_and_arguments_are_left_alone(kind):
    case, tape, _, U = run(kind, (9, 5, 3, 4), "zero")
    arrays = {k: v.astype(np.float32) for k, v in vars(tape).items() if k in ("gates", "h", "c")}
    single, U = replace(tape, **arrays), U.astype(np.float32)
    double = replace(tape, **{k: v.astype(np.float64) for k, v in arrays.items()})
    before = {k: v.copy() for k, v in arrays.items()}
    pairs = zip(everything(single, U, case.d_n["dh_n"]), everything(double, U, case.d_n["dh_n"]), strict=True)
    for a, b in pairs:
        assert a.dtype in (np.float64, bool, np.int64)
        np.testing.assert_array_equal(a, b)
    for k, v in arrays.items():
        np.testing.assert_array_equal(v, before[k])


@both_cells
@pytest.mark.parametrize(("T", "N"), [(0, 3), (3, 0), (0, 0)])
def test_no_steps_or_no_sequences(kind, T, N):
    h, U = np.zeros((T + 1, N, 2)), np.ones((8, 2) if kind == "lstm" else (2, 2))
    tape = Tape(np.zeros((T, N, 4, 2)), h, h) if kind == "lstm" else RNNTape(h)
    everything(tape, U, np.ones((N, 2)))
    by_lag = flow.gradient_by_lag(tape, U, np.ones((N, 2)))
    assert by_lag.dh.shape == (1, N, 2)
    np.testing.assert_array_equal(by_lag.dh[0], 1)
    assert flow.lyapunov(tape, U).exponents.shape == (N, 1)
    if kind == "lstm":
        assert not flow.unit_health(tape).dead.any()
        assert np.isnan(flow.gate_saturation(tape).f_open).all()


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, U, d: flow.state_product(t, U[:3]), r"weight_hh: expected shape \[20, 5\], got \[3, 5\]"),
        (lambda t, U, d: flow.state_product(t, U, 5, 4), r"t: expected a state from 0 to s=4, got 5"),
        (lambda t, U, d: flow.step_terms(t, U, -1), r"t: expected a state from 0 to s=12, got -1"),
        (lambda t, U, d: flow.textbook_chain(t, U, 0, 13), r"s: expected a state from 0 to T=12, got 13"),
        (lambda t, U, d: flow.carousel(t).product(3, 13), r"s: expected a state from 0 to T=12, got 13"),
        (lambda t, U, d: flow.carousel(t).log_products_to(-1), r"s: expected a state from 0 to T=12, got -1"),
        (lambda t, U, d: flow.gradient_by_lag(t, U, d[:2]), r"dh: expected shape \[3, 5\], got \[2, 5\]"),
        (lambda t, U, d: flow.gradient_by_lag(t, U, d, dc=d[0]), r"dc: expected shape \[3, 5\], got \[5\]"),
        (lambda t, U, d: flow.gradient_by_lag(t, U, d, 13), r"s: expected 0 to 12 for sequence 0, got 13"),
        (lambda t, U, d: flow.gradient_by_lag(t, U, d, [1, 2]), r"s: expected shape \[3\], got \[2\]"),
        (lambda t, U, d: flow.gradient_by_lag(t, U, d, 1.5), r"s: expected whole numbers, got float64"),
        (lambda t, U, d: flow.departure(t, U, -1), r"s: expected 0 to 12 for sequence 0, got -1"),
        (lambda t, U, d: flow.departure(t, U, probes=0), r"probes: expected at least 1, or None, got 0"),
        (lambda t, U, d: flow.lyapunov(t, U, 11), r"k: expected 1 to the state's size 10, got 11"),
        (lambda t, U, d: flow.lyapunov(t, U, skip=-1), r"skip: expected at least 0 steps, got -1"),
        (lambda t, U, d: flow.gate_saturation(t, 0.9, 0.1), r"low, high: expected 0 <= low < high <= 1"),
        (lambda t, U, d: flow.unit_health(t, band=-1), r"band: expected a number of at least 0, got -1"),
        (lambda t, U, d: flow.carousel(RNNTape(t.h)), r"tape: expected an LSTM's Tape, got RNNTape"),
        (lambda t, U, d: flow.carousel(replace(t, c=t.c[1:])), r"tape.c: expected shape \[13, 3, 5\]"),
        (lambda t, U, d: flow.carousel(replace(t, h=t.h[0])), r"tape.h: expected shape \[T\+1, N, H\]"),
        (lambda t, U, d: flow.carousel(replace(t, gates=t.gates[:, 0])), r"tape.gates: expected shape"),
        (lambda t, U, d: flow.carousel(replace(t, lengths=d[0])), r"tape.lengths: expected shape \[3\]"),
        (lambda t, U, d: flow.carousel(replace(t, lengths=[1, 2, 13])), r"tape.lengths: expected 0 to T=12"),
        (lambda t, U, d: flow.gradient_by_lag(RNNTape(t.h), U[:5], d, dc=d), r"dc: expected None"),
        (lambda t, U, d: flow.state_jacobian(RNNTape(t.h), U), r"weight_hh: expected shape \[5, 5\]"),
        (lambda t, U, d: flow.memory_horizon(flow.gradient_by_lag(t, U, d), [2.0]), r"fractions: expected"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_named(call, message):
    tape, U = random_tape()
    with pytest.raises(ValueError, match=message):
        call(tape, U, np.ones((3, 5)))


def test_gradients_of_another_layer_are_refused():
    gradients = Case("lstm", (6, 4, 3, 5)).backward()
    assert isinstance(gradients, Gradients)
    other = run("lstm", (7, 4, 3, 5))[1]
    with pytest.raises(ValueError, match=r"gradients.dh: expected shape \[8, 4, 5\], got \[7, 4, 5\]"):
        flow.gradient_norms(other, gradients)
