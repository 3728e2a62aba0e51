"""How an LSTM may start: forget_bias, chrono and orthogonal, in every layer and direction, exactly."""

import copy
import math
import pickle

import pytest
import torch

import undertow
from torchscript import torchscript
from undertow.layout import gate

C, H = 3, 40
DEEP = {"num_layers": 2, "bidirectional": True}
SHAPES = [{}, DEEP, {**DEEP, "proj_size": 2}, {"dtype": torch.float64}, {"batch_first": True}]
STARTS = [
    {"forget_bias": 1.5},
    {"init": "chrono", "max_lag": 30},
    {"init": "orthogonal"},
    {"init": "orthogonal", "forget_bias": -2},
]


def biases(layer):
    """b_ih + b_hh of every layer and direction."""
    ends = [f"_l{k}{way}" for k in range(layer.num_layers) for way in ("", "_reverse")]
    return [
        (getattr(layer, f"bias_ih{end}") + getattr(layer, f"bias_hh{end}")).detach()
        for end in ends
        if hasattr(layer, f"bias_ih{end}")
    ]


def make(seed=0, cls=undertow.LSTM, **options):
    torch.manual_seed(seed)
    return cls(C, H, **options)


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_without_options_it_starts_exactly_as_torch(options):
    ours, theirs = make(**options), make(cls=torch.nn.LSTM, **options)
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q)


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("value", [1.0, 0, -3.5, 0.1])
def test_forget_bias_is_the_sum_in_every_layer_and_direction(options, value):
    layer, plain = make(forget_bias=value, **options), make(**options)
    found = biases(layer)
    assert len(found) == layer.num_layers * (2 if layer.bidirectional else 1)
    for ours, theirs in zip(found, biases(plain), strict=True):
        assert torch.equal(gate(ours, "f", H), torch.full((H,), value, dtype=ours.dtype))
        for other in "igo":
            assert torch.equal(gate(ours, other, H), gate(theirs, other, H))
    for name, p in layer.named_parameters():
        if "weight" in name:
            assert torch.equal(p, plain.get_parameter(name))


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_chrono_draws_log_u_within_its_bounds_and_its_opposite(options):
    max_lag = 30
    layer = make(init="chrono", max_lag=max_lag, **options)
    drawn = []
    for b in biases(layer):
        f = gate(b, "f", H)
        assert torch.equal(gate(b, "i", H), -f)
        assert not gate(b, "g", H).any() and not gate(b, "o", H).any()
        u = f.exp()
        assert u.min() >= 1 and u.max() <= max_lag - 1 + 1e-4
        drawn.append(u)
    assert len({tuple(u.tolist()) for u in drawn}) == len(drawn)  # each for itself


def test_chrono_is_uniform_in_u_not_in_log_u():
    torch.manual_seed(3)
    u = gate(biases(undertow.LSTM(1, 20_000, init="chrono", max_lag=101))[0], "f", 20_000).exp()
    uniform = torch.linspace(1, 100, 20_000)
    assert (u.sort().values - uniform).abs().max() < 2  # Kolmogorov's distance, in steps


@pytest.mark.parametrize("proj_size", [0, 7])
def test_orthogonal_in_each_gate(proj_size):
    layer = make(init="orthogonal", proj_size=proj_size, **DEEP)
    R = proj_size or H
    for name, U in layer.named_parameters():
        if "weight_hh" in name:
            for which in "ifgo":
                block = gate(U.detach(), which, H)
                torch.testing.assert_close(block.T @ block, torch.eye(R), atol=1e-5, rtol=0)


