"""torch.compile and torch.export: a layer is one node, whatever T, and gives what an eager call gives.

Compiled and eager run the same kernels, so float32 may differ by 1e-6 and float64 by 1e-12 of the largest
entry expected (or of 1, where all are smaller). Where no kernel serves, sums are taken in another order.
"""

import io
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import modules
import undertow
from modules import flat
from torchscript import torchscript
from undertow.kernels import cpu

T, N, C, H = 6, 3, 4, 5
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.half: 1e-2}
assert_same = partial(modules.assert_same, tolerance=TOLERANCE)
OPS = torch.ops.undertow
DIM = torch.export.Dim
recorded = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:LSTM with projections"
)  # torch's own


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()


def compiled(f, graphs=None):
    """Without a graph break; ``graphs`` receives what AOTAutograd makes of forward and backward."""

    def keep(graph, _):
        if graphs is not None:
            graphs.append(graph.graph)
        return make_boxed_func(graph)

    return torch.compile(f, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep), fullgraph=True)


def nodes(graph):
    """How many of each of ours."""
    names = ("layer", "layer_with_tape", "layer_backward")
    return [sum(node.target is getattr(OPS, name).default for node in graph.nodes) for name in names]


def results(f, module, x, *more, **named):
    """Outputs, and the gradients of x, of what comes beside it, and of all parameters that want one."""
    given = [t.detach().requires_grad_() for t in (x, *more)]
    x, *states = given
    hx = [] if not states else [tuple(states)] if len(states) == 2 else states
    outputs = flat(f(x, *hx, **named))
    loss = sum((o.double() * torch.linspace(-1, 1, o.numel()).view(o.shape)).sum() for o in outputs)
    wanted = [*given, *(p for p in module.parameters() if p.requires_grad)]
    return [*outputs, *torch.autograd.grad(loss, wanted)]


# ------------------------------------------------------------------------------- the graphs


def test_a_layer_is_one_node_and_other_lengths_take_the_same_graph():
    lstm, graphs = undertow.LSTM(C, H, 2, bidirectional=True), []
    f = compiled(lstm, graphs)
    for steps in (T, T + 1, 2, 1000):  # from the second on, torch takes T for a number that varies
        x = torch.randn(steps, N, C)
        assert_same(results(f, lstm, x), results(lstm, lstm, x))
    assert [nodes(graph) for graph in graphs] == [[0, 2, 0], [0, 0, 2]] * 2
    assert all(len(graph.nodes) < 100 for graph in graphs)


def test_without_gradients_there_is_no_tape():
    lstm, graphs = undertow.LSTM(C, H), []
    x = torch.randn(T, N, C)
    with torch.no_grad():
        assert_same(flat(compiled(lstm, graphs)(x)), flat(lstm(x)))
    assert [nodes(graph) for graph in graphs] == [[1, 0, 0]]


@pytest.mark.parametrize("cell", [undertow.LSTM, undertow.RNN])
def test_backward_reads_the_tape_and_runs_no_forward_again(cell, kernel_calls):
    module = cell(C, H, 2, bidirectional=True)
    y, _ = compiled(module)(torch.randn(T, N, C))
    assert [name for name, _ in kernel_calls] == ["forward"] * 4
    y.sum().backward()
    assert [name for name, _ in kernel_calls[4:]] == ["backward"] * 4


def test_only_the_gradients_asked_for_are_computed():
    lstm, graphs = undertow.LSTM(C, H, bidirectional=True), []
    lstm.requires_grad_(False).weight_hh_l0_reverse.requires_grad_()
    compiled(lstm, graphs)(torch.randn(T, N, C))[0].sum().backward()
    assert lstm.weight_hh_l0_reverse.grad is not None
    (call,) = (node for node in graphs[1].nodes if node.target is OPS.layer_backward.default)
    assert call.args[-1] == [k == 3 + 5 + 1 for k in range(3 + 2 * 5)]


def test_no_other_module_is_let_in():
    """What torch would take apart into T steps stays outside, as it was."""
    for module in (torch.nn.LSTM(C, H), torch.nn.GRU(C, H), undertow.LSTM(C, H, device="meta")):
        with pytest.raises(Exception, match="Dynamo does not support RNN, GRU, or LSTM"):
            torch.compile(module, fullgraph=True)(torch.randn(T, N, C))


# ------------------------------------------------------------------------------ the results

