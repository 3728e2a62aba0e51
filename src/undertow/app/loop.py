"""The one training loop: optimiser steps, an evaluation now and then, and hooks that are told of both.

`undertow train`, the classics and the demo train with it. They differ in what they pass to it: networks with
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
from undertow.app.runs.near import Figure, figure
from undertow.app.runs.objective import Batch
from undertow.app.signals import Interrupt

Schedule = Callable[[float], float]  # the peak learning rate of a parameter group -> its rate now
Loss = Callable[..., Tensor]  # output, target and the target's unit, if it has one -> a scalar


@dataclass(frozen=True)
class Step:
    """The result of one optimiser step of one network."""

    batch: Batch
    output: Tensor  # before the step, detached
    loss: Figure  # before the step
    norm: Figure  # L2, of the gradients of all parameters together, before clipping
    seconds: float
    counts: tuple[int, int] | None = None  # as of ``objective.counts``, where they are known


class Learner:
    """A network with its optimiser, schedule and loss.

    Args:
        network: A SequenceModel, or what takes its arguments and returns output and state as it does.
        optimizer: The optimiser of its parameters. The learning rates of its groups are the schedule's peaks.
        schedule: Maps the peak rate of a parameter group to its rate for the next step.
        loss: Maps output and target, and the unit of a batch that has one, to the scalar that is minimised.
        clip: The largest L2 norm of all gradients together (Pascanu, Mikolov & Bengio 2013); 0: no limit.
    """

    device = torch.device("cpu")
    counts: tuple[int, int] | None = None  # of the last batch, where they are known

    def __init__(self, network: Any, optimizer: Any, schedule: Schedule, loss: Loss, clip: float) -> None:
        self.network, self.optimizer, self.schedule, self.loss = network, optimizer, schedule, loss
        self.max_norm = clip or math.inf
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.carry: State | None = None  # the state after the last batch

    def learn(self, batch: Batch) -> Step:
        """Do one optimiser step.

        Args:
            batch: The sequences; if they are ``carried``, they go on from the state after the last batch.

        Returns:
            Output, loss and gradient norm, all from before the step, and the time in seconds. On a GPU the
            time is that of giving it its work: nothing waits until the work is done.
        """
        began = time.monotonic()
        batch = batch.to(self.device)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.schedule(peak)
        output, loss = self.differentiate(batch)
        norm = self.clip()
        self.optimizer.step()
        return Step(batch, output, figure(loss), norm, time.monotonic() - began, self.counts)

    def differentiate(self, batch: Batch) -> tuple[Tensor, Figure]:
        """Compute the gradients of all parameters, and keep the state after the batch.

        Args:
            batch: The sequences.

        Returns:
            The output and the loss, detached.
        """
        output, state = batch.through(self.network, self.carry)
        self.carry = tuple(tensor.detach() for tensor in state)
        loss = self.loss(output, batch.y, *(() if batch.unit is None else (batch.unit,)))
        self.optimizer.zero_grad()
        self.backward(loss)
        return output.detach(), loss.detach()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, a scalar, to those of the parameters."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self) -> Figure:
        """Scale all gradients so that their L2 norm together is at most ``max_norm``.

        Returns:
            The norm before.
        """
        return figure(clip_grad_norm_(self.network.parameters(), self.max_norm))


class Hook:
    """Is told what a loop does. Each method does nothing unless a subclass overrides it."""

    def on_start(self, loop: "Loop") -> None:
        """Called before the first step."""

    def on_step(self, loop: "Loop", steps: list[Step]) -> None:
        """Called after every batch.

        Args:
            loop: The loop.
            steps: One step for each network.
        """

    def on_evaluate(self, loop: "Loop", found: Any) -> None:
        """Called after every evaluation.

        Args:
            loop: The loop.
            found: What the evaluation returned.
        """

    def on_end(self, loop: "Loop") -> None:
        """Called at the end, also after an exception."""


class Loop:
    """Trains networks on the same batches.

    Args:
        learners: The networks.
        due: Tells whether to evaluate now; called before the first step and after each.
        evaluate: Returns what it found, or None if it was interrupted.
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
        """Train until there are no more batches, or until a signal asks the command to end.

        Args:
            batches: The batches, in order.
            hooks: Told of the start, every step, every evaluation and the end.
            interrupt: Asked before each batch whether a signal has come. None: never.
        """
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
    """Keep the peak for the first half of training, then fall linearly to 0.

    Args:
        peak: The highest rate.
        done: The share of training that is done, 0 to 1.
        lowest: The smallest rate, as a share of the peak, 0 to 1.

    Returns:
        The rate.
    """
    return peak * max(lowest, min(1.0, 2 * (1 - done)))


def warm_up_then_cosine(peak: float, step: int, rising: float, done: float, lowest: float) -> float:
    """Multiply a linear warm-up by a cosine that falls from the peak to a share of it.

    Args:
        peak: The highest rate.
        step: Steps done.
        rising: Steps of the warm-up, at least 1.
        done: The share of training that is done, 0 to 1; more counts as 1.
        lowest: The rate at the end, as a share of the peak, 0 to 1.

    Returns:
        The rate.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    rise = min(1.0, (step + 1) / rising)
    return peak * rise * (lowest + (1 - lowest) * cosine)
