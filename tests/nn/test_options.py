"""The modules' options: each against ``equations.variants``, what is drawn, and what is refused.

float64, to 1e-12 of the largest entry; gradients of all parameters against finite differences (gradcheck).
The paths below the modules have tests of their own; here it is that each parameter and each draw gets to its
place.
"""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import undertow
from torchscript import torchscript
from undertow import equations
from undertow.equations import variants
from undertow.kernels import dispatch
from undertow.kernels.call import PLAIN

T, N, C, H = 6, 4, 3, 5
KINDS = {"lstm": undertow.LSTM, "rnn": undertow.RNN}
NOISE = {"input_dropout": 0.4, "recurrent_dropout": 0.3, "weight_drop": 0.5, "zoneout": 0.2}
EVERYTHING = {"learn_initial_state": True, **NOISE, "layer_norm": True, "peepholes": True, "coupled": True}
OPTIONS = {
    "lstm": [
        {"learn_initial_state": True},
        *[{name: rate} for name, rate in NOISE.items()],
        {"zoneout": (0.0, 0.3)},
        {"layer_norm": True},
        {"peepholes": True},
        {"coupled": True},
        EVERYTHING,
        {"hidden_size": [5, 7], "learn_initial_state": True, "layer_norm": True, "peepholes": True},
    ],
    "rnn": [
        {"learn_initial_state": True},
        *[{name: rate} for name, rate in NOISE.items()],
        {"learn_initial_state": True, **NOISE},
        {"hidden_size": [5, 2], "learn_initial_state": True},
    ],
}
each_option = pytest.mark.parametrize(
    ("cell", "options"), [(cell, options) for cell in KINDS for options in OPTIONS[cell]], ids=str
)
LENGTHS = [6, 3, 0, 5]


def make(cell="lstm", dtype=torch.float64, **options):
    """Two layers, both ways, all parameters off their starting values."""
    torch.manual_seed(1)
    options = {"hidden_size": H, "num_layers": 2, "bidirectional": True} | options
    module = KINDS[cell](C, dtype=dtype, **options)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p), alpha=0.3)
    return module


def marks(seed=2):
    torch.manual_seed(seed)
    return {"mask": torch.rand(T, N) < 0.7, "reset": torch.rand(T, N) < 0.3}


