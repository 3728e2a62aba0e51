"""What programs do with an nn.LSTM beside calling it, done to both: the same results, or the same refusal.

``test_nn`` has the module's own behaviour, ``test_parity`` results over all options, ``test_compile``
recorded programs; docs/drop-in.md lists which test proves what. Where both compute, they may differ by 1e-6
in float32 and 1e-10 in float64 of the largest entry (or of 1): rounding, in sums of some tens of terms.
"""

import copy
import io
import pickle
import threading
import warnings
from functools import partial

import pytest
import torch
from torch.nn.utils import parametrizations, prune, stateless
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import modules
import undertow
from torchscript import torchscript

T, N, C, H = 6, 3, 4, 5
KINDS = modules.PAIRS["LSTM"]
assert_same = partial(modules.assert_same, tolerance={torch.float32: 1e-6, torch.float64: 1e-10})


def pair(*args, **options):
    return modules.pair("LSTM", *(args or (C, H)), **options)


def sequence(dtype=torch.float32, shape=(T, N, C)):
    return torch.linspace(-2, 2, torch.Size(shape).numel()).sin().view(shape).to(dtype)


def trained(module, x, call=None):
    """Outputs and all gradients after one backward pass; parameters must have none before."""
    x = x.detach().requires_grad_()
    y, (h_n, c_n) = (call or module)(x)
    (y.square().sum() + h_n.sum() + (2 * c_n).sum()).backward()
    return [y, h_n, c_n, x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


# ------------------------------------------------------------------------- wrong arguments


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


def states(h, c, dtype=torch.float32):
    return zeros(*h, dtype=dtype), zeros(*c, dtype=dtype)


def packed(features):
    return pack_padded_sequence(zeros(T, N, features), [6, 4, 1])


WRONG = {  # after torch's test_RNN_input_size_zero, test_rnn_args_check, test_projections_lstm_args_check
    "x of other features": (zeros(T, N, C + 1), None),
    "h_0 of other layers": (zeros(T, N, C), states((3, N, 2), (4, N, H))),
    "c_0 of other layers": (zeros(T, N, C), states((4, N, 2), (3, N, H))),
    "h_0 of another batch": (zeros(T, N, C), states((4, N + 1, 2), (4, N, H))),
    "c_0 of another batch": (zeros(T, N, C), states((4, N, 2), (4, N + 1, H))),
    "h_0 not projected": (zeros(T, N, C), states((4, N, H), (4, N, H))),
    "c_0 projected": (zeros(T, N, C), states((4, N, 2), (4, N, 2))),
    "h_0 of 4 dimensions": (zeros(T, N, C), states((4, 1, N, 2), (4, N, H))),
    "h_0 unbatched": (zeros(T, N, C), states((4, 2), (4, H))),
    "h_0 batched, x not": (zeros(T, C), states((4, N, 2), (4, N, H))),
    "c_0 batched, x and h_0 not": (zeros(T, C), states((4, 2), (4, N, H))),
    "x of 5 dimensions": (zeros(1, 1, T, N, C), None),
    "x without dimensions": (torch.tensor(1.0), None),
    "no steps": (zeros(0, N, C), None),
    "x in double": (zeros(T, N, C, dtype=torch.double), None),
    "x in complex": (zeros(T, N, C, dtype=torch.cfloat), None),
    "x in bool": (zeros(T, N, C, dtype=torch.bool), None),
    "h_0 in double": (zeros(T, N, C), states((4, N, 2), (4, N, H), torch.double)),
    "packed of other features": (packed(C + 1), None),
    "packed, h_0 of another batch": (packed(C), states((4, N + 1, 2), (4, N, H))),
    "hx of one tensor": (zeros(T, N, C), zeros(4, N, 2)),
    "hx of numbers": (zeros(T, N, C), (1.0, 2.0)),
    "hx of one": (zeros(T, N, C), (zeros(4, N, 2),)),
    "hx empty": (zeros(T, N, C), ()),
    "x a string": ("x", None),
    "x None": (None, None),
    "x a tuple": ((zeros(T, N, C),), None),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch's own
@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused_in_torchs_words(what):
    """Two layers, both ways, with projections, so that every size is another."""
    refused = []
    for module in pair(C, H, 2, bidirectional=True, proj_size=2):
        with pytest.raises(Exception) as error:
            module(*WRONG[what])
        refused.append((type(error.value), str(error.value)))
    assert refused[0] == refused[1]


@pytest.mark.parametrize("call", [(), (zeros(T, N, C), None, None), (zeros(T, N, C), "nonsense")], ids=len)
def test_wrong_calls_are_refused(call):
    for module in pair():
        with pytest.raises((TypeError, RuntimeError, ValueError, AttributeError)):
            module(*call)


# ---------------------------------------------------------------- parameters and their memory


def test_flatten_and_all_weights():
    theirs, ours = pair(C, H, 2, bidirectional=True)
    ours.flatten_parameters()
    names = [
        next(name for name, p in ours.named_parameters() if p is w) for ws in ours.all_weights for w in ws
    ]
    assert names == theirs._flat_weights_names == [name for name, _ in theirs.named_parameters()]
    assert_same(trained(ours, sequence()), trained(theirs, sequence()))


def test_a_parameter_put_in_anew_is_used():
    results = []
    for module in pair(dtype=torch.float64):
        module(sequence(torch.float64))
        module.weight_hh_l0 = torch.nn.Parameter(zeros(4 * H, H, dtype=torch.float64) + 1)
        module.bias_ih_l0.data = zeros(4 * H, dtype=torch.float64) + 1
        module.bias_hh_l0.data.fill_(2)
        results.append(trained(module, sequence(torch.float64)))
    assert_same(*results)


def test_reset_parameters_draws_what_torch_draws():
    theirs, ours = pair()
    for module in (theirs, ours):
        torch.manual_seed(3)
        module.reset_parameters()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_tied_layers():
    """Two layers of one module, and two modules, that share their weights."""
    results = []
    for module in pair(H, H, 2):
        module.weight_hh_l1, module.weight_ih_l1 = module.weight_hh_l0, module.weight_ih_l0
        results.append(trained(module, sequence(shape=(T, N, H))))
    assert_same(*results)
    results = []
    for first, kind in zip(pair(H, H), KINDS, strict=True):
        second = kind(H, H)
        for name, p in list(first.named_parameters()):
            setattr(second, name, p)
        results.append(trained(first, sequence(shape=(T, N, H)), lambda x, a=first, b=second: b(a(x)[0])))
    assert_same(*results)


# ------------------------------------------------------------------------ files and copies


def test_whole_modules_are_saved_and_loaded():
    lstm = undertow.LSTM(C, H, 2, dropout=0.1).eval()
    file = io.BytesIO()
    torch.save(lstm, file)
    file.seek(0)
    assert_same(trained(torch.load(file, weights_only=False), sequence()), trained(lstm, sequence()))
    file.seek(0)
    with torch.serialization.safe_globals([undertow.LSTM, undertow.nn.LSTM, *SAFE]):
        assert torch.equal(torch.load(file, weights_only=True)(sequence())[0], lstm(sequence())[0])


SAFE = [torch.nn.LSTM, set, torch.nn.Parameter]


def old(module, version):
    """The state that a module pickled by an old torch has."""
    state = {k: v for k, v in module.__dict__.items() if k != "_flat_weight_refs"}
    if version == "1.7":  # before proj_size
        del state["proj_size"]
    if version == "1.3":  # all_weights held the parameters themselves
        for name in ("proj_size", "_flat_weights_names", "_flat_weights", "_all_weights"):
            del state[name]
        state["all_weights"] = [list(each) for each in module.all_weights]
    if version == "hooks":  # before the newest kinds of hooks
        for name in [k for k in state if k.startswith("_forward_hooks_") or k.endswith("_pre_hooks")]:
            del state[name]
    return state


@pytest.mark.parametrize("version", ["1.3", "1.7", "hooks"])
@pytest.mark.parametrize("way", ["loaded by ours", "converted"])
def test_modules_pickled_by_old_versions_of_torch(version, way):
    theirs, _ = pair(C, H, 2, bidirectional=True)
    kind = undertow.LSTM if way == "loaded by ours" else torch.nn.LSTM
    module = kind.__new__(kind)
    module.__setstate__(copy.deepcopy(old(theirs, version)))
    module = undertow.convert(module)
    assert type(module) is undertow.LSTM
    assert repr(module) == repr(theirs)
    assert_same(trained(module, sequence()), trained(theirs, sequence()))
    assert_same(copy.deepcopy(module).all_weights[0], theirs.all_weights[0])


def test_state_dicts_tell_what_does_not_fit():
    state = torch.nn.LSTM(C, H, 2).state_dict()
    told = []
    for kind in KINDS:
        for change in ({}, {"weight_hh_l0": zeros(4 * H, H + 1)}, {"nonsense": zeros(1)}):
            module = kind(C, H) if not change else kind(C, H, 2)
            with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict for LSTM") as error:
                module.load_state_dict(state | change)
            told.append(str(error.value))
    assert told[:3] == told[3:]


def test_a_state_dict_may_be_assigned():
    theirs, ours = pair()
    given = {name: p.detach().clone() * 2 for name, p in theirs.state_dict().items()}
    for module in (theirs, ours):
        module.load_state_dict(given, assign=True)
    assert ours.weight_ih_l0.data_ptr() == given["weight_ih_l0"].data_ptr()
    assert_same(trained(ours, sequence()), trained(theirs, sequence()))


def test_averaged_models():
    results = []
    for module in pair():
        average = torch.optim.swa_utils.AveragedModel(module)
        with torch.no_grad():
            for p in module.parameters():
                p.mul_(3)
        average.update_parameters(module)
        average.update_parameters(module)
        results.append(trained(average.module, sequence()))
    assert_same(*results)


# --------------------------------------------------- parametrizations, pruning and hooks


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(module, "weight_hh_l0")


def remove_old_weight_norm(module):
    old_weight_norm(module)
    module(sequence())
    torch.nn.utils.remove_weight_norm(module, "weight_hh_l0")


def prune_all_and_remove(module):
    given = [(module, "weight_hh_l0"), (module, "weight_ih_l0")]
    prune.global_unstructured(given, prune.L1Unstructured, amount=0.4)
    prune.remove(module, "weight_hh_l0")


def orthogonal_removed(module):
    parametrizations.orthogonal(module, "weight_hh_l0")
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")


def old_spectral_norm(module):
    torch.nn.utils.spectral_norm(module, "weight_hh_l0")


CHANGES = [
    old_weight_norm,
    remove_old_weight_norm,
    old_spectral_norm,
    prune_all_and_remove,
    orthogonal_removed,
]


@pytest.mark.parametrize("change", CHANGES)
def test_weights_made_of_others(change):
    """Trained twice, so that what was made of the weights is made of them anew."""
    results = []
    for module in pair():
        torch.manual_seed(1)
        change(module)
        first = trained(module, sequence())
        with torch.no_grad():
            for p in module.parameters():
                p.sub_(p.grad if p.grad is not None else 0, alpha=0.1)
        module.zero_grad()
        results.append([*first, *trained(module, sequence())])
    assert_same(*results)


def test_hooks():
    """Of every kind: called in the same order with the same values, and what they return is used."""
    logs = []
    for module in pair():
        log = []
        module.register_forward_pre_hook(
            lambda _m, args, log=log: log.append(args[0].sum()) or (args[0] * 2,)
        )
        module.register_forward_pre_hook(
            lambda _m, args, named, log=log: log.append(len(named)), with_kwargs=True
        )
        module.register_forward_hook(lambda _m, _args, out, log=log: log.append(out[0].sum()))
        module.register_forward_hook(lambda _m, _args, out: (out[0] * 3, out[1]))
        module.register_full_backward_pre_hook(lambda _m, grads, log=log: log.append(len(grads)))
        module.register_full_backward_hook(lambda _m, gx, gy, log=log: log.append((gx[0].sum(), gy[0].sum())))
        module.weight_hh_l0.register_hook(lambda grad: grad * 5)
        module.weight_ih_l0.register_post_accumulate_grad_hook(lambda p, log=log: log.append(p.grad.sum()))
        results = trained(module, sequence())
        flat = [t for entry in log for t in (entry if isinstance(entry, tuple) else (entry,))]
        logs.append([*results, *(torch.as_tensor(t, dtype=torch.float32) for t in flat)])
    assert_same(*reversed(logs))


# ----------------------------------------------------------------------------- autograd

ODD = {
    "transposed": lambda: sequence(shape=(C, N, T)).permute(2, 1, 0),
    "expanded": lambda: sequence(shape=(T, 1, C)).expand(T, N, C),
    "every other": lambda: sequence(shape=(2 * T, N, 2 * C))[::2, :, ::2],
    "backwards": lambda: sequence().flip(0),
    "windows": lambda: sequence(shape=(N, T + C - 1)).unfold(1, C, 1).transpose(0, 1),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("batch_first", [False, True])
def test_inputs_of_any_strides(odd, batch_first):
    results = []
    for module in pair(batch_first=batch_first):
        y, finals = module(ODD[odd]())
        results.append([y, *finals, *torch.autograd.grad(y.square().sum(), module.parameters())])
    assert_same(*results)


@pytest.mark.parametrize("lengths", [None, [2, 6, 0]], ids=["even", "lengths"])
def test_second_derivatives_of_the_module(lengths):
    torch.manual_seed(0)
    lstm = undertow.LSTM(2, 2, 2, bidirectional=True, dtype=torch.float64)
    weights = {name: p.detach().requires_grad_() for name, p in lstm.named_parameters()}

    def f(x, h_0, c_0, *given):
        named = dict(zip(weights, given, strict=True))
        y, (h_n, c_n) = torch.func.functional_call(lstm, named, (x, (h_0, c_0)), {"lengths": lengths})
        return y, h_n, c_n

    args = [
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(T, N, 2), (4, N, 2), (4, N, 2)]
    ]
    args += weights.values()
    assert torch.autograd.gradcheck(f, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, args, fast_mode=True)


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).square().sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f, 1)(x),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x[:3]),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x[:3]),
    "hessian": lambda f, x: torch.func.hessian(lambda x: f(x).square().sum())(x[:2]),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](f(x).detach())[0],
    "linearize": lambda f, x: torch.func.linearize(f, x)[1](x.cos()),
    "functional jacobian": lambda f, x: torch.autograd.functional.jacobian(f, x[:3], vectorize=True),
    "functional hvp": lambda f, x: torch.autograd.functional.hvp(lambda x: f(x).square().sum(), x, x.cos())[
        1
    ],
}


