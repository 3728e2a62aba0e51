"""``kernels.plain_variants``, through ``plain.layer``, against ``equations.variants``.

Tolerances are of the largest entry expected: float64 1e-10, float32 1e-5 for outputs and 1e-4 for gradients.
"""

import numpy as np
import pytest
import torch
from torch.autograd import gradgradcheck

from calls import call_of
from cases import both_ways, relative_error
from layer_of_variants import H, Layer, N, T, dtypes, forms
from undertow.kernels import plain
from undertow.kernels.call import Ragged
from varied_cases import OF_RNN, OPTIONS, each_option, options_of


@each_option
@forms
@dtypes
@pytest.mark.parametrize("D", [1, 2], ids=["one way", "both ways"])
def test_outputs_and_gradients_are_the_equations(kind, options, form, D, dtype):
    if form == "packed":  # whose mask and reset have no layout, and are refused
        options = [name for name in options if name not in ("mask", "reset")]
    Layer(kind, options, form, D, dtype).check()


@pytest.mark.parametrize("seed", range(20))
def test_combinations_are_the_equations(seed):
    rng = np.random.default_rng(seed)
    kind = ["lstm", "lstm", "rnn"][seed % 3]
    options = [name for name in options_of(kind) if rng.random() < 0.5]
    Layer(kind, options, ["even", "lengths"][seed % 2], D=2).check()


@forms
def test_steps_are_the_tape_in_time(form):
    options = [name for name in OPTIONS if form != "packed" or name not in ("mask", "reset")]
    layer, steps = Layer("lstm", options, form, D=2), []
    layer.run(*layer.leaves(), steps)
    ends = layer.cases[0].lengths
    inside = np.arange(T)[:, None] < (np.full(N, T) if ends is None else ends)
    for case, found in zip(layer.cases, (steps[0], steps[0].reverse), strict=True):
        _, tape = case.forward()
        order = slice(None, None, -1 if case.reverse else 1)
        assert relative_error(found.gates.detach(), tape.gates[order]) < 1e-12
        for s in "hc":
            expected = getattr(tape, s)[1:][order] * inside[..., None]
            assert relative_error(getattr(found, s)[1:].detach(), expected) < 1e-12
            np.testing.assert_array_equal(getattr(found, s)[0].detach(), case.given[f"{s}_0"])
        np.testing.assert_array_equal(found.mask, inside & case.fixed.get("mask", True))


@pytest.mark.parametrize("masked", [False, True], ids=["padding", "masked steps"])
def test_what_is_not_read_does_not_matter(masked):
    """NaN in the padding, without a variant, or at masked steps too: nothing that comes out hears of it."""
    layer = Layer("lstm", ["mask"] if masked else [], "lengths")
    unread = np.arange(T)[:, None] >= layer.cases[0].lengths
    unread |= ~layer.cases[0].fixed["mask"] if masked else False
    results = []
    for held in (0, np.nan):
        leaves, weights = layer.leaves()
        leaves["x"].data[torch.tensor(unread)] = held
        outputs = layer.run(leaves, weights)
        grads = torch.autograd.grad(sum(o.sum() for o in outputs), [leaves["x"], *weights[0]])
        results.append([*outputs, *grads])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@both_ways
def test_a_projection_onto_some_units_is_as_if_the_others_were_not_seen(reverse):
    """W_hr picks P of the H units: the equations', with zero columns in U for the others. All options."""
    layer, P = Layer("lstm", OPTIONS, "lengths", D=2), 3
    for case in layer.cases:
        case.given["weight_hh"][:, P:] = 0
        case.dy[..., P:] = 0
        case.d_n["dh_n"][:, P:] = 0
    leaves, weights = layer.leaves()
    for name in ("h_0", "reset_h"):
        leaves[name] = leaves[name].detach()[..., :P].requires_grad_()
    variant = layer.variant(leaves)
    variant = variant._replace(recurrent=variant.recurrent[..., :P], zoneout_h=variant.zoneout_h[..., :P])
    pick = torch.eye(H, dtype=torch.float64)[:P]
    U = [each[1].detach()[:, :P].requires_grad_() for each in weights]
    each = [[W, u, b, None, pick] for (W, _, b), u in zip(weights, U, strict=True)]
    states = [leaves["h_0"], leaves["c_0"]]
    y, h_n, c_n = plain.layer(
        call_of("lstm", leaves["x"], states, each, Ragged(*layer.ragged), variant=variant)
    )
    d = int(reverse)
    case = layer.cases[d]
    (y_d, tape), gradients = case.forward(), case.backward()
    assert relative_error(y[..., d * P : (d + 1) * P].detach(), y_d[..., :P]) < 1e-12
    assert relative_error(h_n[d].detach(), tape.h[-1, :, :P]) < 1e-12
    assert relative_error(c_n[d].detach(), tape.c[-1]) < 1e-12
    heard = [torch.tensor(a) for a in (case.dy[..., :P], case.d_n["dh_n"][:, :P], case.d_n["dc_n"])]
    torch.autograd.backward((y[..., d * P : (d + 1) * P], h_n[d], c_n[d]), heard)
    assert relative_error(leaves["x"].grad, gradients.dx) < 1e-10
    assert relative_error(U[d].grad, gradients.dweight_hh[:, :P]) < 1e-10
    assert relative_error(leaves["reset_h"].grad[d], gradients.dreset_h[:, :P]) < 1e-10


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_second_derivatives(cell):
    layer = Layer(cell, [name for name in (OPTIONS if cell == "lstm" else OF_RNN) if name != "recurrent"])
    leaves, weights = layer.leaves()

    def run(*tensors):
        return layer.run(dict(zip(leaves, tensors, strict=False)), [tensors[len(leaves) :]])

    assert gradgradcheck(run, (*leaves.values(), *weights[0]), fast_mode=True)


class NormedCell(torch.nn.Module):
    """The layer-normalised LSTM of torch's fastrnns example, as people write it."""

    def __init__(self):
        super().__init__()
        self.of_x = torch.nn.LayerNorm(4 * H, bias=False, dtype=torch.float64)
        self.of_h = torch.nn.LayerNorm(4 * H, bias=False, dtype=torch.float64)
        self.of_c = torch.nn.LayerNorm(H, dtype=torch.float64)

    def forward(self, x, h, c, W, U, b):
        i, f, g, o = (self.of_x(x @ W.T) + self.of_h(h @ U.T) + b).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.of_c(c).tanh(), c


def test_layer_norm_is_a_cell_of_torch_layer_norms():
    layer, cell = Layer("lstm", ["norms"]), NormedCell()
    leaves, weights = layer.leaves()
    norms = dict(cell.named_parameters())
    for name, field in (
        ("of_x.weight", "gain_x"),
        ("of_h.weight", "gain_h"),
        ("of_c.weight", "gain_c"),
        ("of_c.bias", "bias_c"),
    ):
        norms[name] = leaves[field][0]
    h, c, ys = leaves["h_0"][0], leaves["c_0"][0], []
    for x_t in leaves["x"]:
        h, c = torch.func.functional_call(cell, norms, (x_t, h, c, *weights[0]))
        ys.append(h)
    expected = torch.stack(ys), h[None], c[None]
    actual = layer.run(leaves, weights)
    every = [*leaves.values(), *weights[0]]
    grads = [torch.autograd.grad(sum(o.square().sum() for o in each), every) for each in (actual, expected)]
    for a, e in zip((*actual, *grads[0]), (*expected, *grads[1]), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-12 * float(e.detach().abs().max()))
