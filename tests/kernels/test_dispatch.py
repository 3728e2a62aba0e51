"""The boundary: which path serves which call, and that every path gives the equations' gradients."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import undertow
from calls import call_of
from torchscript import torchscript
from undertow import equations
from undertow.kernels import cpu, dispatch, plain
from undertow.kernels.call import EVEN, Ragged

T, N, C, H = 5, 3, 2, 4
LENGTHS = [2, 5, 3]
PADDED = Ragged(lengths=torch.tensor(LENGTHS))
PACKED = Ragged(batch_sizes=torch.tensor([3, 3, 2, 1, 1]), order=torch.tensor([1, 2, 0]))
both_cells = pytest.mark.parametrize("cell", ["lstm", "rnn"])
directions = pytest.mark.parametrize("D", [1, 2], ids=["one way", "both ways"])
ragged_or_not = pytest.mark.parametrize("ragged", [EVEN, PADDED, PACKED], ids=["even", "padded", "packed"])


def arguments(cell, dtype=torch.float64, grad=True, sizes=(T, N, C, H), D=1, packed=False, seed=0):
    """x, h_0, c_0 (LSTM), then weight_ih, weight_hh, bias_ih, bias_hh of each direction."""
    t, n, c, h = sizes
    g = {"lstm": 4, "rnn": 1}[cell] * h
    generator = torch.Generator().manual_seed(seed)
    states = [(D, n, h)] * (2 if cell == "lstm" else 1)
    x = (sum(LENGTHS), c) if packed else (t, n, c)
    shapes = [x, *states, *[(g, c), (g, h), (g,), (g,)] * D]
    made = [torch.randn(s, dtype=torch.float64, generator=generator).to(dtype) for s in shapes]
    return [t.requires_grad_() for t in made] if grad else made


def run(cell, args, ragged=EVEN, path="native", nonlinearity="tanh"):
    """``args`` as above through dispatch.layer, or through the plain path below it."""
    first = 3 if cell == "lstm" else 2
    weights = [[*args[k : k + 4], None] for k in range(first, len(args), 4)]
    call = call_of(cell, args[0], args[1:first], weights, ragged, nonlinearity=nonlinearity)
    return plain.layer(call) if path == "plain" else dispatch.layer(call)


def lstm(*args):
    return run("lstm", args)


def pad(rows):
    """[R,K], packed as PACKED says -> [T,N,K]."""
    out, ends = np.zeros((T, N, rows.shape[1])), PACKED.batch_sizes.cumsum(0)
    for t, n in enumerate(PACKED.batch_sizes):
        out[t, PACKED.order[:n]] = rows[ends[t] - n : ends[t]]
    return out


class Spy:
    """The native kernel, counting its calls and keeping the last backward's arguments."""

    def __init__(self, kernel):
        self.kernel, self.forwards, self.backwards = kernel, 0, []

    def forward(self, *args):
        self.forwards += 1
        self.kernel.forward(*args)

    def backward(self, *args):
        self.backwards.append(args)
        self.kernel.backward(*args)

    def __getattr__(self, name):  # modules of earlier tests may die here, and release their memory
        return getattr(self.kernel, name)


@pytest.fixture
def spy(monkeypatch):
    assert cpu.native is not None, "the native extension was not built"
    spy = Spy(cpu.native)
    monkeypatch.setattr(cpu, "native", spy)
    return spy


# ------------------------------------------------------------------------- the paths' results


