"""The equations against two independent witnesses: torch's autograd and central finite differences.

Everything else in the package is tested against ``undertow.equations``; here they are tested
themselves, in float64, to a relative error of 1e-8 and mostly far below it.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cases import (
    Case,
    all_sizes,
    any_lengths,
    both_cells,
    both_ways,
    make_lengths,
    numeric_gradient,
    relative_error,
)
from undertow import equations as eq

MODULES = {"lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}


# ------------------------------------------------------------------------------ torch's autograd


def torch_layer(case):
    """The same layer by nn.LSTM or nn.RNN, each sequence alone and cut to its length: y, finals, leaves."""
    given = {k: torch.tensor(v, requires_grad=True) for k, v in case.given.items()}
    x, bias = given["x"], given.get("bias")
    (T, N, C), H = x.shape, given["weight_hh"].shape[1]
    module = MODULES[case.kind](C, H, bias=bias is not None, dtype=torch.float64)
    weights = {"weight_ih_l0": given["weight_ih"], "weight_hh_l0": given["weight_hh"]}
    if bias is not None:
        weights |= {"bias_ih_l0": bias, "bias_hh_l0": torch.zeros_like(bias)}
    ys, finals = [], []
    for n in range(N):
        length = T if case.lengths is None else int(case.lengths[n])
        state = tuple(given[f"{s}_0"][n : n + 1] for s in case.states)
        y = torch.zeros(0, H, dtype=torch.float64)
        if length:
            part = x[:length, n].flip(0) if case.reverse else x[:length, n]
            hx = state if case.kind == "lstm" else state[0]
            y, state = torch.func.functional_call(module, weights, (part, hx))
            y, state = (y.flip(0) if case.reverse else y), state if case.kind == "lstm" else (state,)
        ys.append(torch.nn.functional.pad(y, (0, 0, 0, T - length)))
        finals.append(torch.stack([s[0] for s in state]))
    return torch.stack(ys, dim=1), torch.stack(finals, dim=1), given


@both_cells
@all_sizes
@any_lengths
@both_ways
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_layer_agrees_with_torch(kind, size, how, reverse, bias):
    case = Case(kind, size, how, reverse, bias)
    y, tape = case.forward()
    y_torch, finals, given = torch_layer(case)
    assert relative_error(y, y_torch.detach()) < 1e-12
    for s, final in zip(case.states, finals, strict=True):
        assert relative_error(getattr(tape, s)[-1], final.detach()) < 1e-12

    incoming = [torch.tensor(case.d_n[f"d{s}_n"]) for s in case.states]
    ((y_torch * torch.tensor(case.dy)).sum() + (finals * torch.stack(incoming)).sum()).backward()
    gradients = case.backward()
    for name, leaf in given.items():
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert relative_error(getattr(gradients, f"d{name}"), expected) < 1e-11, name


@any_lengths
@both_ways
def test_gradients_of_every_step_agree_with_torch(how, reverse):
    """dh, dc and dgates within the sequence, from a loop of torch operations with every state a leaf."""
    case = Case("lstm", (7, 4, 3, 5), how, reverse)
    g, (T, N, H) = {k: torch.tensor(v) for k, v in case.given.items()}, (7, 4, 5)
    lengths = torch.full((N,), T) if case.lengths is None else torch.tensor(case.lengths)
    h, c, shifts = [g["h_0"].requires_grad_()], [g["c_0"].requires_grad_()], []
    E = torch.zeros((), dtype=torch.float64)
    for t in reversed(range(T)) if reverse else range(T):
        shifts.append(torch.zeros(N, 4 * H, dtype=torch.float64, requires_grad=True))
        z = g["x"][t] @ g["weight_ih"].T + h[-1] @ g["weight_hh"].T + g["bias"] + shifts[-1]
        i, f, m, o = z.chunk(4, dim=-1)
        alive = (t < lengths)[:, None]
        c_t = i.sigmoid() * m.tanh() + f.sigmoid() * c[-1]
        c.append(torch.where(alive, c_t, c[-1]))
        h.append(torch.where(alive, o.sigmoid() * c[-1].tanh(), h[-1]))
        E = E + (alive * h[-1] * torch.tensor(case.dy[t])).sum()
    E = E + (h[-1] * torch.tensor(case.d_n["dh_n"])).sum() + (c[-1] * torch.tensor(case.d_n["dc_n"])).sum()
    dh, dc, dgates = (torch.stack(torch.autograd.grad(E, a, retain_graph=True)) for a in (h, c, shifts))

    gradients = case.backward()
    assert relative_error(gradients.dh, dh) < 1e-11
    assert relative_error(gradients.dgates, dgates.reshape(T, N, 4, H)) < 1e-11
    assert relative_error(gradients.dc, dc) < 1e-11


# ---------------------------------------------------------------------------- finite differences


@both_cells
@all_sizes
@any_lengths
@both_ways
def test_layer_agrees_with_finite_differences(kind, size, how, reverse):
    case, rng = Case(kind, size, how, reverse, seed=1), np.random.default_rng(1)
    gradients = case.backward()
    for name, array in case.given.items():
        entries, expected = numeric_gradient(lambda a, name=name: case.error(**{name: a}), array, rng)
        actual = getattr(gradients, f"d{name}")
        scale = np.abs(actual).max() or 1.0
        assert np.abs(actual.ravel()[entries] - expected).max() < 1e-8 * scale, name


# ------------------------------------------------------------------ the whole network, stacked


class Net:
    """LSTM layers of different widths, an output layer and a target at every step."""

    def __init__(self, size, depth, how="full", K=3, seed=2):
        T, N, C, H = size
        rng, widths = np.random.default_rng(seed), [C, *range(H, H + depth)]
        self.x, self.lengths = rng.normal(size=(T, N, C)), make_lengths(how, T, N)
        self.weights, self.h_0, self.c_0 = [], [], []
        for below, H_l in pairwise(widths):
            shapes = [(4 * H_l, below), (4 * H_l, H_l), (4 * H_l,)]
            self.weights += [rng.normal(size=s) / np.sqrt(s[-1]) for s in shapes]
            self.h_0.append(rng.normal(size=(N, H_l)))
            self.c_0.append(rng.normal(size=(N, H_l)))
        self.weights += [rng.normal(size=(K, widths[-1])), rng.normal(size=K)]
        self.classes = rng.integers(0, K, size=(T, N))
        alive = np.arange(T)[:, None] < (np.full(N, T) if self.lengths is None else self.lengths)
        self.y = np.eye(K)[self.classes] * alive[..., None]  # no error past a sequence's own end

    def split(self, weights):
        *inner, V, b_v = weights
        return [eq.Layer(*inner[k : k + 3]) for k in range(0, len(inner), 3)], V, b_v

    def forward(self, weights):
        layers, V, b_v = self.split(weights)
        return eq.network(self.x, layers, V, b_v, self.h_0, self.c_0, lengths=self.lengths)

    def error(self, weights):
        return eq.cross_entropy(self.forward(weights)[0], self.y).sum()

    def gradients(self, y=None):
        """∂E/∂W for every weight, in the order of ``weights``."""
        (layers, V, _), (z, tapes) = self.split(self.weights), self.forward(self.weights)
        dz = eq.cross_entropy_backward(z, self.y if y is None else y)
        g = eq.network_backward(tapes, self.x, layers, V, dz)
        of_layers = [w for d in g.layers for w in (d.dweight_ih, d.dweight_hh, d.dbias)]
        return [*of_layers, g.dV, g.db_v]


@all_sizes
@any_lengths
@pytest.mark.parametrize("depth", [1, 3])
def test_network_agrees_with_finite_differences(size, how, depth):
    net, rng = Net(size, depth, how), np.random.default_rng(4)
    for k, actual in enumerate(net.gradients()):

        def error(changed, k=k):
            return net.error([*net.weights[:k], changed, *net.weights[k + 1 :]])

        entries, expected = numeric_gradient(error, net.weights[k], rng, at_most=5)
        scale = np.abs(actual).max() or 1.0
        assert np.abs(actual.ravel()[entries] - expected).max() < 1e-8 * scale, k


@all_sizes
@pytest.mark.parametrize("depth", [1, 2])
def test_network_agrees_with_torch(size, depth):
    net = Net(size, depth)
    weights = [torch.tensor(w, requires_grad=True) for w in net.weights]
    *inner, V, b_v = weights
    y = torch.tensor(net.x)
    for k in range(depth):
        W, U, b = inner[3 * k : 3 * k + 3]
        module = torch.nn.LSTM(W.shape[1], U.shape[1], dtype=torch.float64)
        named = dict(zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), (W, U, b), strict=True))
        named["bias_hh_l0"] = torch.zeros_like(b)
        hx = (torch.tensor(net.h_0[k])[None], torch.tensor(net.c_0[k])[None])
        y, _ = torch.func.functional_call(module, named, (y, hx))
    z = y @ V.T + b_v
    E = torch.nn.functional.cross_entropy(
        z.flatten(0, 1), torch.tensor(net.classes).flatten(), reduction="sum"
    )
    E.backward()
    assert net.error(net.weights) == pytest.approx(E.item(), rel=1e-12)
    for actual, w in zip(net.gradients(), weights, strict=True):
        assert relative_error(actual, w.grad) < 1e-11


def test_gradient_of_the_whole_error_is_the_sum_over_its_steps():
    """∂E/∂W = Σ_t ∂E_t/∂W: each error propagated back alone, then summed."""
    net = Net((6, 4, 3, 5), depth=2)
    alone = [net.gradients(y=net.y * (np.arange(6) == t)[:, None, None]) for t in range(6)]
    for whole, *parts in zip(net.gradients(), *alone, strict=True):
        assert relative_error(sum(parts), whole) < 1e-12


# ------------------------------------------------------------------------- what must also hold


@both_cells
@both_ways
def test_what_the_padding_holds_does_not_matter(kind, reverse):
    case = Case(kind, (6, 4, 3, 5), "zero", reverse)
    padding = np.arange(6)[:, None] >= case.lengths
    before = case.backward()
    case.given["x"][padding] = np.nan
    case.dy[padding] = np.nan
    after = case.backward()
    for name, value in vars(before).items():
        np.testing.assert_array_equal(getattr(after, name), value, err_msg=name)
    assert not before.dx[padding].any()
    assert not case.forward()[0][padding].any()


def test_past_its_end_a_sequence_carries_its_state_and_its_gates_are_zero():
    case = Case("lstm", (6, 4, 3, 5), "zero")
    _, tape = case.forward()
    for n, length in enumerate(case.lengths):
        assert np.all(tape.h[length:, n] == tape.h[length, n])
        assert np.all(tape.c[length:, n] == tape.c[length, n])
        assert not tape.gates[length:, n].any()


@both_cells
def test_reverse_is_forward_on_the_flipped_sequence(kind):
    backwards, forwards = Case(kind, (6, 4, 3, 5), reverse=True), Case(kind, (6, 4, 3, 5))
    forwards.given["x"], forwards.dy = backwards.given["x"][::-1], backwards.dy[::-1]
    np.testing.assert_array_equal(backwards.forward()[0], forwards.forward()[0][::-1])
    np.testing.assert_array_equal(backwards.backward().dx, forwards.backward().dx[::-1])
    np.testing.assert_array_equal(backwards.forward()[1].h, forwards.forward()[1].h)


@both_cells
def test_one_step_is_one_step_of_the_layer(kind):
    case = Case(kind, (1, 4, 3, 5))
    g, (_, tape) = case.given, case.forward()
    states = [g[f"{s}_0"] for s in case.states]
    step = getattr(eq, f"{kind}_step")(g["x"][0], *states, g["weight_ih"], g["weight_hh"], g["bias"])
    if kind == "lstm":
        for actual, expected in zip(step, (tape.h[1], tape.c[1], tape.gates[0]), strict=True):
            np.testing.assert_array_equal(actual, expected)
    else:
        np.testing.assert_array_equal(step, tape.h[1])


@both_cells
def test_float32_is_taken_to_float64_before_anything_is_computed(kind):
    single, double = Case(kind, (6, 4, 3, 5)), Case(kind, (6, 4, 3, 5))
    single.given = {k: v.astype(np.float32) for k, v in single.given.items()}
    double.given = {k: v.astype(np.float64) for k, v in single.given.items()}
    y, _ = single.forward()
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, double.forward()[0])
    np.testing.assert_array_equal(single.backward().dx, double.backward().dx)


def test_arguments_are_left_as_they_were():
    case = Case("lstm", (6, 4, 3, 5), "ragged", reverse=True)
    before = {k: v.copy() for k, v in (case.given | case.d_n | {"dy": case.dy}).items()}
    case.backward()
    for name, value in (case.given | case.d_n | {"dy": case.dy}).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_nothing_overflows():
    far = np.array([-1e4, -710.0, 0.0, 710.0, 1e4])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(eq.sigmoid(far), [0, 0, 0.5, 1, 1], atol=1e-300)
        np.testing.assert_array_equal(eq.softmax(far), [0, 0, 0, 0, 1])
        y = np.eye(5)
        np.testing.assert_allclose(eq.cross_entropy(np.tile(far, (5, 1)), y), 1e4 - far)


def test_sigmoid_is_accurate_far_out():
    z = np.linspace(-700, 0, 101)
    np.testing.assert_allclose(eq.sigmoid(z), np.exp(z) / (1 + np.exp(z)), rtol=1e-15)
    np.testing.assert_allclose(eq.sigmoid(z) + eq.sigmoid(-z), 1, rtol=1e-15)


def test_a_step_without_target_takes_no_error():
    z, y = np.random.default_rng(0).normal(size=(4, 2, 3)), np.zeros((4, 2, 3))
    assert not eq.cross_entropy(z, y).any()
    assert not eq.cross_entropy_backward(z, y).any()


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros((6, 4))}, r"x: expected shape \[T, N, C\], got \[6, 4\]"),
        ({"weight_ih": np.zeros((20, 2))}, r"weight_ih: expected shape \[20, 3\], got \[20, 2\]"),
        ({"weight_hh": np.zeros((19, 5))}, r"weight_hh: expected shape \[20, 5\], got \[19, 5\]"),
        ({"weight_hh": np.zeros(20)}, r"weight_hh: expected shape \[4\*H, H\], got \[20\]"),
        ({"bias": np.zeros(5)}, r"bias: expected shape \[20\], got \[5\]"),
        ({"h_0": np.zeros((1, 4, 5))}, r"h_0: expected shape \[4, 5\], got \[1, 4, 5\]"),
        ({"c_0": np.zeros((3, 5))}, r"c_0: expected shape \[4, 5\], got \[3, 5\]"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        Case("lstm", (6, 4, 3, 5)).forward(**changed)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([6, 6, 6], r"lengths: expected shape \[4\], got \[3\]"),
        ([1, 2, 3, 7], r"lengths: expected 0 to T=6, got 1 to 7"),
        ([1, 2, 3, -1], r"lengths: expected 0 to T=6, got -1 to 3"),
        ([1.0, 2.0, 3.0, 4.0], r"lengths: expected whole numbers, got float64"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message):
    case = Case("rnn", (6, 4, 3, 5))
    case.lengths = lengths
    with pytest.raises(ValueError, match=message):
        case.forward()


@both_cells
@pytest.mark.parametrize("wrong", ["dy", "dh_n", "x"])
def test_a_gradient_that_does_not_fit_is_named(kind, wrong):
    case = Case(kind, (6, 4, 3, 5))
    _, tape = case.forward()
    arguments = {k: case.given[k] for k in ("x", "weight_ih", "weight_hh")} | {"dy": case.dy} | case.d_n
    arguments[wrong] = arguments[wrong][:3]
    with pytest.raises(ValueError, match=rf"{wrong}: expected shape"):
        getattr(eq, f"{kind}_backward")(tape, **arguments)


def test_a_target_or_output_layer_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"y: expected shape \[4, 2, 3\], got \[4, 2\]"):
        eq.cross_entropy(np.zeros((4, 2, 3)), np.zeros((4, 2)))
    net = Net((6, 4, 3, 5), depth=1)
    net.weights[-2] = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"V: expected shape \[3, 5\], got \[3, 4\]"):
        net.forward(net.weights)


def test_states_and_errors_that_do_not_fit_the_network_are_named():
    net = Net((6, 4, 3, 5), depth=2)
    layers, V, _ = net.split(net.weights)
    _, tapes = net.forward(net.weights)
    with pytest.raises(ValueError, match=r"dz: expected shape \[6, 4, 3\], got \[6, 4, 2\]"):
        eq.network_backward(tapes, net.x, layers, V, np.zeros((6, 4, 2)))
    net.c_0.pop()
    with pytest.raises(ValueError, match=r"c_0: expected one \[N, H\] for each of 2 layers, got 1"):
        net.forward(net.weights)


@pytest.mark.parametrize(("T", "N"), [(0, 3), (3, 0)])
def test_no_steps_or_no_sequences(T, N):
    W, U, dh_n = np.ones((16, 2)), np.ones((16, 4)), np.full((N, 4), 2.0)
    y, tape = eq.lstm(np.zeros((T, N, 2)), np.ones((N, 4)), np.ones((N, 4)), W, U)
    grads = eq.lstm_backward(tape, np.zeros((T, N, 2)), W, U, np.zeros((T, N, 4)), dh_n)
    assert y.shape == (T, N, 4)
    assert grads.dx.shape == (T, N, 2)
    assert not grads.dweight_ih.any()
    if T == 0:
        assert np.array_equal(grads.dh_0, dh_n)
