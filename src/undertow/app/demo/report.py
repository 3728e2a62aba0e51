"""The page of a duel: both trained networks on one adding sequence that neither was trained on."""

from pathlib import Path

import torch
from torch import Tensor

import undertow
from undertow.app.demo.duel import HIDDEN_SIZE, Duel
from undertow.app.outputs import atomically
from undertow.app.runs.model import SequenceModel

NAMES = {"LSTM": "LSTM", "RNN": "plain RNN"}


def write(duel: Duel, path: Path) -> None:
    """Write the page.

    Args:
        duel: The trained networks.
        path: The file; it is replaced.
    """
    x, target = duel.one_sequence()  # [T, 1, 2], [1, 1]
    traces, answers = zip(*(_traced(network, x, target) for network in duel.networks.values()), strict=True)
    marked = x[:, 0, 1].nonzero().flatten().tolist()  # the two steps
    wanted = " + ".join(f"{float(x[t, 0, 0]):.3f} (step {t})" for t in marked)
    first, *others = zip((NAMES[kind] for kind in duel.networks), traces, strict=True)

    def report(beside: Path) -> None:
        first[1].report(
            beside,
            inputs=x[:, 0].numpy(),
            input_names=["value", "marker"],
            title=f"LSTM beside plain RNN, {HIDDEN_SIZE} units each, adding over {duel.lag} steps",
            about=f"Wanted at the end, the sum of the two marked values: {wanted} = {float(target):.3f}.",
            name=first[0],
            answer=answers[0],
            compare=dict(others),
            answers=answers[1:],
        )

    atomically(path, report)


def _traced(network: SequenceModel, x: Tensor, target: Tensor) -> tuple[undertow.Trace, str]:
    """The network on one sequence, forward and backward, and what it says."""
    with undertow.trace(network) as trace:
        answer, _ = network(x)
        torch.autograd.backward((answer - target).square().mean())
    return trace, f"says {answer.item():.3f}; right is {target.item():.3f}"