@torchscript
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # torch's own, of linearize
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(transform):
    """Against the same of the equations in torch operations, since nn.LSTM has no batching rule."""
    lstm = undertow.LSTM(C, H, bidirectional=True, dtype=torch.float64)
    x = sequence(torch.float64)
    got = TRANSFORMS[transform](lambda x: lstm(x)[0], x)
    expected = TRANSFORMS[transform](lambda x: lstm(x, return_tape=True)[0], x)
    assert_same([got], [expected])


def test_per_sample_gradients_of_a_model():
    lstm = undertow.LSTM(C, H, 2, batch_first=True, dtype=torch.float64)
    weights, x = dict(lstm.named_parameters()), sequence(torch.float64, (N, T, C))

    def loss(weights, x):
        return torch.func.functional_call(lstm, weights, (x.unsqueeze(0),))[0].square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for n in range(N):
        alone = torch.autograd.grad(lstm(x[n : n + 1])[0].square().sum(), list(weights.values()))
        assert_same([g[n] for g in together.values()], alone)


@pytest.mark.parametrize("cell", modules.PAIRS)
@pytest.mark.parametrize("steps", [T, N], ids=["T", "T = N"])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True, "bias": False}, {"proj_size": 2}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("given", [False, True], ids=["", "hx"])
def test_gradients_of_each_sample(cell, steps, options, given):
    """By torch.nn.utils, which puts a tensor in each weight's place that keeps gradients apart by sample."""
    if cell == "RNN" and "proj_size" in options:
        return
    _, module = modules.pair(cell, C, H, **options)
    x = sequence(shape=(N, steps, C) if module.batch_first else (steps, N, C))
    hx = initial_states(module, N) if given else None
    call = call_for_per_sample_grads(
        module, batch_size=N, loss_reduction="sum", batch_first=module.batch_first
    )
    sum(each.square().sum() for each in modules.flat(call(x, hx))).backward()
    parameters = list(module.parameters())
    for n in range(N):
        alone = x[n : n + 1] if module.batch_first else x[:, n : n + 1]
        own = (
            None if hx is None else tuple(s[:, n : n + 1] for s in hx) if cell == "LSTM" else hx[:, n : n + 1]
        )
        loss = sum(each.square().sum() for each in modules.flat(module(alone, own)))
        assert_same([p.grad_sample[n] for p in parameters], torch.autograd.grad(loss, parameters))


