"""Text that a trained language model writes, symbol by symbol: ``undertow generate`` and ``Run.generate``."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from undertow.app.errors import UserError, one_of
from undertow.app.reading.sampling import Sampling, until

if TYPE_CHECKING:  # wrong options are refused before torch is imported
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from undertow.app.data.texts.alphabet import Alphabet
    from undertow.app.runs.folder import Run
    from undertow.app.runs.model import SequenceModel

LENGTH, TEMPERATURE = 500, 0.8
BEGINNINGS = "\n", " "  # what is read before a text without a prompt


def check_run(run: "Run") -> "Run":
    """Return the run. Raises UserError unless its task is text."""
    if run.data.task != "text":
        raise UserError(f"{run.folder}: expected a run trained on text, and its task is {run.data.task}")
    return run


def check_stops(stops: list[str] | None) -> list[str]:
    """Return the texts before which the writing ends. Raises UserError if one is empty."""
    if "" in (stops or []):
        raise UserError("--stop: expected a text, got an empty one")
    return stops or []


def write(
    run: "Run",
    prompt: str,
    length: int,
    sampling: Sampling,
    stops: list[str],
    seed: int | None,
    warn: Callable[[str], None],
) -> Iterator[str]:
    """Continue a prompt.

    Args:
        run: A run whose task is text.
        prompt: The text to continue; it comes first. Empty: the model reads a new line, which is not
            written, or if its text has none a blank or another symbol.
        length: The symbols after it.
        sampling: How a symbol is drawn.
        stops: Texts before which the writing ends.
        seed: The same seed gives the same text. None: another text each time.
        warn: Called with a line if the model does not know words of the prompt.

    Yields:
        The prompt, then piece by piece what follows.

    Raises:
        UserError: The prompt or a stop holds symbols that the model does not know, or the run is damaged.
    """
    import numpy as np

    from undertow.app.data.tasks.text import alphabet_of
    from undertow.app.runs.device import placed
    from undertow.app.runs.together import network_of

    alphabet = alphabet_of(run.facts)
    first = alphabet.encode(prompt) if prompt else _beginning(alphabet)
    for each in stops:
        alphabet.encode(each, "--stop")
    if unknown := alphabet.unknown(prompt):
        said = one_of([word.strip() for word in unknown], 5)
        warn(f"--prompt: read as <unk>, since the model does not know it: {said}")
    model, rng = network_of(run), np.random.default_rng(seed)
    symbols = _symbols(model, placed(run.device), first, alphabet.unwritten, length, sampling, rng)
    yield prompt
    yield from until(alphabet.write(symbols), stops)


def _beginning(alphabet: "Alphabet") -> "NDArray[np.int64]":
    """The symbols that are read before a text without a prompt."""
    import numpy as np

    for text in BEGINNINGS:
        with suppress(UserError):
            return alphabet.encode(text)
    return np.array([next(k for k in range(alphabet.size) if k not in alphabet.unwritten)])


def _symbols(
    model: "SequenceModel",
    device: "torch.device",
    first: "NDArray[np.int64]",
    unwritten: list[int],
    length: int,
    sampling: Sampling,
    rng: "np.random.Generator",
) -> Iterator[int]:
    """Draw ``length`` symbols, each from the network's output after all before it."""
    import torch

    x, state = torch.from_numpy(first)[:, None].to(device), None  # [T, 1]
    for _ in range(length):
        with torch.no_grad():
            output, state = model(x, state)
        scores = output[-1, 0].double().cpu()
        if not scores.isfinite().all():
            raise UserError("the network's output is not finite: its weights are damaged")
        scores[unwritten] = -torch.inf
        symbol = sampling.draw(scores.numpy(), rng)
        yield symbol
        x = torch.tensor([[symbol]], device=device)  # [1, 1]
