"""undertow.LSTM and RNN against torch's own modules: results and all gradients, over all options.

Both sides get the same parameters and the same seed. In float64 they may differ by 1e-10, in float32
by 1e-5, of the largest entry expected (or of 1, where all entries are smaller): rounding, in sums of
at most a few hundred terms of that size.
"""

import warnings
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import modules
from sampling import examples

# torch's own word about its own path
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
HEARD = [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]


@dataclass(frozen=True)
class Case:
    """One call: which module with which options, and the form and sizes of its input."""

    cell: str
    options: dict
    form: str  # batched, unbatched, packed, packed-sorted
    T: int
    N: int
    C: int
    H: int
    with_hx: bool
    heard: tuple[bool, ...]  # which of y, h_n, c_n the loss depends on

    @property
    def dtype(self):
        return self.options["dtype"]

    def modules(self):
        """torch's module and ours, with the same parameters."""
        theirs, ours = modules.PAIRS[self.cell]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dropout with a single layer: legal, and warned about
            theirs, ours = theirs(self.C, self.H, **self.options), ours(self.C, self.H, **self.options)
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours

    def arguments(self):
        """x, as leaf tensor, and the initial states."""
        D = 2 if self.options["bidirectional"] else 1
        blocks, batch = D * self.options["num_layers"], [] if self.form == "unbatched" else [self.N]
        if self.form.startswith("packed"):
            x = torch.randn(sum(self.lengths()), self.C, dtype=self.dtype)
        elif self.options["batch_first"]:
            x = torch.randn(*batch, self.T, self.C, dtype=self.dtype)
        else:
            x = torch.randn(self.T, *batch, self.C, dtype=self.dtype)
        sizes = [self.options.get("proj_size") or self.H] + [self.H] * (self.cell == "LSTM")
        states = [torch.randn(blocks, *batch, size, dtype=self.dtype) for size in sizes]
        return [x, *(states if self.with_hx else [])]

    def lengths(self):
        lengths = [1 + (7 * n + 3) % self.T for n in range(self.N)]
        lengths[self.N // 2] = self.T
        return sorted(lengths, reverse=True) if self.form == "packed-sorted" else lengths

    def call(self, module, x, *states):
        """The tensors y, h_n and, LSTM, c_n."""
        if self.form.startswith("packed"):
            x = pack_sequence(x.split(self.lengths()), enforce_sorted=self.form == "packed-sorted")
        hx = None if not states else states if self.cell == "LSTM" else states[0]
        torch.manual_seed(1)  # of dropout
        y, finals = module(x, hx)
        return [y, *finals] if self.cell == "LSTM" else [y, finals]


@st.composite
def cases(draw):
    cell = draw(st.sampled_from(["LSTM", "RNN"]))
    H = draw(st.sampled_from([1, 2, 5, 8, 17]))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float64, torch.float32])),
    }
    if cell == "LSTM":
        options["proj_size"] = draw(st.sampled_from([0, 0, H // 2]))
    else:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "tanh", "relu"]))
    return Case(
        cell,
        options,
        form=draw(st.sampled_from(["batched", "batched", "unbatched", "packed", "packed-sorted"])),
        T=draw(st.sampled_from([1, 2, 7, 12])),
        N=draw(st.sampled_from([1, 3, 9])),
        C=draw(st.sampled_from([1, 3, 8])),
        H=H,
        with_hx=draw(st.booleans()),
        heard=draw(st.sampled_from(HEARD)),
    )


def run(case, module, arguments):
    """Outputs, and the gradients of every argument and parameter (zero where there is none)."""
    leaves = [t.clone().requires_grad_() for t in arguments]
    outputs = case.call(module, *leaves)
    plain = [o.data if isinstance(o, PackedSequence) else o for o in outputs]
    heard = [o for o, h in zip(plain, case.heard, strict=False) if h] or plain[:1]
    loss = sum((o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view(o.shape)).sum() for o in heard)
    wrt = leaves + list(module.parameters())
    grads = torch.autograd.grad(loss, wrt, allow_unused=True)
    return outputs, [torch.zeros_like(t) if g is None else g for g, t in zip(grads, wrt, strict=True)]


def assert_same(actual, expected, tolerance):
    if isinstance(expected, PackedSequence):
        assert isinstance(actual, PackedSequence)
        for a, e in zip(actual[1:], expected[1:], strict=True):
            assert torch.equal(a, e) if isinstance(e, Tensor) else a is e
        actual, expected = actual.data, expected.data
    assert isinstance(actual, Tensor)
    assert actual.stride() == expected.stride()
    modules.assert_same(actual, expected, tolerance)


def compare(case):
    theirs, ours = case.modules()
    torch.manual_seed(0)
    arguments = case.arguments()
    expected, expected_grads = run(case, theirs, arguments)
    actual, actual_grads = run(case, ours, arguments)
    for a, e in zip(actual, expected, strict=True):
        assert_same(a, e, TOLERANCE[case.dtype])
    for a, e in zip(actual_grads, expected_grads, strict=True):
        assert_same(a, e, TOLERANCE[case.dtype])
    with torch.no_grad():  # the path without a tape
        for a, e in zip(case.call(ours, *arguments), case.call(theirs, *arguments), strict=True):
            assert_same(a, e, TOLERANCE[case.dtype])


@given(cases())
@settings(max_examples=examples(200))
def test_same_results_and_gradients_as_torch(case):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # hundreds of tiny calls; test_a_model_of_ordinary_size uses all threads
    try:
        compare(case)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("cell", ["LSTM", "RNN"])
def test_a_model_of_ordinary_size(cell, dtype):
    options = {"num_layers": 2, "batch_first": True, "dropout": 0.2, "bidirectional": True, "dtype": dtype}
    case = Case(cell, options, "batched", T=40, N=32, C=16, H=48, with_hx=True, heard=(True, True, True))
    compare(case)


@pytest.mark.parametrize("cell", ["LSTM", "RNN"])
def test_training_goes_the_same_way(cell):
    """Thirty steps of Adam with dropout, from the same seed: the same parameters at the end."""
    ends = []
    for kind in modules.PAIRS[cell]:
        torch.manual_seed(3)
        module = kind(3, 8, 2, dropout=0.3, dtype=torch.float64)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        x = torch.randn(9, 4, 3, dtype=torch.float64)
        for _ in range(30):
            optimizer.zero_grad()
            module(x)[0].square().mean().backward()
            optimizer.step()
        ends.append(torch.nn.utils.parameters_to_vector(module.parameters()))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-8)
