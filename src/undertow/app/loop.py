"""The one training loop: optimiser steps, an evaluation now and then, and hooks that hear of both.

`undertow train`, the classics and the demo train with it. What differs between them is given: networks with
their optimisers, schedules and losses, the batches, when to evaluate and how, and the hooks.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from undertow.app.runs.model import State
from undertow.app.runs.objective import Batch
from undertow.app.signals import Interrupt

Schedule = Callable[[float], float]  # the peak learning rate of a parameter group -> its rate now
Loss = Callable[[Tensor, Tensor], Tensor]  # output and target -> a scalar


@dataclass(frozen=True)
class Step:
    """What one optimiser step of one network came to."""

    batch: Batch
    output: Tensor  # before the step, detached
    loss: float  # before the step
    norm: float  # L2, of the gradients of all parameters together, before clipping
    seconds: float


class Learner:
    """A network and how it learns.

    Args:
        network: Called with x, state and lengths, returns output and state, as SequenceModel does.
        optimizer: Of its parameters. The learning rates of its groups are the peaks of the schedule.
        schedule: The rate of a parameter group for the next step, from the group's peak.
        loss: What is minimised.
        clip: The largest L2 norm of all gradients together (Pascanu, Mikolov & Bengio 2013); 0: no limit.
    """

    device = torch.device("cpu")

    def __init__(self, network: Any, optimizer: Any, schedule: Schedule, loss: Loss, clip: float) -> None:
        self.network, self.optimizer, self.schedule, self.loss = network, optimizer, schedule, loss
        self.max_norm = clip or math.inf
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.carry: State | None = None  # the state after the last batch

    def learn(self, batch: Batch) -> Step:
        """One optimiser step on ``batch``."""
        began = time.monotonic()
        batch = batch.to(self.device)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.schedule(peak)
        output, state = self.network(batch.x, self.carry if batch.carried else None, batch.lengths)
        self.carry = tuple(tensor.detach() for tensor in state)
        loss = self.loss(output, batch.y)
        self.optimizer.zero_grad()
        self.backward(loss)
        norm = self.clip()
        self.optimizer.step()
        return Step(batch, output.detach(), loss.item(), norm, time.monotonic() - began)

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self) -> float:
        """Scale the gradients down to ``max_norm`` where they are larger; their norm before."""
        return float(clip_grad_norm_(self.network.parameters(), self.max_norm))


class Hook:
    """Hears of a loop; each method does nothing unless a subclass says otherwise."""

    def on_start(self, loop: "Loop") -> None:
        """Before the first step."""

    def on_step(self, loop: "Loop", steps: list[Step]) -> None:
        """After every batch, with the step of each network."""

    def on_evaluate(self, loop: "Loop", found: Any) -> None:
        """After every evaluation, with what it returned."""

    def on_end(self, loop: "Loop") -> None:
        """At the end, also after an exception."""


class Loop:
    """Trains networks on the same batches.

    Args:
        learners: The networks.
        due: Whether to evaluate now; asked before the first step and after each.
        evaluate: Returns what it found, or None where it was interrupted.
    """

    def __init__(
        self, learners: Sequence[Learner], due: Callable[[], bool], evaluate: Callable[[], Any]
    ) -> None:
        self.learners, self.due, self.evaluate = learners, due, evaluate
        self.step = 0  # batches learnt from
        self.interrupt = Interrupt()

    def run(
        self, batches: Iterable[Batch], hooks: Sequence[Hook] = (), interrupt: Interrupt | None = None
    ) -> None:
        """Train until there are no more batches, or until ``interrupt`` is asked for."""
        self.interrupt = interrupt or self.interrupt
        for hook in hooks:
            hook.on_start(self)
        try:
            self._run(batches, hooks)
        finally:
            for hook in hooks:
                hook.on_end(self)

    def _run(self, batches: Iterable[Batch], hooks: Sequence[Hook]) -> None:
        self._evaluate_if_due(hooks)
        following = iter(batches)
        while not self.interrupt.asked and (batch := next(following, None)) is not None:
            steps = [learner.learn(batch) for learner in self.learners]
            self.step += 1
            for hook in hooks:
                hook.on_step(self, steps)
            self._evaluate_if_due(hooks)

    def _evaluate_if_due(self, hooks: Sequence[Hook]) -> None:
        if self.due() and (found := self.evaluate()) is not None:
            for hook in hooks:
                hook.on_evaluate(self, found)


# --------------------------------------------------------------------------------- schedules


def half_then_linear(peak: float, done: float, lowest: float = 0.0) -> float:
    """The peak for one half of training, then in a line to 0, at least ``lowest`` of the peak.

    Args:
        peak: The highest rate.
        done: The share of training that is done, 0 to 1.
        lowest: The smallest share of the peak.
    """
    return peak * max(lowest, min(1.0, 2 * (1 - done)))


def warm_up_then_cosine(peak: float, step: int, rising: float, done: float, lowest: float) -> float:
    """Rises in a line over ``rising`` steps; from the start a cosine takes the peak down to ``lowest`` of it.

    Args:
        peak: The highest rate.
        step: Steps done.
        rising: Steps until the rate has risen.
        done: The share of training that is done, 0 to 1; more counts as 1.
        lowest: The share of the peak at the end.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    rise = min(1.0, (step + 1) / rising)
    return peak * rise * (lowest + (1 - lowest) * cosine)
