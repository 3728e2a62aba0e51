"""AdamW with vectors against torch's, and its state."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from undertow.app.runs import near
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.app.training.optimizer import AdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def backward(network, step):
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    network(x).square().sum().backward()


def train(network, optimizer, steps, max_norm, start=0):
    """Returns the norms."""
    norms = []
    for step in range(start, start + steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step % 3)
        optimizer.zero_grad()
        backward(network, step)
        if isinstance(optimizer, AdamW):
            norms.append(optimizer.clip(max_norm))
        else:
            norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), max_norm)))
        optimizer.step()
    return norms


def assert_same(one, other):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("max_norm", [0.3, float("inf")])
def test_steps_are_torchs(max_norm):
    ours, theirs = network(), network()
    mine = train(ours, AdamW(ours.parameters(), weight_decay=0.1), 20, max_norm)
    theirs_norms = train(theirs, torch.optim.AdamW(theirs.parameters(), weight_decay=0.1), 20, max_norm)
    assert mine == pytest.approx(theirs_norms, rel=1e-12)
    assert_same(ours, theirs)


def test_gradients_are_those_of_the_clipped_step():
    ours, theirs = network(), network()
    optimizer = AdamW(ours.parameters())
    optimizer.zero_grad()
    for each in (ours, theirs):
        backward(each, 0)
    optimizer.clip(0.1)
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=0)


def test_the_state_goes_to_torch_and_back():
    ours, theirs = network(), network()
    mine, other = AdamW(ours.parameters()), torch.optim.AdamW(theirs.parameters())
    train(ours, mine, 5, 1.0)
    theirs.load_state_dict(ours.state_dict())
    other.load_state_dict(deepcopy(mine.state_dict()))
    for start in (5, 10):
        train(ours, mine, 5, 1.0, start)
        train(theirs, other, 5, 1.0, start)
        assert_same(ours, theirs)
        mine.load_state_dict(deepcopy(other.state_dict()))
    train(theirs, other, 5, 1.0, 15)
    train(ours, mine, 5, 1.0, 15)
    assert_same(ours, theirs)


def test_no_state_before_the_first_step_and_one_count_for_each_parameter_after():
    ours = network()
    optimizer = AdamW(ours.parameters())
    assert optimizer.state_dict()["state"] == {}
    train(ours, optimizer, 3, 1.0)
    steps = [state["step"] for state in optimizer.state_dict()["state"].values()]
    assert [float(step) for step in steps] == [3.0] * 4
    assert len({step.data_ptr() for step in steps}) == 4


def test_weights_loaded_between_steps_are_learnt_on():
    ours, theirs = network(), network()
    optimizer, other = AdamW(ours.parameters(), lr=0.01), torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for net, each in ((ours, optimizer), (theirs, other)):
        train(net, each, 2, 1.0)
        net.load_state_dict({name: value / 2 for name, value in net.state_dict().items()})
        train(net, each, 2, 1.0, 2)
    assert_same(ours, theirs)


def test_on_a_gpu_parameters_lie_as_cudnn_reads_them(monkeypatch):
    monkeypatch.setattr(near, "NEAR", ())
    model = SequenceModel(ModelConfig("lstm", 4, 2, 0.0, 3, "every", symbols=3, width=2, bidirectional=True))
    optimizer = AdamW(model.parameters(), model.in_one_piece(), lr=0.1)
    optimizer.zero_grad()
    lstm = nn.LSTM(2, 4, 2, bidirectional=True)
    names = [name for names in lstm._all_weights for name in names]
    in_order = [n for n in names if n.startswith("weight")] + [n for n in names if n.startswith("bias")]
    start = model.rnn.weight_ih_l0.untyped_storage().data_ptr()
    for name in in_order:
        parameter = getattr(model.rnn, name)
        assert parameter.data_ptr() == start, name
        start += parameter.nbytes


def test_clipped_on_a_gpu_nothing_is_read_and_the_same_is_learnt(monkeypatch):
    for max_norm in (0.01, 100.0, math.inf):
        one, other = network(), network()
        for each, places in ((one, ("cpu",)), (other, ())):
            monkeypatch.setattr(near, "NEAR", places)
            train(each, AdamW(each.parameters(), lr=0.1), 3, max_norm)
        for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_scaler_of_16_mixed_skips_a_step_without_reading(monkeypatch):
    """torch's GradScaler asks the optimiser to skip the step, and does not look at the gradients itself."""
    one = network()
    optimizer, scaler = AdamW(one.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    for factor in (1.0, math.inf, 1.0):
        optimizer.zero_grad()
        backward(one, 1)
        optimizer._vectors[0].gradients.mul_(scaler.scale(torch.tensor(factor)))
        scaler.unscale_(optimizer)
        before = [p.detach().clone() for p in one.parameters()]
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(p, q) for p, q in zip(one.parameters(), before, strict=True))
        assert same == (factor == math.inf)
    assert float(optimizer._vectors[0].step) == 2
    assert all(p.isfinite().all() for p in one.parameters())