def initial_states(module, batch):
    D, sizes = module.num_layers * (1 + module.bidirectional), [module.proj_size or H, H]
    found = tuple(sequence(shape=(D, batch, size)) for size in sizes)
    return found if module.mode == "LSTM" else found[1]


@pytest.mark.parametrize("cell", modules.PAIRS)
def test_gradients_of_each_packed_sample(cell):
    """As torch has them: in the order of lengths."""
    found = []
    for module in modules.pair(cell, C, H, dtype=torch.float64):
        x = pack_padded_sequence(sequence(torch.float64), [4, 6, 1], enforce_sorted=False)
        call = call_for_per_sample_grads(module, batch_size=N, loss_reduction="sum")
        outputs = modules.flat(call(x))
        sum(each.square().sum() for each in outputs).backward()
        found.append([*outputs, *(p.grad_sample for p in module.parameters())])
    assert_same(*found)


@pytest.mark.parametrize("given", [{"lengths": [1, 2, 3]}, {"mask": torch.ones(N, T, dtype=torch.bool)}])
def test_gradients_of_each_sample_with_what_torch_does_not_have(given):
    module = undertow.LSTM(C, H, batch_first=True)
    with pytest.raises(ValueError, match="call_for_per_sample_grads: expected a call without lengths, mask"):
        call_for_per_sample_grads(module, batch_size=N)(sequence(shape=(N, T, C)), **given)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(reentrant):
    results = [
        trained(m, sequence(), lambda x, m=m: checkpoint(m, x, use_reentrant=reentrant)) for m in pair()
    ]
    assert_same(*results)


