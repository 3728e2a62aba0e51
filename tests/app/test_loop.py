"""The training loop: what each optimiser step does to a network, and what hooks hear of it."""

import itertools

import pytest
import torch
from torch.nn.functional import mse_loss

from undertow.app.loop import Hook, Learner, Loop, half_then_linear, warm_up_then_cosine
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch
from undertow.app.training.optimizer import AdamW
from undertow.app.training.trainer import FabricLearner, make_fabric


def model():
    torch.manual_seed(0)
    return SequenceModel(ModelConfig("lstm", 4, 1, 0.0, 1, "last", inputs=2), normalise=False)


def batches(n, size=1.0, carried=False):
    """Targets of ``size``: the larger, the larger the gradients."""
    torch.manual_seed(1)
    for _ in range(n):
        yield Batch(torch.randn(5, 3, 2), torch.full((3, 1), size), carried=carried)


def still():
    """A learner for those who look at the loop alone."""
    network = model()
    return Learner(network, Applied(network), same, mse_loss, 0.0)


def plain_learner(network, optimizer, schedule, clip):
    return Learner(network, optimizer, schedule, mse_loss, clip)


def fabric_learner(network, optimizer, schedule, clip):
    """As ``undertow train`` has it."""
    fabric = make_fabric(torch.device("cpu"), "32-true")
    return FabricLearner(fabric, *fabric.setup(network, optimizer), schedule, mse_loss, clip)


LEARNERS = pytest.mark.parametrize("learner_of", [plain_learner, fabric_learner])


def same(peak):
    return peak


def never():
    return False


def train(learner, given, hooks=()):
    Loop([learner], never, lambda: None).run(given, hooks)


class Applied(AdamW):
    """Keeps the norm of all gradients together as each step is applied."""

    def __init__(self, network):
        super().__init__(network.parameters(), lr=0.01)
        self.norms = []

    def step(self):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.norms.append(float(torch.cat(gradients).norm()))
        super().step()


class Seen(Hook):
    """What a hook was told, in order."""

    def __init__(self):
        self.told, self.steps = [], []

    def on_start(self, loop):
        self.told.append("start")

    def on_step(self, loop, steps):
        self.told.append(loop.step)
        self.steps += steps

    def on_evaluate(self, loop, found):
        self.told.append(found)

    def on_end(self, loop):
        self.told.append("end")


# ------------------------------------------------------------------------------ one optimiser step


@LEARNERS
def test_gradients_are_applied_with_at_most_the_norm_given(learner_of):
    network, seen = model(), Seen()
    optimizer = Applied(network)
    train(learner_of(network, optimizer, same, 0.5), batches(5, size=100.0), [seen])
    assert all(step.norm > 5 for step in seen.steps)  # before clipping
    assert optimizer.norms == pytest.approx([0.5] * 5, rel=1e-4)
    assert all(norm <= 0.5 for norm in optimizer.norms)


@LEARNERS
@pytest.mark.parametrize(("clip", "size"), [(0.0, 100.0), (1e6, 1.0)])
def test_gradients_below_the_limit_or_without_one_stay_as_they_are(learner_of, clip, size):
    network, seen = model(), Seen()
    optimizer = Applied(network)
    train(learner_of(network, optimizer, same, clip), batches(5, size), [seen])
    assert optimizer.norms == pytest.approx([step.norm for step in seen.steps], rel=1e-5)
    assert min(optimizer.norms) > 0


@LEARNERS
def test_gradients_do_not_add_up_from_step_to_step(learner_of):
    network = model()
    optimizer = Applied(network)
    optimizer.param_groups[0]["lr"] = 0.0
    train(learner_of(network, optimizer, same, 0.0), itertools.repeat(next(batches(1)), 3))
    assert optimizer.norms == pytest.approx([optimizer.norms[0]] * 3)


@LEARNERS
def test_weights_decay_by_rate_times_decay(learner_of):
    """Without gradients AdamW only decays: w_n = w_0 (1 - lr λ)^n (Loshchilov & Hutter 2019)."""
    network = model()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    learner = learner_of(network, optimizer, same, 1.0)
    learner.loss = lambda output, y: 0 * output.sum()
    train(learner, batches(4))
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * 0.95**4)


