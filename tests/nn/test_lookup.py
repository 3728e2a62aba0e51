"""``embedding=``: results and gradients of ``lstm(embedding[symbols])``, looked up where that pays."""

import pytest
import torch
from torch.nn.functional import embedding

import undertow
from undertow.nn import lookup

T, N, S, C, H = 12, 5, 7, 4, 6
KINDS = {
    "lstm": {},
    "two layers": {"num_layers": 2},
    "both ways, without biases": {"bidirectional": True, "bias": False},
    "batch first": {"batch_first": True},
}


def made(kind, dtype):
    options = KINDS[kind]
    torch.manual_seed(0)
    module, table = (
        undertow.LSTM(C, H, dtype=dtype, **options),
        torch.randn(S, C, dtype=dtype, requires_grad=True),
    )
    symbols = torch.randint(0, S, (N, T) if module.batch_first else (T, N))
    layers = module.num_layers * (1 + module.bidirectional)
    h_0, c_0 = (torch.randn(layers, N, H, dtype=dtype, requires_grad=True) for _ in range(2))
    return module, table, symbols, (h_0, c_0)


def gradients(module, table, hx, y, ends):
    loss = (y * torch.linspace(0, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
    loss = loss + sum(each.square().sum() for each in ends)
    given = [table, *hx, *module.parameters()]
    return [y, *ends, *torch.autograd.grad(loss, given, create_graph=True)], given


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_the_embedded_symbols(kind, dtype, tolerance):
    module, table, symbols, hx = made(kind, dtype)
    assert lookup.serves(module, symbols, table)
    wanted, given = gradients(module, table, hx, *module(embedding(symbols, table), hx))
    found, _ = gradients(module, table, hx, *module(symbols, hx, embedding=table))
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))
    twice = [
        torch.autograd.grad(each[3].square().sum(), given, allow_unused=True) for each in (found, wanted)
    ]
    for one, other in zip(*twice, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.allclose(
                one, other, rtol=10 * tolerance, atol=10 * tolerance * float(other.abs().max())
            )


def test_under_autocast_it_is_as_precise_as_the_embedded_symbols():
    module, table, symbols, hx = made("lstm", torch.float32)
    exact = module(embedding(symbols, table), hx)[0]
    with torch.autocast("cpu", torch.bfloat16):
        of_vectors = module(embedding(symbols, table), hx)[0]
        of_symbols = module(symbols, hx, embedding=table)[0]
    assert of_symbols.dtype is torch.bfloat16
    assert (of_symbols.float() - exact).square().mean() < 1.5 * (of_vectors.float() - exact).square().mean()


OTHERS = {
    "an option": (undertow.LSTM(C, H, peepholes=True), {}),
    "segments": (undertow.LSTM(C, H, checkpoint=3), {}),
    "a projection": (undertow.LSTM(C, H, proj_size=3), {}),
    "rnn": (undertow.RNN(C, H), {}),
    "lengths": (undertow.LSTM(C, H), {"lengths": [T] * N}),
    "reset": (undertow.LSTM(C, H), {"reset": torch.zeros(T, N, dtype=torch.bool)}),
    "few steps": (undertow.LSTM(C, H), {"steps": 2}),
    "int32": (undertow.LSTM(C, H), {"dtype": torch.int32}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_elsewhere_symbols_are_embedded(kind):
    module, marks = OTHERS[kind]
    marks = dict(marks)
    symbols = torch.randint(0, S, (marks.pop("steps", T), N)).to(marks.pop("dtype", torch.int64))
    table = torch.randn(S, C)
    found, wanted = module(symbols, embedding=table, **marks), module(embedding(symbols, table), **marks)
    assert found[0].equal(wanted[0])


def test_a_trace_and_a_compiled_program_see_the_vectors():
    module, table, symbols, _ = made("lstm", torch.float32)
    wanted = module(embedding(symbols, table))[0]
    with undertow.trace(module) as trace:
        y = module(symbols, embedding=table)[0]
        y.sum().backward()
    assert y.equal(wanted)
    assert trace[""].layers[0].i.shape == (T, N, H)
    program = torch.compile(module, backend="eager", fullgraph=True)
    assert program(symbols, embedding=table)[0].equal(wanted)


def test_a_symbol_without_a_vector_is_refused():
    module, table, symbols, _ = made("lstm", torch.float32)
    symbols[3, 2] = S
    with pytest.raises(ValueError, match=f"x: expected symbols from 0 to {S - 1}, got symbol {S}"):
        module(symbols, embedding=table)


def test_states_of_another_shape_are_refused_as_torch_does():
    module, table, symbols, _ = made("lstm", torch.float32)
    with pytest.raises(RuntimeError, match="Expected hidden"):
        module(symbols, (torch.zeros(1, N + 1, H),) * 2, embedding=table)


def test_integers_without_an_embedding_are_no_symbols():
    module = undertow.LSTM(1, H)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
        module(torch.zeros(T, N, 1, dtype=torch.int64))