def close(actual, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual.detach(), expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


class Spy:
    """What dispatch.layer is given, layer by layer."""

    def __init__(self, monkeypatch):
        self.calls, self.layer = [], dispatch.layer
        monkeypatch.setattr(dispatch, "layer", self)

    def __call__(self, call):
        self.calls.append((call.x, call.weights, call.variant))
        return self.layer(call)


def of_module(module, k, d, drawn, given):
    """Fields of the equations' Variant: the module's parameters by their names, and what the call drew."""
    end = f"_l{k}" + ("_reverse" if d else "")
    fields = dict(given)
    for field, name in {"peepholes": "peephole", "gain_x": "gain_ih", "gain_h": "gain_hh"}.items():
        fields[field] = getattr(module, name + end, None)
    fields |= {
        "gain_c": getattr(module, f"gain_c{end}", None),
        "bias_c": getattr(module, f"shift_c{end}", None),
    }
    for name in ("recurrent", "zoneout_h", "zoneout_c"):
        fields[name] = getattr(drawn, name)[d] if drawn and getattr(drawn, name) is not None else None
    arrays = {name: a.detach().numpy() for name, a in fields.items() if a is not None}
    return arrays | ({"coupled": True} if module.coupled else {})


def learnt(module, k, d):
    """h_0 and c_0 of one direction [H], by their names; zero where they are not learnt."""
    width = module.hidden_size[k] if isinstance(module.hidden_size, tuple) else module.hidden_size
    found = []
    for s in ("h_0", "c_0")[: 2 if module.mode == "LSTM" else 1]:
        if not module.learn_initial_state:
            found.append(np.zeros(width))
        elif isinstance(module.hidden_size, tuple):
            found.append(getattr(module, f"{s}_l{k}")[d].detach().numpy())
        else:
            found.append(getattr(module, s)[2 * k + d].detach().numpy())
    return found


def by_equations(module, spied, given, lengths):
    """y, and h_n (and c_n) for each layer and direction, from what each layer read."""
    cell, states, y = "lstm" if module.mode == "LSTM" else "rnn", [], None
    for k, (x, weights, drawn) in enumerate(spied):
        ys = []
        for d in range(2):
            fields = of_module(module, k, d, drawn, given)
            starts = [np.tile(s, (N, 1)) for s in learnt(module, k, d)]
            if "reset" in given:
                fields |= dict(zip(("reset_h", "reset_c"), starts, strict=False))
            W, U, b_ih, b_hh, _ = (None if w is None else w.detach().numpy() for w in weights[d])
            y, tape = getattr(variants, cell)(
                x.detach().numpy(), *starts, W, U, b_ih + b_hh,
                lengths=lengths, reverse=bool(d), variant=variants.Variant(**fields),
            )  # fmt: skip
            ys.append(y)
            states.append([tape.h[-1], tape.c[-1]] if cell == "lstm" else [tape.h[-1]])
        y = np.concatenate(ys, axis=2)
    return y, states


def flat_states(module, states):
    """For each layer and direction [h, c] or [h], as ``by_equations`` has them."""
    kinds = states if module.mode == "LSTM" else (states,)
    if isinstance(module.hidden_size, tuple):
        kinds = [[s for layer in kind for s in layer] for kind in kinds]
    return list(zip(*kinds, strict=True))


@each_option
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_what_the_equations_say(cell, options, training, monkeypatch):
    module, x = make(cell, **options).train(training), torch.randn(T, N, C, dtype=torch.float64)
    for given, lengths in (({}, None), (marks(), LENGTHS)):
        spy = Spy(monkeypatch)
        y, states = module(x, lengths=lengths, **given)
        expected, ends = by_equations(module, spy.calls, given, lengths)
        close(y, expected)
        for found, end in zip(flat_states(module, states), ends, strict=True):
            for a, e in zip(found, end, strict=True):
                close(a, e)
        monkeypatch.setattr(dispatch, "layer", spy.layer)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        *[(cell, options) for cell in KINDS for options in OPTIONS[cell]],
        ("lstm", {**EVERYTHING, "hidden_size": 4, "proj_size": 2}),
        ("rnn", {"learn_initial_state": True, **NOISE, "nonlinearity": "relu"}),
    ],
    ids=str,
)
def test_gradients_of_all_parameters(cell, options):
    """The same draws at each evaluation; with resets, which the learnt states are then used for."""
    torch.manual_seed(0)
    module = make(cell, **{"hidden_size": 2} | options)
    names, given = list(module.state_dict()), marks()
    x = torch.randn(T, N, C, dtype=torch.float64, requires_grad=True)

    def outputs(x, *values):
        torch.manual_seed(5)
        weights = dict(zip(names, values, strict=True))
        y, states = torch.func.functional_call(module, weights, (x,), {"lengths": LENGTHS, **given})
        return y, *[s for pair in flat_states(module, states) for s in pair]

    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(outputs, (x, *values), fast_mode=True)


@each_option
def test_packed_and_padded_unbatched_and_batch_first_agree(cell, options):
    module = make(cell, **options).eval()
    x, lengths = torch.randn(T, N, C, dtype=torch.float64), [6, 4, 3, 1]
    y, states = module(x, lengths=lengths)
    packed, packed_states = module(pack_padded_sequence(x, lengths))
    close(pad_packed_sequence(packed, total_length=T)[0], y.detach())
    alone, alone_states = module(x[:, 0])
    close(alone, y[:, 0].detach())
    for a, b, c in zip(*(flat_states(module, s) for s in (states, packed_states, alone_states)), strict=True):
        for batch, same, one in zip(a, b, c, strict=True):
            close(same, batch.detach())
            close(one, batch[..., 0, :].detach())
    module.batch_first = True
    close(module(x.transpose(0, 1), lengths=lengths)[0].transpose(0, 1), y.detach())


# ------------------------------------------------------------------------------- what is drawn


