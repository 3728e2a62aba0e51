"""undertow.trace and return_tape: every array of every step against the equations and torch's autograd.

float64 to 1e-10, float32 to 1e-5, of the largest entry expected: rounding, in sums of a hundred terms.
"""

import threading

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.checkpoint import checkpoint

import undertow
from undertow import equations, flow
from undertow.kernels import cpu, engines
from undertow.kernels import elsewhere as other_device
from undertow.kernels.listening import traced
from undertow.records.layer import NotRecorded
from undertow.tape import Gradients, RNNGradients, RNNTape, Tape

T, N, C, H = 7, 4, 3, 5
LENGTHS = [2, 7, 4, 6]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
MODULES = {"lstm": undertow.LSTM, "rnn": undertow.RNN}
FORMS = ["batched", "batch first", "unbatched", "lengths", "zero length", "packed", "packed sorted"]
GATES = "ifgo"
both_cells = pytest.mark.parametrize("cell", MODULES)
deep_or_not = pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "two layers both ways"]
)


class Case:
    """One call with random arguments, a backward from random gradients, and the equations' word on both."""

    def __init__(self, cell, form="batched", dtype=torch.float64, given_states=True, **options):
        torch.manual_seed(3)
        self.cell, self.form, self.dtype = cell, form, dtype
        self.module = MODULES[cell](C, H, dtype=dtype, batch_first=form == "batch first", **options)
        self.N = 1 if form == "unbatched" else N
        self.lengths = {
            "lengths": LENGTHS,
            "zero length": [0, 7, 0, 3],
            "packed": LENGTHS,
            "packed sorted": sorted(LENGTHS, reverse=True),
        }.get(form)
        self.D = 2 if self.module.bidirectional else 1
        self.L = self.module.num_layers
        blocks = self.L * self.D
        self.x = torch.randn(T, self.N, C, dtype=dtype)
        self.states = [torch.randn(blocks, self.N, H, dtype=dtype) for _ in self.state_names]
        if not given_states:
            self.states = [torch.zeros_like(s) for s in self.states]
        self.given_states = given_states
        self.dy = torch.randn(T, self.N, self.D * H, dtype=dtype)
        self.dfinals = [torch.randn(blocks, self.N, H, dtype=dtype) for _ in self.state_names]

    @property
    def state_names(self):
        return ["h", "c"] if self.cell == "lstm" else ["h"]

    def call(self):
        """Forward and backward, as a user would write them."""
        x, states, options = self.x, self.states, {}
        if self.form == "batch first":
            x = x.transpose(0, 1).contiguous()
        elif self.form == "unbatched":
            x, states = x[:, 0], [s[:, 0] for s in states]
        elif self.lengths is not None and "packed" in self.form:
            rows = [x[:n, k] for k, n in enumerate(self.lengths)]
            x = pack_sequence(rows, enforce_sorted=self.form == "packed sorted")
        elif self.lengths is not None:
            alive = torch.arange(T)[:, None] < torch.tensor(self.lengths)
            x = torch.where(alive[..., None], x, torch.nan)  # nobody may look there
            options = {"lengths": self.lengths}
        hx = None if not self.given_states else tuple(states) if self.cell == "lstm" else states[0]
        y, finals = self.module(x, hx, **options)
        finals = finals if self.cell == "lstm" else (finals,)
        heard, grads = y, self.dy
        if isinstance(y, PackedSequence):
            heard = y.data
            columns = self.dy if y.sorted_indices is None else self.dy[:, y.sorted_indices]
            grads = torch.cat([columns[t, :n] for t, n in enumerate(y.batch_sizes)])
        elif self.form == "batch first":
            grads = grads.transpose(0, 1)
        elif self.form == "unbatched":
            grads = grads[:, 0]
        dfinals = [d.view(f.shape) for d, f in zip(self.dfinals, finals, strict=True)]
        self.backward = lambda scale=1: torch.autograd.backward(
            [heard, *finals], [grads * scale, *(d * scale for d in dfinals)], retain_graph=True
        )
        self.backward()

    def expected(self):
        """For each layer and direction tape and gradients of the equations, in float64."""
        forward = getattr(equations, self.cell)
        backward = getattr(equations, f"{self.cell}_backward")
        weights = {name: p.detach().numpy() for name, p in self.module.named_parameters()}
        states, dfinals = ([s.numpy() for s in many] for many in (self.states, self.dfinals))
        inputs, tapes = [self.x.numpy()], []
        for k in range(self.L):
            ways = []
            for d in range(self.D):
                end = f"l{k}" + "_reverse" * d
                W, U = weights[f"weight_ih_{end}"], weights[f"weight_hh_{end}"]
                b = weights[f"bias_ih_{end}"].astype(float) + weights[f"bias_hh_{end}"]
                start = [s[k * self.D + d] for s in states]
                ways.append(
                    (*forward(inputs[-1], *start, W, U, b, lengths=self.lengths, reverse=d == 1), W, U)
                )
            inputs.append(np.concatenate([y for y, *_ in ways], axis=-1))
            tapes.append([way[1:] for way in ways])
        dy, found = self.dy.numpy(), []
        for k in reversed(range(self.L)):
            ways = []
            for d, (tape, W, U) in enumerate(tapes[k]):
                own, ends = dy[..., d * H : (d + 1) * H], [s[k * self.D + d] for s in dfinals]
                ways.append((tape, backward(tape, inputs[k], W, U, own, *ends)))
            dy = sum(gradients.dx for _, gradients in ways)
            found.append(ways)
        return found[::-1]


