"""``by_hand`` gives what the module and torch's graph give: y, states and every gradient."""

import pytest
import torch

import undertow

T, N, C, H = 9, 4, 3, 5
KINDS = {
    "lstm": (undertow.LSTM, {}),
    "two layers, both ways": (undertow.LSTM, {"num_layers": 2, "bidirectional": True, "dropout": 0.4}),
    "three layers without biases": (undertow.LSTM, {"num_layers": 3, "bias": False}),
    "rnn": (undertow.RNN, {"num_layers": 2}),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("of", ["y", "h_n"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_with_the_graph(kind, of, dtype):
    make, options = KINDS[kind]
    torch.manual_seed(0)
    module = make(C, H, dtype=dtype, **options)
    x, D = torch.randn(T, N, C, dtype=dtype), 1 + module.bidirectional
    torch.manual_seed(1)
    y, state = module(x)
    h_n = (state[0] if make is undertow.LSTM else state)[-D:]
    (y if of == "y" else h_n).square().sum().backward()
    wanted = {name: each.grad.clone() for name, each in module.named_parameters()}
    for fresh in (True, False):
        for each in module.parameters():
            each.grad = None if fresh else torch.full_like(each, float("nan"))
        torch.manual_seed(1)
        found = module.by_hand(x)
        assert found.y.equal(y)
        assert found.state[0][-D:].equal(h_n)
        found.backward(**({"dy": 2 * found.y} if of == "y" else {"dh_n": 2 * found.state[0][-D:]}))
        for name, each in module.named_parameters():
            assert each.grad.equal(wanted[name]), name


@pytest.mark.parametrize(
    "module",
    [
        undertow.LSTM(C, H, proj_size=2),
        undertow.LSTM(C, H, peepholes=True),
        undertow.LSTM(C, H, checkpoint=4),
        undertow.RNN(C, H, nonlinearity="relu"),
        undertow.LSTM(C, H, device="meta"),
    ],
)
def test_other_modules_are_refused(module):
    assert not module.serves_by_hand()
    with pytest.raises(ValueError, match=r"by_hand: expected x \[T,N,C\] and a module"):
        module.by_hand(torch.randn(T, N, C))


def test_other_inputs_and_traced_modules_are_refused():
    module = undertow.LSTM(C, H)
    assert module.serves_by_hand()
    for x in (torch.randn(T, C), torch.randn(T, N, C).double()):
        with pytest.raises(ValueError, match="by_hand: expected x"):
            module.by_hand(x)
    with undertow.trace(module):
        assert not module.serves_by_hand()
