"""Training in segments: the results of training in one go, from a fraction of its memory."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import undertow
from torchscript import torchscript
from undertow.app.bench import memory
from undertow.kernels import cpu

KINDS = {"LSTM": undertow.LSTM, "RNN": undertow.RNN}
T, N, C, H = 11, 4, 3, 9
LENGTHS = [4, 11, 1, 6]
both_cells = pytest.mark.parametrize("cell", KINDS)
segments = pytest.mark.parametrize("K", [1, 4, 5, T, T + 9])  # 5 leaves a segment of one step
layouts = pytest.mark.parametrize("layout", ["even", "lengths", "packed", "batch first", "strided"])
# Gradients are sums in another order: of the largest entry, at these sizes.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def train(module, x, hx=(), layout="even", lengths=LENGTHS, wanted=None, dy=None):
    """Outputs, and gradients of x, hx and the parameters, or of those ``wanted``, by position."""
    x = x.clone().requires_grad_()
    hx = [s.clone().requires_grad_() for s in hx]
    states = None if not hx else tuple(hx) if module.mode == "LSTM" else hx[0]
    module.batch_first = layout == "batch first"
    if layout == "lengths":
        y, finals = module(x, states, lengths=lengths)
    elif layout == "packed":
        y, finals = module(pack_padded_sequence(x, lengths, enforce_sorted=False), states)
    elif layout == "batch first":
        y, finals = module(x.transpose(0, 1), states)
    elif layout == "strided":  # every other element, in the last dimension too
        y, finals = module(x.repeat_interleave(2, 2)[..., ::2], states)
    else:
        y, finals = module(x, states)
    y = y.data if isinstance(y, PackedSequence) else y
    outputs = [y, *(finals if module.mode == "LSTM" else (finals,))]
    generator = torch.Generator().manual_seed(5)
    douts = [torch.randn(o.shape, dtype=o.dtype, generator=generator) for o in outputs]
    if layout == "strided":
        douts = [d.transpose(0, -1).contiguous().transpose(0, -1) for d in douts]
    wrt = [x, *hx, *module.parameters()]
    wrt = wrt if wanted is None else [wrt[k] for k in wanted]
    return outputs, torch.autograd.grad(outputs, wrt, douts)


def task(cell, dtype=torch.float64, sizes=(T, N), hx=True, **options):
    """A module, x and its initial states."""
    torch.manual_seed(3)
    module = KINDS[cell](C, H, dtype=dtype, **options)
    blocks = module.num_layers * (2 if module.bidirectional else 1)
    states = [torch.randn(blocks, sizes[1], H, dtype=dtype) for _ in range(2 if cell == "LSTM" else 1)]
    return module, torch.randn(*sizes, C, dtype=dtype), states if hx else ()


def assert_close(actual, expected, dtype=torch.float64):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=TOLERANCE[dtype] * e.abs().max().item())


def assert_same(actual, expected, dtype=torch.float64):
    """Outputs bit for bit, gradients to rounding."""
    for a, e in zip(actual[0], expected[0], strict=True):
        assert torch.equal(a, e)
    assert_close(actual[1], expected[1], dtype)


@pytest.fixture
def forwards(monkeypatch):
    """The steps or rows of each forward call of the kernel, and whether it left a tape."""
    assert cpu.native is not None, "the native extension was not built"
    calls, kernel = [], cpu.native.forward

    def forward(*args):
        calls.append((args[1].shape[0], args[5] is not None))
        kernel(*args)

    monkeypatch.setattr(cpu.native, "forward", forward)
    return calls


# ----------------------------------------------------------------------------- the same results


@both_cells
@segments
@layouts
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_results_are_those_in_one_go(cell, K, layout, bidirectional, dtype):
    module, x, hx = task(cell, dtype, num_layers=2, bidirectional=bidirectional)
    expected = train(module, x, hx, layout)
    module.checkpoint = K
    assert_same(train(module, x, hx, layout), expected, dtype)


@both_cells
@pytest.mark.parametrize("lengths", [[0, 0, 11, 3], [0, 5, 5, 5], [1, 1, 1, 1], [0, 0, 0, 0]], ids=str)
def test_segments_in_which_nothing_runs(cell, lengths):
    module, x, hx = task(cell, bidirectional=True)
    expected = train(module, x, hx, "lengths", lengths)
    module.checkpoint = 3
    assert_same(train(module, x, hx, "lengths", lengths), expected)


@both_cells
@layouts
@pytest.mark.parametrize("sizes", [(T, 1), (1, 1), (1, N)], ids=str)
def test_one_sequence_and_one_step(cell, layout, sizes):
    module, x, hx = task(cell, sizes=sizes, bidirectional=True)
    lengths = [min(n, sizes[0]) for n in LENGTHS[: sizes[1]]]
    expected = train(module, x, hx, layout, lengths)
    module.checkpoint = 2
    assert_same(train(module, x, hx, layout, lengths), expected)


@both_cells
@layouts
def test_without_initial_states_or_biases(cell, layout):
    module, x, _ = task(cell, bidirectional=True, bias=False)
    expected = train(module, x, (), layout)
    module.checkpoint = 4
    assert_same(train(module, x, (), layout), expected)


def test_unbatched():
    module, x, hx = task("LSTM", sizes=(T, 1))
    whole, segmented = module, copy.deepcopy(module)
    segmented.checkpoint = 4
    x, hx = x[:, 0], [s[:, 0] for s in hx]
    assert_same(train(segmented, x, hx), train(whole, x, hx))


@both_cells
@pytest.mark.parametrize("wanted", range(7))
def test_gradients_of_subsets(cell, wanted):
    """Each argument alone, all others being constants."""
    module, x, hx = task(cell)
    wanted = min(wanted, 4 + len(hx))
    _, expected = train(module, x, hx, wanted=[wanted])
    module.checkpoint = 4
    module.requires_grad_(False)
    tensors = [x, *hx, *module.parameters()]
    tensors[wanted].requires_grad_()
    y, finals = module(x, tuple(hx) if cell == "LSTM" else hx[0])
    outputs = [y, *(finals if cell == "LSTM" else (finals,))]
    generator = torch.Generator().manual_seed(5)
    douts = [torch.randn(o.shape, dtype=o.dtype, generator=generator) for o in outputs]
    torch.autograd.backward(outputs, douts)
    assert_close([tensors[wanted].grad], expected)
    assert [t.grad is not None for t in tensors].count(True) == 1


@both_cells
@pytest.mark.parametrize("which", range(3))
def test_gradients_of_one_output(cell, which):
    module, x, hx = task(cell)
    results = []
    for module.checkpoint in (None, 4):
        leaf = x.clone().requires_grad_()
        y, finals = module(leaf, tuple(hx) if cell == "LSTM" else hx[0])
        outputs = [y, *(finals if cell == "LSTM" else (finals,))]
        loss = outputs[min(which, len(outputs) - 1)].sum()  # for y a gradient of strides 0
        results.append(torch.autograd.grad(loss, [leaf, *module.parameters()]))
    assert_close(results[1], results[0])


def test_bfloat16_is_near():
    """There c is rounded at the segments' starts; a weight's gradient is not while it is summed."""
    module, x, hx = task("LSTM", torch.bfloat16, sizes=(600, N), bidirectional=True)
    outputs, grads = train(module, x, hx)
    module.checkpoint = 2
    near, near_grads = train(module, x, hx)
    for a, e in zip([*near, *near_grads], [*outputs, *grads], strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=0.03 * e.abs().max().item())


# ----------------------------------------------------------------------------- the graph's node


@both_cells
def test_the_tape_is_made_segment_by_segment(forwards, cell):
    module, x, hx = task(cell, checkpoint=4)
    train(module, x, hx)
    tape = cell == "LSTM"  # the RNN's is its y
    assert forwards == [(4, False), (4, False), (3, False), (3, tape), (4, tape), (4, tape)]


def test_reverse_goes_the_other_way(forwards):
    module, x, hx = task("LSTM", checkpoint=4, bidirectional=True)
    train(module, x, hx)
    assert [rows for rows, _ in forwards] == [4, 4, 3, 3, 4, 4, 3, 4, 4, 4, 4, 3]


def test_nothing_is_cut_where_nobody_asks_for_gradients(forwards):
    module, x, _ = task("LSTM", checkpoint=4)
    with torch.no_grad():
        module(x)
    module.requires_grad_(False)(x)
    assert forwards == [(T, False)] * 2


@both_cells
def test_backward_twice(cell):
    module, x, _ = task(cell, checkpoint=4, bidirectional=True)
    loss = module(x)[0].square().sum()
    wrt = list(module.parameters())
    first = torch.autograd.grad(loss, wrt, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, wrt), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, wrt)


@both_cells
def test_double_backward(cell):
    module, x, _ = task(cell, bidirectional=True)
    results = []
    for module.checkpoint in (None, 4):
        leaf = x.clone().requires_grad_()
        (dx,) = torch.autograd.grad(module(leaf)[0].square().sum(), leaf, create_graph=True)
        results.append([dx, *torch.autograd.grad(dx.square().sum(), [leaf, *module.parameters()])])
    assert_close(results[1], results[0])


def test_outputs_may_be_changed():
    """None of them is kept, unlike without checkpoint; the weights are."""
    module, x, _ = task("LSTM")
    expected = train(module, x)[1]
    module.checkpoint = 4
    y, (h_n, c_n) = module(x)
    generator = torch.Generator().manual_seed(5)
    grads = [torch.randn(o.shape, dtype=o.dtype, generator=generator) for o in (y, h_n, c_n)]
    for each in (y, h_n, c_n):
        each.detach().zero_()
    found = torch.autograd.grad((y, h_n, c_n), list(module.parameters()), grads)
    assert_close(found, expected[1:])
    y = module(x)[0]
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both_cells
def test_batches_of_gradients(cell):
    module, x, _ = task(cell, checkpoint=4)
    x.requires_grad_()
    y = module(x)[0]
    douts = torch.randn(3, *y.shape, dtype=y.dtype)
    (batched,) = torch.autograd.grad(y, x, douts, is_grads_batched=True, retain_graph=True)
    assert_close(batched, [torch.autograd.grad(y, x, d, retain_graph=True)[0] for d in douts])


@pytest.mark.parametrize("options", [{"proj_size": 2}, {"dtype": torch.half}], ids=str)
def test_ignored_where_native_does_not_serve(forwards, options):
    module, x = undertow.LSTM(C, H, checkpoint=4, **options), torch.ones(T, N, C)
    module(x.to(options.get("dtype")))[0].sum().backward()
    assert not forwards
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("lengths", [[4, 12, 1, 6], [4, 11, -1, 6]], ids=str)
def test_lengths_that_do_not_fit(lengths):
    module, x, _ = task("LSTM", checkpoint=4)
    with pytest.raises(ValueError, match=r"^lengths: expected values between 0 and T = 11, got"):
        module(x, lengths=lengths)


# ----------------------------------------------------------------------------- the option


@both_cells
@pytest.mark.parametrize("wrong", [1.0, "4", True, [4]], ids=repr)
def test_no_integer(cell, wrong):
    with pytest.raises(TypeError, match=r"^checkpoint: expected an int or None, got (float|str|bool|list)$"):
        KINDS[cell](C, H, checkpoint=wrong)


@both_cells
@pytest.mark.parametrize("wrong", [0, -3])
def test_too_few(cell, wrong):
    module = KINDS[cell](C, H, checkpoint=2)
    with pytest.raises(ValueError, match=rf"^checkpoint: expected at least 1 step, got {wrong}$"):
        KINDS[cell](C, H, checkpoint=wrong)
    with pytest.raises(ValueError, match=r"^checkpoint: "):
        module.checkpoint = wrong
    assert module.checkpoint == 2


@both_cells
def test_shown_where_set(cell):
    assert repr(KINDS[cell](C, H, 2, checkpoint=50)) == f"{cell}(3, 9, num_layers=2, checkpoint=50)"
    assert repr(KINDS[cell](C, H)) == f"{cell}(3, 9)"


@both_cells
def test_copies_keep_it_and_old_ones_have_none(cell):
    module = KINDS[cell](C, H, checkpoint=5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.checkpoint == 5
    old = KINDS[cell](C, H)
    assert "_checkpoint" not in old.__dict__  # the state that modules were pickled with before there was one
    assert pickle.loads(pickle.dumps(old)).checkpoint is None
    theirs = getattr(torch.nn, cell)(C, H)
    theirs.__class__ = KINDS[cell]
    assert theirs.checkpoint is None
    assert list(module.state_dict()) == list(old.state_dict())


@torchscript
def test_torchscript():
    module, x, _ = task("LSTM", checkpoint=5)
    torch.testing.assert_close(torch.jit.script(torch.nn.Sequential(module))(x)[0], module(x)[0])


# ----------------------------------------------------------------------------- memory

GROWTH = """
import sys, torch, undertow
from undertow.app.bench.memory import RESET, status
torch.set_num_threads(1)
x = torch.randn(20_000, 8, 16)
module = undertow.LSTM(16, 64, checkpoint=int(sys.argv[1]) or None)
module(x[:9])[0].sum().backward()
RESET.write_text("5")
before = status("VmHWM")
module(x)[0].sum().backward()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not memory.available(), reason="the system does not tell")
def test_memory_is_that_of_y_and_one_segment():
    def growth(K):
        return int(subprocess.check_output([sys.executable, "-c", GROWTH, str(K)]))

    step = 8 * 64 * 4  # bytes of y at one
    y, states, segment, other = 20_000 * step, 2 * 80 * step, 6 * 256 * step, 8 << 20
    bound = y + states + segment + other
    assert growth(256) < bound
    assert growth(0) > 5 * y > 2 * bound  # the tape is five times y
