"""Other people's networks, watched while they read: what `inspect` and `doctor` show of a file.

Such a file holds no labels, so there is no loss. What flows back in its place is E_t = ½|y_t|², half the
squared length of the output: its gradient with respect to y_t is y_t, so the pages show on what the answers
depend, and not how an error would be corrected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import undertow
from undertow.app.errors import UserError
from undertow.app.inputs import read_network
from undertow.app.reading.samples import read_samples
from undertow.app.runs.device import placed
from undertow.app.runs.near import moved
from undertow.app.words import counted
from undertow.networks import Network

STEPS = 400  # without --steps
NO_LABELS = "It holds no labels: the error E is half the squared output, ½|y|²,"


@dataclass(frozen=True)
class Given:
    """Sequences of one length.

    Attributes:
        x: [T,N,C] float32, or [T,N] int64 symbols.
        names: C names of the inputs, or one for each symbol.
        steps: T numbers of the steps of the first sequence, from 0, as places in the file.
        about: Where they come from.
    """

    x: NDArray[np.float32] | NDArray[np.int64]
    names: list[str]
    steps: list[str]
    about: str


@dataclass(frozen=True)
class Seen:
    """What a network did with the sequences, forward and backward."""

    path: Path
    network: Network
    model: torch.nn.Module
    trace: undertow.Trace  # backward has been called on the mean of E_t, or on E of the only answer
    given: Given
    output: NDArray[np.float32]  # [T,N,O], or [N,O] of a network that answers once
    hidden: dict[str, str]  # recurrent modules that were not recorded, and why

    @property
    def once(self) -> bool:
        """Whether the network answers once for the whole sequence."""
        return self.network.once

    @property
    def modules(self) -> list[str]:
        """The names of its recurrent modules that were recorded."""
        return [name for name in self.trace if name not in self.hidden]


def open_file(path: Path) -> Network:
    """Read the file of a network. Raises UserError if it is none, or holds what cannot be represented."""
    try:
        return read_network(path)
    except ValueError as error:
        raise UserError(str(error)) from None


def read(
    path: Path, network: Network, *, columns: Sequence[str] = (), sequences: int = 1, steps: int | None = None
) -> Given:
    """Read sequences from a file: consecutive pieces of it, all of one length.

    Args:
        path: A table of numbers or symbols, or sound.
        network: The network that reads it.
        columns: The names of its inputs in the file; empty: all columns.
        sequences: N, at least 1; a short file gives fewer.
        steps: T, at least 2; a short file gives fewer. None: 400.

    Returns:
        The sequences.

    Raises:
        UserError: The file does not fit the network, or is too short.
    """
    found = read_samples(path, network, columns)
    rows = len(found.x) - found.start
    if rows < 2:
        raise UserError(f"{path}: expected 2 steps or more, got {rows}")
    T = min(steps or STEPS, max(2, rows // sequences) if steps is None else rows)
    N = max(1, min(sequences, rows // T))
    pieces: NDArray[Any] = found.x[found.start : found.start + N * T].reshape(N, T, *found.x.shape[1:])
    about = f"{path.name}, {found.about}" if found.about else path.name
    if found.start:
        about += f", from step {found.start:,}"
    names = [str(k) for k in range(found.start, found.start + T)]
    return Given(np.ascontiguousarray(pieces.swapaxes(0, 1)), found.names, names, about)


def observe(path: Path, network: Network, given: Given, kind: str = "cpu") -> Seen:
    """Let a network read once under a trace, and call backward.

    Args:
        path: The network's file.
        network: The network.
        given: The sequences.
        kind: Where it reads: cpu or cuda.

    Returns:
        What it did.

    Raises:
        UserError: The network holds what the modules cannot compute or record.
    """
    try:
        model = undertow.load(network).to(placed(kind))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    x = moved(torch.from_numpy(given.x), placed(kind))
    with undertow.trace(model) as trace:
        output = model(x)
        E = 0.5 * output.square().sum(-1)  # [T,N], or [N] of the only answer
        torch.autograd.backward(E.mean())
    if not network.once:
        trace.loss_per_step = E.detach()
    hidden = {name: reason for name in trace if (reason := _why_not(trace, name))}
    if len(hidden) == len(trace):
        name, reason = next(iter(hidden.items()))
        raise UserError(f"{path}: {name} cannot be shown: {reason}")
    return Seen(path, network, model, trace, given, output.detach().cpu().numpy(), hidden)


def _why_not(trace: undertow.Trace, name: str) -> str:
    """Why a module cannot be shown; empty if it can."""
    try:
        for layer in trace[name].layers:
            _ = layer.source.steps
    except RuntimeError as error:  # NotRecorded says why
        return str(error)
    return ""


def describe(network: Network) -> str:
    """Describe a network in a few words: its layers, units and number of parameters."""
    layers = network.recurrent()
    kinds = " and ".join(dict.fromkeys("LSTM" if each.cell == "lstm" else "plain RNN" for each in layers))
    units = list(dict.fromkeys(each.hidden_size for each in layers))
    both = " in both directions" if any(each.reverse for each in layers) else ""
    depth = len([each for each in layers if not each.reverse])
    of = " and ".join(map(str, units))
    return f"{kinds}, {counted(depth, 'layer')} of {of} {'unit' if units == [1] else 'units'}{both}"


def about(seen: Seen) -> str:
    """Say in a line what a file holds, what it read, and what flowed back."""
    T, N = seen.given.x.shape[:2]
    count = seen.network.count_parameters()
    pieces = f"{counted(N, 'piece')} of {counted(T, 'step')}"
    where = "after the last step" if seen.once else "at each step"
    each = ", each from the initial state" if N > 1 else ""
    network = f"{seen.path}: {describe(seen.network)}, {count:,} parameters"
    hidden = "".join(f" Not shown: {name}: {reason}." for name, reason in seen.hidden.items())
    return f"{network}; read {pieces} of {seen.given.about}{each}. {NO_LABELS} {where}.{hidden}"


def answer(seen: Seen) -> str:
    """The answer of a network that answers once, in words; empty for others."""
    if not seen.once:
        return ""
    y, labels = seen.output[0], seen.network.labels
    if labels and len(y) > 1:
        return f"says {labels[int(y.argmax())]}"
    return "says " + ", ".join(f"{value:.3g}" for value in y[:4]) + (", ..." if len(y) > 4 else "")
