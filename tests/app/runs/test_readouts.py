"""What the head reads of the hidden states."""

from pathlib import Path

import pytest
import torch

from undertow.app.runs import shapes
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.folder import open_run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.readouts import Readout, Units

KINDS = ["last", "mean", "max", "attention", "mean-max"]


def by_hand(kind, h, query):
    """The readout of one sequence's states [T,D]."""
    if kind == "attention":
        weights = torch.softmax(h @ query / h.shape[1] ** 0.5, 0)
        return (weights[:, None] * h).sum(0)
    mean, largest = h.mean(0), h.max(0).values
    return {"mean": mean, "max": largest, "mean-max": torch.cat([mean, largest])}[kind]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_sequence_is_pooled_over_its_own_steps(kind):
    torch.manual_seed(0)
    readout, hidden, lengths = Readout(kind, 4), torch.randn(6, 3, 4), torch.tensor([6, 1, 4])
    query = torch.randn(4)
    if kind == "attention":
        readout.query.data = query
    found = readout(hidden, lengths)
    assert found.shape == (3, readout.width)
    for n, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[n], by_hand(kind, hidden[:length, n], query))
    torch.testing.assert_close(readout(hidden, None)[0], found[0])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_gradient_of_a_sequence_is_that_of_its_own_steps(kind):
    torch.manual_seed(0)
    lengths = torch.tensor([6, 1, 4])
    readout, hidden = Readout(kind, 4).double(), torch.randn(6, 3, 4).double()
    ours, theirs = (hidden.clone().requires_grad_() for _ in range(2))
    weight = torch.randn(3, readout.width).double()
    (readout(ours, lengths) * weight).sum().backward()
    query = torch.zeros(4).double()
    each = [by_hand(kind, theirs[:length, n], query) for n, length in enumerate(lengths.tolist())]
    (torch.stack(each) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_the_largest_has_the_gradient_of_torch_also_where_several_are_largest():
    torch.manual_seed(0)
    hidden = torch.randint(-2, 2, (6, 3, 4)).double()  # many are alike
    weight = torch.randn(3, 4).double()
    ours, theirs = (hidden.clone().requires_grad_() for _ in range(2))
    (Readout("max", 4)(ours, None) * weight).sum().backward()
    (theirs.amax(0) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=0)
    assert (ours.grad.ne(0).sum(0) > 1).any()


def test_attention_starts_as_the_mean_and_learns_its_query():
    readout, hidden = Readout("attention", 4), torch.randn(6, 3, 4)
    torch.testing.assert_close(readout(hidden, None), hidden.mean(0))
    readout(hidden, None).square().sum().backward()
    assert readout.query.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [*KINDS, "every"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_padding_changes_no_answer_and_the_file_has_these_tensors(kind, bidirectional, cell):
    torch.manual_seed(0)
    config = ModelConfig(cell, 5, 2, 0.0, 3, kind, inputs=2, bidirectional=bidirectional)
    model, lengths = SequenceModel(config).eval(), torch.tensor([4, 7, 1])
    x = torch.randn(7, 3, 2)
    together = model(x, lengths=lengths)[0]
    for n, length in enumerate(lengths.tolist()):
        alone = model(x[:length, n : n + 1])[0]
        found = together[:length, n : n + 1] if kind == "every" else together[n : n + 1]
        torch.testing.assert_close(found, alone)
    there = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert there == shapes.expected(config)


def test_both_directions_see_the_end_of_the_sequence():
    model = SequenceModel(ModelConfig("lstm", 5, 1, 0.0, 3, "every", inputs=2, bidirectional=True)).eval()
    x = torch.randn(6, 1, 2)
    later = x.clone()
    later[-1] += 1
    assert not torch.equal(model(x)[0][0], model(later)[0][0])


def test_units_turn_spreads_into_the_labels_unit():
    units = Units(1)
    units.centre.fill_(10.0)
    units.scale.fill_(3.0)
    assert units(torch.tensor([[0.0], [2.0]])).tolist() == [[10.0], [16.0]]


@pytest.mark.parametrize(
    ("options", "readout", "bidirectional"),
    [
        ((), "mean-max", True),
        (("--readout", "last", "--no-bidirectional"), "last", False),
        (("--readout", "attention", "--bidirectional"), "attention", True),
    ],
)
def test_options_choose_readout_and_directions(undertow, walks, options, readout, bidirectional):
    train = ("--sequence", "id", "--label", "way", "--hidden-size", 4, "--epochs", 1, "--folder", "r")
    result = undertow("train", walks, *train, *options)
    assert result.code == 0, result.err
    assert ("in both directions" in result.out) == bidirectional
    model = open_run(Path("r")).model
    assert (model.readout, model.bidirectional) == (readout, bidirectional)
    for verb in ("info", "inspect", "doctor", "evaluate"):
        result = undertow(verb, "r")
        assert result.code == 0, f"{verb}: {result.err}"


def test_a_readout_where_each_step_has_a_label_is_refused(undertow, walks):
    train = ("--sequence", "id", "--label", "way", "--per", "step", "--epochs", 1, "--folder", "r")
    result = undertow("train", walks, *train, "--readout", "max")
    assert result.code == 2
    assert "--readout max: has no meaning where each step has a label" in result.err
