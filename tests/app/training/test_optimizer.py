"""AdamW with vectors against torch's, and its state."""

from copy import deepcopy

import pytest
import torch
from torch import nn

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