def last_step_zero(y):
    y[-1] = 0
    return y


WRITE = {
    "relu": partial(torch.nn.functional.relu, inplace=True),
    "dropout": partial(torch.nn.functional.dropout, p=0.3, inplace=True),
    "last step": last_step_zero,
}


@pytest.mark.parametrize("form", ["batch first", "both ways", "unbatched", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", WRITE)
def test_y_may_be_written_to(form, dtype, how):
    """As nn.LSTM allows, but for its oneDNN operator: so torch's writes to a copy."""
    found = []
    for module in pair(
        C, H, 2, batch_first=form == "batch first", bidirectional=form == "both ways", dtype=dtype
    ):
        x = sequence(dtype)
        if form == "packed":
            x = pack_padded_sequence(x, [4, 6, 1], enforce_sorted=False)
        y, _ = module(x[:, 0] if form == "unbatched" else x)
        y = y.data if form == "packed" else y
        torch.manual_seed(0)
        out = WRITE[how](y.clone() if type(module) is torch.nn.LSTM else y)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in module.parameters())])
    assert_same(*found)


def test_backward_in_pieces():
    """Three passes over one graph."""
    theirs, ours = pair()
    x = sequence().requires_grad_()
    y, (h_n, c_n) = ours(x)
    for part in (y.square().sum(), h_n.sum(), (2 * c_n).sum()):
        part.backward(retain_graph=True)
    assert_same([x.grad, *(p.grad for p in ours.parameters())], trained(theirs, sequence())[3:])