@both_cells
@directions
@ragged_or_not
@pytest.mark.parametrize("path", ["native", "plain"])
def test_paths_agree_with_the_equations(spy, cell, D, ragged, path):
    args = arguments(cell, D=D, packed=ragged is PACKED)
    outputs = run(cell, args, ragged, path)
    douts = [torch.randn_like(o) for o in outputs]
    grads = torch.autograd.grad(outputs, args, douts)
    assert bool(spy.forwards) == (path == "native") == bool(spy.backwards)

    put = pad if ragged is PACKED else np.asarray
    x, *rest = [a.detach().numpy() for a in args]
    dy, *dstates = [d.numpy() for d in douts]
    states, rest = rest[: len(dstates)], rest[len(dstates) :]
    lengths = None if ragged is EVEN else LENGTHS
    forward, backward = getattr(equations, cell), getattr(equations, f"{cell}_backward")
    ys, finals, dxs, starts, dweights = [], [], [], [], []
    for d in range(D):
        W, U, b_ih, b_hh = rest[4 * d : 4 * d + 4]
        y, tape = forward(put(x), *(s[d] for s in states), W, U, b_ih + b_hh, lengths=lengths, reverse=d == 1)
        found = backward(tape, put(x), W, U, put(dy)[..., d * H : (d + 1) * H], *(s[d] for s in dstates))
        ys.append(y)
        finals.append([tape.h[-1], tape.c[-1]] if cell == "lstm" else [tape.h[-1]])
        dxs.append(found.dx)
        starts.append([found.dh[0], found.dc[0]] if cell == "lstm" else [found.dh[0]])
        dweights += [found.dweight_ih, found.dweight_hh, found.dbias, found.dbias]
    expected = [np.concatenate(ys, -1), *map(np.stack, zip(*finals, strict=True))]
    expected += [sum(dxs), *map(np.stack, zip(*starts, strict=True)), *dweights]
    actual = [t.detach().numpy() for t in (*outputs, *grads)]
    actual[0], actual[len(outputs)] = put(actual[0]), put(actual[len(outputs)])
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-12)


@both_cells
@directions
@ragged_or_not
def test_first_and_second_derivatives(spy, cell, D, ragged):
    args = arguments(cell, sizes=(T, N, 2, 2), D=D, packed=ragged is PACKED)
    assert gradcheck(lambda *args: run(cell, args, ragged), args, fast_mode=True)
    assert spy.forwards
    assert spy.backwards
    assert gradgradcheck(lambda *args: run(cell, args, ragged), args, fast_mode=True)


@both_cells
@ragged_or_not
@pytest.mark.parametrize("path", ["native", "plain"])
def test_no_initial_state_is_one_of_zeros(cell, ragged, path):
    args = arguments(cell, D=2, packed=ragged is PACKED)
    first = 3 if cell == "lstm" else 2
    for k in range(1, first):
        args[k] = torch.zeros_like(args[k])
    weights = [[*args[k : k + 4], None] for k in (first, first + 4)]
    given = run(cell, args, ragged, path)
    call = call_of(cell, args[0], (), weights, ragged)
    served = dispatch.layer(call) if path == "native" else plain.layer(call)
    wrt = [args[0], *args[first:]]
    grads = [torch.autograd.grad(sum(o.square().sum() for o in each), wrt) for each in (given, served)]
    for a, b in zip([*given, *grads[0]], [*served, *grads[1]], strict=True):
        assert torch.equal(a, b)


def test_second_derivative_where_one_argument_depends_on_another(spy):
    """h_0 made from x: the gradient along x must not count the way through h_0 twice."""

    def first_gradient(path):
        args = arguments("lstm", sizes=(T, N, H, H))
        x = args[0]
        y, _, _ = run("lstm", [x, x[:1] * 2, x.sum(0, keepdim=True), *args[3:]], path=path)
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return dx, torch.autograd.grad(dx.square().sum(), x)[0]

    for actual, expected in zip(first_gradient("native"), first_gradient("plain"), strict=True):
        torch.testing.assert_close(actual, expected)
    assert spy.forwards == 1


# ------------------------------------------------------------------------- which path serves


@both_cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_native_serves(spy, cell, dtype):
    args = arguments(cell, dtype)
    sum(o.sum() for o in run(cell, args)).backward()
    with torch.no_grad():
        run(cell, args)
    assert (spy.forwards, len(spy.backwards)) == (2, 1)


