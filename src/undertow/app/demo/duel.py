"""LSTM against plain RNN on the adding problem: the same sequences for both, step by step.

Also measured: how far back error reaches in each, by the exact backward of ``undertow.equations``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import undertow
from undertow import equations, problems

Array = npt.NDArray[np.float64]

HIDDEN_SIZE = 64
BATCH_SIZE = 64
# The rate each learns best at; at the LSTM's, the plain RNN jumps about above the baseline.
LEARNING_RATES = {"LSTM": 1e-2, "RNN": 1e-3}
MAX_NORM = 1.0  # gradients are clipped here: Pascanu, Mikolov & Bengio 2013
EVALUATE_EVERY = 25  # steps
VALIDATION_SIZE = 1000  # sequences watched during training
REACH_SIZE = 64  # of them, those along which the gradient is followed back
TEST_SIZE = 2560  # sequences judged at the end, as many as Hochreiter & Schmidhuber took
ADDING = problems.get("adding")


class Network(torch.nn.Module):
    """A recurrent layer that reads the sequence and a linear layer that answers after its last step."""

    def __init__(self, kind: str, lag: int) -> None:
        super().__init__()
        self.layer: torch.nn.RNNBase
        if kind == "LSTM":  # its forget gates start by holding for 1 to ``lag`` steps; the plain RNN has none
            self.layer = undertow.LSTM(ADDING.input_size, HIDDEN_SIZE, init="chrono", max_lag=lag)
        else:
            self.layer = undertow.RNN(ADDING.input_size, HIDDEN_SIZE)
        self.head = torch.nn.Linear(HIDDEN_SIZE, 1)
        self.learning_rate = LEARNING_RATES[kind]
        self.optimiser = torch.optim.Adam(self.parameters(), self.learning_rate)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)  # [T, N, H]
        answer: Tensor = self.head(y[-1])  # [N, 1]
        return answer

    def learn(self, x: Tensor, target: Tensor, pace: float) -> None:
        """One step of Adam on the mean square error, at ``pace`` times the learning rate."""
        self.optimiser.zero_grad()
        (self(x) - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), MAX_NORM)
        self.optimiser.param_groups[0]["lr"] = pace * self.learning_rate
        self.optimiser.step()


@dataclass(frozen=True)
class Verdict:
    """How a network does on sequences it has never seen."""

    error: float  # mean square
    right: float  # fraction within 0.04


@dataclass
class Duel:
    """Two networks, what they are trained on, and what was seen on the way."""

    seed: int
    lag: int
    steps: int
    at: list[int] = field(default_factory=list)  # the steps evaluated
    seen: dict[str, list[Verdict]] = field(default_factory=lambda: {"LSTM": [], "RNN": []})

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.networks = {kind: Network(kind, self.lag) for kind in self.seen}
        training, watching, self._testing = np.random.SeedSequence(self.seed).spawn(3)
        self._rng = np.random.default_rng(training)
        self._watched = self._draw(np.random.default_rng(watching), VALIDATION_SIZE)
        self.reach_before = self.reach()

    def train(self) -> Iterator[int]:
        """Train both on the same batches, yielding the number of steps done after each one."""
        self._evaluate(0)
        for step in range(1, self.steps + 1):
            x, target = self._draw(self._rng, BATCH_SIZE)
            pace = min(1.0, 2 * (1 - (step - 1) / self.steps))  # full for one half, then falling to zero
            for network in self.networks.values():
                network.learn(x, target, pace)
            if step % EVALUATE_EVERY == 0 or step == self.steps:
                self._evaluate(step)
            yield step

    def test(self) -> dict[str, Verdict]:
        """The verdict on both, on fresh sequences."""
        x, target = self._draw(np.random.default_rng(self._testing), TEST_SIZE)
        return {kind: judge(network, x, target) for kind, network in self.networks.items()}

    def reach(self) -> dict[str, Array]:
        """``reach`` of both networks as they are now, over the sequences watched."""
        x = self._watched[0][:, :REACH_SIZE]
        return {**reach(self.networks["LSTM"], x), **reach(self.networks["RNN"], x)}

    def one_sequence(self) -> tuple[Tensor, Tensor]:
        """The first of those watched during training, x [T,1,2] and target [1,1]; it trained nobody."""
        x, target = self._watched
        return x[:, :1], target[:1]

    def _draw(self, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        x, target = ADDING.sample(rng, n, self.lag)
        return torch.from_numpy(x), torch.from_numpy(target)

    def _evaluate(self, step: int) -> None:
        self.at.append(step)
        for kind, network in self.networks.items():
            self.seen[kind].append(judge(network, *self._watched))


@torch.no_grad()
def judge(network: Network, x: Tensor, target: Tensor) -> Verdict:
    answer = network(x)
    right = ADDING.correct(answer.numpy(), target.numpy())
    return Verdict(float((answer - target).square().mean()), float(right.mean()))


def reach(network: Network, x: Tensor) -> dict[str, Array]:
    """How much of the error's gradient is left after a lag, for every lag 0..T: each [T+1].

    That is ‖∂E/∂s_t‖ / ‖∂E/∂s_T‖ by lag T-t, the median over the sequences of x [T,N,C], for each
    state s: ``"LSTM c"`` and ``"LSTM h"``, or ``"RNN h"``. The error E of a sequence is taken at its
    end, so that ∂E/∂h_T = ∂E/∂ŷ · V; the scalar ∂E/∂ŷ stands in both norms and cancels. Exact: the
    weights are taken to float64 and ``undertow.equations`` goes back through time.
    """
    named = {name: p.detach().double().numpy() for name, p in network.layer.named_parameters()}
    W, U, b = named["weight_ih_l0"], named["weight_hh_l0"], named["bias_ih_l0"] + named["bias_hh_l0"]
    inputs = x.double().numpy()
    zero = np.zeros((x.shape[1], U.shape[1]))  # [N, H]
    dy = np.zeros((*x.shape[:2], U.shape[1]))  # [T, N, H]
    dy[-1] = network.head.weight.detach().double().numpy()
    if isinstance(network.layer, undertow.LSTM):
        _, tape = equations.lstm(inputs, zero, zero, W, U, b)
        gradients = equations.lstm_backward(tape, inputs, W, U, dy)
        return {"LSTM c": _by_lag(gradients.dc), "LSTM h": _by_lag(gradients.dh)}
    _, rnn_tape = equations.rnn(inputs, zero, W, U, b)
    return {"RNN h": _by_lag(equations.rnn_backward(rnn_tape, inputs, W, U, dy).dh)}


def _by_lag(d: Array) -> Array:
    """Gradients of a state [T+1,N,H] -> their size by lag, 1 at lag 0: [T+1]."""
    size = np.linalg.norm(d, axis=-1)[::-1]  # [T+1, N]
    return np.asarray(np.median(size / size[0], axis=1))
