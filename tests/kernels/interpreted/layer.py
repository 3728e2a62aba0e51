"""The kernels in Triton's interpreter: every output and gradient of every option is the equations'."""

import numpy as np
import pytest
import torch

from layer_of_triton import TritonLayer
from layer_of_variants import forms
from undertow.kernels import plain, triton
from varied_cases import OPTIONS

SIZE, SMALL = (4, 3, 2, 5), (3, 3, 2, 3)  # T, N, C, H: the interpreter takes its time
ROWS = [[], *([name] for name in OPTIONS), list(OPTIONS)]
each_row = pytest.mark.parametrize("options", ROWS, ids=lambda o: "+".join(o)[:12] or "plain")


@each_row
@pytest.mark.parametrize("form", ["even", "lengths"])
def test_outputs_and_gradients_are_the_equations(options, form):
    D = 1 if form == "lengths" and len(options) == 1 else 2  # both ways without options, and with all of them
    TritonLayer(options, form, D, size=SMALL if len(options) > 1 else SIZE).check()


@pytest.mark.parametrize(
    "options", [[], ["recurrent"], list(OPTIONS)], ids=["plain", "recurrent", "everything"]
)
def test_packed(options):
    """What has a value for each step or sequence finds it there."""
    TritonLayer(options, "packed", size=SMALL if len(options) > 1 else SIZE).check()


@pytest.mark.parametrize("options", [[], list(OPTIONS)], ids=["plain", "everything"])
@pytest.mark.parametrize("form", ["lengths", "packed"])
def test_in_blocks(options, form, blocks):
    TritonLayer(options, form, D=1, size=(2, 3, 2, 19)).check()


@pytest.mark.parametrize(
    "size",
    [(1, 4, 3, 5), (3, 1, 3, 16), (3, 9, 1, 1), (2, 20, 3, 32), (1, 1, 1, 1)],
    ids=str,
)
def test_sizes(size):
    TritonLayer([], "lengths", size=size).check()


@forms
def test_one_direction(form):
    TritonLayer(["reset", "zoneout_c"], form, D=1).check()


@pytest.mark.parametrize(
    ("options", "form"),
    [([], "even"), ([], "packed"), (list(OPTIONS), "lengths")],
    ids=["even", "packed", "all"],
)
def test_half_precision(options, form):
    """float16; the interpreter's products of bfloat16 are wrong (triton#11584)."""
    TritonLayer(options, form, D=1, dtype=torch.float16, size=SMALL).check()


