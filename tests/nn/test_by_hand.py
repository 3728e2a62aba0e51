"""``by_hand`` gives what the module and torch's graph give: y, states and every gradient."""

import math

import pytest
import torch

import undertow
from undertow.kernels import cpu

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


def gradients(module):
    return {name: each.grad.clone() for name, each in module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_of_an_earlier_pass_serves_another_x(kind):
    make, options = KINDS[kind]
    torch.manual_seed(0)
    module = make(C, H, **options)
    x, D = torch.randn(2, T, N, C), 1 + module.bidirectional
    dy, dh_n = torch.randn(T, N, D * H), torch.randn(D, N, H)
    torch.manual_seed(1)
    alone = module.by_hand(x[1])
    alone.backward(dy, dh_n)
    wanted = gradients(module)
    earlier = module.by_hand(x[0])
    earlier.backward()
    torch.manual_seed(1)
    found = module.by_hand(x[1], memory=earlier)
    assert found.y.data_ptr() == earlier.y.data_ptr()
    assert found.y.equal(alone.y)
    assert all(map(torch.equal, found.state, alone.state))
    found.backward(dy, dh_n)
    for name, gradient in gradients(module).items():
        assert gradient.equal(wanted[name]), name
    with pytest.raises(RuntimeError, match="by_hand: expected a pass whose memory no later pass has taken"):
        earlier.backward(dy)


def test_memory_of_another_shape_or_of_other_weights_is_left_alone():
    module, other = undertow.LSTM(C, H), undertow.LSTM(C, H)
    x = torch.randn(T, N, C)
    earlier = module.by_hand(x)
    y = earlier.y.clone()
    for found in (module.by_hand(x[:, 1:], memory=earlier), other.by_hand(x, memory=earlier)):
        found.backward(torch.ones_like(found.y))
    assert earlier.y.equal(y)
    earlier.backward(torch.ones_like(y))
    module(x)[0].sum().backward()  # adds the same again
    module.by_hand(x).backward(torch.ones_like(y))
    wanted = gradients(module)
    earlier.backward(torch.ones_like(y))
    assert all(each.grad.equal(wanted[name]) for name, each in module.named_parameters())


def test_gradients_are_written_to_where_the_program_has_them():
    module, x = undertow.LSTM(C, H), torch.randn(T, N, C)
    module.by_hand(x).backward(torch.ones(T, N, H))
    wanted = gradients(module)
    rooms = {name: torch.full(each.shape, math.nan) for name, each in module.named_parameters()}
    rooms["weight_hh_l0"] = torch.full((H, 4 * H), math.nan).t()  # where a kernel cannot write
    rooms["bias_ih_l0"] = torch.full((8 * H,), math.nan)[::2]
    for name, each in module.named_parameters():
        each.grad = rooms[name]
    module.by_hand(x).backward(torch.ones(T, N, H))
    for name, each in module.named_parameters():
        assert each.grad is rooms[name]
        assert each.grad.equal(wanted[name]), name


@pytest.mark.parametrize("refused", ["forward", "backward"])
def test_a_pass_is_repeated_when_memory_was_refused(refused, monkeypatch):
    module, x = undertow.LSTM(C, H), torch.randn(T, N, C)
    module.by_hand(x).backward(torch.ones(T, N, H))
    wanted, run, calls = gradients(module), cpu.run, []

    def refuse(kernel, *given):
        calls.append(kernel)
        if kernel is getattr(cpu.native, refused) and calls.count(kernel) in (1, 3, 4):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        run(kernel, *given)

    monkeypatch.setattr(cpu, "run", refuse)
    module.by_hand(x).backward(torch.ones(T, N, H))
    for name, gradient in gradients(module).items():
        assert gradient.equal(wanted[name]), name
    with pytest.raises(RuntimeError, match="can't allocate memory"):  # and once more only
        module.by_hand(x).backward(torch.ones(T, N, H))


def test_a_pass_that_keeps_nothing_has_no_backward():
    module, layer = undertow.LSTM(C, H), torch.nn.Linear(H, 1)
    x = torch.randn(T, N, C)
    found = module.by_hand(x, keep=False)
    assert found.y.equal(module(x)[0])
    for wrong in (
        lambda: found.backward(found.y),
        lambda: found.head(layer, torch.zeros(N, 1), torch.ones(1)),
    ):
        with pytest.raises(RuntimeError, match="expected a pass that keeps what backward needs"):
            wrong()
    output, loss, scored, right = found.head(layer, torch.zeros(N, 1), torch.ones(1), learn=False)
    assert torch.allclose(output, layer(found.state[0][0]), atol=1e-6)
    assert loss == pytest.approx(output.square().mean().item(), rel=1e-6)
    assert (scored, right) == (N, 0)


def test_steps_that_are_the_largest_share_the_gradient():
    module, layer = undertow.LSTM(1, 2), torch.nn.Linear(4, 1)
    for each in (*module.parameters(), *layer.parameters()):
        each.data.zero_()
        each.grad = torch.zeros_like(each)
    layer.weight.data[:, 2:] = 1  # of the largest; all states are zero, and every step is the largest
    found = module.by_hand(torch.randn(T, N, 1))
    found.head(layer, torch.ones(N, 1), torch.ones(1), pooled=True)
    dy = found._layers[-1].dy
    assert torch.allclose(dy, torch.full_like(dy, -2 / N / T))
