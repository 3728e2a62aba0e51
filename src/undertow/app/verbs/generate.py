"""``undertow generate``: writes text with a trained language model, symbol by symbol."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from undertow.app.reading.sampling import Sampling
    from undertow.app.runs.model import SequenceModel


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained on text.")],
    prompt: Annotated[
        str, typer.Option(help="Text to continue; it is printed too.", show_default="a new line")
    ] = "\n",
    length: Annotated[
        int, typer.Option(help="Symbols to write after the prompt.", min=0, max=1_000_000_000)
    ] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 surer, above 1 wilder, 0 always the likeliest symbol.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the K likeliest symbols.", metavar="K", show_default="all")
    ] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest symbols with probability P in all.", metavar="P")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Leave out symbols below P times the likeliest one.", metavar="P")
    ] = 0.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text; may be given several times.", metavar="TEXT"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same text. (default: another each time)", min=0)
    ] = None,
) -> None:
    """Write text with a trained language model.

    Only the text, prompt included, goes to standard output, symbol by symbol, so
    it can be piped. The state is carried from symbol to symbol. A symbol is
    drawn after temperature, top-k, top-p and min-p, in this order.
    """
    from undertow.app.errors import UserError
    from undertow.app.reading.sampling import Sampling, until
    from undertow.app.training.leftovers import open_run

    sampling, stops = Sampling(temperature, top_k, top_p, min_p), stop or []
    if "" in stops:
        raise UserError("--stop: expected a text, got an empty one")
    opened = open_run(run)
    if opened.data.task != "text":
        raise UserError(f"{run}: expected a run trained on text, and its task is {opened.data.task}")
    import numpy as np

    from undertow.app.data.tasks.text import alphabet_of
    from undertow.app.runs.together import network_of
    from undertow.app.words import visible

    alphabet = alphabet_of(opened.facts)
    first = alphabet.encode(prompt or "\n")
    for each in stops:
        alphabet.encode(each, "--stop")
    _warn(alphabet.unknown(prompt))
    model, rng = network_of(opened), np.random.default_rng(seed)
    symbols = _symbols(model, first, alphabet.unwritten, length, sampling, rng)
    shown = visible if sys.stdout.isatty() else str  # a pipe gets the symbols themselves
    sys.stdout.write(shown(prompt))
    for piece in until(alphabet.write(symbols), stops):
        sys.stdout.write(shown(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _warn(unknown: list[str]) -> None:
    """Name the words of the prompt that the model does not know, on standard error."""
    from undertow.app.errors import one_of
    from undertow.app.words import line

    if unknown:
        said = one_of([word.strip() for word in unknown], 5)
        print(
            f"undertow: --prompt: read as <unk>, since the model does not know it: {line(said)}",
            file=sys.stderr,
        )


def _symbols(
    model: "SequenceModel",
    first: "NDArray[np.int64]",
    unwritten: list[int],
    length: int,
    sampling: "Sampling",
    rng: "np.random.Generator",
) -> Iterator[int]:
    """Draw ``length`` symbols, each from the network's output after all before it."""
    import torch

    from undertow.app.errors import UserError

    x, state = torch.from_numpy(first)[:, None], None  # [T, 1]
    for _ in range(length):
        with torch.no_grad():
            output, state = model(x, state)
        scores = output[-1, 0].double()
        if not scores.isfinite().all():
            raise UserError("the network's output is not finite: its weights are damaged")
        scores[unwritten] = -torch.inf
        symbol = sampling.draw(scores.numpy(), rng)
        yield symbol
        x = torch.tensor([[symbol]])  # [1, 1]