def shares(factors, rate):
    """Whether factors are 0 or 1/(1 - rate), and zero about as often as they should be: to 5 sigma."""
    assert set(factors.flatten().tolist()) <= {0.0, (torch.ones(()) / (1 - rate)).item()}
    n = factors.numel()
    return abs((factors == 0).float().mean().item() - rate) < 5 * (rate * (1 - rate) / n) ** 0.5


@pytest.mark.parametrize("cell", KINDS)
def test_dropout_is_the_same_at_all_steps_and_new_with_each_call(cell, monkeypatch):
    spy = Spy(monkeypatch)
    torch.manual_seed(0)
    module = KINDS[cell](50, 60, 2, bidirectional=True, input_dropout=0.25, recurrent_dropout=0.25)
    for _ in range(2):
        module(torch.ones(T, N, 50))
    xs = [call[0] for call in spy.calls]
    assert all(torch.equal(xs[0][0], x_t) for x_t in xs[0])
    assert shares(xs[0][0], 0.25)
    assert not torch.equal(xs[0], xs[2])
    factors = [call[2].recurrent for call in spy.calls]  # two layers, twice
    assert [f.shape for f in factors] == [(2, N, 60)] * 4
    each = [*factors[0], *factors[1], *factors[2], *factors[3]]
    assert all(shares(f, 0.25) for f in each)
    assert len({tuple(f.flatten().tolist()) for f in each}) == 8


def test_input_dropout_goes_with_the_sequence_where_steps_are_packed(monkeypatch):
    spy = Spy(monkeypatch)
    lstm = undertow.LSTM(50, 4, input_dropout=0.5)
    lstm(pack_padded_sequence(torch.ones(T, N, 50), [6, 2, 5, 1], enforce_sorted=False))
    rows = iter(spy.calls[0][0])
    by_rank = [[next(rows) for _ in range(n)] for n in (4, 3, 2, 2, 2, 1)]
    for step in by_rank:
        for n, row in enumerate(step):
            assert torch.equal(row, by_rank[0][n])
    assert len({tuple(row.tolist()) for row in by_rank[0]}) == N


def test_weight_drop_is_drawn_once_a_call(monkeypatch):
    spy = Spy(monkeypatch)
    torch.manual_seed(0)
    lstm = undertow.LSTM(3, 40, weight_drop=0.5)
    for _ in range(2):
        lstm(torch.randn(T, N, 3))
    dropped = [call[1][0][1] for call in spy.calls]
    kept = dropped[0] / lstm.weight_hh_l0.detach()
    assert shares(kept.round(decimals=4), 0.5)
    assert not torch.equal(*dropped)
    assert all(call[2] is PLAIN for call in spy.calls)  # it is none of the kernel's business


def test_zoneout_is_drawn_at_each_step_and_its_mean_in_evaluation(monkeypatch):
    spy = Spy(monkeypatch)
    torch.manual_seed(0)
    lstm = undertow.LSTM(3, 40, zoneout=(0.25, 0.5))
    lstm(torch.randn(50, N, 3))
    lstm.eval()(torch.randn(50, N, 3))
    (_, _, training), (_, _, evaluation) = spy.calls
    for rate, drawn in ((0.25, training.zoneout_h), (0.5, training.zoneout_c)):
        assert drawn.shape == (1, 50, N, 40)
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
        assert abs(drawn.mean().item() - rate) < 5 * (rate * (1 - rate) / drawn.numel()) ** 0.5
        assert not torch.equal(drawn[:, 0], drawn[:, 1])
    assert (evaluation.zoneout_h == 0.25).all()
    assert (evaluation.zoneout_c == 0.5).all()
    for lstm.zoneout in (0.3, (0.3, 0), (0, 0.3)):
        lstm(torch.randn(50, N, 3))
    for (_, _, found), given in zip(spy.calls[2:], ("hc", "h", "c"), strict=True):
        assert (found.zoneout_h is not None, found.zoneout_c is not None) == ("h" in given, "c" in given)


