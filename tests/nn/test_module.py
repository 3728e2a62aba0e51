"""The modules as a drop-in: what people do with an nn.LSTM beside calling it (for that, test_parity)."""

import copy
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import undertow
from modules import PAIRS, assert_same, flat, pair
from torchscript import torchscript
from undertow.kernels import cpu, dispatch

both_cells = pytest.mark.parametrize("cell", PAIRS)
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.25},
    {"bias": False, "dtype": torch.float64},
]
T, N, C, H = 6, 3, 4, 5


# ------------------------------------------------------------------- construction and state


@both_cells
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_made_as_torch_makes_it(cell, options):
    theirs, ours = pair(cell, C, H, **options)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert len(a) == len(b)


def test_positional_arguments():
    assert repr(undertow.LSTM(3, 4, 2, True, True, 0.1, True, 2)) == repr(
        torch.nn.LSTM(3, 4, 2, True, True, 0.1, True, 2)
    )
    assert undertow.RNN(3, 4, 1, "relu").nonlinearity == "relu"


@both_cells
def test_state_dicts_load_both_ways(cell):
    theirs, ours = pair(cell, C, H, num_layers=2)
    other = type(ours)(C, H, 2)
    other.load_state_dict(theirs.state_dict())
    assert_same(other(torch.ones(T, C)), theirs(torch.ones(T, C)))
    theirs.load_state_dict(type(ours)(C, H, 2).state_dict())


@both_cells
def test_copies(cell):
    _, ours = pair(cell, C, H, num_layers=2)
    x = torch.randn(T, N, C)
    expected = ours(x)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    loaded = type(ours)(C, H, 2)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for twin in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), loaded):
        assert_same(twin(x), expected, 0)
    deep = copy.deepcopy(ours)
    with torch.no_grad():
        deep.weight_hh_l0.zero_()
    assert_same(ours(x), expected, 0)


@both_cells
def test_dtype_and_device_moves(cell):
    theirs, ours = pair(cell, C, H)
    for dtype in (torch.float64, torch.bfloat16, torch.half, torch.float32):
        theirs, ours = theirs.to(dtype), ours.to(dtype)
        x = torch.linspace(-1, 1, T * N * C).view(T, N, C).to(dtype)
        tolerance = {torch.bfloat16: 0.02, torch.half: 0.003}.get(dtype, 1e-6)
        assert_same(ours(x), theirs(x), tolerance)
    meta = type(ours)(C, H, 2, bidirectional=True, device="meta")
    y = meta(torch.empty(T, N, C, device="meta"))[0]
    assert y.is_meta
    assert y.shape == (T, N, 2 * H)
    assert meta.to_empty(device="cpu")(torch.zeros(T, N, C))[0].shape == y.shape


# ------------------------------------------------------------------------------- arguments


WRONG = {
    "4-D": lambda m: m(torch.zeros(1, T, N, C)),
    "1-D": lambda m: m(torch.zeros(C)),
    "features": lambda m: m(torch.zeros(T, N, C + 1)),
    "dtype": lambda m: m(torch.zeros(T, N, C, dtype=torch.float64)),
    "integers": lambda m: m(torch.zeros(T, N, C, dtype=torch.long)),
    "no steps": lambda m: m(torch.zeros(0, N, C)),
    "a list": lambda m: m([[1.0] * C]),
    "h_0 batch": lambda m: m(torch.zeros(T, N, C), states(m, 1, N + 1, H)),
    "h_0 size": lambda m: m(torch.zeros(T, N, C), states(m, 1, N, H + 1)),
    "h_0 layers": lambda m: m(torch.zeros(T, N, C), states(m, 2, N, H)),
    "h_0 2-D": lambda m: m(torch.zeros(T, N, C), states(m, 1, H)),
    "h_0 3-D": lambda m: m(torch.zeros(T, C), states(m, 1, N, H)),
    "h_0 dtype": lambda m: m(torch.zeros(T, N, C), states(m, 1, N, H, dtype=torch.float64)),
    "h_0 of the other cell": lambda m: m(torch.zeros(T, N, C), states(m, 1, N, H, pair=m.mode != "LSTM")),
    "h_0 and None": lambda m: m(torch.zeros(T, N, C), (torch.zeros(1, N, H), None)),
    "packed features": lambda m: m(pack_padded_sequence(torch.zeros(T, N, C + 1), [6, 5, 2])),
    "packed h_0": lambda m: m(pack_padded_sequence(torch.zeros(T, N, C), [6, 5, 2]), states(m, 1, N + 1, H)),
}