def test_inference_mode():
    theirs, ours = pair(C, H, 2)
    with torch.inference_mode():
        y, finals = ours(sequence())
        assert y.is_inference()
        assert not y.requires_grad
        expected, ends = theirs(sequence())
        assert_same([y, *finals, ours(y[..., :C], finals)[0]], [expected, *ends, theirs(y[..., :C], ends)[0]])


def test_deterministic_algorithms():
    theirs, ours = pair(C, H, 2, bidirectional=True)
    expected = trained(theirs, sequence())
    torch.use_deterministic_algorithms(True)
    try:
        assert_same(trained(ours, sequence()), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_saved_tensors_hooks():
    """A program may pack what is kept for the backward pass, as to move it elsewhere."""
    _, ours = pair()
    expected, kept = trained(ours, sequence()), []
    ours.zero_grad()

    def pack(t):
        kept.append(t.shape)
        return t.numpy(force=True).copy()

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy):
        y, (h_n, c_n) = ours(x := sequence().requires_grad_())
    (y.square().sum() + h_n.sum() + (2 * c_n).sum()).backward()
    assert_same([x.grad, *(p.grad for p in ours.parameters())], expected[3:])
    assert (T, N, 4, H) in kept


# --------------------------------------------------------------------- threads and processes


def test_many_threads_at_once():
    """Forward and backward of one module in four threads: each result is that of a thread alone."""
    _, ours = pair(8, 32)
    xs = [torch.randn(20, 4 + k, 8) for k in range(4)]

    def run(x):
        y, _ = ours(x)
        return [y, *torch.autograd.grad(y.square().sum(), ours.parameters())]

    expected, found = [run(x) for x in xs], {}

    def work(k):
        for _ in range(20):
            found[k] = run(xs[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert all(torch.equal(a, b) for a, b in zip(found[k], expected[k], strict=True))


class Features(Dataset):
    """What a worker computes with a module that its parent has used."""

    def __init__(self, lstm):
        self.lstm = lstm

    def __len__(self):
        return 6

    def __getitem__(self, k):
        with torch.no_grad():
            return self.lstm(torch.full((T, C), float(k)))[0]


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python's, of processes with threads
def test_workers(context):
    lstm = undertow.LSTM(C, H)
    trained(lstm, sequence())
    data = Features(lstm)
    expected = torch.stack([data[k] for k in range(6)])
    got = list(DataLoader(data, batch_size=3, num_workers=2, multiprocessing_context=context))
    assert_same([torch.cat(got)], [expected])


def train_a_step(lstm, x, queue):
    torch.set_num_threads(1)
    lstm(x)[0].sum().backward()
    with torch.no_grad():
        for p in lstm.parameters():
            p.sub_(p.grad)
    queue.put(lstm.weight_hh_l0.is_shared())


def test_shared_memory():
    """Hogwild: another process trains the parameters that this one holds."""
    _, ours = pair()
    expected = copy.deepcopy(ours)
    expected(sequence())[0].sum().backward()
    ours.share_memory()
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=train_a_step, args=(ours, sequence(), queue))
    process.start()
    assert queue.get(timeout=600)
    process.join()
    assert_same(ours.parameters(), [p - p.grad for p in expected.parameters()])


def test_data_parallel_without_a_gpu():
    results = [trained(m, sequence(), torch.nn.DataParallel(m)) for m in pair()]
    assert_same(*results)


def half_a_batch(rank, port, path):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    _, ours = pair(C, H, 2, bidirectional=True)
    model = torch.nn.parallel.DistributedDataParallel(ours)
    x = sequence(shape=(T, 4, C))[:, 2 * rank : 2 * rank + 2]
    model(x)[0].square().mean().backward()
    if rank == 0:
        torch.save([p.grad for p in ours.parameters()], path)
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(tmp_path):
    """Two processes with half of the batch each: the gradients of one with the whole."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(half_a_batch, (port, tmp_path / "grads.pt"), nprocs=2)
    _, ours = pair(C, H, 2, bidirectional=True)
    ours(sequence(shape=(T, 4, C)))[0].square().mean().backward()
    assert_same(torch.load(tmp_path / "grads.pt"), [p.grad for p in ours.parameters()])


# ---------------------------------------------------------------------- models that hold one


class Tagger(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.lstm = torch.nn.Embedding(9, C), kind(C, H, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(2 * H, 3)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens))[0])


def test_symbolic_traces_have_it_as_a_leaf():
    model = Tagger(undertow.LSTM)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == [
        "embed",
        "lstm",
        "head",
    ]
    tokens = torch.arange(8).view(2, 4)
    assert torch.equal(traced(tokens), model(tokens))
    assert torch.equal(pickle.loads(pickle.dumps(traced))(tokens), model(tokens))


def test_moved_with_its_model():
    model = torch.nn.Sequential(undertow.LSTM(C, H), torch.nn.Identity())
    assert model.double().bfloat16().float()[0].weight_ih_l0.dtype is torch.float32
    assert [name for name, _ in model.named_modules()] == ["", "0", "1"]
    model.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    assert model.to("meta")(torch.empty(T, N, C, device="meta"))[0].is_meta


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.stateless.functional_call` is deprecated:FutureWarning")
def test_stateless_call_of_a_model():
    results = []
    for kind in KINDS:
        torch.manual_seed(0)
        model = Tagger(kind)
        given = {name: (p * 2).detach().requires_grad_() for name, p in model.named_parameters()}
        y = stateless.functional_call(model, given, (torch.arange(8).view(2, 4),))
        results.append([y, *torch.autograd.grad(y.square().sum(), list(given.values()))])
    assert_same(*results)