@pytest.mark.parametrize("cell", KINDS)
def test_dropout_is_for_training_alone_and_may_be_set(cell):
    module, x = make(cell), torch.randn(T, N, C, dtype=torch.float64)
    expected = module(x)[0]
    for name in ("input_dropout", "recurrent_dropout", "weight_drop", "zoneout"):
        setattr(module, name, 0.5)
        assert getattr(module, name) == 0.5
        assert not torch.equal(module(x)[0], expected)
        if name != "zoneout":
            assert torch.equal(module.eval()(x)[0], expected)
        setattr(module.train(), name, 0.0)
        assert torch.equal(module(x)[0], expected)
        assert "_options" not in module.__dict__  # torch's own again
    with pytest.raises(ValueError, match=r"^zoneout: expected between 0 and 1, got 2"):
        module.zoneout = 2
    with pytest.raises(AttributeError, match=r"^learn_initial_state: chosen when the module is made"):
        module.learn_initial_state = True


# ------------------------------------------------------------------------------ the modules


def test_without_options_nothing_is_added():
    torch.manual_seed(0)
    ours = undertow.LSTM(C, H, 2, zoneout=0.0, layer_norm=False)
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(C, H, 2)
    assert ours.__dict__.keys() == theirs.__dict__.keys()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert (undertow.convert(theirs).zoneout, theirs.coupled) == (0.0, False)


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"learn_initial_state": True}, {"h_0": (2, H), "c_0": (2, H)}),
        ({"learn_initial_state": True, "proj_size": 2}, {"h_0": (2, 2), "c_0": (2, H)}),
        ({"peepholes": True}, {"peephole_l0": (3, H), "peephole_l0_reverse": (3, H)}),
        (
            {"layer_norm": True, "bidirectional": False},
            {"gain_ih_l0": (4 * H,), "gain_hh_l0": (4 * H,), "gain_c_l0": (H,), "shift_c_l0": (H,)},
        ),
        ({"hidden_size": [H], "learn_initial_state": True}, {"h_0_l0": (2, H), "c_0_l0": (2, H)}),
        ({"zoneout": 0.1, "coupled": True}, {}),
    ],
    ids=str,
)
def test_parameters_start_neutral_beside_torchs(options, added):
    """From one seed the same weights as torch's; gains one, all else zero; now and after reset_parameters."""
    options = {"hidden_size": H, "num_layers": 1, "bidirectional": True} | options
    torch.manual_seed(0)
    module = undertow.LSTM(C, **options)
    shape = {name: options[name] for name in ("bidirectional", "proj_size") if name in options}
    for _ in range(2):
        torch.manual_seed(0)
        theirs = torch.nn.LSTM(C, H, **shape).state_dict()
        if isinstance(options["hidden_size"], list):  # whose weights torch's constructor draws a first time
            module.reset_parameters() if _ else None
            theirs = {name: p for name, p in module.state_dict().items() if name in theirs}
        found = module.state_dict()
        assert {name: tuple(p.shape) for name, p in found.items() if name not in theirs} == added
        for name, p in found.items():
            expected = theirs.get(name, torch.full_like(p, float(name.startswith("gain"))))
            assert torch.equal(p, expected), name
        with torch.no_grad():
            for p in module.parameters():
                p.fill_(3)
        torch.manual_seed(0)
        module.reset_parameters()
    assert [len(names) for names in module.all_weights] == [5 if "proj_size" in options else 4] * (
        2 if module.bidirectional else 1
    )


def test_parameters_that_others_added_are_drawn_too():
    ours, theirs = undertow.LSTM(C, H, peepholes=True), torch.nn.LSTM(C, H)
    for module in (ours, theirs):
        module.scale = torch.nn.Parameter(torch.ones(3))
        torch.manual_seed(0)
        module.reset_parameters()
    assert torch.equal(ours.scale, theirs.scale)


