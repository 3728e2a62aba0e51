"""One network, trained on one problem until the criterion holds or its sequences are used up."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from undertow.app.classics.settings import Setting
from undertow.app.data.tasks.problem import build_network, draw_batch, objective_of
from undertow.app.loop import Hook, Learner, Loop, half_then_linear
from undertow.app.runs.device import placed
from undertow.app.runs.near import moved
from undertow.app.runs.objective import Batch
from undertow.app.signals import Interrupt

CELLS = ("LSTM", "RNN")
TEST_SIZE = 2560  # sequences judged at the end, as many as Hochreiter & Schmidhuber took
FIRST_LOOK = 100  # sequences judged before the criterion's own number of them
LOWEST_RATE = 0.05  # of the peak
AT_ONCE = 2_000_000  # hidden values, T N H, that are judged in one go


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: plain values, a line of results.jsonl."""

    row: str
    cell: str
    seed: int
    solved: bool
    sequences: int  # trained on until the criterion held, or in all
    wrong: int  # of ``tested`` fresh sequences
    tested: int
    error: float  # the problem's own, mean over them
    seconds: float
    parameters: int
    setting: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON holds it."""
        return asdict(self)


class Trial:
    """One network and its training.

    Args:
        setting: The problem, the network and how it learns.
        cell: ``LSTM`` or ``RNN``.
        seed: Of the initial weights and the sequences.
        most: Sequences to train on at most. None: the setting's number.
        device: Where the network computes; sequences are drawn and judged on the CPU.
    """

    def __init__(
        self, setting: Setting, cell: str, seed: int, most: int | None = None, device: str = "cpu"
    ) -> None:
        self.setting, self.cell, self.seed = setting, cell, seed
        self.problem, self.most = setting.posed, most or setting.most
        is_lstm = cell == "LSTM"
        start = setting.start_options() if is_lstm else {}
        torch.manual_seed(seed)
        self.device = placed(device)
        self.network = build_network(self.problem, cell, setting.hidden_size, **start).to(self.device)
        lr = setting.lr if is_lstm else setting.rnn_lr
        layer = {"params": self.network.rnn.parameters(), "lr": lr}
        head = {"params": self.network.head.parameters(), "lr": lr * setting.head}
        optimizer, loss = torch.optim.Adam([layer, head]), objective_of(self.problem).loss
        learner = Learner(self.network, optimizer, self._learning_rate, loss, setting.clip)
        learner.device = self.device
        self.loop = Loop([learner], self._is_look_due, self._look)
        training, judging = np.random.SeedSequence(seed).spawn(2)
        self.rng, self.judging = np.random.default_rng(training), np.random.default_rng(judging)
        self.share, self.solved = 0.0, False  # share: processed correctly at the last look

    @property
    def sequences(self) -> int:
        """Sequences trained on so far."""
        return min(self.most, self.loop.step * self.setting.batch_size)

    def run(self, hooks: Sequence[Hook] = (), interrupt: Interrupt | None = None) -> None:
        """Train until the criterion holds, ``most`` sequences are used up, or a signal asks to end.

        Args:
            hooks: Told of every step and look.
            interrupt: Asked before each batch whether a signal has come. None: never.
        """
        self.loop.run(self._batches(), hooks, interrupt)

    def _batches(self) -> Iterator[Batch]:
        setting = self.setting
        while not self.solved and self.sequences < self.most:
            n = min(setting.batch_size, self.most - self.sequences)
            yield draw_batch(self.problem, self.rng, n, setting.steps, setting.stretch)

    def _learning_rate(self, peak: float) -> float:
        return half_then_linear(peak, self.sequences / self.most, LOWEST_RATE)

    def outcome(self, seconds: float) -> Outcome:
        """Test the network on fresh sequences.

        Args:
            seconds: The time that the training took.

        Returns:
            How the trial ended. If the criterion judges by streams, the test is on those.
        """
        streams = self.setting.look_steps
        n = self.problem.criterion.sequences if streams else TEST_SIZE
        error = self._errors(n, streams or self.setting.steps)
        wrong = int(np.count_nonzero(~(error < self.problem.criterion.tolerance)))
        parameters = sum(p.numel() for p in self.network.parameters())
        return Outcome(
            self.setting.row, self.cell, self.seed, self.solved, self.sequences, wrong, n,
            float(error.mean()), round(seconds, 1), parameters, self.setting.to_dict(),
        )  # fmt: skip

    def _is_look_due(self) -> bool:
        step = self.loop.step
        return step > 0 and (step % self.setting.every == 0 or self.sequences >= self.most)

    def _look(self) -> bool:
        """Tell whether the criterion holds on fresh sequences: first on few, then on all it demands."""
        few = self._errors(FIRST_LOOK, self.setting.steps)
        self.share = float(np.mean(few < self.problem.criterion.tolerance))
        if self.problem.met(few):
            steps = self.setting.look_steps or self.setting.steps
            self.solved = self.problem.met(self._errors(self.problem.criterion.sequences, steps))
        return self.solved

    @torch.no_grad()
    def _errors(self, n: int, steps: int) -> npt.NDArray[np.float64]:
        """The error of ``n`` fresh sequences, [n]."""
        setting, found = self.setting, []
        at_once = n if setting.look_steps else max(1, AT_ONCE // (steps * setting.hidden_size))
        for start in range(0, n, at_once):
            x, target = self.problem.sample(self.judging, min(at_once, n - start), steps, setting.stretch)
            if self.problem.truth is not None:
                target = self.problem.truth(x)
            output, _ = self.network(moved(torch.from_numpy(x), self.device))
            found.append(self.problem.error(output.cpu().numpy(), target))
        return np.concatenate(found)