@LEARNERS
def test_every_group_follows_the_schedule_from_its_own_peak(learner_of):
    network = model()
    groups = [
        {"params": network.rnn.parameters(), "lr": 0.3},
        {"params": network.head.parameters(), "lr": 3.0},
    ]
    optimizer, rates = AdamW(groups), []

    class Rates(Hook):
        def on_step(self, loop, steps):
            rates.append([group["lr"] for group in optimizer.param_groups])

    train(learner_of(network, optimizer, lambda peak: peak / 2 ** len(rates), 1.0), batches(3), [Rates()])
    assert rates == [[0.3, 3.0], [0.15, 1.5], [0.075, 0.75]]


def test_the_rate_is_the_one_that_the_step_is_taken_with():
    network = model()
    before = network.head.bias.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    learner = Learner(network, optimizer, lambda peak: peak / 3, lambda output, y: output.sum(), 0.0)
    train(learner, batches(1))
    torch.testing.assert_close(network.head.bias.detach(), before - 0.1 * 3)  # 3 sequences


@pytest.mark.parametrize("carried", [True, False])
def test_the_state_goes_on_where_a_batch_says_so(carried):
    network, states = model(), []
    network.register_forward_pre_hook(lambda module, args: states.append(args[1]))
    learner = Learner(network, torch.optim.SGD(network.parameters(), lr=0.0), same, mse_loss, 0.0)
    train(learner, batches(2, carried=carried))
    assert states[0] is None
    assert (states[1] is not None) == carried
    if carried:
        assert not any(state.requires_grad for state in states[1])
        assert all(state.abs().max() > 0 for state in states[1])


def test_it_learns():
    network, seen = model(), Seen()
    given = itertools.repeat(next(batches(1)), 60)
    train(Learner(network, torch.optim.Adam(network.parameters(), 0.05), same, mse_loss, 1.0), given, [seen])
    assert seen.steps[-1].loss < seen.steps[0].loss / 100


# ----------------------------------------------------------------------------------------- the loop


def test_hooks_hear_of_start_steps_evaluations_and_end():
    seen = Seen()
    loop = Loop([still()], lambda: loop.step % 2 == 0, lambda: f"after {loop.step}")
    loop.run(batches(5), [seen])
    assert seen.told == ["start", "after 0", 1, 2, "after 2", 3, 4, "after 4", 5, "end"]


def test_an_interrupt_ends_it_after_the_step_and_no_batch_is_drawn():
    class Stop(Hook):
        def on_step(self, loop, steps):
            loop.interrupt.asked = loop.step == 3

    given = batches(5)
    seen = Seen()
    train(still(), given, [seen, Stop()])
    assert seen.told == ["start", 1, 2, 3, "end"]
    assert len(list(given)) == 2


def test_the_end_is_told_after_an_exception_too():
    class Broken(Hook):
        def on_step(self, loop, steps):
            raise RuntimeError

    seen = Seen()
    with pytest.raises(RuntimeError):
        train(still(), batches(5), [seen, Broken()])
    assert seen.told == ["start", 1, "end"]


def test_an_interrupted_evaluation_is_not_told():
    seen = Seen()
    Loop([still()], lambda: True, lambda: None).run(batches(2), [seen])
    assert seen.told == ["start", 1, 2, "end"]


def test_two_learners_get_the_same_batches():
    seen = Seen()
    Loop([still(), still()], never, lambda: None).run(batches(3), [seen])
    assert len(seen.steps) == 6
    for one, other in zip(seen.steps[::2], seen.steps[1::2], strict=True):
        assert one.batch.x is other.batch.x
        assert one.loss == other.loss


# ---------------------------------------------------------------------------------------- schedules


def test_half_then_linear():
    rates = [half_then_linear(2.0, done / 8) for done in range(9)]
    assert rates == pytest.approx([2.0] * 5 + [1.5, 1.0, 0.5, 0.0])
    assert half_then_linear(2.0, 0.99, lowest=0.05) == pytest.approx(0.1)


def test_warm_up_then_cosine():
    rate = [warm_up_then_cosine(2.0, step, 10, step / 1000, 0.05) for step in range(1001)]
    assert rate[0] == pytest.approx(0.2)
    assert rate[4] == pytest.approx(1.0, rel=1e-3)
    assert max(rate) == rate[9] == pytest.approx(2.0, rel=1e-3)
    assert all(a > b for a, b in itertools.pairwise(rate[9:]))
    assert rate[500] == pytest.approx(2.0 * 0.525)
    assert rate[1000] == pytest.approx(0.1)
    assert warm_up_then_cosine(2.0, 9, 10, 1.5, 0.05) == pytest.approx(0.1)
