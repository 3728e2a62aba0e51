"""LSTM against plain RNN on the adding problem, trained on the same sequences.

How far back the error reaches in each is measured by the exact backward pass of ``undertow.equations``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import undertow
from undertow import equations, problems
from undertow.app.data.tasks.problem import build_network, draw_batch, objective_of
from undertow.app.loop import Hook, Learner, Loop, half_then_linear
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch
from undertow.app.signals import Interrupt

Array = npt.NDArray[np.float64]

HIDDEN_SIZE = 64
BATCH_SIZE = 64
# The rate at which each learns best; at the LSTM's, the plain RNN's error jumps about above the baseline.
LEARNING_RATES = {"LSTM": 1e-2, "RNN": 1e-3}
MAX_NORM = 1.0  # gradients are clipped here: Pascanu, Mikolov & Bengio 2013
EVALUATE_EVERY = 25  # steps
VALIDATION_SIZE = 1000  # sequences watched during training
REACH_SIZE = 64  # of these, the sequences along which the gradient is followed back
TEST_SIZE = 2560  # sequences judged at the end, as in Hochreiter & Schmidhuber 1997
ADDING = problems.get("adding")


@dataclass(frozen=True)
class Verdict:
    """The errors of a network on sequences that it was not trained on."""

    error: float  # mean square
    right: float  # fraction within 0.04


@dataclass
class Duel:
    """Two networks, their training and its evaluations.

    Args:
        seed: Of the initial weights and the sequences.
        lag: T, the length of the sequences.
        steps: Optimiser steps, each on 64 sequences.
        at: The steps at which they were evaluated.
        seen: The verdicts at these steps, for ``LSTM`` and ``RNN``.
    """

    seed: int
    lag: int
    steps: int
    at: list[int] = field(default_factory=list)
    seen: dict[str, list[Verdict]] = field(default_factory=lambda: {"LSTM": [], "RNN": []})

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        # at the start the LSTM's forget gates hold for 1 to ``lag`` steps; the plain RNN has no gates
        starts: dict[str, Any] = {"LSTM": {"init": "chrono", "max_lag": self.lag}, "RNN": {}}
        self.networks = {kind: build_network(ADDING, kind, HIDDEN_SIZE, **starts[kind]) for kind in self.seen}
        learners = [self._learner(kind) for kind in self.networks]
        self.loop = Loop(learners, self._is_evaluation_due, self._evaluate)
        training, watching, self._testing = np.random.SeedSequence(self.seed).spawn(3)
        self._rng = np.random.default_rng(training)
        self._watched = self._draw(np.random.default_rng(watching), VALIDATION_SIZE)
        self.reach_before = self.reach()

    def train(self, hooks: Sequence[Hook] = (), interrupt: Interrupt | None = None) -> None:
        """Train both on the same batches, until all steps are done or a signal asks to end.

        Args:
            hooks: Told of every step and evaluation.
            interrupt: Asked before each batch whether a signal has come. None: never.
        """
        batches = (self._draw(self._rng, BATCH_SIZE) for _ in range(self.steps))
        self.loop.run(batches, hooks, interrupt)

    def test(self) -> dict[str, Verdict]:
        """Judge both on TEST_SIZE fresh sequences."""
        batch = self._draw(np.random.default_rng(self._testing), TEST_SIZE)
        return {kind: _judge(network, batch) for kind, network in self.networks.items()}

    def reach(self) -> dict[str, Array]:
        """Measure how much of the error's gradient is left after each lag, in the networks as they are now.

        Returns:
            [T+1] float64 by lag, 1 at lag 0: of ``LSTM c``, ``LSTM h`` and ``RNN h``.
        """
        x = self._watched.x[:, :REACH_SIZE]
        return {**_reach(self.networks["LSTM"], x), **_reach(self.networks["RNN"], x)}

    def one_sequence(self) -> tuple[Tensor, Tensor]:
        """Return a sequence that no network was trained on: x [T,1,2] and target [1,1]."""
        return self._watched.x[:, :1], self._watched.y[:1]

    def _learner(self, kind: str) -> Learner:
        optimizer = torch.optim.Adam(self.networks[kind].parameters(), LEARNING_RATES[kind])
        loss = objective_of(ADDING).loss
        return Learner(self.networks[kind], optimizer, self._learning_rate, loss, MAX_NORM)

    def _learning_rate(self, peak: float) -> float:
        return half_then_linear(peak, self.loop.step / self.steps)

    def _draw(self, rng: np.random.Generator, n: int) -> Batch:
        return draw_batch(ADDING, rng, n, self.lag)

    def _is_evaluation_due(self) -> bool:
        return self.loop.step % EVALUATE_EVERY == 0 or self.loop.step == self.steps

    def _evaluate(self) -> dict[str, Verdict]:
        self.at.append(self.loop.step)
        verdicts = {kind: _judge(network, self._watched) for kind, network in self.networks.items()}
        for kind, verdict in verdicts.items():
            self.seen[kind].append(verdict)
        return verdicts


@torch.no_grad()
def _judge(network: SequenceModel, batch: Batch) -> Verdict:
    answer, _ = network(batch.x)
    right = ADDING.correct(answer.numpy(), batch.y.numpy())
    return Verdict(float((answer - batch.y).square().mean()), float(right.mean()))


def _reach(network: SequenceModel, x: Tensor) -> dict[str, Array]:
    """Measure how much of the error's gradient is left after every lag 0..T: [T+1] for each state.

    For a state s this is ‖∂E/∂s_t‖ / ‖∂E/∂s_T‖ by lag T-t, the median over the sequences of x [T,N,C].
    The states are ``LSTM c`` and ``LSTM h``, or ``RNN h``. The error E of a sequence arises at its end, so
    ∂E/∂h_T = ∂E/∂ŷ · V; the scalar ∂E/∂ŷ is a factor of both norms and cancels. The result is exact: it
    comes from the backward pass of ``undertow.equations`` in float64.
    """
    named = {name: p.detach().double().numpy() for name, p in network.rnn.named_parameters()}
    W, U, b = named["weight_ih_l0"], named["weight_hh_l0"], named["bias_ih_l0"] + named["bias_hh_l0"]
    inputs = x.double().numpy()
    zero = np.zeros((x.shape[1], U.shape[1]))  # [N, H]
    dy = np.zeros((*x.shape[:2], U.shape[1]))  # [T, N, H]
    dy[-1] = network.head.weight.detach().double().numpy()
    if isinstance(network.rnn, undertow.LSTM):
        _, tape = equations.lstm(inputs, zero, zero, W, U, b)
        gradients = equations.lstm_backward(tape, inputs, W, U, dy)
        return {"LSTM c": _by_lag(gradients.dc), "LSTM h": _by_lag(gradients.dh)}
    _, rnn_tape = equations.rnn(inputs, zero, W, U, b)
    return {"RNN h": _by_lag(equations.rnn_backward(rnn_tape, inputs, W, U, dy).dh)}


def _by_lag(d: Array) -> Array:
    """Gradients of a state [T+1,N,H] -> their size by lag, 1 at lag 0: [T+1]."""
    size = np.linalg.norm(d, axis=-1)[::-1]  # [T+1, N]
    return np.asarray(np.median(size / size[0], axis=1))
