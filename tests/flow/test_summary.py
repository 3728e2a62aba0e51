"""``flow.summary`` and ``flow.last_error`` against known answers and against the other functions of flow."""

import numpy as np
import pytest
import torch

import undertow
from cases import Case, any_lengths, both_cells, both_ways, relative_error
from undertow import flow
from undertow.tape import RNNTape, Tape

T, N, C, H = SIZE = 6, 4, 3, 5


def summarised(tape, U, dh, dc=None):
    s, dh_s, dc_s = flow.last_error(tape, dh, dc)
    return flow.summary(tape, U, flow.gradient_by_lag(tape, U, dh_s, s, dc_s), dh, dc)


def constant_gates(i, f, o, T=100, H=1):
    """A cell at rest with U = 0: nothing but its gates."""
    gates = np.full((T, 1, 4, H), 0.5)
    for k, value in zip((0, 1, 3), (i, f, o), strict=True):
        gates[:, :, k] = value
    return Tape(gates, *np.zeros((2, T + 1, 1, H))), np.zeros((4 * H, H))


# --------------------------------------------------------------------------------- last_error


@both_cells
@any_lengths
@both_ways
def test_the_last_error_is_what_reached_the_final_state(kind, how, reverse):
    case = Case(kind, SIZE, how, reverse)
    case.dy[:] = 0
    tape, gradients = case.forward()[1], case.backward()
    dc = gradients.dc if kind == "lstm" else None
    s, dh_s, dc_s = flow.last_error(tape, gradients.dh, dc)
    lengths = np.full(N, T) if case.lengths is None else case.lengths
    np.testing.assert_array_equal(s, T if reverse else lengths)
    assert relative_error(dh_s, case.d_n["dh_n"]) < 1e-14
    if kind == "rnn":
        assert dc_s is None
    else:
        assert relative_error(dc_s, case.d_n["dc_n"]) < 1e-14


@any_lengths
@both_ways
def test_the_error_at_a_state_is_split_by_the_path_through_h(how, reverse):
    """At the last state: what y and h_n give h, and what c_n alone gives c, with errors at every y."""
    case = Case("lstm", SIZE, how, reverse)
    tape, gradients = case.forward()[1], case.backward()
    dh_s, dc_s = flow.error_at(tape, gradients.dh, gradients.dc)
    last = np.full(N, T) if case.lengths is None or reverse else case.lengths
    np.testing.assert_array_equal(dh_s, gradients.dh[last, np.arange(N)])
    assert relative_error(dc_s, case.d_n["dc_n"]) < 1e-14


@pytest.mark.parametrize("last", [0, 1, 3, T - 1])
def test_the_last_error_is_found_in_the_middle(last):
    """The loss reads y up to step ``last``, through h alone: c has no error of its own."""
    case = Case("lstm", SIZE)
    case.dy[last + 1 :] = 0
    case.d_n = {name: np.zeros_like(d) for name, d in case.d_n.items()}
    gradients = case.backward()
    s, dh_s, dc_s = flow.last_error(case.forward()[1], gradients.dh, gradients.dc)
    np.testing.assert_array_equal(s, last + 1)
    np.testing.assert_array_equal(dh_s, case.dy[last])
    np.testing.assert_allclose(dc_s, 0, atol=1e-14)


def test_an_error_at_the_initial_state_or_nowhere():
    tape = Case("lstm", SIZE).forward()[1]
    dh, dc = np.zeros((2, T + 1, N, H))
    s, dh_s, dc_s = flow.last_error(tape, dh, dc)
    np.testing.assert_array_equal(s, T)  # the last state, and both zero
    assert not dh_s.any()
    assert not dc_s.any()
    dh[0], dc[0] = 1, 2
    s, dh_s, dc_s = flow.last_error(tape, dh, dc)
    np.testing.assert_array_equal(s, 0)
    np.testing.assert_array_equal(dh_s, dh[0])
    np.testing.assert_array_equal(dc_s, dc[0])  # no o made h_0 from c_0


def test_gradients_past_a_sequences_end_are_not_its_last_error():
    case = Case("rnn", SIZE, "ragged")
    s, *_ = flow.last_error(case.forward()[1], np.ones((T + 1, N, H)))
    np.testing.assert_array_equal(s, case.lengths)