def time_order(tape, array, states=False):
    """An array of the equations as a Layer has it: [T,...], or [T+1,...] with entry 0 in its place."""
    T = len(tape.h) - 1
    start, steps = (array[:1], array[1:]) if states else (array[:0], array)
    steps = steps[::-1] if tape.reverse else steps
    if tape.lengths is not None:
        alive = np.arange(T)[:, None] < tape.lengths
        steps = np.where(alive.reshape(T, -1, *[1] * (steps.ndim - 2)), steps, np.nan)
    return np.concatenate([start, steps])


def assert_close(found, expected, tolerance, name=""):
    """Within ``tolerance`` of the largest entry expected; NaN where NaN is expected."""
    reach = max(np.nanmax(np.abs(expected), initial=0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * reach, err_msg=name)


def assert_layer(layer, tape, gradients, tolerance):
    """Every array of a Layer."""
    named = {"h": tape.h, "dh": gradients.dh}
    if layer.cell == "lstm":
        named |= {"c": tape.c, "dc": gradients.dc}
    expected = {name: time_order(tape, array, states=True) for name, array in named.items()}
    if layer.cell == "lstm":
        for k, gate in enumerate(GATES):
            expected[gate] = time_order(tape, tape.gates[:, :, k])
            expected[f"d{gate}"] = time_order(tape, gradients.dgates[:, :, k])
    else:
        expected["da"] = time_order(tape, gradients.dgates[:, :, 0])
    for name, array in expected.items():
        found = getattr(layer, name)
        assert not found.flags.writeable
        assert_close(found, array, tolerance, name)
    for record, right in ((layer.tape, tape), (layer.gradients, gradients)):
        assert type(record) is type(right)
        for name, array in vars(right).items():
            if isinstance(array, np.ndarray):
                assert_close(getattr(record, name), array, tolerance, name)
            else:
                assert getattr(record, name) == array


# ------------------------------------------------------------------------------- the arrays


@pytest.fixture
def elsewhere(monkeypatch):
    """Tensors count as those of another device: torch's operator on the CPU stands in for cuDNN."""
    monkeypatch.setattr(other_device, "is_elsewhere", lambda x: x.device.type == "cpu")
    engines_there = tuple(each for each in engines.ENGINES if each is not cpu.ENGINE)
    monkeypatch.setattr(engines, "ENGINES", engines_there)


@both_cells
@deep_or_not
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("device", ["cpu", "elsewhere"])
def test_every_array_is_the_equations(cell, options, form, dtype, device, request):
    if device == "elsewhere":
        request.getfixturevalue("elsewhere")
    case = Case(cell, form, dtype, **options)
    with undertow.trace(case.module) as trace:
        case.call()
    layers = trace.layers
    assert len(layers) == case.L
    for layer, ways in zip(layers, case.expected(), strict=True):
        assert len(layer.directions) == case.D
        for way, (tape, gradients) in zip(layer.directions, ways, strict=True):
            assert way.h.dtype == way.dh.dtype == str(dtype).removeprefix("torch.")
            assert_layer(way, tape, gradients, TOLERANCE[dtype])
            lengths = [T] * case.N if case.lengths is None else case.lengths
            assert way.lengths.tolist() == lengths
            np.testing.assert_array_equal(way.mask, np.arange(T)[:, None] < lengths)


@both_cells
def test_without_initial_states_they_are_zero(cell):
    case = Case(cell, given_states=False, bidirectional=True)
    with undertow.trace(case.module) as trace:
        case.call()
    for way, (tape, gradients) in zip(trace.layers[0].directions, case.expected()[0], strict=True):
        assert_layer(way, tape, gradients, 1e-10)


def test_gradients_are_those_of_autograd_through_a_loop_of_cells():
    """Gates, states and their gradients by torch alone: a loop of single steps with retain_grad."""
    torch.manual_seed(0)
    lstm = undertow.LSTM(C, H, dtype=torch.float64)
    x = torch.randn(T, N, C, dtype=torch.float64)
    target = torch.randn(T, N, H, dtype=torch.float64)
    with undertow.trace(lstm) as trace:
        y, (_, c_n) = lstm(x)
        ((y - target).square().sum() + c_n.sum()).backward()
    layer, seen = trace.layers[0], []

    def kept(tensor):
        if tensor.requires_grad:
            tensor.retain_grad()
        return tensor

    h, c = (torch.zeros(N, H, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss, states = 0, [(h, c)]
    for t in range(T):
        z = x[t] @ lstm.weight_ih_l0.T + h @ lstm.weight_hh_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0
        pre = [kept(a) for a in z.chunk(4, dim=1)]
        i, f, g, o = pre[0].sigmoid(), pre[1].sigmoid(), pre[2].tanh(), pre[3].sigmoid()
        c = kept(i * g + f * c)
        h = kept(o * c.tanh())
        states.append((h, c))
        seen.append((pre, (i, f, g, o)))
        loss = loss + (h - target[t]).square().sum()
    (loss + c.sum()).backward()
    for k, gate in enumerate(GATES):
        assert_close(getattr(layer, gate), [gates[k].detach().numpy() for _, gates in seen], 1e-12)
        assert_close(getattr(layer, f"d{gate}"), [pre[k].grad.numpy() for pre, _ in seen], 1e-12)
    for k, state in enumerate("hc"):
        assert_close(getattr(layer, state), [s[k].detach().numpy() for s in states], 1e-12)
        assert_close(getattr(layer, f"d{state}"), [s[k].grad.numpy() for s in states], 1e-12)


@both_cells
@pytest.mark.parametrize("form", ["batched", "lengths", "packed"])
def test_results_are_the_same_bits(cell, form):
    results = []
    for watched in (False, True):
        case = Case(cell, form, torch.float32, num_layers=2, bidirectional=True)
        with undertow.trace(case.module if watched else undertow.LSTM(1, 1)):
            case.call()
        results.append([p.grad for p in case.module.parameters()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_full_lengths_are_views():
    lstm = undertow.LSTM(C, H)
    with undertow.trace(lstm) as trace:
        lstm(torch.randn(T, N, C))[0].sum().backward()
    layer = trace.layers[0]
    assert layer.i.base is not None
    assert np.shares_memory(layer.i, layer.tape.gates)
    assert np.shares_memory(layer.c, layer.tape.c)
    assert np.shares_memory(layer.di, layer.gradients.dgates)
    assert layer.h is layer.h


@both_cells
@pytest.mark.parametrize("form", ["batched", "packed"])
def test_bfloat16_is_shown_as_float32(cell, form):
    """8 bits of mantissa in arrays and sums of a dozen terms: within 3 % of the largest entry."""
    case = Case(cell, form, torch.bfloat16, bidirectional=True)
    with undertow.trace(case.module) as trace:
        case.call()
    wide = Case(cell, form, torch.float32, bidirectional=True)
    wide.module.load_state_dict(case.module.state_dict())
    for name in ("x", "dy"):
        setattr(wide, name, getattr(case, name).float())
    wide.states, wide.dfinals = ([s.float() for s in many] for many in (case.states, case.dfinals))
    for way, (tape, gradients) in zip(trace.layers[0].directions, wide.expected()[0], strict=True):
        assert way.h.dtype == way.dh.dtype == "float32"
        assert_layer(way, tape, gradients, 0.03)


def test_autocast_is_recorded_as_the_kernels_ran():
    lstm, x = undertow.LSTM(C, H), torch.randn(T, N, C)
    with undertow.trace(lstm) as trace, torch.autocast("cpu", dtype=torch.bfloat16):
        y = lstm(x)[0]
        y.float().sum().backward()
    layer = trace.layers[0]
    np.testing.assert_array_equal(layer.h[1:], y.detach().float().numpy())
    assert np.array_equal(layer.weight_hh, lstm.weight_hh_l0.detach().bfloat16().float().numpy())
    assert layer.dc.shape == (T + 1, N, H)


@both_cells
def test_a_checkpointed_layer_keeps_its_whole_tape_in_a_trace(cell):
    case = Case(cell, "lengths", checkpoint=2)
    with undertow.trace(case.module) as trace:
        case.call()
    assert_layer(trace.layers[0], *case.expected()[0][0], 1e-10)


# --------------------------------------------------------------------------- undertow.flow


@pytest.mark.parametrize("form", ["batched", "lengths", "packed"])
@pytest.mark.parametrize("reverse", [False, True])
def test_flow_reads_the_tape_straight_from_the_kernels(form, reverse):
    """Of an error at the end alone: the product of the state's Jacobians, and the kernel's dh_0, dc_0."""
    case = Case("lstm", form, bidirectional=True)
    case.dy.zero_()
    with undertow.trace(case.module) as trace:
        case.call()
    layer = trace.layers[0].reverse if reverse else trace.layers[0]
    end = torch.cat([d[int(reverse)] for d in case.dfinals], dim=-1).numpy()  # [N,2H]
    start = np.concatenate([layer.dh[0], layer.dc[0]], axis=-1)
    whole = np.broadcast_to(np.eye(2 * H), (N, 2 * H, 2 * H))
    for t in reversed(range(T)):
        whole = whole @ flow.state_jacobian(layer.tape, layer.weight_hh, t, t + 1)[0]
    assert_close(np.einsum("nk,nkj->nj", end, whole), start, 1e-10)
    assert_close(whole, flow.state_product(layer.tape, layer.weight_hh), 1e-10)
    norms = flow.gradient_norms(layer.tape, layer.gradients)
    own = np.linalg.norm(layer.gradients.dh, axis=-1)
    assert_close(norms.dh, np.where(np.isnan(norms.dh), np.nan, own), 1e-12)
    assert flow.gate_saturation(layer.tape).f_open.shape == (H,)


def test_weights_are_those_of_the_call():
    lstm = undertow.LSTM(C, H)
    x, before = torch.randn(T, N, C), lstm.weight_hh_l0.detach().clone()
    with undertow.trace(lstm) as trace:
        lstm(x)
        lstm(x)
        with torch.no_grad():
            lstm.weight_hh_l0 *= 2
        lstm(x)
    first, second, third = (call.layers[0] for call in trace.calls)
    assert np.array_equal(first.weight_hh, before)
    assert np.shares_memory(first.weight_hh, second.weight_hh)  # unchanged, so not copied again
    assert np.array_equal(third.weight_hh, 2 * before)


# --------------------------------------------------------------------------- models and calls


class Translator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.ModuleDict({"lstm": undertow.LSTM(C, H)})
        self.decoder = undertow.RNN(H, H)

    def forward(self, x):
        y, (h_n, _) = self.encoder["lstm"](x)
        return self.decoder(y, h_n)[0]


def test_names_are_the_models():
    model = Translator()
    with undertow.trace(model) as trace:
        model(torch.randn(T, N, C)).sum().backward()
    assert list(trace) == ["encoder.lstm", "decoder"]
    encoder, decoder = trace["encoder.lstm"].layers[0], trace["decoder"].layers[0]
    assert isinstance(encoder.tape, Tape)
    assert isinstance(decoder.tape, RNNTape)
    np.testing.assert_array_equal(encoder.h[-1], decoder.h[0])
    assert encoder.dh.shape == decoder.dh.shape == (T + 1, N, H)
    assert repr(encoder) == f"Layer(lstm, T={T}, N={N}, H={H})"
    with pytest.raises(
        KeyError, match=r"no LSTM or RNN is called 'lstm'; there are \['encoder.lstm', 'decoder'\]"
    ):
        trace["lstm"]
    with pytest.raises(ValueError, match="trace: expected one of"):
        _ = trace.layers
    for name in ("i", "dc", "do"):
        with pytest.raises(AttributeError, match=f"{name}: a plain RNN has only h, dh and da"):
            getattr(decoder, name)
    with pytest.raises(AttributeError, match="da: an LSTM has"):
        _ = encoder.da
    with pytest.raises(AttributeError, match="one direction"):
        _ = encoder.reverse


def test_several_calls():
    lstm = undertow.LSTM(C, H, dtype=torch.float64)
    x = torch.randn(T, N, C, dtype=torch.float64)
    with undertow.trace(lstm) as whole:
        lstm(x)[0].square().sum().backward()
    with undertow.trace(lstm) as trace:
        y, states = lstm(x[:3])
        (y.square().sum() + lstm(x[3:], states)[0].square().sum()).backward()
    first, second = (call.layers[0] for call in trace.calls)
    assert trace.layers[0] is second
    for name in ("c", "h", "dc", "dh"):
        expected = getattr(whole.layers[0], name)
        assert_close(getattr(first, name)[:3], expected[:3], 1e-12)
        assert_close(getattr(second, name)[1:], expected[4:], 1e-12)
    assert_close(np.concatenate([first.df, second.df]), whole.layers[0].df, 1e-12)


@both_cells
@pytest.mark.parametrize("reentrant", [False, True])
def test_calls_that_torch_checkpoints(cell, reentrant):
    """torch.utils.checkpoint makes the call again during backward, and may not go back through that one."""
    module = MODULES[cell](C, H, num_layers=2)
    x = torch.randn(T, N, C, requires_grad=True)
    with undertow.trace(module) as trace:
        checkpoint(lambda x: module(x)[0].tanh(), x, use_reentrant=reentrant).sum().backward()
    with undertow.trace(module) as plain:
        module(x)[0].tanh().sum().backward()
    assert len(trace.calls) == 1 + reentrant  # whose first call has no gradients
    for found, expected in zip(trace.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(found.dh, expected.dh)


def test_calls_outside_are_not_recorded():
    lstm, x = undertow.LSTM(C, H), torch.randn(T, N, C)
    trace = undertow.trace(lstm)
    lstm(x)
    with trace:
        assert traced.get() is not None
        lstm(x)
        threads = threading.Thread(target=lambda: lstm(x))
        threads.start()
        threads.join()
        with pytest.raises(RuntimeError):
            lstm(torch.randn(T, N, C + 1))
    lstm(x)
    assert len(trace.calls) == 1
    assert traced.get() is None
    with pytest.raises(ZeroDivisionError), undertow.trace(lstm):
        _ = 1 / 0
    assert traced.get() is None


def test_the_inner_trace_records():
    model, x = Translator(), torch.randn(T, N, C)
    with undertow.trace(model) as outer, undertow.trace(model.decoder) as inner:
        model(x)
    assert (len(outer["encoder.lstm"].calls), len(outer["decoder"].calls), len(inner.calls)) == (1, 0, 1)


def test_what_may_be_traced():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        undertow.trace(3)
    with pytest.raises(
        ValueError, match=r"model: expected one that holds .* got LSTM without any; undertow.convert"
    ):
        undertow.trace(torch.nn.LSTM(C, H))


# ------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("how", [torch.no_grad, torch.inference_mode])
@both_cells
def test_without_gradients(cell, how):
    """Gates and states are there, and asking for gradients says why they are not."""
    case = Case(cell, "lengths", bidirectional=True)
    with undertow.trace(case.module) as trace, how():
        y = case.module(case.x, lengths=LENGTHS)[0]
        expected = y[:, :, :H].clone()
        y.mul_(2)
    layer = trace.layers[0]
    np.testing.assert_array_equal(np.nan_to_num(layer.h[1:]), expected.numpy())
    for name in ["dh", "gradients"] + (["dc", "di"] if cell == "lstm" else ["da"]):
        with pytest.raises(NotRecorded, match=r"no gradients: .* under no_grad or inference_mode"):
            getattr(layer, name)


def test_before_backward_and_after_two():
    case = Case("lstm")
    with undertow.trace(case.module) as trace:
        y, _ = case.module(case.x)
        with pytest.raises(NotRecorded, match="no gradients: backward has not come to this call"):
            _ = trace.layers[0].dh
    loss = y.sum()
    loss.backward(retain_graph=True)  # after the block: the call belongs to the trace
    once = trace.layers[0].dh
    (2 * loss).backward()
    assert_close(trace.layers[0].dh, 2 * once, 1e-12)


def test_frozen_weights_have_gradients_at_every_step():
    case = Case("lstm")
    case.module.requires_grad_(False)
    case.x.requires_grad_()
    with undertow.trace(case.module) as trace:
        case.call()
    assert_layer(trace.layers[0], *Case("lstm").expected()[0][0], 1e-10)


def test_a_backward_that_makes_a_graph():
    case = Case("lstm", "lengths")
    case.x.requires_grad_()
    with undertow.trace(case.module) as trace:
        y, _ = case.module(case.x, lengths=LENGTHS)
    torch.autograd.grad(y.square().sum(), case.x, retain_graph=True)
    expected = [trace.layers[0].dh, trace.layers[0].dc]
    (dx,) = torch.autograd.grad(y.square().sum() * 2, case.x, create_graph=True, retain_graph=True)
    assert_close(trace.layers[0].dh, 2 * expected[0], 1e-12)
    assert_close(trace.layers[0].dc, 2 * expected[1], 1e-12)
    dx.square().sum().backward(retain_graph=True)
    torch.autograd.grad(y, case.x, torch.ones(2, *y.shape, dtype=y.dtype), is_grads_batched=True)
    with pytest.raises(NotRecorded, match="many gradients at once"):
        _ = trace.layers[0].dh


def test_what_was_changed_in_place_is_not_shown():
    lstm, x = undertow.LSTM(C, H), torch.randn(T, N, C)
    with undertow.trace(lstm) as trace:
        y = lstm(x)[0]
        y.sum().backward()
    assert trace.layers[0].gradients.dx.shape == x.shape
    x.zero_()
    with pytest.raises(NotRecorded, match="x was changed in place after the call"):
        _ = trace.layers[0].gradients
    assert trace.layers[0].dh.shape == (T + 1, N, H)
    dy = torch.ones(T, N, H)
    with undertow.trace(lstm) as trace:
        lstm(x)[0].backward(dy)
        dy.zero_()
    with pytest.raises(NotRecorded, match="the gradient of y was changed in place"):
        _ = trace.layers[0].dh
    with undertow.trace(lstm) as trace:
        lstm(x)[0].detach().zero_()
    with pytest.raises(NotRecorded, match="y was changed in place after the call"):
        _ = trace.layers[0].h


# ---------------------------------------------------------------------------- other paths

PLAIN = {
    "projections": (lambda: undertow.LSTM(C, H, proj_size=2), torch.float32),
    "'relu'": (lambda: undertow.RNN(C, H, nonlinearity="relu"), torch.float32),
    "float16": (lambda: undertow.LSTM(C, H, dtype=torch.float16), torch.float16),
    "not built": (lambda: undertow.LSTM(C, H), torch.float32),
    "of a kind": (lambda: undertow.LSTM(C, H, device="meta"), torch.float32),
}


@pytest.mark.parametrize("why", PLAIN)
def test_what_the_kernels_do_not_compute(why, monkeypatch):
    """The model runs, and reading says why there is nothing."""
    make, dtype = PLAIN[why]
    module = make()
    if why == "not built":
        monkeypatch.setattr(cpu, "native", None)
    x = torch.randn(T, N, C, dtype=dtype, device=module.weight_ih_l0.device)
    with undertow.trace(module) as trace:
        assert module(x)[0].shape[:2] == (T, N)
    with pytest.raises(NotRecorded, match=f"layer 0: nothing was recorded of this call: .*{why}"):
        _ = trace.layers


def test_no_call_at_all():
    with undertow.trace(Translator()) as trace:
        pass
    with pytest.raises(NotRecorded, match="'decoder': no call was recorded"):
        _ = trace["decoder"].layers


# ------------------------------------------------------------------------------- other devices


@both_cells
@pytest.mark.parametrize("form", ["batched", "lengths", "packed"])
def test_the_program_is_the_same_elsewhere(cell, form, elsewhere):
    """Watched, a module is computed layer by layer: the same to rounding, not to the bit."""
    results = []
    for watched in (False, True):
        case = Case(cell, form, torch.float64, num_layers=2, bidirectional=True)
        with undertow.trace(case.module if watched else undertow.LSTM(1, 1)):
            case.call()
        results.append([p.grad.numpy() for p in case.module.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


def test_options_and_half_precision_elsewhere(elsewhere):
    """Options run in torch's operations there, and the kernels show them; float16 is shown in float32."""
    torch.manual_seed(0)
    lstm = undertow.LSTM(C, H, layer_norm=True, peepholes=True)
    x = torch.randn(T, N, C)
    with undertow.trace(lstm) as trace:
        y = lstm(x, reset=torch.rand(T, N) < 0.2)[0]
        y.sum().backward()
    np.testing.assert_allclose(trace.layers[0].h[1:], y.detach().numpy(), atol=1e-6)
    assert np.isfinite(trace.layers[0].dc).all()
    half = undertow.LSTM(C, H, dtype=torch.float16)
    with undertow.trace(half) as trace:
        y = half(x.half())[0]
        y.sum().backward()
    assert trace.layers[0].c.dtype == np.float32
    np.testing.assert_allclose(trace.layers[0].h[1:], y.detach().float().numpy(), atol=2e-3)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("why", ["projections", "'relu'"])
def test_what_the_kernels_do_not_compute_elsewhere(why, elsewhere):
    module = PLAIN[why][0]()
    with undertow.trace(module) as trace:
        y, _ = module(torch.randn(T, N, C))
        y.sum().backward()
    assert module.weight_ih_l0.grad is not None
    with pytest.raises(NotRecorded, match=f"layer 0: nothing was recorded of this call: .*{why}"):
        _ = trace.layers


def test_the_program_may_write_to_y_elsewhere(elsewhere):
    lstm, x = undertow.LSTM(C, H, dtype=torch.float64), torch.randn(T, N, C, dtype=torch.float64)
    results = []
    for watched in (lstm, undertow.LSTM(1, 1)):
        lstm.zero_grad()
        with undertow.trace(watched) as trace:
            lstm(x)[0].relu_().sum().backward(retain_graph=True)
        results.append(lstm.weight_hh_l0.grad.clone())
        if watched is lstm:
            assert set(np.unique(trace.layers[0].gradients.dx.shape)) == {T, N, C}
    torch.testing.assert_close(*results)


def test_without_gradients_elsewhere(elsewhere):
    lstm = undertow.LSTM(C, H)
    with undertow.trace(lstm) as trace, torch.no_grad():
        y, _ = lstm(torch.randn(T, N, C))
    np.testing.assert_allclose(trace.layers[0].h[1:], y.numpy(), atol=1e-6)
    with pytest.raises(NotRecorded, match="under no_grad"):
        _ = trace.layers[0].dh


def test_the_monitor_and_the_doctor_see_elsewhere(elsewhere):
    torch.manual_seed(0)
    lstm = undertow.LSTM(C, H, 2)
    monitor = undertow.FlowMonitor(lstm, every=1)
    lstm(torch.randn(T, N, C))[0].sum().backward()
    record = monitor.step()
    assert record
    assert not monitor.missing
    with undertow.trace(lstm) as trace:
        lstm(torch.randn(T, N, C))[0].sum().backward()
    assert undertow.diagnose(trace, lstm).findings is not None
    steps = lstm(torch.randn(T, N, C), return_tape=True)[2]
    assert steps[1].c.requires_grad


def test_a_trace_of_a_module_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with torch.backends.cudnn.flags(allow_tf32=False):
        lstm = undertow.LSTM(C, H, 2, bidirectional=True).cuda()
        x = torch.randn(T, N, C, device="cuda")
        with undertow.trace(lstm) as trace:
            y = lstm(x)[0]
            y.sum().backward()
        here = undertow.LSTM(C, H, 2, bidirectional=True)
        here.load_state_dict(lstm.state_dict())
        with undertow.trace(here) as right:
            here(x.cpu())[0].sum().backward()
    for name in ("h", "c", "f", "dh", "dc", "df"):
        for k in range(2):
            found, expected = (getattr(each.layers[k], name) for each in (trace, right))
            np.testing.assert_allclose(found, expected, atol=1e-5)


# ------------------------------------------------------------------------------- the loss


def test_loss_per_step():
    lstm = undertow.LSTM(C, H)
    with undertow.trace(lstm) as trace:
        E = lstm(torch.randn(T, N, C))[0].square().sum(-1)
        assert trace.loss_per_step is None
        trace.loss_per_step = E
        E.sum().backward()
    np.testing.assert_array_equal(trace.loss_per_step, E.detach().numpy())
    trace.loss_per_step = [1.0, 2.0]
    assert trace.loss_per_step.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"loss_per_step: expected shape \[T\] or \[T, N\], got \[\]"):
        trace.loss_per_step = E.sum()


# ------------------------------------------------------------------------------- files


@both_cells
@pytest.mark.parametrize("form", ["batched", "packed"])
def test_saved_and_loaded(cell, form, tmp_path):
    case = Case(cell, form, num_layers=2, bidirectional=True)
    with undertow.trace(case.module) as trace:
        case.call()
        with torch.no_grad():
            case.module(case.x)
    trace.loss_per_step = np.ones((T, N))
    trace.save(tmp_path / "trace.safetensors")
    loaded = undertow.load_trace(tmp_path / "trace.safetensors")
    assert list(loaded) == [""]
    np.testing.assert_array_equal(loaded.loss_per_step, trace.loss_per_step)
    first, second = loaded.calls
    for layer, ways in zip(first.layers, case.expected(), strict=True):
        for way, (tape, gradients) in zip(layer.directions, ways, strict=True):
            assert_layer(way, tape, gradients, 1e-10)
    np.testing.assert_array_equal(second.layers[1].reverse.h, trace.layers[1].reverse.h)
    np.testing.assert_array_equal(second.layers[0].weight_hh, trace.layers[0].weight_hh)
    with pytest.raises(NotRecorded, match=r"no gradients: .* under no_grad"):
        _ = second.layers[0].dh
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "trace.safetensors").read_bytes()


def test_what_is_missing_is_saved_as_the_reason(tmp_path):
    lstm, x = undertow.LSTM(C, H, proj_size=2), torch.randn(T, N, C)
    with undertow.trace(lstm) as trace:
        lstm(x)
    trace.save(tmp_path / "trace")
    with pytest.raises(NotRecorded) as expected:
        _ = trace.layers
    with pytest.raises(NotRecorded) as found:
        _ = undertow.load_trace(tmp_path / "trace").layers
    assert str(found.value) == str(expected.value)
    lstm = undertow.LSTM(C, H)
    with undertow.trace(lstm) as trace:
        lstm(x)[0].sum().backward()
    x.zero_()  # dx and the weights' sums are lost with it, the steps' gradients are not
    trace.save(tmp_path / "trace")
    layer = undertow.load_trace(tmp_path / "trace").layers[0]
    np.testing.assert_array_equal(layer.dc, trace.layers[0].dc)
    with pytest.raises(NotRecorded, match="x was changed in place"):
        _ = layer.gradients


def test_files_that_are_no_traces(tmp_path):
    with pytest.raises(FileNotFoundError):
        undertow.load_trace(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    save_file({"a": np.ones(2)}, tmp_path / "other")
    for name in ("text", "other"):
        with pytest.raises(ValueError, match="path: expected a trace that undertow saved, got "):
            undertow.load_trace(tmp_path / name)
    save_file({"a": np.ones(2)}, tmp_path / "newer", {"trace": '{"format": 2}'})
    with pytest.raises(ValueError, match="of a newer undertow"):
        undertow.load_trace(tmp_path / "newer")


# ------------------------------------------------------------------------------- return_tape


@deep_or_not
@pytest.mark.parametrize("form", ["batched", "lengths", "packed"])
def test_return_tape_is_what_a_trace_shows(options, form):
    case = Case("lstm", form, **options)
    x, extra = case.x, {}
    if form == "packed":
        x = pack_sequence([x[:n, k] for k, n in enumerate(LENGTHS)], enforce_sorted=False)
    elif form == "lengths":
        extra = {"lengths": LENGTHS}
    with undertow.trace(case.module) as trace:
        y, finals = case.module(x, tuple(case.states), **extra)
        y_, finals_, tape = case.module(x, tuple(case.states), **extra, return_tape=True)
    assert len(trace.calls) == 1
    y, y_ = (a.data if form == "packed" else a for a in (y, y_))
    for a, b in zip((y_, *finals_), (y, *finals), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for steps, layer in zip(tape, trace.layers, strict=True):
        ways = [steps] if case.D == 1 else [steps, steps.reverse]
        for way, right in zip(ways, layer.directions, strict=True):
            for name in "ifgohc":
                found = getattr(way, name).detach().numpy()
                np.testing.assert_allclose(found, np.nan_to_num(getattr(right, name)), rtol=0, atol=1e-12)
            np.testing.assert_array_equal(way.mask, right.mask)


def test_a_loss_on_cells_and_gates_trains():
    torch.manual_seed(0)
    lstm = undertow.LSTM(2, 3, bidirectional=True, dtype=torch.float64)
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)

    def inside(x, *_):
        y, _, (steps,) = lstm(x, lengths=[2, 4], return_tape=True)
        return steps.c.square().sum() + steps.reverse.f[1].sum() + steps.o.prod(-1).sum() + y.sum()

    assert torch.autograd.gradcheck(inside, (x, *lstm.parameters()), fast_mode=True)


def test_return_tape_where_the_kernels_do_not_run():
    lstm = undertow.LSTM(C, H, proj_size=2)
    x = torch.randn(T, C)
    y, _, (steps,) = lstm(x, return_tape=True)
    assert steps.h.shape == (T + 1, 1, 2)
    assert steps.c.shape == (T + 1, 1, H)
    torch.testing.assert_close(steps.h[1:, 0], y)
    with pytest.raises(AttributeError, match="one direction"):
        _ = steps.reverse
    with pytest.raises(ValueError, match="return_tape: expected False for the RNN"):
        undertow.RNN(C, H)(x, return_tape=True)
    with pytest.raises(RuntimeError, match=r"input\.size"):
        lstm(torch.randn(T, C + 1), return_tape=True)


def test_gradients_records_are_of_their_kind():
    for cell, kind in (("lstm", Gradients), ("rnn", RNNGradients)):
        case = Case(cell)
        with undertow.trace(case.module) as trace:
            case.call()
        assert type(trace.layers[0].gradients) is kind