@each_option
def test_copies_repr_and_moves(cell, options):
    module, x = make(cell, **options).eval(), torch.randn(T, N, C, dtype=torch.float64)
    expected = module(x)[0]
    again = eval(f"undertow.{module!r}").double().eval()  # what repr says makes the same module
    again.load_state_dict(module.state_dict())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), again):
        assert repr(twin) == repr(module)
        assert torch.equal(twin(x)[0], expected)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        y = module.to(dtype)(x.to(dtype))[0]
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module.float()(x.float())[0]
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), expected, atol=0.1, rtol=0)
    module.to(torch.bfloat16)
    assert module.to("meta")(x.to("meta", torch.bfloat16))[0].shape == expected.shape


@each_option
@torchscript
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # torch's own
def test_traced_by_torch_it_keeps_its_equations(cell, options):
    """torch's own operator, which serves there otherwise, would drop them."""
    module, x = make(cell, **options).eval(), torch.randn(T, N, C, dtype=torch.float64)
    program = torch.jit.trace(module, (x,))
    torch.testing.assert_close(program(2 * x)[0], module(2 * x)[0], atol=1e-12, rtol=0)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor", "ignore:<class 'torch.autograd"
)  # dynamo's
def test_compiled_by_torch_it_keeps_its_equations():
    module = make(**EVERYTHING | {"hidden_size": [5, 7], "bidirectional": False}).eval()
    x = torch.randn(2, N, C, dtype=torch.float64)
    compiled, results = torch.compile(torch.nn.Sequential(module), backend="aot_eager"), []
    for program in (module, compiled):
        y = program(x)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), list(module.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@torchscript
def test_what_torchs_own_modules_cannot_compute_is_not_made_theirs():
    model = torch.nn.Sequential(undertow.LSTM(C, H), make(coupled=True))
    with pytest.raises(ValueError, match=r"^model: torch's modules have no such options: '1' is LSTM\("):
        undertow.convert(model, back=True)
    assert all(isinstance(module, undertow.LSTM) for module in model)
    with pytest.raises(ValueError, match=r"^torch.jit.script compiles torch's module, which has no such o"):
        torch.jit.script(model)


def test_segments_and_traces_know_what_needs_no_kernel():
    options = {"learn_initial_state": True, "input_dropout": 0.5, "weight_drop": 0.5, "hidden_size": [5, 2]}
    results = []
    for checkpoint in (None, 2):
        module, x = make(checkpoint=checkpoint, **options), torch.ones(T, N, C, dtype=torch.float64)
        torch.manual_seed(3)
        module(x, lengths=LENGTHS)[0].square().sum().backward()
        results.append([p.grad for p in module.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    with undertow.trace(module) as trace:
        module(x)[0].sum().backward()
    assert [layer.c.shape for layer in trace.layers] == [(T + 1, N, 5), (T + 1, N, 2)]


@pytest.mark.parametrize("options", OPTIONS["lstm"], ids=str)
def test_with_its_tape_it_gives_the_same(options):
    """``return_tape``: and the tape's h is y, its gates zero at the steps passed over."""
    module, x, given = make(**options).eval(), torch.randn(T, N, C, dtype=torch.float64), marks()
    y, (h_n, _), tape = module(x, **given, return_tape=True)
    expected, (h, _) = module(x, **given)
    for a, e in zip((y, *h_n), (expected, *h), strict=True):
        torch.testing.assert_close(a, e, atol=1e-12, rtol=0)
    last = tape[-1]
    torch.testing.assert_close(torch.cat((last.h[1:], last.reverse.h[1:]), dim=2), y)
    assert not last.gates[~given["mask"]].any()


# ----------------------------------------------------------------------------------- widths


@pytest.mark.parametrize("cell", KINDS)
def test_widths_are_layers_of_their_own(cell):
    """The same as layers one by one, whose weights, names, states and hx are those of the stack."""
    widths = [5, 2, 4]
    stack = make(cell, hidden_size=widths, num_layers=3, bidirectional=False, init="orthogonal")
    x, y = torch.randn(T, N, C, dtype=torch.float64), None
    hx = [tuple(torch.randn(1, N, W, dtype=torch.float64) for W in widths) for _ in range(2)]
    y, finals = stack(x, hx if cell == "lstm" else hx[0])
    finals = finals if cell == "lstm" else (finals,)
    assert stack.hidden_size == (5, 2, 4)
    for k, W in enumerate(widths):
        alone = KINDS[cell](x.shape[2], W, dtype=torch.float64)
        names = {name: name.replace("l0", f"l{k}") for name in alone.state_dict()}
        alone.load_state_dict({name: getattr(stack, other) for name, other in names.items()})
        own = tuple(kind[k] for kind in hx)
        x, ends = alone(x, own if cell == "lstm" else own[0])
        for found, end in zip(finals, ends if cell == "lstm" else (ends,), strict=True):
            close(found[k], end.detach())
    close(y, x.detach())
    close(stack(y.new_ones(T, C))[0], stack(y.new_ones(T, 1, C))[0][:, 0].detach())


def test_widths_by_position():
    lstm = undertow.LSTM(C, (4, 5), 2, False, True)
    assert repr(lstm) == f"LSTM({C}, (4, 5), num_layers=2, bias=False, batch_first=True)"
    rnn = undertow.RNN(C, [4, 5], 2, "relu")
    assert (rnn.mode, rnn(torch.ones(T, N, C))[0].shape) == ("RNN_RELU", (T, N, 5))
    with pytest.raises(TypeError, match="input_size"):
        undertow.LSTM(hidden_size=[4, 5])


def test_widths_start_as_layers_of_that_width_do():
    lstm = undertow.LSTM(100, [400, 25], forget_bias=2.0, init="orthogonal")
    for k, W in enumerate((400, 25)):
        w = getattr(lstm, f"weight_ih_l{k}")
        assert 0.99 * W**-0.5 < w.abs().max() <= W**-0.5
        assert torch.equal(getattr(lstm, f"bias_hh_l{k}")[W : 2 * W], torch.full((W,), 2.0))
        U = getattr(lstm, f"weight_hh_l{k}").detach()[-W:]
        torch.testing.assert_close(U @ U.T, torch.eye(W), atol=1e-5, rtol=0)
    assert not lstm.flatten_parameters()  # cuDNN has one width alone


WRONG_WIDTHS = [
    (
        {"hidden_size": [4, 5], "num_layers": 3},
        ValueError,
        "num_layers: expected 2, as hidden_size has widths",
    ),
    (
        {"hidden_size": [4, 5], "num_layers": 2, "proj_size": 2},
        ValueError,
        r"proj_size: expected 0 with hidden_",
    ),
    ({"hidden_size": []}, ValueError, "hidden_size: expected a width of at least 1 for each layer"),
    ({"hidden_size": [4, 0]}, ValueError, "hidden_size: expected a width of at least 1 for each layer"),
    ({"hidden_size": [4, 5.0]}, TypeError, "hidden_size: expected an int for each layer, got float"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG_WIDTHS, ids=str)
def test_widths_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        undertow.LSTM(C, **options)


def test_states_that_do_not_fit_widths():
    lstm, x = undertow.LSTM(C, [4, 5]), torch.zeros(T, N, C)
    good = tuple(tuple(torch.zeros(1, N, W) for W in (4, 5)) for _ in range(2))
    assert lstm(x, good)[0].shape == (T, N, 5)
    whole = torch.zeros(2, N, 5)
    for hx in ((whole, whole), good[:1], (good[0], good[1][::-1]), (good[0], good[1][:1])):
        with pytest.raises(ValueError, match=r"^input: expected \[T, N, 3\] .* H = \(4, 5\); got "):
            lstm(x, hx)
    with pytest.raises(ValueError, match=r"^input: expected \[T, N, 3\] .* got \[6, 4, 2\] and NoneType"):
        lstm(x[..., :2])


# ---------------------------------------------------------------------------- mask and reset


@pytest.mark.parametrize("cell", KINDS)
def test_masked_steps_are_not_there(cell):
    """What they hold, even NaN, is not read; a sequence with gaps is the sequence without them."""
    module, x = make(cell), torch.randn(T, N, C, dtype=torch.float64)
    mask = torch.tensor([True, False, True, True, False, True])[:, None].expand(T, N)
    expected, ends = module(x[mask[:, 0]])
    gaps = x.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    y, states = module(gaps, mask=mask)
    close(y[mask[:, 0]], expected.detach())
    for a, e in zip(flat_states(module, states), flat_states(module, ends), strict=True):
        close(a[0], e[0].detach())
    y.sum().backward()
    assert not gaps.grad[~mask].any()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_a_batch_without_any_step():
    """No row of any tape, of which the kernels are then given no address."""
    lstm, x = make(**EVERYTHING), torch.randn(T, N, C, dtype=torch.float64, requires_grad=True)
    y, (h_n, c_n) = lstm(x, lengths=[0] * N, **marks())
    (y.sum() + h_n.sum() + c_n.sum()).backward()
    assert not y.any()
    assert not x.grad.any()
    assert torch.equal(h_n, lstm.h_0.unsqueeze(1).expand_as(h_n))
    assert all(torch.equal(s.grad, torch.full_like(s, N)) for s in (lstm.h_0, lstm.c_0))
    assert not any(p.grad.any() for name, p in lstm.named_parameters() if name not in ("h_0", "c_0"))


@pytest.mark.parametrize("cell", KINDS)
def test_a_reset_begins_from_the_modules_own_state(cell):
    """As pieces by themselves: the first from hx, the second from the learnt state; no gradient between."""
    module = make(cell, learn_initial_state=True, bidirectional=False)
    x = torch.randn(T, N, C, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, N, H, dtype=torch.float64)
    hx = (h, h) if cell == "lstm" else h
    reset = torch.zeros(T, N, dtype=torch.bool)
    reset[4] = True
    y, _ = module(x, hx, reset=reset)
    close(y, torch.cat((module(x[:4], hx)[0], module(x[4:])[0])).detach())
    y[4:].sum().backward()
    assert not x.grad[:4].any()
    assert x.grad[4:].any()
    assert module.h_0.grad.any()


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_marks_in_the_layout_of_the_input(name):
    lstm, x, mark = make(), torch.randn(T, N, C, dtype=torch.float64), marks()[name]
    expected = lstm(x, **{name: mark})[0].detach()
    close(lstm(x[:, 1], **{name: mark[:, 1].tolist()})[0], expected[:, 1])
    lstm.batch_first = True
    close(lstm(x.transpose(0, 1), **{name: mark.T.numpy()})[0].transpose(0, 1), expected)


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_marks_may_change_before_the_backward_or_are_missed(name):
    """Where a rollout's buffer is filled again: of an array a copy is used, of a tensor torch speaks up."""
    lstm, x, mark = make(), torch.randn(T, N, C, dtype=torch.float64), marks()[name]
    (expected,) = torch.autograd.grad(lstm(x, **{name: mark})[0].sum(), lstm.weight_ih_l0)
    given = mark.numpy().copy()
    y, _ = lstm(x, **{name: given})
    given[:] = ~given
    assert torch.equal(torch.autograd.grad(y.sum(), lstm.weight_ih_l0)[0], expected)
    y, _ = lstm(x, **{name: mark})
    mark.logical_not_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_marks_that_do_not_fit(name):
    lstm, x = undertow.LSTM(C, H), torch.zeros(T, N, C)
    call = partial(lambda x, mark, lstm=lstm: lstm(x, **{name: mark}))
    ones = torch.ones(T, N, dtype=torch.bool)
    with pytest.raises(TypeError, match=rf"^{name}: expected booleans, got torch.float32"):
        call(x, ones.float())
    with pytest.raises(ValueError, match=rf"^{name}: expected shape \[T, N\] = \[6, 4\], .* got \[4, 6\]"):
        call(x, ones.T)
    with pytest.raises(ValueError, match=rf"^{name}: expected shape \[T\] = \[6\], .* got \[6, 4\]"):
        call(x[:, 0], ones)
    with pytest.raises(ValueError, match=rf"^{name}: expected None with a PackedSequence"):
        call(pack_padded_sequence(x, [6, 6, 4, 1]), ones)
    with pytest.raises(ValueError, match=rf"^{name}: expected with an input of 2 or 3 dimensions, got list"):
        call([1.0], ones)
    lstm.checkpoint = 8
    with pytest.raises(ValueError, match=rf"^checkpoint: expected None with {name}, .* got 8"):
        call(x, ones)


# ------------------------------------------------------------------------------ what is refused


REFUSED = [
    ("lstm", {"layer_norm": 1}, TypeError, "layer_norm: expected a bool, got int"),
    ("lstm", {"zoneout": "0.1"}, TypeError, "zoneout: expected a number or a tuple of two, got str"),
    (
        "lstm",
        {"zoneout": (0.1, None)},
        TypeError,
        "zoneout: expected a number or a tuple of two, got NoneType",
    ),
    ("lstm", {"zoneout": (0.1,)}, ValueError, "zoneout: expected a number or a pair, for h and for c"),
    ("lstm", {"input_dropout": True}, TypeError, "input_dropout: expected a number, got bool"),
    ("lstm", {"weight_drop": -0.1}, ValueError, "weight_drop: expected between 0 and 1, got -0.1"),
    ("lstm", {"recurrent_dropout": float("nan")}, ValueError, "recurrent_dropout: expected between 0 and 1"),
    (
        "lstm",
        {"coupled": True, "forget_bias": 1.0},
        ValueError,
        "forget_bias: expected None with coupled=True",
    ),
    *[
        (
            "lstm",
            {"checkpoint": 8, name: value},
            ValueError,
            f"checkpoint: expected None with {name}, .* got 8",
        )
        for name, value in {
            "zoneout": 0.1,
            "recurrent_dropout": 0.1,
            "layer_norm": True,
            "coupled": True,
        }.items()
    ],
    ("rnn", {"peepholes": True}, ValueError, "peepholes: expected False for the RNN, which has no gates"),
    ("rnn", {"layer_norm": True}, ValueError, "layer_norm: expected False for the RNN"),
    ("rnn", {"coupled": True}, ValueError, "coupled: expected False for the RNN"),
    (
        "rnn",
        {"zoneout": (0.1, 0.1)},
        ValueError,
        "zoneout: expected one number for the RNN, which has no cell",
    ),
]


@pytest.mark.parametrize(("cell", "options", "error", "message"), REFUSED, ids=str)
def test_options_that_do_not_fit_are_refused(cell, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        KINDS[cell](C, H, **options)


def test_a_module_with_segments_takes_no_zoneout_later():
    lstm = undertow.LSTM(C, H, checkpoint=4)
    with pytest.raises(ValueError, match=r"^checkpoint: expected None with zoneout, .* got 4"):
        lstm.zoneout = 0.1
    assert lstm.zoneout == 0
    other = undertow.LSTM(C, H, zoneout=0.1)
    with pytest.raises(ValueError, match=r"^checkpoint: expected None with zoneout, .* got 4"):
        other.checkpoint = 4


@pytest.mark.parametrize("what", ["dtype", "features", "states"])
def test_arguments_that_torch_refuses_are_refused_in_torchs_words(what):
    lstm, theirs = undertow.LSTM(C, H, zoneout=0.1), torch.nn.LSTM(C, H)
    x, h = torch.zeros(T, N, C), torch.zeros(1, N, H + 1)
    args = {"dtype": (x.double(),), "features": (x[..., 1:],), "states": (x, (h, h))}[what]
    with pytest.raises(Exception) as expected:
        theirs(*args)
    with pytest.raises(type(expected.value)) as actual:
        lstm(*args)
    assert str(actual.value) == str(expected.value)


def test_options_agree_with_equations_of_the_plain_lstm():
    """At their neutral start peepholes, learnt states and rates of zero change nothing."""
    torch.manual_seed(0)
    lstm = undertow.LSTM(C, H, peepholes=True, learn_initial_state=True, dtype=torch.float64)
    x = torch.randn(T, N, C, dtype=torch.float64)
    W, U, b_ih, b_hh = (p.detach().numpy() for p in lstm.all_weights[0])
    zero = np.zeros((N, H))
    close(lstm(x)[0], equations.lstm(x.numpy(), zero, zero, W, U, b_ih + b_hh)[0])
