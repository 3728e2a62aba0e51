"""``undertow classics``: the literature's long-lag problems, an LSTM beside a plain RNN."""

from pathlib import Path
from typing import Annotated

import typer


def classics(
    problem: Annotated[
        list[str] | None,
        typer.Argument(help="Problems to train on. (default: all of them)", metavar="PROBLEM"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Shorter lags and one seed: all problems in a few minutes.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help="Networks of each kind for each problem. (default: 3, 1 with --quick)"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.")] = Path("classics"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results in --output.")] = False,
) -> None:
    """Train an LSTM and a plain RNN on the long-lag problems of the literature.

    Each is trained until the criterion of the paper that posed the problem
    holds on fresh sequences, or until its sequences are used up. The plain
    RNN gets up to four times the sequences that the LSTM needed.

    undertow classics --quick
    undertow classics adding-1997 temporal-order --seeds 5

    The folder --output gets results.jsonl, with a line for each network as soon
    as it is trained, and from it classics.md, classics.json and classics.png.
    Ctrl-C keeps what is done and exits with code 130; the same command then
    continues. SIGTERM and SIGHUP do the same with codes 143 and 129.
    """
    # imported here, so that `undertow classics --help` need not wait for torch
    import torch

    from undertow.app.classics.results import Results
    from undertow.app.classics.settings import chosen
    from undertow.app.classics.view import train, write
    from undertow.app.runs.device import chosen as kind_of
    from undertow.app.terminal import Terminal

    settings = chosen(problem or [], quick, seeds)
    kind = kind_of(device)
    results = Results(output, settings, overwrite)
    # networks this small gain little from a second core, and lose much if another process uses it
    torch.set_num_threads(1)
    console = Terminal()
    code = train(results, console, kind)
    if results.outcomes:  # none if a signal came during the first
        write(results, quick, console)
    if code:
        raise typer.Exit(code)