@both_cells
def test_autocast_runs_the_native_kernel_in_bfloat16(spy, cell):
    args = arguments(cell, torch.float32)
    with torch.autocast("cpu"):
        outputs = run(cell, args)
    sum(o.float().sum() for o in outputs).backward()
    assert {o.dtype for o in outputs} == {torch.bfloat16}
    assert (spy.forwards, len(spy.backwards)) == (1, 1)
    assert all(a.grad.dtype == torch.float32 for a in args)
    with torch.autocast("cpu"):  # which leaves float64 alone
        assert run(cell, arguments(cell, torch.float64))[0].dtype == torch.float64


def fake(args):
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    return lstm(*map(mode.from_tensor, args))


def dual(args):
    with forward_ad.dual_level():
        return lstm(forward_ad.make_dual(args[0], torch.ones_like(args[0])), *args[1:])


def autocast(args):
    with torch.autocast("cpu", dtype=torch.float16):
        return lstm(*args)


ELSEWHERE = {
    "half": lambda args: lstm(*(a.half() for a in args)),
    "empty batch": lambda args: lstm(args[0][:, :0], args[1][:, :0], args[2][:, :0], *args[3:]),
    "meta": lambda args: lstm(*(a.to("meta") for a in args)),
    "projection": lambda args: dispatch.layer(
        call_of(
            "lstm",
            args[0],
            (args[1][..., :2], args[2]),
            [[args[3], args[4][:, :2], *args[5:], torch.randn(2, H)]],
        )
    ),
    "relu": lambda _: run("rnn", arguments("rnn"), nonlinearity="relu"),
    "autocast to half": autocast,
    "fake": fake,
    "forward-mode": dual,
    "vmap": lambda args: torch.vmap(lambda x: lstm(x, *args[1:]))(args[0][None]),
    "a view that negates": lambda args: lstm(torch._neg_view(args[0]), *args[1:]),
}


@torchscript
@pytest.mark.parametrize("what", ELSEWHERE)
def test_plain_serves_the_rest(spy, what):
    y, h_n, *_ = ELSEWHERE[what](arguments("lstm", torch.float32, grad=False))
    assert spy.forwards == 0
    assert y.shape[-1] == h_n.shape[-1]


@pytest.mark.parametrize("what", ["half", "autocast to half", "a view that negates"])
def test_plain_gives_the_values_of_the_same_call(what):
    args = arguments("lstm", torch.float32, grad=False)
    if what == "a view that negates":
        expected, tolerance = lstm(-args[0], *args[1:])[0], 1e-6
    else:
        expected, tolerance = lstm(*args)[0], 0.02  # 8 bits of mantissa, five steps
    y = ELSEWHERE[what](args)[0]
    assert y.dtype == (torch.float32 if what == "a view that negates" else torch.half)
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=tolerance)


def test_without_the_extension_plain_serves_all(monkeypatch):
    args = arguments("lstm")
    expected = lstm(*args)
    monkeypatch.setattr(cpu, "native", None)
    for a, e in zip(lstm(*args), expected, strict=True):
        torch.testing.assert_close(a, e)


# ------------------------------------------------------------------------- the graph's node


def test_no_tape_is_kept_where_nobody_asks_for_gradients(spy, monkeypatch):
    tapes = []
    monkeypatch.setattr(spy, "forward", lambda *args: tapes.append(args[5]))
    args = arguments("lstm", grad=False)
    assert not lstm(*args)[0].requires_grad
    with torch.no_grad():
        lstm(*arguments("lstm"))
    with torch.inference_mode():
        lstm(*arguments("lstm"))
    assert tapes == [None] * 3


@both_cells
@pytest.mark.parametrize("wanted", range(7))
def test_only_the_gradients_asked_for_are_computed(spy, cell, wanted):
    args = arguments(cell, grad=False)
    if wanted >= len(args):
        wanted -= 7  # the RNN has no c_0: its last again
    args[wanted].requires_grad_()
    run(cell, args)[0].sum().backward()
    (call,) = spy.backwards
    given = [d for d in call[7] if d is not None]
    assert len(given) == 1
    assert given[0].shape == args[wanted].shape