OPTIONS = {
    "LSTM": (undertow.LSTM, {}),
    "RNN": (undertow.RNN, {"num_layers": 2, "bidirectional": True}),
    "batch_first": (undertow.LSTM, {"batch_first": True, "bidirectional": True}),
    "no bias": (undertow.LSTM, {"bias": False}),
    "projection": (undertow.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    "relu": (undertow.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_compiled_gives_what_eager_gives(options, dtype):
    kind, given = OPTIONS[options]
    module = kind(C, H, **given, dtype=dtype)
    x = torch.randn(N, T, C, dtype=dtype)
    if dtype is torch.half:  # torch differentiates half step by step and rounds each time
        assert_same(flat(compiled(module)(x)), flat(module(x)))
        return
    assert_same(results(compiled(module), module, x), results(module, module, x))


def test_without_the_extension(monkeypatch):
    """The equations in torch operations stand behind the operators, as elsewhere."""
    lstm, x = undertow.LSTM(C, H, bidirectional=True, dtype=torch.float64), torch.randn(T, N, C).double()
    expected = results(lstm, lstm, x)
    monkeypatch.setattr(cpu, "native", None)
    assert_same(results(compiled(lstm), lstm, x), expected)


@pytest.mark.parametrize("shape", [(T, C), (1, 1, C), (T, 0, C)], ids=["unbatched", "one", "empty batch"])
def test_other_shapes_and_initial_states(shape):
    lstm = undertow.LSTM(C, H, 2)
    x, states = torch.randn(shape), [torch.randn(2, *shape[1:-1], H) for _ in range(2)]
    assert_same(results(compiled(lstm), lstm, x, *states), results(lstm, lstm, x, *states))


@pytest.mark.parametrize("lengths", [[2, 6, 0], torch.tensor([6, 1, 3])], ids=["list", "tensor"])
def test_lengths(lengths):
    lstm, graphs = undertow.LSTM(C, H, bidirectional=True), []
    f = compiled(lstm, graphs)
    for steps in (T, T + 2):
        x = torch.randn(steps, N, C)
        assert_same(results(f, lstm, x, lengths=lengths), results(lstm, lstm, x, lengths=lengths))
    assert nodes(graphs[0]) == [0, 1, 0]
    with pytest.raises(ValueError, match=r"^lengths: expected values between 0 and T = 6, got \[9, 1, 2\]"):
        f(torch.randn(T, N, C), lengths=torch.tensor([9, 1, 2]))


@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize("sorted_", [False, True])
def test_packed_sequences(sorted_, with_hx):
    lstm, graphs = undertow.LSTM(C, H, bidirectional=True), []
    x = pack_sequence([torch.randn(t, C) for t in ((5, 3, 2) if sorted_ else (2, 5, 3))], sorted_)
    hx = (torch.randn(2, N, H), torch.randn(2, N, H)) if with_hx else None
    found = [flat(f(x, hx)) for f in (compiled(lstm, graphs), lstm)]
    found = [[*each, *torch.autograd.grad(each[0].sum(), lstm.parameters())] for each in found]
    assert_same(*found)
    assert nodes(graphs[0]) == [0, 1, 0]


@torchscript
def test_inductor():
    lstm = undertow.LSTM(C, H, 2, batch_first=True, bidirectional=True)
    f = torch.compile(torch.nn.Sequential(torch.nn.Linear(C, C), lstm), fullgraph=True)
    x = torch.randn(N, T, C)
    assert_same(results(f, f, x), results(f._orig_mod, f, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_autocast(dtype):
    lstm = undertow.LSTM(C, H)

    def f(x):
        with torch.autocast("cpu", dtype=dtype):
            return lstm(x)

    x = torch.randn(T, N, C)
    assert_same(flat(compiled(f)(x)), flat(f(x)))


VARIANTS = {
    "mask": ({}, {"mask": torch.arange(T * N).view(T, N) % 3 != 0}),
    "reset": ({"learn_initial_state": True}, {"reset": torch.arange(T * N).view(T, N) % 4 == 0}),
    "norms": ({"layer_norm": True, "num_layers": 2, "bidirectional": True}, {}),
    "peepholes": ({"peepholes": True, "coupled": True}, {"lengths": torch.tensor([2, 6, 0])}),
    "noise": ({"recurrent_dropout": 0.3, "input_dropout": 0.2, "weight_drop": 0.1, "zoneout": 0.2}, {}),
    "widths": ({"hidden_size": [3, 4]}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant):
    """One node a layer, too, from the same random numbers."""
    options, named = VARIANTS[variant]
    lstm, found, graphs = undertow.LSTM(C, **({"hidden_size": H} | options), dtype=torch.float64), [], []
    for f in (compiled(lstm, graphs), lstm):
        torch.manual_seed(0)
        found.append(results(f, lstm, torch.ones(T, N, C, dtype=torch.float64), **named))
    assert_same(*found)
    assert [nodes(graph) for graph in graphs] == [[0, lstm.num_layers, 0], [0, 0, lstm.num_layers]]


CHANGES = {
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight_hh_l0").eval(),
    "prune": lambda m: prune.l1_unstructured(m, "weight_ih_l0", 0.5),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's, of the pruned weight
@pytest.mark.parametrize("change", CHANGES)
def test_parametrizations(change):
    lstm = undertow.LSTM(C, H)
    CHANGES[change](lstm)
    x = torch.randn(T, N, C)
    assert_same(results(compiled(lstm), lstm, x), results(lstm, lstm, x))


def test_dropout_draws_the_same_numbers():
    lstm = undertow.LSTM(C, H, 2, dropout=0.5)
    x = torch.randn(T, N, C)
    found = []
    for f in (torch.compile(lstm, backend="aot_eager", fullgraph=True), lstm):
        torch.manual_seed(0)
        found.append(flat(f(x)))
    assert_same(*found)


def per_sample(lstm):
    def loss(weights, x):
        return torch.func.functional_call(lstm, weights, (x,))[0].square().sum()

    return torch.func.vmap(torch.func.grad(loss), (None, 0))


TRANSFORMS = {
    "per sample": lambda m: lambda x: per_sample(m)(dict(m.named_parameters()), x),
    "vmap": lambda m: torch.func.vmap(lambda x: m(x)[0]),
    "jacrev": lambda m: torch.func.jacrev(lambda x: m(x)[0]),
    "jacfwd": lambda m: torch.func.jacfwd(lambda x: m(x)[0]),
}


@torchscript
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_inside(transform):
    lstm = undertow.LSTM(C, H, dtype=torch.float64)
    f, x = TRANSFORMS[transform](lstm), torch.randn(N, 3, C, dtype=torch.float64)
    found = [torch.utils._pytree.tree_leaves(g(x)) for g in (compiled(f), f)]
    assert_same(*found)


@pytest.mark.parametrize("first", ["undertow.nn", "torch._dynamo"])
def test_whichever_is_imported_first(first, tmp_path):
    """And a saved program runs where ``undertow.kernels.operators`` has been imported."""
    lstm = undertow.LSTM(C, H)
    torch.export.save(torch.export.export(lstm, (torch.ones(T, N, C),)), tmp_path / "lstm.pt2")
    script = f"""
import sys, {first}, torch, undertow
lstm = undertow.LSTM({C}, {H})
assert ("torch._dynamo" in sys.modules) == ({first!r} == "torch._dynamo")
y = torch.compile(lstm, backend="aot_eager", fullgraph=True)(torch.ones({T}, {N}, {C}))[0]
assert torch.equal(y, lstm(torch.ones({T}, {N}, {C}))[0])
print(torch.export.load({str(tmp_path / "lstm.pt2")!r}).module()(torch.ones({T}, {N}, {C}))[0].sum().item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(lstm(torch.ones(T, N, C))[0].sum().item(), abs=1e-5)


# ------------------------------------------------------------------------------- torch.export


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # torch's own, when it saves
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch's own to 2.12, when it loads
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", [undertow.LSTM, undertow.RNN])
def test_export(kind, strict):
    """T and N free; saved and loaded; trained on."""
    module = kind(C, H, 2, bidirectional=True)
    free = ({0: DIM("T", min=2), 1: DIM("N", min=2)},)
    program = torch.export.export(module, (torch.randn(T, N, C),), dynamic_shapes=free)
    assert nodes(program.graph) == [2, 0, 0]
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    x = torch.randn(T + 3, N + 2, C)
    for each in (program, program.run_decompositions(), torch.export.load(file)):
        again = each.module()
        assert_same(results(again, again, x), results(module, module, x))


@pytest.mark.filterwarnings("ignore:The tensor attributes self")  # torch's, of nn.LSTM's forward
def test_onnx_export_takes_torchs_operator(monkeypatch):
    """Which its exporters know: the one that goes through torch.export; the other traces, as test_nn does."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    graph = torch.export.export(undertow.LSTM(C, H), (torch.randn(T, N, C),)).graph
    assert any(node.target is torch.ops.aten.lstm.input for node in graph.nodes)
    assert nodes(graph) == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch's, of what nn.LSTM is too
@pytest.mark.parametrize("batch_first", [False, True])
def test_onnx_export_refuses_free_steps(monkeypatch, batch_first):
    """torch's exporter would write the T of the example into the model; N may be free."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    module, x = undertow.LSTM(C, H, batch_first=batch_first), torch.randn(T, N, C)
    steps = int(batch_first)
    torch.export.export(module, (x,), dynamic_shapes=({1 - steps: DIM("N", min=2)},))
    with pytest.raises(Exception, match=f"expected a fixed number of steps in dimension {steps}"):
        torch.export.export(module, (x,), dynamic_shapes=({steps: DIM("T", min=2)},))


@torchscript
@recorded
@pytest.mark.parametrize("options, given", [({}, "lengths"), ({}, "mask"), ({"layer_norm": True}, None)])
def test_onnx_export_refuses_what_onnx_does_not_have(monkeypatch, options, given):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    model = Given(given, **options)
    example = (torch.randn(T, N, C), TRACED[given][0])
    with pytest.raises(
        RuntimeError, match=r"torch\.onnx\.export: expected calls without lengths, mask and reset"
    ):
        torch.jit.trace(model, example)
    with pytest.raises(
        RuntimeError, match=r"torch\.onnx\.export: expected calls without lengths, mask and reset"
    ):
        torch.export.export(model, example)


# -------------------------------------------------------------------------------- torch.jit.trace


class Given(torch.nn.Module):
    """An LSTM that is given a tensor beside x, packed by it or by the name ``given``."""

    def __init__(self, given, **options):
        super().__init__()
        self.given, self.lstm = given, undertow.LSTM(C, H, **options)

    def forward(self, x, value):
        if self.given == "packed":
            return self.lstm(pack_padded_sequence(x, value, enforce_sorted=False))[0].data
        return self.lstm(x, **({} if self.given is None else {self.given: value}))


TRACED = {  # for the recording, and for a call of it with another T and N
    "lengths": (torch.tensor([2, 6, 0]), torch.tensor([9, 4])),
    "packed": (torch.tensor([2, 6, 1]), torch.tensor([9, 4])),
    "mask": (torch.rand(T, N) < 0.5, torch.rand(9, 2) < 0.5),
    "reset": (torch.rand(T, N) < 0.5, torch.rand(9, 2) < 0.5),
    None: (torch.zeros(()), torch.zeros(())),
}


@torchscript
@recorded
@pytest.mark.parametrize("given", TRACED)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"proj_size": 2},
        {"num_layers": 2, "bidirectional": True},
        {"zoneout": 0.3},
        {"learn_initial_state": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_jit_trace_freezes_neither_values_nor_sizes(given, options):
    model, other = Given(given, **options).eval(), (torch.randn(9, 2, C), TRACED[given][1])
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)  # states among them, which begin at zero
    program = torch.jit.trace(model, (torch.randn(T, N, C), TRACED[given][0]))
    stream = io.BytesIO()
    torch.jit.save(program, stream)
    stream.seek(0)
    found, expected = program(*other), model(*other)
    assert_same(flat(found), flat(expected))
    assert_same(flat(torch.jit.load(stream)(*other)), flat(expected))
    parameters = [*model.parameters()]
    grads = [
        torch.autograd.grad(flat(each)[0].sum(), parameters, allow_unused=True) for each in (found, expected)
    ]
    assert_same(*([g for g in each if g is not None] for each in grads))


def test_y_of_an_operator_may_be_written_to():
    module, x = undertow.LSTM(C, H, num_layers=2), torch.randn(T, N, C)
    program = torch.export.export(module, (x,)).module()
    found, expected = (
        torch.autograd.grad(y.sum(), list(m.parameters()))
        for m, y in ((program, program(x)[0].relu_()), (module, module(x)[0].relu()))
    )
    assert_same(found, expected)


@torchscript
@recorded
def test_jit_trace_refuses_a_tape():
    class Model(Given):
        def forward(self, x):
            return self.lstm(x, return_tape=True)[0]

    with pytest.raises(RuntimeError, match="return_tape: expected False"):
        torch.jit.trace(Model(None), (torch.randn(T, N, C),))


@torchscript
@recorded
def test_jit_trace_of_packed_rows_with_dropout_of_the_input():
    model, x = Given("packed", input_dropout=0.5), torch.randn(9, 2, C)
    lengths = torch.tensor([9, 4])
    program = torch.jit.trace(model, (x[:6], torch.tensor([2, 6])), check_trace=False)
    torch.manual_seed(0)
    expected = model(x, lengths)
    torch.manual_seed(0)
    assert_same([program(x, lengths)], [expected])


def test_export_of_lengths():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = undertow.LSTM(C, H)

        def forward(self, x, lengths):
            return self.lstm(x, lengths=lengths)

    model, batch = Model(), DIM("N", min=2)
    given = (torch.randn(T, N, C), torch.tensor([1, 6, 0]))
    free = ({0: DIM("T", min=2), 1: batch}, {0: batch})
    program = torch.export.export(model, given, dynamic_shapes=free)
    other = (torch.randn(9, 2, C), torch.tensor([9, 4]))
    assert_same(flat(program.module()(*other)), flat(model(*other)))


# ------------------------------------------------------------------------------ the operators

RAGGED = {
    "even": (None, None, None),
    "padded": (torch.tensor([2, 6, 0]), None, None),
    "packed": (None, torch.tensor([3, 2, 1]), torch.tensor([1, 2, 0])),
}


def given(cell="lstm", ragged="even", D=1, P=0, phi="tanh"):
    """An operator's arguments in float64, leaves of autograd."""
    G, R = {"lstm": 4, "rnn": 1}[cell] * H, P or H
    shapes = [(6, C) if ragged == "packed" else (T, N, C), (D, N, R), (D, N, H) if cell == "lstm" else None]
    shapes += [(G, C), (G, R), (G,), (G,), (P, H) if P else None] * D
    args = [s and torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    return (cell, phi, *RAGGED[ragged], args, D, False, False)


CALLS = {
    "LSTM": {},
    "LSTM, packed, both ways": {"ragged": "packed", "D": 2},
    "LSTM, padded, both ways": {"ragged": "padded", "D": 2},
    "RNN, padded": {"cell": "rnn", "ragged": "padded"},
    "projection": {"P": 2, "D": 2},
    "relu": {"cell": "rnn", "phi": "relu"},
}


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch 2.14 reads it itself
@pytest.mark.parametrize("call", CALLS)
def test_torchs_checks_of_operators(call):
    torch.manual_seed(0)
    args = given(**CALLS[call])
    opcheck(OPS.layer.default, args)
    without_grad = (*args[:5], [t if t is None else t.detach() for t in args[5]], *args[6:])
    checks = ["test_schema", "test_faketensor", "test_aot_dispatch_dynamic"]
    if args[2] is not None:  # the tape has rows that no sequence fills, and nobody writes
        checks.pop()
    opcheck(OPS.layer_with_tape.default, without_grad, test_utils=checks)
    found = OPS.layer_with_tape(*without_grad)
    states = 2 if args[0] == "lstm" else 1
    douts = [torch.randn_like(out) for out in found[: 1 + states]]
    if (len(found) == 1 + states and args[0] == "lstm") or args[1] == "relu":
        return  # the layer is run again under autograd, which torch's checks switch off
    wanted = [t is not None for t in args[5]]
    opcheck(OPS.layer_backward.default, (*without_grad, found[0], found[1 + states :], douts, wanted))


@pytest.mark.parametrize("call", CALLS)
def test_first_and_second_derivatives(call):
    torch.manual_seed(0)
    *first, args, D, varied, coupled = given(**CALLS[call])
    leaves = [t for t in args if t is not None]

    def f(*leaves):
        rest = iter(leaves)
        return tuple(OPS.layer(*first, [t if t is None else next(rest) for t in args], D, varied, coupled))

    assert gradcheck(f, leaves, fast_mode=True)
    assert gradgradcheck(f, leaves, fast_mode=True)


@torchscript
def test_forward_mode_is_refused_by_the_operator():
    *first, args, D, varied, coupled = given()
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        OPS.layer(*first, [forward_ad.make_dual(args[0], args[0]), *args[1:]], D, varied, coupled)
