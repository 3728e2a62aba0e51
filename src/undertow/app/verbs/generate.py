"""``undertow generate``: writes text with a trained language model, symbol by symbol."""

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.app.data.text import Alphabet
    from undertow.app.runs.model import SequenceModel


HOTTEST = 1_000_000  # at this temperature all symbols are equally likely


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained on text.")],
    prompt: Annotated[
        str, typer.Option(help="Text to continue; it is printed too.", show_default="a new line")
    ] = "\n",
    length: Annotated[int, typer.Option(help="Symbols to write.", min=0, max=1_000_000_000)] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 surer, above 1 wilder, 0 always the likeliest symbol.")
    ] = 0.8,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same text. (default: another each time)", min=0)
    ] = None,
) -> None:
    """Write text with a trained language model.

    Only the text, prompt included, goes to standard output, symbol by symbol, so
    it can be piped. The state is carried from symbol to symbol.
    """
    from undertow.app.errors import UserError
    from undertow.app.training.leftovers import open_run

    if not 0 <= temperature <= HOTTEST:
        raise UserError(f"--temperature {temperature}: expected a number from 0 to {HOTTEST:,}")
    opened = open_run(run)
    if opened.data.task != "text":
        raise UserError(f"{run}: expected a run trained on text, and its task is {opened.data.task}")
    import numpy as np

    from undertow.app.data.text import alphabet_of
    from undertow.app.words import visible

    alphabet = alphabet_of(opened.facts)
    first = alphabet.encode(prompt or "\n")
    stream = _write(
        alphabet, _symbols(opened.load_model(), first, length, temperature, np.random.default_rng(seed))
    )
    shown = visible if sys.stdout.isatty() else str  # a pipe gets the symbols themselves
    sys.stdout.write(shown(prompt))
    for piece in stream:
        sys.stdout.write(shown(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _symbols(
    model: "SequenceModel",
    first: "NDArray[np.int64]",
    length: int,
    temperature: float,
    rng: "np.random.Generator",
) -> Iterator[int]:
    """Draw ``length`` symbols, each from softmax(output / temperature) given all before it."""
    import torch

    x, state = torch.from_numpy(first)[:, None], None  # [T, 1]
    for _ in range(length):
        with torch.no_grad():
            output, state = model(x, state)
        symbol = draw(output[-1, 0].double().numpy(), temperature, rng)
        yield symbol
        x = torch.tensor([[symbol]])  # [1, 1]


def draw(scores: "NDArray[np.float64]", temperature: float, rng: "np.random.Generator") -> int:
    """Draw a symbol from softmax(scores / temperature).

    The largest of scores/temperature + Gumbel noise is such a draw.

    Args:
        scores: [symbols] float64.
        temperature: 0 to HOTTEST; 0: the largest score.
        rng: The random numbers.

    Returns:
        The number of the symbol.
    """
    if temperature == 0:
        return int(scores.argmax())
    return int((scores / temperature + rng.gumbel(size=scores.shape)).argmax())


def _write(alphabet: "Alphabet", numbers: Iterator[int]) -> Iterator[str]:
    """Turn symbols into text; bytes that form no character become the replacement character."""
    if alphabet.characters is not None:
        yield from (alphabet.characters[number] for number in numbers)
        return
    decoder = codecs.getincrementaldecoder(alphabet.encoding)(errors="replace")
    for number in numbers:
        yield decoder.decode(bytes([number]))
    yield decoder.decode(b"", final=True)