@both_cells
@directions
def test_each_bias_has_a_gradient_of_its_own(cell, D):
    """Who scales gradients in place, as clipping does, must not scale those of the biases twice."""
    args = arguments(cell, D=D)
    grads = torch.autograd.grad(run(cell, args)[0].sum(), args)
    assert len({g.data_ptr() for g in grads}) == len(grads)
    expected = [g / 2 for g in grads]
    for g in grads:
        g.div_(2)
    for a, e in zip(grads, expected, strict=True):
        assert torch.equal(a, e)


@both_cells
@pytest.mark.parametrize("kind", ["negated lazily", "zero tensor", "expanded"])
def test_gradients_in_any_memory_are_taken_for_their_values(cell, kind):
    args = arguments(cell)
    outputs = run(cell, args)
    dense = [torch.zeros_like(o) if kind == "zero tensor" else torch.full_like(o, -0.5) for o in outputs]
    given = {
        "negated lazily": [torch._neg_view(-d) for d in dense],
        "zero tensor": [torch._efficientzerotensor(d.shape, dtype=d.dtype) for d in dense],
        "expanded": [d.new_full((1,) * d.dim(), -0.5).expand_as(d) for d in dense],
    }[kind]
    found = torch.autograd.grad(outputs, args, given, retain_graph=True)
    for a, e in zip(found, torch.autograd.grad(outputs, args, dense), strict=True):
        assert torch.equal(a, e)


def test_gradients_of_subsets_are_those_of_the_whole():
    everything = arguments("lstm")
    whole = torch.autograd.grad(lstm(*everything)[0].sum(), everything)
    for k, expected in enumerate(whole):
        args = arguments("lstm", grad=False)
        args[k].requires_grad_()
        (actual,) = torch.autograd.grad(lstm(*args)[0].sum(), args[k])
        assert torch.equal(actual, expected)


@both_cells
def test_backward_twice(cell):
    args = arguments(cell)
    loss = sum(o.square().sum() for o in run(cell, args))
    first = torch.autograd.grad(loss, args, retain_graph=True)
    second = torch.autograd.grad(loss, args)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, args)