@pytest.mark.parametrize("form", ["even", "lengths"])
def test_sequences_first(form):
    """x as batch_first gives it: its rows stay where they are, and y and dx lie as it does."""
    layer = TritonLayer(["reset"], form)
    leaves, weights = layer.leaves()
    x = leaves["x"].detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    results = []
    for each in (leaves["x"], x):
        y, *rest = layer.run(leaves | {"x": each}, weights)
        grads = torch.autograd.grad((y * y).sum() + sum(r.sum() for r in rest), [each, *weights[1]])
        results.append((y, *rest, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    y, dx = results[1][0], results[1][3]
    assert y.transpose(0, 1).is_contiguous()
    assert dx.transpose(0, 1).is_contiguous()


@forms
def test_no_initial_state_is_one_of_zeros(form):
    layer = TritonLayer([], form)
    leaves, weights = layer.leaves()
    leaves["h_0"], leaves["c_0"] = torch.zeros_like(leaves["h_0"]), torch.zeros_like(leaves["c_0"])
    call = layer.call(leaves, weights)
    given, served = triton.ENGINE.layer(call), triton.ENGINE.layer(call._replace(h_0=None, c_0=None))
    wrt = [leaves["x"], *weights[0]]
    for outputs in zip(given, served, strict=True):
        assert torch.equal(*outputs)
    grads = [torch.autograd.grad(sum(o.square().sum() for o in each), wrt) for each in (given, served)]
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("bias", "options"), [("none", []), ("b_hh", []), ("none", ["norms"]), ("b_ih", ["norms"])], ids=str
)
def test_biases_that_are_not_there(bias, options):
    layer = TritonLayer(options, D=1, size=SMALL)
    leaves, weights = layer.leaves()
    call = layer.call(leaves, weights)
    kept = {"none": (False, False), "b_ih": (True, False), "b_hh": (False, True)}[bias]

    def with_biases(otherwise):
        each = ((W, U, [b if keep else otherwise(b) for keep in kept]) for W, U, b, *_ in call.weights)
        return [[W, U, *biases, None] for W, U, biases in each]

    some, zero = with_biases(lambda b: None), with_biases(torch.zeros_like)
    results = []
    for each in (some, zero):
        outputs = triton.ENGINE.layer(call._replace(weights=each))
        results.append((*outputs, *torch.autograd.grad(outputs[0].sum(), [w[1] for w in call.weights])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("heard", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_gradients_of_some_outputs(heard):
    layer = TritonLayer(["zoneout_h"], "lengths")
    leaves, weights = layer.leaves()
    call, wrt = layer.call(leaves, weights), [leaves["x"], leaves["c_0"], *weights[0]]
    found, expected = (
        torch.autograd.grad(sum(each[k].square().sum() for k in heard), wrt)
        for each in (triton.ENGINE.layer(call), plain.layer(call))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("left_out", ["x", "gain_x", "weights"])
def test_what_needs_no_gradient_changes_no_other(left_out):
    def gradients(without):
        leaves, weights = (layer := TritonLayer(list(OPTIONS), D=1, size=SMALL)).leaves()
        named = leaves | {f"weights{k}": w for k, w in enumerate(weights[0])}
        for name, leaf in named.items():
            leaf.requires_grad_(not (without and name.startswith(without)))
        layer.run(leaves, weights)[0].sum().backward()
        return {name: leaf.grad for name, leaf in named.items()}

    some, every = gradients(left_out), gradients(None)
    for name, grad in some.items():
        assert (grad is None) if name.startswith(left_out) else torch.equal(grad, every[name]), name


@pytest.mark.parametrize("form", ["lengths"])
def test_what_nobody_may_read_reaches_nothing(form):
    """x holds NaN at masked steps and past a sequence's end."""
    layer = TritonLayer(list(OPTIONS), form, size=SMALL)
    leaves, weights = layer.leaves()
    expected = layer.run(leaves, weights)
    unread = ~layer.variant(leaves).mask
    if form == "lengths":
        unread |= torch.arange(SMALL[0]).unsqueeze(1) >= layer.ragged[0]
    with torch.no_grad():
        leaves["x"][unread] = torch.nan
    outputs = layer.run(leaves, weights)
    for found, wanted in zip(outputs, expected, strict=True):
        assert torch.equal(found, wanted)
    torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])
    assert all(leaf.grad.isfinite().all() for leaf in (*leaves.values(), *weights[0]))


def test_results_repeat_bit_for_bit():
    layer = TritonLayer(["reset", "norms"], "lengths", D=1, size=(2, 9, 2, 3))
    results = []
    for _ in range(2):
        leaves, weights = layer.leaves()
        outputs = layer.run(leaves, weights)
        results.append((*outputs, *torch.autograd.grad(sum(o.sum() for o in outputs), [*leaves.values()])))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@forms
@pytest.mark.parametrize("K", [2])
def test_segments(K, form):
    """Training in segments gives the outputs and gradients of the equations, too."""
    layer = TritonLayer([], form, size=SIZE, engine=triton.segments.ENGINE, checkpoint=K)
    layer.check()
    assert triton.segments.ENGINE.serves(layer.call(*layer.leaves()))


def test_lengths_out_of_range():
    layer = TritonLayer([], "lengths")
    layer.ragged = (torch.tensor([1, 2, 8, 3]), None, None)
    with pytest.raises(ValueError, match=r"lengths: expected values between 0 and T = 7, got \[1, 2, 8, 3\]"):
        layer.run(*layer.leaves())


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
def test_a_large_scale_does_not_overflow():
    """Gates that are 0 or 1: exp overflows inside, and tanh and sigmoid are exact there."""
    layer = TritonLayer([], size=SMALL)
    for case in layer.cases:
        case.given["x"] = np.sign(layer.cases[0].given["x"]) * 300
    y, *_ = layer.run(*layer.leaves())
    expected = np.concatenate([case.forward()[0] for case in layer.cases], -1)
    np.testing.assert_allclose(y.detach(), expected, atol=1e-6)