# ------------------------------------------------------------------------------------ summary


def test_a_cell_that_fades_at_a_known_rate():
    tape, U = constant_gates(i=0.05, f=0.95, o=0.05)
    dh, dc = np.zeros((2, 101, 1, 1))
    dc[:, 0, 0] = 3 * 0.95 ** np.arange(100, -1, -1)
    found = summarised(tape, U, dh, dc)
    assert found.lags == 100
    assert found.horizon_e == 20  # 0.95²⁰ = 0.358
    assert found.horizon_1pct == 90  # 0.95⁹⁰ = 0.00989
    assert found.growth == pytest.approx(np.log(0.95))
    assert found.gradient_first == pytest.approx(3 * 0.95**100)
    assert found.gradient_last == 3
    assert found.gradient_ratio == pytest.approx(0.95**100)
    assert found.carousel_log == pytest.approx(100 * np.log(0.95))
    assert [found.f_mean, found.f_low, found.f_median, found.f_high] == pytest.approx([0.95] * 4)
    assert [found.i_closed, found.f_closed, found.f_open, found.o_closed] == [1, 0, 1, 1]
    assert found.step_norm == pytest.approx(0.95)
    assert found.step_from_1 == pytest.approx(0.05)


def test_thresholds_are_exclusive():
    tape, U = constant_gates(i=0.1, f=0.9, o=0.1)
    found = summarised(tape, U, *np.ones((2, 101, 1, 1)))
    assert [found.i_closed, found.f_closed, found.f_open, found.o_closed] == [0, 0, 0, 0]
    tape, U = constant_gates(i=0.5, f=0.09, o=0.5)
    found = summarised(tape, U, *np.ones((2, 101, 1, 1)))
    assert [found.i_closed, found.f_closed, found.f_open, found.o_closed] == [0, 1, 0, 0]


def test_quantiles_of_f_are_of_the_nearest_rank():
    tape, U = constant_gates(0.5, 0.5, 0.5, T=11)
    tape.gates[:, 0, 1, 0] = np.random.default_rng(0).permutation(np.arange(11)) / 20
    found = summarised(tape, U, *np.ones((2, 12, 1, 1)))
    assert [found.f_low, found.f_median, found.f_high] == [1 / 20, 5 / 20, 9 / 20]
    assert found.f_mean == pytest.approx(5 / 20)


def test_growth_is_measured_down_to_1e_minus_30_only():
    tape, U = constant_gates(0.5, 0.5, 0.5, T=200)
    tape.gates[:50, 0, 1] = 1e-3  # older than lag 150, where 0.5¹⁵⁰ = 7e-46 is left
    dh, dc = np.zeros((2, 201, 1, 1))
    dc[-1] = 1
    assert summarised(tape, U, dh, dc).growth == pytest.approx(np.log(0.5))


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 150])
def test_step_norms_are_of_the_first_and_the_last_32_steps(steps):
    """With one unit ‖A z‖² is ‖A‖² itself, for any z of ±1."""
    case = Case("lstm", (steps, 3, 2, 1))
    tape, U = case.forward()[1], case.given["weight_hh"]
    A = flow.step_terms(tape, U).total[..., 0, 0]  # [T,N]
    probed = A if steps <= 64 else np.concatenate([A[:32], A[-32:]])
    found = summarised(tape, U, *np.ones((2, steps + 1, 3, 1)))
    assert found.step_norm == pytest.approx(np.sqrt((probed**2).mean()))
    assert found.step_from_1 == pytest.approx(np.sqrt(((probed - 1) ** 2).mean()))


@both_cells
@both_ways
def test_step_norms_leave_out_what_no_sequence_took(kind, reverse):
    case = Case(kind, (9, 4, 2, 1), "zero", reverse)
    tape, U = case.forward()[1], case.given["weight_hh"]
    if kind == "lstm":
        A = flow.step_terms(tape, U).total[..., 0, 0]
    else:
        A = flow.state_jacobian(tape, U)[..., 0, 0]
    k = np.arange(9)[:, None]
    taken = (k >= 9 - case.lengths) if reverse else (k < case.lengths)
    given = np.ones((2 if kind == "lstm" else 1, 10, 4, 1))
    found = summarised(tape, U, *given)
    assert found.step_norm == pytest.approx(np.sqrt((A[taken] ** 2).mean()))
    assert found.step_from_1 == pytest.approx(np.sqrt(((A[taken] - 1) ** 2).mean()))


