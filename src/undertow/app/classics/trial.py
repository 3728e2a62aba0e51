"""One trial: one network trained on one problem until the criterion holds or sequences are used up."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

import undertow
from undertow.app.classics.settings import Setting
from undertow.problems import UNSCORED

CELLS = ("LSTM", "RNN")
TEST_SIZE = 2560  # sequences judged at the end, as many as Hochreiter & Schmidhuber took
FIRST_LOOK = 100  # sequences judged before the criterion's own number of them
AT_ONCE = 2_000_000  # hidden values, T N H, that are judged in one go


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. Plain values: a line of results.jsonl."""

    row: str
    cell: str
    seed: int
    solved: bool
    sequences: int  # trained on until the criterion held, or in all
    wrong: int  # of ``tested`` fresh sequences
    tested: int
    error: float  # mean over those
    seconds: float
    parameters: int
    setting: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Network(torch.nn.Module):
    """A recurrent layer and a linear layer that answers, after its last step or at each."""

    def __init__(self, setting: Setting, cell: str) -> None:
        super().__init__()
        problem, H = setting.posed, setting.hidden_size
        self.layer = (
            undertow.LSTM(problem.input_size, H, **setting.start_options())
            if cell == "LSTM"
            else undertow.RNN(problem.input_size, H)
        )
        self.head = torch.nn.Linear(H, problem.output_size)
        self.every = problem.readout == "every"

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)  # [T, N, H]
        answer: Tensor = self.head(y if self.every else y[-1])  # [T, N, K] or [N, K]
        return answer


class Trial:
    """A network on its way; ``run`` trains it."""

    def __init__(self, setting: Setting, cell: str, seed: int, most: int | None = None) -> None:
        self.setting, self.cell, self.seed = setting, cell, seed
        self.problem, self.most = setting.posed, most or setting.most
        torch.manual_seed(seed)
        self.network = Network(setting, cell)
        rate = setting.lr if cell == "LSTM" else setting.rnn_lr
        layer, head = self.network.layer.parameters(), self.network.head.parameters()
        self.rates = (rate, rate * setting.head)
        self.optimiser = torch.optim.Adam([{"params": layer}, {"params": head}])
        training, judging = np.random.SeedSequence(seed).spawn(2)
        self.rng, self.judging = np.random.default_rng(training), np.random.default_rng(judging)
        self.sequences, self.share, self.solved = 0, 0.0, False  # share: processed correctly at the last look

    def run(self) -> Iterator[None]:
        """Train, yielding after each batch, until solved or ``most`` sequences are used up."""
        batches = 0
        while not self.solved and self.sequences < self.most:
            self._learn()
            batches += 1
            if batches % self.setting.every == 0 or self.sequences >= self.most:
                self.solved = self._look()
            yield

    def outcome(self, seconds: float) -> Outcome:
        """How it ended, tested on fresh sequences; a criterion that asks for streams is its own test."""
        streams = self.setting.look_steps
        n = self.problem.criterion.sequences if streams else TEST_SIZE
        error = self._errors(n, streams or self.setting.steps)
        wrong = int(np.count_nonzero(~(error < self.problem.criterion.tolerance)))
        parameters = sum(p.numel() for p in self.network.parameters())
        return Outcome(
            self.setting.row, self.cell, self.seed, self.solved, self.sequences, wrong, n,
            float(error.mean()), round(seconds, 1), parameters, self.setting.to_dict(),
        )  # fmt: skip

    def _learn(self) -> None:
        setting = self.setting
        n = min(setting.batch_size, self.most - self.sequences)
        x, target = self.problem.sample(self.rng, n, setting.steps, setting.stretch)
        pace = min(1.0, 2 * (1 - self.sequences / self.most))  # full for one half, then falling
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * max(0.05, pace)
        self.optimiser.zero_grad()
        loss = self._loss(self.network(torch.from_numpy(x)), torch.from_numpy(target))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), setting.clip)
        self.optimiser.step()
        self.sequences += n

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        if self.problem.task == "regression":
            return functional.mse_loss(output, target)
        return functional.cross_entropy(output.flatten(0, -2), target.flatten(), ignore_index=UNSCORED)

    def _look(self) -> bool:
        """Whether the criterion holds on fresh sequences: a few first, then as many as it asks for."""
        few = self._errors(FIRST_LOOK, self.setting.steps)
        self.share = float(np.mean(few < self.problem.criterion.tolerance))
        if not self.problem.met(few):
            return False
        steps = self.setting.look_steps or self.setting.steps
        return self.problem.met(self._errors(self.problem.criterion.sequences, steps))

    @torch.no_grad()
    def _errors(self, n: int, steps: int) -> npt.NDArray[np.float64]:
        """The error of ``n`` fresh sequences, [n]."""
        setting, found = self.setting, []
        at_once = n if setting.look_steps else max(1, AT_ONCE // (steps * setting.hidden_size))
        for start in range(0, n, at_once):
            x, target = self.problem.sample(self.judging, min(at_once, n - start), steps, setting.stretch)
            if self.problem.truth is not None:
                target = self.problem.truth(x)
            found.append(self.problem.error(self.network(torch.from_numpy(x)).numpy(), target))
        return np.concatenate(found)


def finish(trial: Trial) -> Outcome:
    """Run a trial to its end."""
    began = time.monotonic()
    for _ in trial.run():
        pass
    return trial.outcome(time.monotonic() - began)
