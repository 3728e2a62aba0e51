"""undertow.diagnose: networks made sick on purpose are found out, healthy ones are left in peace.

Sick networks are built, not trained: their weights are set to what the sickness is. Numbers in the evidence
are held against undertow.flow, called by hand.
"""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import undertow
from undertow import doctor, flow, problems
from undertow.doctor import CHECKS, Evidence, Finding, InOrder, NotJudged, Training, diagnose
from undertow.doctor.diagnosis import explained
from undertow.layout import gate

LAG, N, H = 100, 8, 24
ADDING = problems.get("adding")


class Network(torch.nn.Module):
    """A recurrent layer and a linear one that answers after the last step."""

    def __init__(self, make=undertow.LSTM, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = make(2, H, **options)
        self.head = torch.nn.Linear(H * (2 if self.rnn.bidirectional else 1), 1)

    def forward(self, x, **options):
        return self.head(self.rnn(x, **options)[0][-1])


@torch.no_grad()
def set_gate(network, name, value, which="bias_hh_l0"):
    """A gate's bias in one of the two, zero in the other: a number, or one for each unit."""
    for bias in ("bias_ih_l0", "bias_hh_l0"):
        gate(getattr(network.rnn, bias), name, H)[:] = value if bias == which else 0.0


def chrono(steps=LAG):
    """Forget gates that hold for 1 to ``steps`` steps (Tallec & Ollivier 2018), evenly spread."""
    network = Network()
    hold = torch.linspace(1, steps - 1, H).log()
    set_gate(network, "f", hold)
    set_gate(network, "i", -hold)
    return network


def scaled(network, factor, names=("weight_hh_l0",)):
    with torch.no_grad():
        for name in names:
            getattr(network.rnn, name).mul_(factor)
    return network


def watched(network, steps=LAG, backward=True, **options):
    """The trace of one pass over the adding problem, with the error of its answers."""
    x, target = map(torch.from_numpy, ADDING.sample(np.random.default_rng(1), N, steps))
    with undertow.trace(network) as trace:
        loss = (network(x, **options) - target).square().mean()
        if backward:
            loss.backward()
    return trace


def examined(network, lag=LAG, training=None, **options):
    return diagnose(watched(network, **options), network, lag=lag, training=training)


def names(findings):
    return [finding.name for finding in findings]


def the(diagnosis, name):
    """One outcome by its name."""
    return next(outcome for outcome in diagnosis.outcomes if outcome.name == name)


def value(outcome, what):
    """The number of the evidence whose text holds ``what``."""
    [found] = [line.value for line in outcome.evidence if what in line.what]
    return found


def course(train, validation=None, steps=100, lr=1e-3, grad_norm=0.5, clipped=0.0):
    """Rows as a run's metrics.jsonl has them, one for each loss."""
    validation = train if validation is None else validation
    every = {"lr": lr, "grad_norm": grad_norm, "clipped": clipped}
    return [
        {"step": steps * (k + 1), "train_loss": t, "validation_loss": v} | every
        for k, (t, v) in enumerate(zip(train, validation, strict=True))
    ]


# ------------------------------------------------------------------------------------------- healthy


@pytest.mark.parametrize(
    "make",
    [
        chrono,
        lambda: chrono(1000),
        lambda: Network(num_layers=2, bidirectional=True),
        lambda: Network(undertow.RNN),
        lambda: scaled(Network(), 2),
        lambda: scaled(Network(), 4),
        lambda: Network(bias=False),
    ],
    ids=["chrono", "chrono 1000", "two layers both ways", "plain RNN", "2 U", "4 U", "no bias"],
)
def test_silence_where_nothing_is_known_to_be_wrong(make):
    """Torch's own start, with no lag asked for, is as healthy as a chrono start."""
    assert names(examined(make(), lag=None).findings) == []


def test_a_chrono_start_reaches_its_lag():
    diagnosis = examined(chrono())
    assert diagnosis.findings == []
    assert {"memory-horizon", "forget-bias", "dead-units", "saturated-gates"} <= set(
        names(diagnosis.in_order)
    )


def test_a_network_that_learns_is_left_in_peace():
    """A real one: 200 steps of Adam on adding, 6 steps long."""
    network = chrono(6)
    optimiser, rng, losses = torch.optim.Adam(network.parameters(), 3e-2), np.random.default_rng(0), []
    for _ in range(200):
        x, target = map(torch.from_numpy, ADDING.sample(rng, 32, 6))
        optimiser.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    rows = course(np.reshape(losses, (10, 20)).mean(axis=1), steps=20, lr=3e-2)
    assert rows[-1]["validation_loss"] < ADDING.baseline / 3
    found = examined(network, lag=6, steps=6, training=Training(rows, 1.0, ADDING.baseline))
    assert found.findings == []


@pytest.mark.parametrize(
    "losses",
    [
        [0.17, 0.1, 0.02, 0.01, 0.002, 0.02, 0.003, 0.001],  # a spike far below the guess
        [1.2, 0.5, 0.3, 0.2, 0.1],  # a bad start
        [0.5],
        [0.16, 0.15, 0.145, 0.14, 0.139, 0.138],
    ],
)
def test_ordinary_courses_of_training_are_no_findings(losses):
    found = examined(chrono(), training=Training(course(losses), 1.0, 1 / 6 if len(losses) > 1 else 0.6))
    assert found.findings == []


def test_learning_with_a_dozen_more_steps_of_patience_is_no_over_fitting():
    validation = [0.17, 0.15, 0.14, 0.143, 0.145, 0.15, 0.157]
    train = [0.16, 0.14, 0.12, 0.11, 0.10, 0.10, 0.098]
    assert examined(chrono(), training=Training(course(train, validation), 1.0, 0.18)).findings == []
    sure = Training(course([0.25, 0.05, 0.02, 0.01, 0.01], [0.34, 0.4, 0.5, 0.56, 0.565]), 1.0, 1.386)
    assert examined(chrono(), training=sure).findings == []


# ---------------------------------------------------------------------------------------------- sick


def test_torch_s_start_cannot_hold_for_a_hundred_steps():
    network = Network()
    trace = watched(network)
    found = diagnose(trace, network, lag=LAG)
    assert names(found.causes) == ["forget-bias"]
    assert names(found.findings) == ["forget-bias", "memory-horizon"]
    layer = trace["rnn"].layers[0]
    by_lag = flow.gradient_by_lag(layer.tape, layer.weight_hh, layer.dh[-1])
    horizon = np.sort(flow.memory_horizon(by_lag).c)[:, (N - 1) // 2]
    finding = the(found, "memory-horizon")
    assert [line.value for line in finding.evidence[:2]] == horizon.tolist()
    left = np.sort(by_lag.log_dc_norm[LAG] - by_lag.log_dc_norm[0])[(N - 1) // 2]
    assert value(finding, "at lag 100") == pytest.approx(np.exp(left), rel=1e-3)
    cause = the(found, "forget-bias")
    bias = sum(gate(b.detach(), "f", H) for b in (network.rnn.bias_ih_l0, network.rnn.bias_hh_l0))
    assert value(cause, "forget bias") == pytest.approx(bias.mean().item(), abs=1e-6)
    assert value(cause, "forget gate f") == pytest.approx(layer.f.mean(), rel=1e-6)
    kept = np.exp(flow.carousel(layer.tape).log_product().mean(axis=0).max())
    assert value(cause, "left of c after 100 steps") == pytest.approx(kept, rel=1e-6)
    assert 'init="chrono", max_lag=100' in cause.remedies[0].code
    assert cause.severity == finding.severity == "problem"


def test_a_plain_rnn_forgets():
    network = Network(undertow.RNN)
    trace = watched(network)
    found = diagnose(trace, network, lag=LAG)
    assert names(found.findings) == ["memory-horizon"]
    layer = trace["rnn"].layers[0]
    horizon = flow.memory_horizon(flow.gradient_by_lag(layer.tape, layer.weight_hh, layer.dh[-1])).h
    assert found.findings[0].evidence[1].value == np.sort(horizon[1])[(N - 1) // 2]
    assert "LSTM" in found.findings[0].remedies[0].text


def test_the_furthest_layer_counts():
    """Of two layers one that reaches is enough, wherever it stands."""
    network = Network(num_layers=2)
    hold = torch.linspace(1, LAG - 1, H).log()
    with torch.no_grad():
        for name, bias in (("f", hold), ("i", -hold)):
            gate(network.rnn.bias_ih_l1, name, H)[:], gate(network.rnn.bias_hh_l1, name, H)[:] = bias, 0
    found = examined(network)
    assert isinstance(the(found, "memory-horizon"), InOrder)
    assert isinstance(the(found, "forget-bias"), InOrder)


@pytest.mark.parametrize("lag", [LAG, None])
def test_a_forget_bias_of_minus_four(lag):
    network = Network()
    set_gate(network, "f", -4.0)
    found = examined(network, lag=lag)
    assert names(found.causes) == ["forget-bias"]
    assert found.causes[0].severity == ("problem" if lag else "warning")
    assert value(found.causes[0], "forget bias") == pytest.approx(-4)
    assert set(names(found.findings)) <= {"forget-bias", "memory-horizon"}


@pytest.mark.parametrize("make, factor", [(undertow.LSTM, 12), (undertow.LSTM, 16), (undertow.RNN, 6)])
def test_recurrent_weights_that_explode(make, factor):
    network = scaled(Network(make), factor)
    trace = watched(network)
    found = diagnose(trace, network, lag=LAG)
    assert names(found.causes) == ["exploding"]
    layer = trace["rnn"].layers[0]
    by_lag = flow.gradient_by_lag(layer.tape, layer.weight_hh, layer.dh[-1])
    norm = by_lag.log_dh_norm if by_lag.log_dc_norm is None else by_lag.log_dc_norm
    middle = np.sort(norm - norm[0], axis=1)[:, (N - 1) // 2]
    finding = found.findings[0]
    assert value(finding, "largest of all lags") == pytest.approx(np.exp(middle.max()), rel=1e-3)
    exponent = flow.lyapunov(layer.tape, layer.weight_hh, skip=20).exponents.mean()
    assert value(finding, "Lyapunov") == pytest.approx(exponent)
    lag, n = np.unravel_index(np.diff(norm, axis=0).argmax(), (LAG, N))
    [step] = [line for line in finding.evidence if "largest growth in one step" in line.what]
    assert f"t = {LAG - 1 - lag} of sequence {n}" in step.what
    assert step.value == pytest.approx(np.exp(np.diff(norm, axis=0).max()), rel=1e-3)


def test_gates_that_are_saturated():
    network = scaled(Network(), 60, ("weight_hh_l0", "weight_ih_l0"))
    trace = watched(network)
    found = diagnose(trace, network)
    assert names(found.causes) == ["saturated-gates"]
    s = flow.gate_saturation(trace["rnn"].layers[0].tape, 0.01, 0.99)
    assert value(found.causes[0], "o saturated") == pytest.approx(100 * (s.o_closed + s.o_open).mean())
    assert value(found.causes[0], "g saturated") == pytest.approx(100 * s.g_saturated.mean())
    working = Training(course([1, 0.4]), 0.0, 1.0)
    assert diagnose(trace, network, training=working).causes[0].severity == "warning"


@pytest.mark.parametrize("name, word", [("i", "input"), ("o", "output")])
def test_units_that_are_dead(name, word):
    network = Network()
    set_gate(network, name, -20.0)
    trace = watched(network)
    found = diagnose(trace, network, lag=LAG)
    assert names(found.causes) == ["dead-units"]
    assert f"their {word} gates are shut" in found.causes[0].sentence
    health = flow.unit_health(trace["rnn"].layers[0].tape, band=1e-3)
    assert value(found.causes[0], "constant h") == health.constant_h.sum() == H
    assert found.causes[0].severity == "problem"


def test_a_few_dead_units_are_a_warning_and_one_is_none():
    network = chrono()
    o_bias = gate(network.rnn.bias_hh_l0.detach(), "o", H)
    o_bias[0] = -20
    assert examined(network).findings == []
    o_bias[:6] = -20
    found = examined(network)
    assert [(finding.name, finding.severity) for finding in found.findings] == [("dead-units", "warning")]
    assert "6 of 24 units" in found.findings[0].sentence


def test_cells_that_have_run_out_of_range():
    network = Network()
    for name, bias in (("f", 20.0), ("i", 20.0), ("g", 2.0)):
        set_gate(network, name, bias)
    found = examined(network, lag=None)
    assert names(found.causes) == ["runaway-cells"]


def test_a_forget_bias_set_in_both_biases():
    network = Network()
    with torch.no_grad():
        for bias in (network.rnn.bias_ih_l0, network.rnn.bias_hh_l0):
            gate(bias, "f", H)[:] = 1.0
    found = examined(network, lag=None)
    assert names(found.findings) == ["forget-bias-twice"]
    assert value(found.findings[0], "b_ih + b_hh") == 2
    set_gate(network, "f", 2.0)
    assert examined(network, lag=None).findings == []


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_a_forget_bias_set_in_the_first_layer_alone(options):
    network = Network(**options)
    set_gate(network, "f", 1.0)
    found = examined(network, lag=None)
    assert names(found.findings) == ["forget-bias-uneven"]
    assert "layer 0 but not in rnn, layer" in found.findings[0].sentence


def test_values_that_are_no_numbers():
    network = Network()
    with torch.no_grad():
        network.rnn.weight_ih_l0[0, 0] = torch.nan
    found = examined(network)
    assert names(found.findings) == ["not-finite"]
    assert len(found.outcomes) == 1
    rows = course([0.2, np.nan, np.nan])
    found = examined(chrono(), training=Training(rows, 1.0, 1 / 6))
    assert value(the(found, "not-finite"), "evaluation") == 2


# ------------------------------------------------------------------------------- sick in their training


TRAININGS = {
    "learning-rate-low": Training(course([1.25, 1.24, 1.23, 1.22, 1.21], lr=1e-6), 1.0, 1 / 6),
    "learning-rate-high": Training(course([0.2, 0.16, 5.0, 7.0, 0.7, 0.2], lr=1.0), 1.0, 1 / 6),
    "clip": Training(course([0.4, 0.17, 0.1, 0.05], grad_norm=0.22, clipped=1.0), 1e-4, 1 / 6),
    "over-fitting": Training(course([1.4, 0.6, 0.05, 0.01, 0.01], [1.2, 1.0, 1.3, 1.5, 1.6]), 1.0, 1.386),
    "not-learning": Training(course([0.1668, 0.1667, 0.1667, 0.1666]), 1.0, 1 / 6),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_that_went_wrong(name):
    found = examined(chrono(), training=TRAININGS[name])
    assert found.findings[0].name == name
    assert names(found.causes) == [name]
    assert found.findings[0].chart is not None or name == "clip"


def test_evidence_of_a_training():
    found = {name: examined(chrono(), training=TRAININGS[name]).findings[0] for name in TRAININGS}
    assert value(found["learning-rate-low"], "sum of the learning rates") == pytest.approx(5e-4)
    assert value(found["learning-rate-high"], "largest rise") == pytest.approx(7 / 0.16)
    assert value(found["clip"], "steps clipped") == 100
    assert found["clip"].severity == "problem"
    assert found["clip"].remedies[0].code.endswith("--clip 0.3")
    assert value(found["over-fitting"], "validation loss in the end") == 1.5
    assert value(found["not-learning"], "of its loss") == pytest.approx(100 * 0.1666 * 6)


def test_a_clip_far_too_small_is_a_warning_and_one_that_works_is_none():
    for norm, severity in ((0.5, []), (9.0, []), (200.0, ["warning"]), (5000.0, ["problem"])):
        rows = course([0.1, 0.09, 0.08, 0.07], grad_norm=norm, clipped=1.0)
        found = examined(chrono(), training=Training(rows, 1.0, 1 / 6)).findings
        assert [finding.severity for finding in found] == severity


def test_what_is_learnt_needs_no_horizon():
    found = examined(Network(), training=Training(course([0.1, 0.01]), 1.0, 1 / 6))
    assert found.findings == []
    assert "but the task is learnt" in the(found, "memory-horizon").reason


# -------------------------------------------------------------------------------------- how it is told


def test_what_follows_comes_after_its_cause():
    training = TRAININGS["not-learning"]
    found = examined(Network(), training=training)
    assert names(found.findings) == ["forget-bias", "memory-horizon", "not-learning"]
    assert [finding.because for finding in found.findings] == [
        (), ("forget-bias",), ("forget-bias", "memory-horizon")
    ]  # fmt: skip


def test_causes_stand_before_what_they_explain():
    """So no two checks can explain each other, and something is always left to put right first."""
    order = [check.__name__.replace("_", "-") for check in CHECKS]
    everything = []
    for training in (*TRAININGS.values(), None):
        for network in (
            Network(),
            scaled(Network(), 16),
            scaled(Network(), 60, ("weight_hh_l0", "weight_ih_l0")),
        ):
            everything += examined(network, training=training).outcomes
    for outcome in everything:
        assert outcome.name in order
        if isinstance(outcome, Finding):
            assert all(order.index(other) > order.index(outcome.name) for other in outcome.explains)
            assert outcome.evidence
            assert outcome.remedies


def test_every_check_says_its_threshold_and_why():
    for check in CHECKS:
        assert len(inspect.getdoc(check)) > 100


def test_what_is_not_known_is_not_judged():
    trace = watched(Network(), backward=False)
    found = diagnose(trace)
    assert found.findings == []
    reasons = {missing.name: missing.reason for missing in found.not_judged}
    assert reasons["memory-horizon"] == "how far back the answer lies is not known"
    assert reasons["exploding"] == "no gradient of the last step's error was recorded"
    assert "diagnose(trace, model)" in reasons["forget-bias-twice"]
    assert reasons["clip"] == "the gradient is not clipped"
    assert the(diagnose(trace, lag=3), "memory-horizon").reason == reasons["exploding"]


def test_fewer_steps_than_the_lag_prove_nothing():
    found = the(examined(chrono(), lag=1000, steps=20), "memory-horizon")
    assert found.reason == "the 20 steps recorded are fewer than 1000, and reached across"


def test_what_falls_a_little_and_stays_is_in_order():
    """The head reads units that forget soon twenty times as loudly as one that keeps what it saw."""
    network = Network()
    for name, others, keeper in (("f", 0.0, 10.0), ("i", 0.0, -6.0)):
        set_gate(network, name, torch.tensor([keeper] + [others] * (H - 1)))
    with torch.no_grad():
        network.head.weight[:] = 1.0
        network.head.weight[0, 0] = 0.05
    found = examined(network)
    assert isinstance(the(found, "memory-horizon"), InOrder)
    assert value(the(found, "memory-horizon"), "falls to 1 %") < 20
    assert 1e-3 < value(the(found, "memory-horizon"), "at lag 100") < 1e-2
    assert isinstance(the(found, "forget-bias"), InOrder)


def test_short_sequences_explode_too():
    found = examined(scaled(Network(undertow.RNN), 8), lag=None, steps=30)
    assert names(found.findings) == ["exploding"]


def test_a_short_sequence_is_judged_by_its_own_end():
    """With unequal lengths each error stands at its own last step, in both directions of a layer too."""
    network = Network(bidirectional=True)
    lengths = torch.tensor([100, 40, 60, 100, 30, 100, 1, 0])
    x, _ = map(torch.from_numpy, ADDING.sample(np.random.default_rng(1), N, LAG))
    with undertow.trace(network) as trace:
        y, (_, c_n) = network.rnn(x, lengths=lengths)
        (y.sum() + c_n.square().sum()).backward()
    patients, _ = doctor.patient.admit(trace, network)
    for patient, layer in zip(patients, trace["rnn"].layers[0].directions, strict=True):
        last = (np.where(layer.tape.reverse, LAG, lengths), np.arange(N))  # in the order of processing
        of_c_n = np.where(lengths[:, None] > 0, 2 * layer.tape.c[-1], 0)
        own = flow.gradient_by_lag(layer.tape, layer.weight_hh, layer.source.steps.dh[last], dc=of_c_n)
        there = np.isfinite(own.log_dc_norm)
        assert there.sum() > 300
        assert patient.by_lag.log_dc_norm[there] == pytest.approx(own.log_dc_norm[there], abs=1e-3)


def test_a_saved_trace_is_judged_alike(tmp_path):
    network = Network()
    trace = watched(network)
    trace.save(tmp_path / "trace")
    loaded = undertow.load_trace(tmp_path / "trace")
    assert diagnose(loaded, network, lag=LAG).outcomes[:3] == diagnose(trace, network, lag=LAG).outcomes[:3]
    assert names(diagnose(loaded, network, lag=LAG).findings) == ["forget-bias", "memory-horizon"]


def test_other_people_s_models():
    """nn.LSTM inside of anything, converted."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.LSTM(5, H))
    undertow.convert(model)
    with undertow.trace(model) as trace:
        y, _ = model(torch.randn(LAG, N, 2))
        y[-1].sum().backward()
    found = undertow.diagnose(trace, model, lag=50)
    assert names(found.findings) == ["forget-bias", "memory-horizon"]
    assert found.findings[0].evidence[0].where == "1, layer 0"


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"lag": 0}, ValueError, "lag: expected at least 1 step, got 0"),
        ({"lag": 2.5}, TypeError, "lag: expected an int or None, got float"),
        ({"lag": True}, TypeError, "lag: expected an int or None, got bool"),
        (
            {"model": torch.nn.Linear(1, 1)},
            ValueError,
            "model: expected .* was traced, got one without 'rnn'",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(watched(Network()), **arguments)


def test_nothing_to_judge():
    with undertow.trace(Network()) as trace:
        pass
    with pytest.raises(
        ValueError, match=r"trace: expected a recorded call with steps in it, got none: rnn: "
    ):
        diagnose(trace)
    network = Network()
    with undertow.trace(network) as trace:
        network.rnn(torch.zeros(3, 2, 2), lengths=[0, 0])
    with pytest.raises(ValueError, match="rnn, layer 0: it took no step"):
        diagnose(trace)


@pytest.mark.parametrize(
    "number, text",
    [
        (9, "9"),
        (0.4263, "0.426"),
        (-4, "−4"),
        (7.73e-30, "7.73 × 10⁻³⁰"),
        (1.63e18, "1.63 × 10¹⁸"),
        (12345, "12,345"),
        (np.inf, "infinite"),
        (np.nan, "not a number"),
    ],
)
def test_numbers_as_people_read_them(number, text):
    assert Evidence("x", number).amount == text


def test_a_line_of_evidence():
    assert (
        str(Evidence("falls to 1 % after", 1, "steps", "rnn, layer 0"))
        == "falls to 1 % after: 1 step (rnn, layer 0)"
    )
    assert str(Evidence("clipped", 97.5, "%")) == "clipped: 97.5 %"
    assert explained([NotJudged("clip", "why")]) == (NotJudged("clip", "why"),)


def test_the_docs_name_every_check():
    table = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"\n| {check.__name__.replace('_', ' ')} |" in table