def test_probes_estimate_the_norm_of_a_whole_matrix():
    """Hutchinson: over many steps and sequences the mean of ‖A z‖² comes to ‖A‖², z no eigenvector of A."""
    tape = RNNTape(np.zeros((65, 200, 6)))  # at rest every step's Jacobian is U
    U = np.random.default_rng(1).normal(size=(6, 6))
    found = summarised(tape, U, np.ones((65, 200, 6)))
    assert found.step_norm == pytest.approx(np.linalg.norm(U) / np.sqrt(6), rel=0.02)
    assert found.step_from_1 == pytest.approx(np.linalg.norm(U - np.eye(6)) / np.sqrt(6), rel=0.02)
    assert found.f_mean is found.carousel_log is found.o_closed is None


def test_medians_are_over_sequences_that_have_a_number():
    tape = RNNTape(np.zeros((9, 4, 2)), np.array([8, 2, 0, 4]))
    dh = np.zeros((9, 4, 2))
    for n, last in enumerate((8, 2, 0, 4)):
        dh[: last + 1, n] = np.exp(-np.arange(last + 1))[:, None] * (n + 1)
    found = summarised(tape, 0.5 * np.eye(2), dh)
    assert found.lags == 2  # the lower middle one of 8, 2, 0, 4
    assert found.growth == pytest.approx(np.log(0.5))  # the empty sequence has none
    assert found.gradient_first == pytest.approx(2 * np.sqrt(2))
    assert found.gradient_ratio == pytest.approx(np.exp(2))


def test_nothing_to_say_is_nan():
    tape, U = constant_gates(0.5, 0.5, 0.5, T=3)
    found = summarised(tape, U, *np.zeros((2, 4, 1, 1)))
    assert np.isnan([found.growth, found.gradient_ratio]).all()
    tape, U = constant_gates(0.5, 0.5, 0.5, T=0)
    found = summarised(tape, U, *np.ones((2, 1, 1, 1)))
    assert np.isnan([found.f_mean, found.f_low, found.i_closed, found.step_norm, found.growth]).all()
    assert found.lags == 0


def test_a_gradient_for_a_cell_that_is_not_there_is_refused():
    rnn, lstm = RNNTape(np.zeros((T + 1, N, H))), Case("lstm", SIZE).forward()[1]
    d = np.zeros((T + 1, N, H))
    with pytest.raises(ValueError, match="dc: expected None for a plain RNN"):
        flow.last_error(rnn, d, d)
    with pytest.raises(ValueError, match="dc: expected an array"):
        flow.last_error(lstm, d)
    for name, given in {"dh": (d[1:], d), "dc": (d, d[1:])}.items():
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[7, 4, 5\], got \[6, 4, 5\]"):
            flow.last_error(lstm, *given)


def test_the_doctor_and_the_summary_mean_the_same_median():
    """Of four horizons, two of them infinite, the lower middle one: 10, where their mean is infinite."""
    horizons = np.array([10.0, np.inf, 3.0, np.inf])
    assert flow.lower_median(horizons) == 10
    assert flow.lower_median(np.array([np.nan, 4.0])) == 4
    assert np.isnan(flow.lower_median(np.array([np.nan])))
    np.testing.assert_array_equal(flow.lower_median(np.array([[1.0, 2, 3, 4], [5, 5, 9, 9]])), [2, 5])


def test_a_summarys_horizons_are_lower_medians_of_the_sequences():
    torch.manual_seed(0)
    lstm = undertow.LSTM(2, 8, init="chrono", max_lag=40)
    with undertow.trace(lstm) as trace:
        y, _ = lstm(torch.randn(60, 4, 2))
        y[-1].square().sum().backward()
    layer = trace.layers[0]
    found = summarised(layer.tape, layer.weight_hh, layer.dh, layer.dc)
    s, dh_s, dc_s = flow.last_error(layer.tape, layer.dh, layer.dc)
    horizons = flow.memory_horizon(flow.gradient_by_lag(layer.tape, layer.weight_hh, dh_s, s, dc_s))
    assert [found.horizon_e, found.horizon_1pct] == flow.lower_median(horizons.c).tolist()
