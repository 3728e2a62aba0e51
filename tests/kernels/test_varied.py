"""``dispatch.layer`` with a variant, on the CPU engine: against the equations, and in torch's graph."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import undertow
from calls import call_of
from layer_of_variants import Layer, dtypes, forms
from undertow import flow
from undertow.kernels import cpu, dispatch, plain
from undertow.kernels.call import Ragged, Variant
from undertow.kernels.recording import Recording
from undertow.records.layer import Layer as TracedLayer
from undertow.records.layer import NotRecorded
from varied_cases import OPTIONS, each_option, options_of


class NativeLayer(Layer):
    """The same by ``dispatch``, in the native kernel for the LSTM."""

    recording = None

    def run(self, leaves, weights, steps=None):
        states = [leaves[f"{s}_0"] for s in self.cases[0].states]
        each = [[W, U, b, torch.zeros_like(b), None] for W, U, b in weights]
        call = call_of(
            self.cell, leaves["x"], states, each, Ragged(*self.ragged), variant=self.variant(leaves)
        )
        outputs = dispatch.layer(call._replace(recording=self.recording))
        if self.fixed_variant:
            assert outputs[0].grad_fn.name() == "_LayerBackward"
        return outputs

    @property
    def fixed_variant(self):
        return self.cell == "lstm" and (self.cases[0].fixed or len(self.cases[0].given) > 6)


@each_option
@forms
@dtypes
@pytest.mark.parametrize("D", [1, 2], ids=["one way", "both ways"])
def test_outputs_and_gradients_are_the_equations(kind, options, form, D, dtype):
    if form == "packed":
        options = [name for name in options if name not in ("mask", "reset")]
    NativeLayer(kind, options, form, D, dtype).check()


@pytest.mark.parametrize("seed", range(20))
def test_combinations_are_the_equations(seed):
    options = [name for k, name in enumerate(options_of("lstm")) if (seed * 7 + k * 5) % 11 < 6]
    NativeLayer("lstm", options, ["even", "lengths"][seed % 2], D=2).check()


@pytest.mark.parametrize("form", ["even", "lengths"])
def test_gradients_of_gradients(form):
    layer = NativeLayer("lstm", list(OPTIONS), form)
    leaves, weights = layer.leaves()
    names = list(leaves)

    def run(*tensors):
        return layer.run(dict(zip(names, tensors, strict=False)), [tensors[len(names) :]])

    inputs = (*leaves.values(), *weights[0])
    assert gradcheck(run, inputs, atol=1e-6)
    assert gradgradcheck(run, inputs, atol=1e-5)


def test_what_nobody_may_read_reaches_no_gradient():
    """x holds NaN at masked steps and past a sequence's end."""
    layer = NativeLayer("lstm", list(OPTIONS), "lengths")
    leaves, weights = layer.leaves()
    expected = layer.run(leaves, weights)
    unread = torch.arange(len(leaves["x"])).unsqueeze(1) >= layer.ragged[0]
    unread |= ~layer.variant(leaves).mask
    with torch.no_grad():
        leaves["x"][unread] = torch.nan
    outputs = layer.run(leaves, weights)
    for found, wanted in zip(outputs, expected, strict=True):
        assert torch.equal(found, wanted)
    torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])
    assert all(leaf.grad.isfinite().all() for leaf in (*leaves.values(), *weights[0]))


@pytest.mark.parametrize("left_out", ["x", "weight_hh", "gain_x", "peepholes", "h_0"])
def test_what_needs_no_gradient_gets_none_and_changes_no_other(left_out):
    def gradients(without):
        layer = NativeLayer("lstm", list(OPTIONS), "even", D=2)
        leaves, weights = layer.leaves()
        named = leaves | {
            f"{n}{d}": w for d, each in enumerate(weights) for n, w in zip("WUb", each, strict=True)
        }
        for name, leaf in named.items():
            if name in without:
                leaf.requires_grad_(False)
        y, *_ = layer.run(leaves, weights)
        y.sum().backward()
        return {name: leaf.grad for name, leaf in named.items()}

    without = ("U0", "U1") if left_out == "weight_hh" else (left_out,)
    some, all_of_them = gradients(without), gradients(())
    for name, grad in some.items():
        assert grad is None if name in without else torch.equal(grad, all_of_them[name]), name