def test_orthogonal_rnn_keeps_the_length_of_h():
    U = make(cls=undertow.RNN, init="orthogonal").weight_hh_l0.detach()
    v = torch.randn(H)
    assert (U @ v).norm() == pytest.approx(v.norm().item(), rel=1e-5)


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_reset_parameters_starts_the_same_way_again(start):
    layer, fresh = make(**start, **DEEP), make(seed=1, **start, **DEEP)
    torch.manual_seed(1)
    layer.reset_parameters()
    for (name, p), (_, q) in zip(layer.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(p, q), name


@torchscript
@pytest.mark.parametrize("start", STARTS, ids=str)
def test_copies_remember_how_to_start_and_state_dict_is_torchs(start):
    layer = make(**start)
    assert list(layer.state_dict()) == list(make(cls=torch.nn.LSTM).state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), twin.parameters(), strict=True))
        torch.manual_seed(0)
        twin.reset_parameters()
        assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), twin.parameters(), strict=True))
    x = torch.randn(5, 2, C)
    theirs = make(cls=torch.nn.LSTM)
    theirs.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x)[0], theirs(x)[0])
    assert torch.jit.script(torch.nn.Sequential(layer))(x)[0].shape == (5, 2, H)


def test_repr_says_what_was_asked_for():
    assert repr(make(init="chrono", max_lag=30)) == f"LSTM({C}, {H}, init='chrono', max_lag=30)"
    assert repr(make(forget_bias=1.0, checkpoint=8)) == f"LSTM({C}, {H}, checkpoint=8, forget_bias=1.0)"
    assert repr(make()) == f"LSTM({C}, {H})"


def test_older_pickles_and_converted_modules_start_as_torch():
    layer = undertow.convert(make(cls=torch.nn.LSTM))
    assert (layer.forget_bias, layer.init, layer.max_lag) == (None, None, None)
    torch.manual_seed(0)
    layer.reset_parameters()
    assert torch.equal(layer.weight_hh_l0, make().weight_hh_l0)


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_the_meta_device(start, dtype):
    layer = make(dtype=dtype, **start)
    assert all(p.dtype == dtype and torch.isfinite(p).all() for p in layer.parameters())
    assert make(device="meta", **start).bias_hh_l0.is_meta


def test_gates_that_start_open_keep_the_cell():
    """c after 50 steps of no input, of 1 at the start: f^50."""
    for bias, kept in ((0.0, 0.5**50), (5.0, torch.tensor(5.0).sigmoid().item() ** 50)):
        layer = undertow.LSTM(1, 1, forget_bias=bias)
        with torch.no_grad():
            for p in (layer.weight_ih_l0, layer.weight_hh_l0):
                p.zero_()
            gate(layer.bias_ih_l0, "g", 1).zero_()
            gate(layer.bias_hh_l0, "g", 1).zero_()
        _, (_, c) = layer(torch.zeros(50, 1, 1), (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
        assert c.item() == pytest.approx(kept, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "chronos"}, "init: expected None or one of 'chrono', 'orthogonal', got 'chronos'"),
        ({"init": "chrono"}, "max_lag: init='chrono' needs the longest lag in steps, got None"),
        ({"init": "chrono", "max_lag": 2}, "max_lag: expected more than 2 steps, got 2"),
        ({"max_lag": 9}, "max_lag: expected None without init='chrono', got 9"),
        ({"init": "chrono", "max_lag": 9, "forget_bias": 1}, "forget_bias: init='chrono' sets it already"),
        ({"forget_bias": math.nan}, "forget_bias: expected a finite number, got nan"),
        ({"forget_bias": 1, "bias": False}, "forget_bias needs biases to set: expected bias=True"),
        ({"init": "chrono", "max_lag": 9, "bias": False}, "init: 'chrono' needs biases to set"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(**options)


@pytest.mark.parametrize(("option", "value"), [("forget_bias", "1"), ("forget_bias", True), ("max_lag", [3])])
def test_options_that_are_no_numbers_are_refused(option, value):
    with pytest.raises(TypeError, match=f"^{option}: expected a number or None, got {type(value).__name__}"):
        make(**{option: value})


@pytest.mark.parametrize("options", [{"forget_bias": 1.0}, {"init": "chrono", "max_lag": 9}])
def test_the_rnn_has_no_gates(options):
    with pytest.raises(ValueError, match="the RNN"):
        make(cls=undertow.RNN, **options)
