"""The engine on a GPU in torch's graph and in whole modules, in Triton's interpreter."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import undertow
from layer_of_triton import TritonLayer
from layer_of_variants import forms
from undertow.kernels import engines, operators, plain, triton
from undertow.kernels.call import PLAIN

SMALL = T, N, C, H = 3, 3, 2, 3


@pytest.fixture
def chosen(monkeypatch):
    """The calls that the engine computes; the table leaves it all that it can compute."""
    calls, run = [], triton.ENGINE.forward
    table = (triton.segments.ENGINE, triton.ENGINE, plain.ENGINE)
    monkeypatch.setattr(engines, "ENGINES", table)
    monkeypatch.setattr(triton.ENGINE, "is_faster", lambda *_: True)
    monkeypatch.setattr(triton.ENGINE, "forward", lambda call: (calls.append(call), run(call))[1])
    return calls


def gradients(module, x, **given):
    y, (h_n, c_n) = module(x, **given)
    data = y if isinstance(y, torch.Tensor) else y.data
    wrt = [*module.parameters()]
    return data, h_n, c_n, *torch.autograd.grad(data.square().sum() + h_n.sum() + c_n.sum(), wrt)


@pytest.mark.parametrize("form", ["steps first", "batch first", "packed", "lengths", "one sequence"])
def test_a_module_is_torchs(form, chosen):
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": True, "batch_first": form == "batch first"}
    theirs, ours = torch.nn.LSTM(C, H, **options), undertow.LSTM(C, H, **options)
    ours.load_state_dict(theirs.state_dict())
    x, given, lengths = torch.randn(T, N, C), {}, [2, 3, 1]
    if form == "one sequence":
        x = x[:, 0]
    if form in ("packed", "lengths"):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        expected = gradients(theirs, packed)
        x = packed if form == "packed" else x
        given = {} if form == "packed" else {"lengths": torch.tensor(lengths)}
    else:
        expected = gradients(theirs, x)
    found = gradients(ours, x, **given)
    assert len(chosen) == 2
    first = 1 if form == "lengths" else 0  # y has another layout
    for a, e in zip(found[first:], expected[first:], strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


OPTIONS = {"layer_norm": True, "zoneout": (0.2, 0.1), "recurrent_dropout": 0.3, "learn_initial_state": True}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_module_with_options_is_that_of_the_cpu(training, monkeypatch, chosen):
    module = undertow.LSTM(C, H, 2, peepholes=True, coupled=True, **OPTIONS).train(training)
    x, marks = torch.randn(T, N, C), {"mask": torch.rand(T, N) < 0.8, "reset": torch.rand(T, N) < 0.3}
    results = []
    for table in (engines.ENGINES, (plain.ENGINE,)):
        monkeypatch.setattr(engines, "ENGINES", table)
        torch.manual_seed(1)  # what is drawn
        results.append(gradients(module, x, **marks, lengths=[3, 1, 2]))
    assert len(chosen) == 2
    for a, e in zip(*results, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-5)


@forms
def test_second_derivatives_take_the_plain_path(form):
    layer = TritonLayer(["peepholes"], form, D=1, size=SMALL)
    leaves, weights = layer.leaves()
    call, wrt, results = layer.call(leaves, weights), [leaves["x"], *weights[0]], []
    for run in (triton.ENGINE.layer, plain.layer):
        first = torch.autograd.grad(run(call)[0].square().sum(), wrt, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), wrt))
    for a, e in zip(*results, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4)


@forms
def test_y_may_be_written_to(form):
    layer, results = TritonLayer([], form, size=SMALL), []
    for change in (torch.relu, torch.relu_):
        leaves, weights = layer.leaves()
        y = change(layer.run(leaves, weights)[0])
        results.append((y, *torch.autograd.grad(y.sum(), [*weights[0], leaves["x"]])))
    for a, e in zip(*results, strict=True):
        assert torch.equal(a, e)


def test_backward_twice():
    leaves, weights = (layer := TritonLayer([], size=SMALL)).leaves()
    loss = layer.run(leaves, weights)[0].square().sum()
    first = torch.autograd.grad(loss, weights[0], retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, weights[0]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["negated lazily", "zero tensor", "expanded"])
def test_gradients_in_any_memory_are_taken_for_their_values(kind):
    leaves, weights = (layer := TritonLayer([], size=SMALL)).leaves()
    outputs = layer.run(leaves, weights)
    dense = [torch.zeros_like(o) if kind == "zero tensor" else torch.full_like(o, -0.5) for o in outputs]
    given = {
        "negated lazily": [torch._neg_view(-d) for d in dense],
        "zero tensor": [torch._efficientzerotensor(d.shape, dtype=d.dtype) for d in dense],
        "expanded": [d.new_full((1,) * d.dim(), -0.5).expand_as(d) for d in dense],
    }[kind]
    found = torch.autograd.grad(outputs, weights[0], given, retain_graph=True)
    for a, e in zip(found, torch.autograd.grad(outputs, weights[0], dense), strict=True):
        assert torch.equal(a, e)


def test_autocast_runs_the_kernels_in_half_precision(chosen):
    module = undertow.LSTM(C, H)
    with torch.autocast("cpu", dtype=torch.float16):
        y, _ = module(torch.randn(T, N, C))
    y.float().sum().backward()
    assert y.dtype == chosen[0].x.dtype == torch.float16
    assert module.weight_hh_l0.grad.dtype == torch.float32


def test_a_compiled_program_holds_the_kernels(chosen):
    """float16, which the CPU's own kernels do not take. The program is that for any T and N."""
    module = undertow.LSTM(C, H, bidirectional=True, dtype=torch.float16)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for sizes in ((T, N), (T + 1, N + 2)):
        x = torch.randn(*sizes, C, dtype=torch.float16)
        for a, e in zip(gradients(compiled, x), gradients(module, x), strict=True):
            assert torch.equal(a, e)
    assert len(chosen) == 4


@pytest.mark.parametrize("form", ["even", "lengths"])
def test_torchs_checks_of_the_operator(form):
    layer = TritonLayer([], form, dtype=torch.float16, size=SMALL)
    leaves, weights = layer.leaves()
    call = layer.call(leaves, weights)
    assert call.variant is PLAIN
    detached = call.filled([None if t is None else t.detach() for t in call.tensors])
    given = operators._written(detached)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.undertow.layer_with_tape.default, given, test_utils=tests)
    y, h_n, c_n, *tape = torch.ops.undertow.layer_with_tape(*given)
    douts, wanted = [torch.ones_like(o) for o in (y, h_n, c_n)], [t is not None for t in call.tensors]
    back = (*given, y, tape, douts, wanted)
    torch.library.opcheck(torch.ops.undertow.layer_backward.default, back, test_utils=tests)


def test_transforms_are_left_to_plain():
    leaves, weights = (layer := TritonLayer([], D=1, size=SMALL)).leaves()
    call = layer.call(leaves, weights)

    def served(x):
        assert not triton.ENGINE.computes(call._replace(x=x))
        return x

    torch.vmap(served)(leaves["x"][None])
    assert not triton.ENGINE.computes(call._replace(x=torch._neg_view(leaves["x"])))