@pytest.mark.parametrize("also_y", [False, True])
@pytest.mark.parametrize("which", ["x", "weight_hh"])
def test_what_backward_needs_may_not_be_changed(which, also_y):
    args = arguments("lstm")
    y, _, _ = lstm(*args)
    with torch.no_grad():
        {"x": args[0], "weight_hh": args[4]}[which].mul_(2)
        y.mul_(1 + also_y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both_cells
@directions
@ragged_or_not
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_y_may_be_written_to(cell, D, ragged, dtype):
    """The same bits as with a copy of y, also where backward runs twice."""
    args = arguments(cell, dtype, D=D, packed=ragged is PACKED)

    def grads(change):
        y, *finals = run(cell, args, ragged)
        loss = change(y).square().sum() + sum(each.sum() for each in finals)
        torch.autograd.grad(loss, args, retain_graph=True)
        return torch.autograd.grad(loss, args)

    def last_step_zero(y):
        y[-1] = 0
        return y

    for in_place, on_a_copy in (
        (lambda y: y.relu_(), lambda y: y.relu()),
        (last_step_zero, lambda y: last_step_zero(y.clone())),
    ):
        for found, expected in zip(grads(in_place), grads(on_a_copy), strict=True):
            assert torch.equal(found, expected)


@both_cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_large_y_may_be_written_to(cell, dtype):
    """Whose memory is the kernels' own."""
    args, results = arguments(cell, dtype, sizes=(70, 32, 2, 16)), []
    for change in (torch.relu, torch.relu_):
        y = change(run(cell, args)[0])
        results.append((y, *torch.autograd.grad(y.sum(), args)))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@both_cells
@directions
@ragged_or_not
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_elements_at_any_address(cell, D, ragged, dtype):
    """As torch.frombuffer gives them with an odd offset: arguments and incoming gradients."""
    straight = arguments(cell, dtype, D=D, packed=ragged is PACKED)
    odd = [at_an_odd_address(t) for t in straight]
    results = []
    for args, change in ((straight, torch.clone), (odd, at_an_odd_address)):
        with torch.no_grad():
            inferred = run(cell, args, ragged)
        outputs = run(cell, args, ragged)
        grads = torch.autograd.grad(outputs, args, [change(out.detach()) for out in outputs])
        results.append((*inferred, *outputs, *grads))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


def at_an_odd_address(t):
    data = bytearray(1) + bytearray(t.detach().view(torch.uint8).contiguous().view(-1).tolist())
    found = torch.frombuffer(data, dtype=t.dtype, offset=1).view(t.shape)
    assert found.data_ptr() % found.element_size()
    return found.requires_grad_(t.requires_grad)


def test_any_strides_are_accepted():
    """Each argument and each incoming gradient non-contiguous: the same as their contiguous copies."""
    straight = arguments("lstm")

    def strange(t):  # every other element of something larger, last dimension included
        big = t.detach().repeat_interleave(2, dim=-1)
        return big[..., ::2].requires_grad_()

    crooked = [strange(t) for t in straight]
    results = []
    for args in (straight, crooked):
        outputs = lstm(*args)
        douts = [torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view(o.shape) for o in outputs]
        if args is crooked:
            douts = [d.transpose(0, -1).contiguous().transpose(0, -1) for d in douts]
        results.append([*outputs, *torch.autograd.grad(outputs, args, douts)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    expanded = torch.autograd.grad(lstm(*straight)[0].sum(), straight)  # a gradient of strides 0
    dense = torch.autograd.grad(lstm(*straight)[0], straight, torch.ones(T, N, H, dtype=torch.float64))
    for a, b in zip(expanded, dense, strict=True):
        assert torch.equal(a, b)


def test_time_and_batch_transposed_is_not_copied(spy, monkeypatch):
    seen = []
    monkeypatch.setattr(spy, "forward", lambda *args: seen.append(args[1]))
    x, *rest = arguments("lstm", grad=False)
    batch_first = x.transpose(0, 1).contiguous()
    lstm(batch_first.transpose(0, 1), *rest)
    assert seen[0].data_ptr() == batch_first.data_ptr()


def test_the_tape_goes_when_the_graph_goes(spy, monkeypatch):
    tapes = []

    def forward(*args):
        tapes.append(weakref.ref(args[5][0]))
        spy.kernel.forward(*args)

    monkeypatch.setattr(spy, "forward", forward)
    y, _, _ = lstm(*arguments("lstm"))
    assert tapes[0]() is not None
    y.sum().backward()
    spy.backwards.clear()
    gc.collect()
    assert tapes[0]() is None


def test_batched_gradients():
    x, *rest = arguments("lstm")
    y = lstm(x, *rest)[0]
    douts = torch.randn(3, *y.shape, dtype=y.dtype)
    (batched,) = torch.autograd.grad(y, x, douts, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(y, x, d, retain_graph=True)[0] for d in douts]
    torch.testing.assert_close(batched, torch.stack(one_by_one))


WAYS = {
    "LSTM": (undertow.LSTM, {}, {}),
    "RNN": (undertow.RNN, {}, {}),
    "lengths": (undertow.LSTM, {}, {"lengths": [T, 1, 3]}),
    "segments": (undertow.LSTM, {"checkpoint": 2}, {}),
    "options": (undertow.LSTM, {"zoneout": 0.2, "peepholes": True}, {}),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_the_kernels_are_given_torchs_threads(way, threads, kernel_calls):
    make, options, call = WAYS[way]
    module, x, before = (
        make(C, H, bidirectional=True, **options),
        torch.randn(T, 3, C),
        torch.get_num_threads(),
    )
    torch.set_num_threads(threads)
    try:
        module(x, **call)[0].sum().backward()
        with torch.no_grad():
            module(x, **call)
    finally:
        torch.set_num_threads(before)
    names = [name.removeprefix("varied_") for name, _ in kernel_calls]
    assert names.count("forward") >= 4
    assert names.count("backward") >= 2
    assert {args[-1] for _, args in kernel_calls} == {threads}