def states(module, *shape, dtype=torch.float32, pair=None):
    h = torch.zeros(shape, dtype=dtype)
    return (h, h.clone()) if (module.mode == "LSTM" if pair is None else pair) else h


@both_cells
@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused_in_torchs_words(cell, what):
    theirs, ours = pair(cell, C, H)
    with pytest.raises(Exception) as expected:
        WRONG[what](theirs)
    with pytest.raises(type(expected.value)) as actual:
        WRONG[what](ours)
    assert str(actual.value) == str(expected.value)


@both_cells
@pytest.mark.parametrize(
    "args, options",
    [((3,), {}), ((0, 4), {}), ((3, 4.0), {}), ((3, 4), {"dropout": 2}), ((3, 4), {"num_layers": 0}),
     ((3, 4), {"bias": 1}), ((3, 4), {"nonsense": 1}), ((3, 4), {"proj_size": 4})],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused_in_torchs_words(cell, args, options):
    theirs, ours = PAIRS[cell]
    with pytest.raises((TypeError, ValueError)) as expected:
        theirs(*args, **options)
    with pytest.raises(type(expected.value)) as actual:
        ours(*args, **options)
    assert str(actual.value) == str(expected.value)


def test_three_states_are_too_many():
    x, h = torch.zeros(T, N, C), torch.zeros(1, N, H)
    for module in pair("LSTM", C, H):
        with pytest.raises(RuntimeError, match="lstm expects two hidden states"):
            module(x, (h, h, h))


@both_cells
@pytest.mark.parametrize("shape", [(T, 0, C), (1, N, C), (1, 1, C)], ids=str)
def test_awkward_sizes(cell, shape):
    results = []
    for module in pair(cell, C, H, num_layers=2, bidirectional=True):
        x = torch.ones(shape, requires_grad=True)
        result = flat(module(x))
        sum(t.sum() for t in result).backward()
        results.append([*result, x.grad, *(p.grad for p in module.parameters())])
    assert_same(*results, 1e-5)


@both_cells
def test_states_are_not_changed_and_can_be_carried_on(cell):
    _, ours = pair(cell, C, H, num_layers=2)
    x = torch.randn(T, N, C)
    y, final = ours(x)
    first, middle = ours(x[:2])
    kept = [t.clone() for t in flat(middle)]
    second, end = ours(x[2:], middle)
    assert_same(torch.cat([first, second]), y)
    assert_same(end, final)
    assert_same(middle, kept, 0)


@both_cells
def test_states_can_be_detached_in_place(cell):
    _, ours = pair(cell, C, H)
    for state in flat(ours(torch.randn(T, N, C))[1]):
        state.detach_()
        assert not state.requires_grad


def test_hx_may_be_a_list():
    theirs, ours = pair("LSTM", C, H)
    x, hx = torch.randn(T, N, C), [torch.randn(1, N, H), torch.randn(1, N, H)]
    assert_same(ours(x, hx), theirs(x, hx))


@both_cells
def test_packing_gives_what_padding_gives(cell):
    """The same sequences one by one, unpacked; and what pad_packed_sequence makes of the result."""
    _, ours = pair(cell, C, H, bidirectional=True)
    x, lengths = torch.randn(T, N, C), [2, 6, 3]
    y, _ = ours(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded, got = pad_packed_sequence(y)
    assert got.tolist() == lengths
    for n, length in enumerate(lengths):
        assert_same(padded[:length, n], ours(x[:length, n])[0])
        assert not padded[length:, n].any()


# -------------------------------------------------------------------- autograd and transforms


LENGTHS = [[6, 2, 4], [1, 6, 6], [3, 3, 3], [0, 6, 1], [0, 0, 0]]


@both_cells
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("path", ["native", "plain"])
def test_lengths_give_what_packing_gives(cell, lengths, path, monkeypatch):
    """Outputs, states and gradients; a sequence of no steps keeps its initial state."""
    if path == "plain":
        monkeypatch.setattr(cpu, "native", None)
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "dtype": torch.float64}
    theirs, ours = pair(cell, C, H, **options)
    x = torch.randn(N, T, C, dtype=torch.float64, requires_grad=True)
    states = [
        torch.randn(4, N, H, dtype=torch.float64, requires_grad=True) for _ in range(1 + (cell == "LSTM"))
    ]
    hx = tuple(states) if cell == "LSTM" else states[0]
    y, finals = ours(x, hx, lengths=lengths)
    some = [n for n in range(N) if lengths[n]]
    part = [s[:, some] for s in states]
    packed = (
        pack_padded_sequence(x[some], [lengths[n] for n in some], True, enforce_sorted=False)
        if some
        else None
    )
    for n in range(N):
        assert not y[n, lengths[n] :].any()
    assert y.shape == (N, T, 2 * H)
    for final, start in zip(flat(finals), states, strict=True):
        for n in set(range(N)) - set(some):
            assert torch.equal(final[:, n], start[:, n])
    if packed is None:
        return
    y_, finals_ = theirs(packed, tuple(part) if cell == "LSTM" else part[0])
    y_, _ = pad_packed_sequence(y_, batch_first=True, total_length=T)
    outputs, expected = [y[some], *(f[:, some] for f in flat(finals))], [y_, *flat(finals_)]
    douts = [torch.randn_like(o) for o in outputs]
    wrt = [x, *states]
    grads = torch.autograd.grad(outputs, [*wrt, *ours.parameters()], douts)
    expected_grads = torch.autograd.grad(expected, [*wrt, *theirs.parameters()], douts)
    assert_same([*outputs, *grads], [*expected, *expected_grads], 1e-10)


def test_lengths_may_be_any_integers():
    lstm = undertow.LSTM(C, H)
    x = torch.randn(T, N, C)
    expected = lstm(x, lengths=[2, 6, 0])
    for lengths in ((2, 6, 0), torch.tensor([2, 6, 0]), torch.tensor([2, 6, 0], dtype=torch.uint8)):
        assert_same(lstm(x, lengths=lengths), expected, 0)
    assert_same(lstm(x, lengths=torch.tensor([2, 9, 6, 9, 0, 9])[::2]), expected, 0)
    with torch.no_grad():
        assert_same(lstm(x, lengths=[2, 6, 0]), expected, 0)


def test_no_lengths_for_no_sequences():
    y, (h_n, _) = undertow.LSTM(3, 4)(torch.randn(5, 0, 3), lengths=[])
    assert y.shape == (5, 0, 4)
    assert h_n.shape == (1, 0, 4)


@pytest.mark.parametrize("options", [{}, {"peepholes": True}], ids=str)
def test_lengths_may_change_before_the_backward(options):
    """As they do where a loader fills the same memory again."""
    lstm, x, lengths = undertow.LSTM(C, H, **options), torch.randn(6, 3, C), torch.tensor([2, 6, 0])
    (expected,) = torch.autograd.grad(lstm(x, lengths=[2, 6, 0])[0].sum(), lstm.weight_ih_l0)
    y, _ = lstm(x, lengths=lengths)
    lengths.copy_(torch.tensor([6, 0, 2]))
    assert torch.equal(torch.autograd.grad(y.sum(), lstm.weight_ih_l0)[0], expected)


@pytest.mark.parametrize("path", ["native", "plain"])
@pytest.mark.parametrize(
    ("lengths", "error"),
    [([2, 7, 0], ValueError), ([2, -1, 0], ValueError), ([2, 6], ValueError), ([[2, 6, 0]], ValueError),
     ([2.0, 6.0, 0.0], TypeError), ([True, False, True], TypeError)],
)  # fmt: skip
def test_lengths_that_do_not_fit(lengths, error, path, monkeypatch):
    if path == "plain":
        monkeypatch.setattr(cpu, "native", None)
    with pytest.raises(error, match=r"^lengths: expected .*, got "):
        undertow.LSTM(C, H)(torch.randn(T, N, C), lengths=lengths)


@pytest.mark.parametrize("what", ["unbatched", "packed"])
def test_lengths_belong_to_a_batch(what):
    x = torch.randn(T, C) if what == "unbatched" else pack_padded_sequence(torch.randn(T, N, C), [6, 4, 1])
    with pytest.raises(ValueError, match=r"^lengths: expected with a batched input of 3 dimensions, got "):
        undertow.LSTM(C, H)(x, lengths=[1, 2, 3])


@both_cells
def test_autocast_gives_torchs_dtype(cell):
    theirs, ours = pair(cell, C, H, num_layers=2)
    x = torch.linspace(-1, 1, T * N * C).view(T, N, C)
    expected = flat(theirs(x))
    for dtype in (torch.bfloat16, torch.half):  # torch's own LSTM takes half only on some processors
        for given in (x, x.to(dtype)):
            with torch.autocast("cpu", dtype=dtype):
                result = ours(given)
            assert_same(result, [e.to(dtype) for e in expected], 0.02)
    with torch.autocast("cpu"):
        assert_same(ours.double()(x.double()), theirs.double()(x.double()))


@both_cells
def test_backward_in_eval_mode_and_frozen_subsets(cell):
    results = []
    for module in pair(cell, C, H, num_layers=2, dropout=0.5):
        module.eval().weight_ih_l0.requires_grad_(False)
        module.bias_hh_l1.requires_grad_(False)
        x = torch.ones(T, N, C, requires_grad=True)
        module(x)[0].sum().backward()
        assert module.weight_ih_l0.grad is None
        assert module.bias_hh_l1.grad is None
        results.append([x.grad, *(p.grad for p in module.parameters() if p.requires_grad)])
    assert_same(*results, 1e-5)


@both_cells
def test_functional_call_with_other_weights(cell):
    theirs, ours = pair(cell, C, H)
    x = torch.randn(T, N, C)
    weights = {name: torch.randn_like(p, requires_grad=True) for name, p in ours.named_parameters()}
    before = ours(x)
    results = [torch.func.functional_call(m, weights, (x,))[0] for m in (theirs, ours)]
    assert_same(*results)
    assert_same(*[torch.autograd.grad(r.sum(), list(weights.values())) for r in results], 1e-5)
    assert_same(ours(x), before, 0)


@both_cells
def test_per_sample_gradients(cell):
    """vmap over grad over functional_call: the gradient of each sequence alone."""
    _, ours = pair(cell, C, H, dtype=torch.float64)
    x = torch.randn(N, T, C, dtype=torch.float64)
    weights = dict(ours.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(ours, weights, (x,))[0].square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for n in range(N):
        alone = torch.autograd.grad(ours(x[n])[0].square().sum(), list(weights.values()))
        assert_same([g[n] for g in together.values()], alone, 1e-12)


@both_cells
def test_double_backward(cell):
    results = []
    for module in pair(cell, C, H, num_layers=2, bidirectional=True, dtype=torch.float64):
        x = torch.linspace(-1, 1, T * N * C, dtype=torch.float64).view(T, N, C).requires_grad_()
        (dx,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        dx.square().sum().backward()  # a gradient penalty
        results.append([dx, x.grad, *(p.grad for p in module.parameters())])
    assert_same(*results, 1e-10)


@both_cells
def test_hooks_parametrizations_and_pruning(cell):
    x = torch.randn(T, N, C)
    for change in (
        lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
        # each reading of the weight is a power iteration: enough of them that both sides have converged
        lambda m: parametrizations.spectral_norm(m, "weight_hh_l0", n_power_iterations=200),
        lambda m: prune.l1_unstructured(m, "weight_ih_l0", 0.5),
        lambda m: m.register_forward_hook(lambda _m, _args, out: (out[0] * 2, out[1])),
        lambda m: m.register_parameter("weight_hh_l0", torch.nn.Parameter(torch.ones_like(m.weight_hh_l0))),
    ):
        results = []
        for module in pair(cell, C, H):
            torch.manual_seed(1)
            change(module)
            result = flat(module(x))
            result[0].sum().backward()
            results.append([*result, *(p.grad for p in module.parameters())])
        assert_same(*results, 1e-5)


@both_cells
def test_a_parametrization_is_evaluated_once_a_call(cell):
    class Counted(torch.nn.Module):
        calls = 0

        def forward(self, weight):
            Counted.calls += 1
            return weight

    _, ours = pair(cell, C, H)
    torch.nn.utils.parametrize.register_parametrization(ours, "weight_ih_l0", Counted())
    Counted.calls = 0
    ours(torch.zeros(T, N, C))
    assert Counted.calls == 1


def test_tied_weights_sum_their_gradients():
    results = []
    for module in pair("RNN", H, H):
        module.weight_hh_l0 = module.weight_ih_l0
        module(torch.ones(T, N, H))[0].sum().backward()
        results.append([p.grad for p in module.parameters()])
    assert_same(*results, 1e-5)


# ------------------------------------------------------------------------ torch's own programs


@both_cells
@torchscript
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # torch's own
def test_torchscript(cell):
    theirs, ours = pair(cell, C, H, num_layers=2)
    x = torch.randn(T, N, C)
    assert_same(torch.jit.trace(ours, (x[:2],))(x), theirs(x))
    model = torch.nn.Sequential(ours)  # as with nn.LSTM, script takes models that hold one, not the bare one
    assert_same(torch.jit.script(model)(x), theirs(x))


class Masked(torch.nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.inner = torch.nn.ModuleList([lstm])

    def forward(self, x, mask=None):
        return self.inner[0](x, mask=mask)[0] if mask is not None else self.inner[0](x)[0]


@both_cells
def test_fx_leaves_it_whole(cell):
    """As one node, ``call_module``, which fx does for the modules of torch.nn alone."""
    theirs, ours = pair(cell, C, H)
    x, mask = torch.randn(T, N, C), torch.rand(T, N) < 0.5
    model = Masked(ours)
    graph = torch.fx.symbolic_trace(model, {"mask": None})
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["inner.0"]
    assert_same(graph(x), theirs(x)[0])
    assert torch.equal(torch.fx.symbolic_trace(model)(x, mask), model(x, mask))


@both_cells
def test_cuda_is_torchs_own(cell):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    theirs, ours = (m.cuda() for m in pair(cell, C, H, num_layers=2))
    x = torch.randn(T, N, C, device="cuda")
    assert_same(ours(x), theirs(x), 0)


def test_other_devices_and_recordings_are_torchs():
    class Device:
        is_cpu = is_meta = False

    assert dispatch.torch_serves(Device())
    assert not dispatch.torch_serves(torch.zeros(1))
    assert not dispatch.torch_serves(torch.zeros(1, device="meta"))


def test_dropout_between_layers_may_be_another_function():
    lstm, seen = undertow.LSTM(C, H, 3, dropout=0.5), []
    lstm.dropout_function = lambda x, p: seen.append((tuple(x.shape), p)) or torch.zeros_like(x)
    x = torch.randn(T, N, C)
    y, _ = lstm(x)
    other, _ = lstm(torch.randn(T, N, C))
    assert seen == [((T, N, H), 0.5)] * 4
    assert torch.equal(y, other), "the last layer sees what the function returns"
    lstm.eval()(x)
    assert len(seen) == 4


def test_dropout_is_warned_of_with_one_layer():
    for kind in PAIRS["LSTM"]:
        with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
            kind(C, H, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        undertow.LSTM(C, H, 2, dropout=0.5)


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only Linux says how much memory a process holds"
)
def test_memory_kept_for_the_next_call_goes_with_the_last_module():
    """Resident pages kept between steps, after one module and after the last: 60 MB of tape."""
    code = """
import copy, os, pathlib, pickle, torch, undertow
def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
lstm = undertow.LSTM(8, 64)
lstm(torch.randn(9, 2, 8))[0].sum().backward()
others = [copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm)), undertow.convert(torch.nn.RNN(2, 3))]
before = resident()
lstm(torch.randn(400, 100, 8))[0].sum().backward()
print(resident() - before)
del lstm
while others:
    print(resident() - before)
    others.pop()
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *kept, after = map(int, done.stdout.split())
    assert len(kept) == 4
    assert min(kept) > 40e6
    assert after < min(kept) / 2
