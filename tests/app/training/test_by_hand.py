"""A step by hand gives what torch's graph gives: output, loss, state and every gradient, also of dropout."""

import math
from dataclasses import replace

import pytest
import torch

import undertow
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch, Objective, counts
from undertow.app.runs.windows import window_of, with_window
from undertow.app.training import by_hand
from undertow.problems import UNSCORED

T, N, C = 7, 5, 3
ONE, TWO = Objective("rmse", "RMSE", 3.0), Objective("rmse", "NRMSE", (3.0, 0.5) * 2)
CLASSES = Objective("accuracy", "right")
WEIGHTED = Objective("accuracy", "right", weights=(0.5, 2.0, 1.0, 1.0))


def forecast(targets=(1,), horizon=1, layers=1, dropout=0.3, **options):
    outputs = horizon * len(targets)
    shape = {"inputs": C, "residual": targets, "autoregression": T, "panel": len(targets) > 1}
    return ModelConfig("lstm", 4, layers, dropout, outputs, "last", **shape, **options)


def labels(readout, bidirectional, layers=1, dropout=0.3):
    return ModelConfig(
        "lstm", 4, layers, dropout, 4, readout, inputs=C, bidirectional=bidirectional, noise=0.2
    )


CASES = {
    "forecast": (forecast(), ONE),
    "forecast without dropout": (forecast(dropout=0.0), ONE),
    "forecast of two layers": (forecast(layers=2, horizon=3), ONE),
    "forecast of two targets": (forecast((0, 2), 2, noise=0.1), TWO),
    "labels": (labels("mean-max", bidirectional=True), CLASSES),
    "labels with weights": (labels("mean-max", bidirectional=False, layers=3), WEIGHTED),
    "labels of the last step": (labels("last", bidirectional=True, layers=2), CLASSES),
}


def network_and_batch(config, objective):
    torch.manual_seed(3)
    network = SequenceModel(config).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, window = torch.randn(T, N, C).double(), None
    if targets := list(config.residual):
        centre, scale = torch.zeros(len(targets)).double(), torch.ones(len(targets)).double()
        window = window_of(x[..., targets], scale, config.panel)
        x = with_window(x, targets, window, centre, scale)
    y = torch.randn(N, config.outputs).double() if objective.numbers else torch.randint(4, (N,))
    return network, Batch(x, y, normalised=True, window=window)


def both(network, batch, objective):
    """Output, loss, state and gradients of torch's graph, and by hand."""
    found = []
    for by in ("graph", "hand"):
        torch.manual_seed(5)
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, math.nan if by == "hand" else 0.0)
        if by == "hand":
            assert by_hand.is_usual(network, objective)
            assert by_hand.may_learn(network, batch)
            output, state, loss, counted, _ = by_hand.learn(network, batch, objective)
            assert counted == counts(output, batch.y, objective.kind)
        else:
            output, state = batch.through(network)
            loss = objective.loss(output, batch.y, *(() if batch.unit is None else (batch.unit,)))
            loss.backward()
            loss = loss.item()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((output, loss, *state, gradients, torch.get_rng_state()))
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("what", ["all", "own units", "some unknown", "none known"])
def test_a_step_by_hand_is_that_of_the_graph(name, what):
    config, objective = CASES[name]
    network, batch = network_and_batch(config, objective)
    if what == "own units" and objective.numbers:
        batch = replace(batch, unit=torch.rand(batch.y.shape).double() + 0.5)
    if what in ("some unknown", "none known"):
        batch.y[slice(1, 3) if what == "some unknown" else slice(None)] = (
            math.nan if objective.numbers else UNSCORED
        )
    graph, hand = both(network, batch, objective)
    torch.testing.assert_close(hand, graph, rtol=1e-10, atol=1e-12)
    assert what == "none known" or all(each.ne(0).any() for each in graph[4].values())


def test_a_loss_that_is_not_finite_says_so():
    config, objective = CASES["forecast"]
    network, batch = network_and_batch(config, objective)
    network.head.bias.data[:] = math.nan
    assert math.isnan(both(network, batch, objective)[1][1])


@pytest.mark.parametrize(
    "further",
    [
        ModelConfig("rnn", 4, 1, 0.0, 1, "last", inputs=C),
        ModelConfig("lstm", 4, 1, 0.0, 1, "every", inputs=C),
        ModelConfig("lstm", 4, 1, 0.0, 1, "attention", inputs=C),
        ModelConfig("lstm", 4, 1, 0.0, 1, "last", inputs=C, quantity=True),
        ModelConfig("lstm", 4, 1, 0.0, 1, "last", symbols=5, width=3),
        forecast(ahead=2),
    ],
)
def test_torch_differentiates_what_is_not_usual(further):
    assert not by_hand.is_usual(SequenceModel(further), ONE)


def test_torch_differentiates_other_batches_and_what_a_trace_watches():
    network, batch = network_and_batch(*CASES["labels"])
    assert by_hand.may_learn(network, batch)
    others = {"lengths": torch.full((N,), T)}, {"carried": True}, {"normalised": False}
    for changed in others:
        assert not by_hand.may_learn(network, replace(batch, **changed))
    with undertow.trace(network):
        assert not by_hand.may_learn(network, batch)
    network, batch = network_and_batch(*CASES["forecast"])
    assert not by_hand.may_learn(network, replace(batch, window=None))


@pytest.mark.parametrize("name", CASES)
def test_an_evaluation_by_hand_is_that_of_the_network(name):
    config, objective = CASES[name]
    network, batch = network_and_batch(config, objective)
    if objective.numbers:  # not the unit of an evaluation
        batch = replace(batch, unit=torch.rand(batch.y.shape).double() + 0.5)
    network.eval()
    output, state = batch.through(network)
    found = by_hand.learn(network, batch, objective)
    wanted = output, state, objective.loss(output, batch.y).item()
    torch.testing.assert_close(found[:3], wanted, rtol=1e-10, atol=1e-12)
    assert all(parameter.grad is None for parameter in network.parameters())
