"""What the options of a run do to the network that is trained."""

import numpy as np
import pytest
import torch

from undertow.app.data.tasks import problem
from undertow.app.data.tasks.problem import ProblemTask
from undertow.app.loop import Hook
from undertow.app.runs.config import DataConfig, ModelConfig, TrainConfig
from undertow.app.runs.folder import Run
from undertow.app.training import trainer as training
from undertow.app.training.fabric import half, make_fabric, scaling
from undertow.app.training.trainer import Trainer

STEPS = 12


class Seen(Hook):
    """Learning rate, gradient norm before clipping and as applied, at each step."""

    def __init__(self):
        self.rates, self.before, self.applied = [], [], []

    def on_step(self, loop, steps):
        learner = loop.learners[0]
        self.rates.append(learner.optimizer.param_groups[0]["lr"])
        self.before.append(steps[0].norm)
        gradients = [p.grad.flatten() for p in learner.network.parameters()]
        self.applied.append(float(torch.cat(gradients).norm()))


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """``trainer(**options)``: a Trainer of one epoch of STEPS steps on the adding problem."""
    monkeypatch.setattr(problem, "BATCHES", STEPS)

    def make(**options):
        data = DataConfig(task="problem", source="adding", validation=0.0, steps=8)
        model = ModelConfig("lstm", 4, 1, 0.0, 1, "last", inputs=2)
        options = {"lr": 0.1, "batch_size": 4, "epochs": 1, "patience": 5, "clip": 1.0, "seed": 0} | options
        return Trainer(Run(tmp_path, data, model, TrainConfig(**options), {}), ProblemTask(data, 4, 0))

    return make


def test_the_rate_warms_up_and_falls_as_a_cosine_to_a_twentieth(trainer):
    seen = Seen()
    assert trainer().fit(seen)
    k = np.arange(STEPS)
    cosine = (1 + np.cos(np.pi * k / STEPS)) / 2
    assert seen.rates == pytest.approx(0.1 * np.minimum(1, (k + 1) / 2) * (0.05 + 0.95 * cosine))


def test_the_gradient_norm_applied_is_at_most_clip(trainer):
    seen = Seen()
    trainer(clip=0.01).fit(seen)
    assert min(seen.before) > 0.01
    assert seen.applied == pytest.approx([0.01] * STEPS, rel=1e-2)
    assert max(seen.applied) <= 0.01


def test_without_clip_gradients_are_applied_as_they_are(trainer):
    seen = Seen()
    trainer(clip=0.0).fit(seen)
    assert seen.applied == pytest.approx(seen.before, rel=1e-5)


def test_weights_decay_by_rate_times_weight_decay(trainer):
    """Without gradients AdamW only decays: w_n = w_0 Π (1 - lr_k λ) (Loshchilov & Hutter 2019)."""
    decaying, seen = trainer(weight_decay=0.5), Seen()
    decaying.learner.loss = lambda output, y: 0 * output.sum()
    before = {name: p.detach().clone() for name, p in decaying.plain.named_parameters()}
    decaying.fit(seen)
    left = np.prod(1 - 0.5 * np.array(seen.rates))
    assert left < 0.8
    for name, p in decaying.plain.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * float(left))


def test_bf16_mixed_learns_as_with_lightning_fabric(trainer, monkeypatch):
    found = []
    for by in ("undertow", "fabric"):
        if by == "fabric":
            monkeypatch.setattr(training, "make_fabric", lightning)
        losses = Losses()
        assert trainer(precision="bf16-mixed").fit(losses)
        found.append(losses.found)
    assert len(found[0]) == 2 * STEPS
    assert found[0] == pytest.approx(found[1], rel=1e-3)  # products are rounded to 4e-3


class Losses(Hook):
    def __init__(self):
        self.found = []

    def on_step(self, loop, steps):
        self.found += [steps[0].loss, steps[0].norm]


def lightning(device, precision):
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
    fabric.launch()
    return fabric


def in_float16(device, precision):
    """16-mixed as on a GPU, here under the CPU's autocast, with a scale that is too large at first."""
    from lightning_fabric import Fabric

    if precision != "16-mixed":
        return make_fabric(device, precision)
    plugin = half(device.type)
    plugin.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**20, growth_interval=1000)
    fabric = Fabric(accelerator=device.type, devices=1, plugins=plugin)
    fabric.launch()
    return fabric


class Weights(Hook):
    """Which steps changed the weights."""

    def __init__(self, network):
        self.network, self.last, self.found = network, vector(network), []

    def on_step(self, loop, steps):
        now = vector(self.network)
        self.found.append(not torch.equal(now, self.last))
        self.last = now


def vector(network):
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def test_16_mixed_skips_steps_with_infinite_gradients_and_clips_the_others(trainer, monkeypatch):
    monkeypatch.setattr(training, "make_fabric", in_float16)
    made, seen = trainer(precision="16-mixed", clip=0.01), Seen()
    weights = Weights(made.plain)
    assert made.fit(weights, seen)
    assert weights.found == np.isfinite(seen.before).tolist()
    assert weights.found == sorted(weights.found)  # the scale is halved until it fits
    assert 2 < sum(weights.found) < STEPS
    plain = Seen()
    trainer(clip=0.01).fit(plain)
    learnt = np.isfinite(seen.before)
    assert np.array(seen.applied)[learnt] == pytest.approx([0.01] * sum(learnt), rel=1e-2)
    assert min(np.array(seen.before)[learnt]) > 0.01
    assert max(np.array(seen.before)[learnt]) < 10 * max(plain.before)  # divided by the scale


def test_16_mixed_goes_on_with_its_scale(trainer, monkeypatch):
    monkeypatch.setattr(training, "make_fabric", in_float16)
    made = trainer(precision="16-mixed")
    made.fit()
    before = scaling(made.fabric)
    assert before["scale"] < 2.0**20
    again = trainer(precision="16-mixed")
    again.resume()
    assert scaling(again.fabric) == before
    other = trainer()
    other.resume()  # a scale means nothing there
    assert scaling(other.fabric) == {}
