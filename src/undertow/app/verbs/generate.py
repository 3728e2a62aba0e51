"""``undertow generate``: writes text with a trained language model, symbol by symbol."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained on text.")],
    prompt: Annotated[
        str, typer.Option(help="Text to continue; it is printed too.", show_default="none")
    ] = "",
    length: Annotated[
        int, typer.Option(help="Symbols to write after the prompt.", min=0, max=1_000_000_000)
    ] = 500,
    temperature: Annotated[
        float,
        typer.Option(help="Below 1: more likely symbols; above 1: more variety; 0: always the likeliest."),
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the K likeliest symbols.", metavar="K", show_default="all")
    ] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest symbols whose probabilities sum to P.", metavar="P")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Leave out symbols less likely than P times the likeliest.", metavar="P")
    ] = 0.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text; may be given several times.", metavar="TEXT"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same text. (default: a new one each time)", min=0),
    ] = None,
) -> None:
    """Write text with a trained language model.

    Only the text, with the prompt, goes to standard output, symbol by symbol, so
    the text can be piped. The state is carried from symbol to symbol.
    --temperature, --top-k, --top-p and --min-p apply to each draw in this order.
    """
    from undertow.app.reading.sampling import Sampling
    from undertow.app.reading.writer import check_run, check_stops, write
    from undertow.app.runs.device import chosen
    from undertow.app.training.leftovers import open_run

    sampling, stops = Sampling(temperature, top_k, top_p, min_p), check_stops(stop)
    opened = check_run(open_run(run))
    opened.device = chosen(device)
    from undertow.app.words import visible

    shown = visible if sys.stdout.isatty() else str  # a pipe gets the symbols themselves
    for piece in write(opened, prompt, length, sampling, stops, seed, _warn):
        sys.stdout.write(shown(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _warn(said: str) -> None:
    from undertow.app.words import line

    print(f"undertow: {line(said)}", file=sys.stderr)