def test_bfloat16_and_what_is_trained_elsewhere_run_in_torch():
    layer = NativeLayer("lstm", ["recurrent"], "even")
    leaves, weights = layer.leaves()
    variant = layer.variant(leaves)
    call = call_of("lstm", leaves["x"], (leaves["h_0"], leaves["c_0"]), weights, variant=variant)
    assert cpu.ENGINE.serves(call)
    assert not cpu.ENGINE.serves(call.filled([t if t is None else t.bfloat16() for t in call.tensors]))
    trained = variant._replace(recurrent=variant.recurrent.clone().requires_grad_())
    assert not cpu.ENGINE.serves(call._replace(variant=trained))
    found = dispatch.layer(call._replace(variant=trained))
    expected = plain.layer(call._replace(variant=trained))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", [[name] for name in OPTIONS] + [list(OPTIONS)], ids="-".join)
@pytest.mark.parametrize("form", ["even", "lengths"])
@pytest.mark.parametrize("D", [1, 2], ids=["one way", "both ways"])
def test_a_trace_holds_every_step(options, form, D):
    layer = NativeLayer("lstm", options, form, D)
    layer.recording = Recording()
    leaves, weights = layer.leaves()
    outputs = layer.run(leaves, weights)
    dy = torch.tensor(np.concatenate([layer.rows(case.dy) for case in layer.cases], -1))
    finals = [torch.tensor(np.stack([case.d_n[f"d{s}_n"] for case in layer.cases])) for s in ("h", "c")]
    torch.autograd.backward(outputs, [dy, *finals])
    traced = TracedLayer.of(layer.recording.directions())
    for way, case in zip(traced.directions, layer.cases, strict=True):
        (_, tape), gradients = case.forward(), case.backward()
        assert way.tape.added == tape.added
        for name in ("gates", "h", "c"):
            np.testing.assert_allclose(getattr(way.tape, name), getattr(tape, name), atol=1e-12)
        for name in ("dgates", "dh", "dc"):
            found, expected = getattr(way.source.steps, name), getattr(gradients, name)
            np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_what_knows_only_the_lstms_own_equations_says_so(tmp_path):
    torch.manual_seed(0)
    lstm, x = undertow.LSTM(3, 4, peepholes=True), torch.randn(5, 2, 3)
    with undertow.trace(lstm) as trace:
        lstm(x)[0].sum().backward()
    layer = trace.layers[0]
    with pytest.raises(ValueError, match="own equations, got peepholes added"):
        flow.state_product(layer.tape, layer.weight_hh)
    with pytest.raises(NotRecorded, match=r"not with peepholes; the parameters' own \.grad has them"):
        _ = layer.gradients
    with pytest.raises(ValueError, match="not those with peepholes"):
        undertow.diagnose(trace, lstm)
    trace.save(tmp_path / "trace")
    loaded = undertow.load_trace(tmp_path / "trace").layers[0]
    assert loaded.tape.added == ("peepholes",)
    np.testing.assert_array_equal(loaded.dc, layer.dc)
    with undertow.trace(rnn := undertow.RNN(3, 4, recurrent_dropout=0.5)) as trace:
        rnn(x)
    with pytest.raises(NotRecorded, match="a variant of the rnn has no native kernel"):
        _ = trace.layers
    with undertow.trace(lstm.bfloat16()) as trace:
        lstm(x.bfloat16())
    with pytest.raises(NotRecorded, match=r"a variant of the lstm has no native kernel for torch\.bfloat16"):
        _ = trace.layers


def test_the_kernels_do_not_serve_a_field_that_they_do_not_know():
    """They read the fields by name, so that another would be ignored."""
    larger = namedtuple("larger", (*Variant._fields[:-1], "clip", "coupled"))
    known = larger(*Variant()[:-1], clip=None, coupled=False)
    assert cpu._serves_variant(known, torch.float32)
    assert not cpu._serves_variant(known._replace(clip=torch.ones(1)), torch.float32)
