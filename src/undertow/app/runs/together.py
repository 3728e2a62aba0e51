"""Several networks that answer as one: the mean of their forecasts, or of their probabilities."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undertow.app.runs import members
from undertow.app.runs.device import placed
from undertow.app.runs.folder import Run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Objective
from undertow.app.runs.windows import Window

States = tuple[Any, ...]  # the state of each member


class Together(nn.Module):
    """An ensemble, called as a SequenceModel is (Lakshminarayanan, Pritzel & Blundell 2017).

    Args:
        networks: Its members.
        numbers: Whether they answer with numbers, not with scores of classes.
    """

    def __init__(self, networks: Sequence[SequenceModel], numbers: bool) -> None:
        super().__init__()
        self.networks, self.numbers, self.config = nn.ModuleList(networks), numbers, networks[0].config

    def forward(
        self,
        x: Tensor,
        state: States | None = None,
        lengths: Tensor | None = None,
        normalised: bool = False,
        reset: Tensor | None = None,
        window: Window | None = None,
    ) -> tuple[Tensor, States]:
        """Answer.

        Args:
            x: As of SequenceModel.
            state: What this method returned for the steps before. None: zeros.
            lengths: As of SequenceModel.
            normalised: As of SequenceModel.
            reset: As of SequenceModel.
            window: As of SequenceModel.

        Returns:
            The mean of all members' numbers, or the logarithms of their mean probabilities, which are scores
            of classes; and the state of each member.
        """
        before = state or (None,) * len(self.networks)
        found = [
            network(x, each, lengths, normalised, reset, window)
            for network, each in zip(self.networks, before, strict=True)
        ]
        outputs = torch.stack([output for output, _ in found])
        mean = outputs.mean(0) if self.numbers else mean_of_scores(outputs)
        return mean, tuple(after for _, after in found)

    def get_buffer(self, target: str) -> Tensor:
        """Return a buffer of the normaliser, which is the same in all members."""
        return self.networks[0].get_buffer(target)


def mean_of_scores(scores: Tensor) -> Tensor:
    """Compute the logarithm of the mean probability; scores are [K,...,classes]."""
    return scores.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(scores))).log()


def of(runs: Sequence[Run]) -> Together:
    """Load the networks of several runs as one, in eval mode. Raises UserError as ``network_of``."""
    numbers = Objective.of_unit(runs[0].unit).numbers
    return Together([run.load_model() for run in runs], numbers).eval()


def network_of(run: Run) -> Any:
    """Load what answers for a run.

    Args:
        run: A run.

    Returns:
        Its network, or all networks of an ensemble as one, in eval mode, on the run's device.

    Raises:
        UserError: A file is missing or damaged.
    """
    network = of(members.of(run)) if members.is_ensemble(run) else run.load_model()
    return network.to(placed(run.device))
