"""undertow.convert: any model's LSTMs and RNNs become ours where they stand."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize, prune

import undertow

T, N, C, H = 5, 3, 4, 6


class Own(torch.nn.LSTM):
    """A user's subclass."""


def model():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "lstm": torch.nn.LSTM(C, H, 2, bidirectional=True),
            "inner": torch.nn.ModuleList([torch.nn.RNN(C, H), torch.nn.RNN(C, H, nonlinearity="relu")]),
            "gru": torch.nn.GRU(C, H),
            "own": Own(C, H),
            "head": torch.nn.Linear(2 * H, 1),
        }
    )


def test_every_lstm_and_rnn_and_nothing_else():
    given = model()
    parameters, before = list(given.parameters()), list(given.modules())
    lstm, own = given["lstm"], given["own"]
    results = [m(torch.ones(T, N, C))[0] for m in (lstm, *given["inner"])]
    assert undertow.convert(given) is given
    assert all(a is b for a, b in zip(given.modules(), before, strict=True))
    assert all(a is b for a, b in zip(given.parameters(), parameters, strict=True))
    assert type(lstm) is undertow.LSTM
    assert [type(m) for m in given["inner"]] == [undertow.RNN, undertow.RNN]
    assert [type(m) for m in (given["gru"], own)] == [torch.nn.GRU, Own]
    for module, expected in zip((lstm, *given["inner"]), results, strict=True):
        torch.testing.assert_close(module(torch.ones(T, N, C))[0], expected)
    undertow.convert(given, back=True)
    assert type(lstm) is torch.nn.LSTM
    assert [type(m) for m in given["inner"]] == [torch.nn.RNN, torch.nn.RNN]


def test_a_bare_lstm():
    lstm = torch.nn.LSTM(C, H)
    assert undertow.convert(lstm) is lstm
    assert type(undertow.convert(lstm)) is undertow.LSTM
    assert lstm(torch.ones(T, N, C), lengths=[1, 5, 2])[0].shape == (T, N, H)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got type"):
        undertow.convert(torch.nn.LSTM)


def test_an_optimizer_goes_on_where_it_was():
    results = []
    for change in (lambda m: m, undertow.convert):
        torch.manual_seed(0)
        lstm = torch.nn.LSTM(C, H, dtype=torch.float64)
        optimizer = torch.optim.Adam(lstm.parameters())
        x = torch.randn(T, N, C, dtype=torch.float64)
        for step in range(4):
            if step == 2:
                change(lstm)
            optimizer.zero_grad()
            lstm(x)[0].square().sum().backward()
            optimizer.step()
        results.append(lstm.state_dict())
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, rtol=0, atol=1e-12)


def test_hooks_and_training_flag_stay():
    given, seen = model().eval(), []
    given["lstm"].register_forward_hook(lambda *_: seen.append("after"))
    given["lstm"].register_forward_pre_hook(lambda *_: seen.append("before"))
    undertow.convert(given)
    given["lstm"](torch.ones(T, N, C))
    assert seen == ["before", "after"]
    assert not given["lstm"].training


@pytest.mark.parametrize(
    "change",
    [
        lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
        lambda m: parametrizations.orthogonal(m, "weight_hh_l0"),
        lambda m: prune.l1_unstructured(m, "weight_ih_l0", 0.5),
    ],
    ids=["weight_norm", "orthogonal", "prune"],
)
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.RNN])
def test_parametrizations_stay(kind, change):
    torch.manual_seed(0)
    module = kind(H, H)
    change(module)
    before = type(module)  # may be a class that torch made for this module and its copies
    x = torch.randn(T, N, H)
    expected = module(x)[0]
    undertow.convert(module)
    assert isinstance(module, undertow.LSTM | undertow.RNN)
    assert not issubclass(before, undertow.LSTM | undertow.RNN)
    torch.testing.assert_close(module(x)[0], expected)
    with undertow.trace(module) as trace:
        module(x)[0].sum().backward()
    assert trace.layers[0].dh.shape == (T + 1, N, H)
    assert all(p.grad is not None for p in module.parameters())
    if parametrize.is_parametrized(module):
        undertow.convert(module, back=True)
        assert not isinstance(module, undertow.LSTM | undertow.RNN)
        undertow.convert(module)
        parametrize.remove_parametrizations(module, "weight_hh_l0")
        assert type(module) in (undertow.LSTM, undertow.RNN)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch's own
def test_quantised_lstms_are_left_alone():
    dynamic = torch.ao.nn.quantized.dynamic.LSTM(C, H)
    given = torch.nn.Sequential(dynamic)
    assert type(undertow.convert(given)[0]) is type(dynamic)


def test_converted_models_are_copied_pickled_and_loaded():
    given = undertow.convert(model())
    state = given.state_dict()
    for twin in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        assert type(twin["lstm"]) is undertow.LSTM
        assert torch.equal(twin["lstm"](torch.ones(T, N, C))[0], given["lstm"](torch.ones(T, N, C))[0])
    model().load_state_dict(state)
