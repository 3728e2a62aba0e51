"""What the network of a run does around its layers."""

import pytest
import torch

from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel


def model(**options):
    torch.manual_seed(0)
    given = {"cell": "lstm", "hidden_size": 4, "num_layers": 1, "dropout": 0.0, "outputs": 2}
    return SequenceModel(ModelConfig(**given | {"readout": "last", "inputs": 3} | options))


def forecaster(**options):
    network = model(**{"residual": (1,), "autoregression": 6, "panel": True} | options).double()
    network.centre.copy_(torch.tensor([1.0, 2.0, 3.0]))
    network.scale.copy_(torch.tensor([2.0, 3.0, 5.0]))
    return network, torch.randn(6, 5, 3, dtype=torch.float64)


def size_of(y):
    """How much windows [T, N] move, by hand."""
    return (y - y[-1]).square().mean(0).sqrt() + 1e-3 * y.abs().mean(0) + 1e-6 * 3.0


def test_forecasts_start_from_the_last_value_in_units_of_the_window():
    network, x = forecaster()
    y = x[:, :, 1]
    torch.testing.assert_close(network(x)[0], y[-1, :, None].expand(5, 2))
    network.head.bias.data = torch.tensor([1.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(network(x)[0], y[-1, :, None] + size_of(y)[:, None] * network.head.bias)


def test_a_linear_part_reads_the_window():
    network, x = forecaster()
    torch.nn.init.normal_(network.autoregression.weight)
    y, weight = x[:, :, 1], network.autoregression.weight[0]  # [horizon, T]
    torch.testing.assert_close(network(x)[0], y[-1, :, None] + ((y - y[-1]).T @ weight.T))
    longer = torch.cat([torch.randn(3, 5, 3, dtype=torch.float64), x])
    torch.testing.assert_close(network(longer)[0], network(x)[0])  # only the last rows count
    shorter = y[2:]
    expected = y[-1, :, None] + ((shorter - y[-1]).T @ weight[:, 2:].T)
    torch.testing.assert_close(network(x[2:])[0], expected)


def test_the_windows_of_one_series_have_its_scale():
    network, x = forecaster(panel=False)
    y = x[:, :, 1]
    network.head.bias.data = torch.tensor([1.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(network(x)[0], y[-1, :, None] + 3.0 * network.head.bias)
    read = network._inputs(x, False, network._window(x))
    torch.testing.assert_close(read[:, :, 1], ((y - y[-1]) / 3.0).asinh())
    assert not read[:, :, 4].any()


@pytest.mark.parametrize("factor", [1e6, 1e-3])
def test_a_series_of_another_size_is_forecast_alike(factor):
    """The network sees the size only in the features that tell of it."""
    network, x = forecaster(hidden_size=1)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.autoregression.weight)
    network.rnn.weight_ih_l0.data[:, 3:] = 0.0  # where the window lies, and how much it moves
    other = x.clone()
    other[:, :, 1] *= factor
    torch.testing.assert_close(network(other)[0], factor * network(x)[0], rtol=1e-2, atol=1e-2 * factor)


def test_the_features_tell_where_a_window_lies_and_how_much_it_moves():
    network, x = forecaster()
    read = network._inputs(x, False, network._window(x))  # [T, N, C + 2]
    y, size = x[:, :, 1], size_of(x[:, :, 1])
    torch.testing.assert_close(read[:, :, 1], ((y - y[-1]) / size).asinh())
    torch.testing.assert_close(read[:, :, 3], ((y[-1] - 2.0) / 3.0).asinh().expand(6, 5))
    torch.testing.assert_close(read[:, :, 4], ((size / 3.0).log() / 3).expand(6, 5))


def test_features_are_normalised():
    network, plain = model(), model()
    network.centre.copy_(torch.tensor([1.0, 2.0, 3.0]))
    network.scale.copy_(torch.tensor([2.0, 4.0, 8.0]))
    x = torch.randn(6, 5, 3)
    raw = x.sinh() * network.scale + network.centre
    torch.testing.assert_close(network(raw)[0], plain(x.sinh())[0])


def test_noise_is_added_while_training_alone():
    network, x = model(noise=0.5), torch.zeros(400, 50, 3)
    seen = []
    network.rnn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(x)
    network.eval()(x)
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.02)
    assert not seen[1].any()


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("readout", ["last", "every"])
def test_lengths_give_each_sequence_what_it_has_alone(cell, readout):
    network, x, lengths = model(cell=cell, readout=readout), torch.randn(6, 3, 3), torch.tensor([4, 6, 1])
    output, state = network(x, None, lengths)
    for n, length in enumerate(lengths.tolist()):
        alone, last = network(x[:length, n : n + 1])
        found = output[:length, n : n + 1] if readout == "every" else output[n : n + 1]
        torch.testing.assert_close(found, alone)
        for one, other in zip(state, last, strict=True):
            torch.testing.assert_close(one[:, n : n + 1], other)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_the_state_goes_on(cell):
    network, x = model(cell=cell, readout="every"), torch.randn(6, 3, 3)
    whole, _ = network(x)
    first, state = network(x[:4])
    second, _ = network(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_dropout_is_between_layers_and_before_the_head():
    assert model(dropout=0.3, num_layers=2).rnn.dropout == 0.3
    assert model(dropout=0.3, num_layers=1).rnn.dropout == 0.0
    network = model(dropout=0.3)
    assert network.dropout.p == 0.3
    x = torch.randn(6, 64, 3)
    assert not torch.equal(network(x)[0], network(x)[0])


def test_symbols_are_embedded():
    network = model(symbols=7, width=5, inputs=0, readout="every", outputs=7)
    assert network.embedding.weight.shape == (7, 5)
    assert network(torch.randint(7, (6, 3)))[0].shape == (6, 3, 7)


def test_gates_start_as_the_configuration_says():
    assert model(forget_bias=2.5).rnn.forget_bias == 2.5
    chrono = model(init="chrono", max_lag=100).rnn
    assert (chrono.init, chrono.max_lag) == ("chrono", 100)
    assert model().rnn.init is None


def test_normalised_features_give_what_the_raw_ones_do():
    """A training normalises its table once; a trained network reads raw values."""
    from undertow.app.runs.model import normalise
    from undertow.app.runs.windows import window_of, with_window

    torch.manual_seed(0)
    network = SequenceModel(ModelConfig("lstm", 5, 1, 0.0, 3, "last", inputs=2, residual=(1,))).double()
    torch.nn.init.normal_(network.head.weight)
    network.get_buffer("centre").copy_(torch.tensor([3.0, -200.0]))
    network.get_buffer("scale").copy_(torch.tensor([0.5, 70.0]))
    x = 1000 * torch.randn(7, 4, 2, dtype=torch.float64)
    centre, scale = network.get_buffer("centre"), network.get_buffer("scale")
    window = window_of(x[..., [1]], scale[[1]], own=False)
    features = with_window(normalise(x, centre, scale), [1], window, centre[[1]], scale[[1]])
    output, _ = network(features, normalised=True, window=window)
    torch.testing.assert_close(output, network(x)[0], rtol=1e-12, atol=1e-10)
    assert torch.equal(network.sizes(features, window), network.sizes(x))
