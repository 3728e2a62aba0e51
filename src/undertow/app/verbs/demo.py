"""``undertow demo``: watch an LSTM learn what a plain RNN cannot."""

from pathlib import Path
from typing import Annotated

import typer

from undertow.app.outputs import make_folder
from undertow.app.terminal import Terminal, marked


def demo(
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of initial weights and sequences.")
    ] = 0,
    lag: Annotated[int, typer.Option(min=10, max=100_000, help="Length of the sequences, in steps.")] = 100,
    steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Training steps of 64 sequences.")] = 1500,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the report.")] = Path("demo"),
) -> None:
    """Train an LSTM and a plain RNN on the adding problem and show what happened.

    Each sequence holds random numbers, two of them marked; the answer is the sum
    of those two. A picture shows how both learnt, a page what each unit did.
    Ctrl-C stops the training early, shows what there is and exits with code 130;
    SIGTERM and SIGHUP do the same with codes 143 and 129.
    """
    # imported here, so that `undertow demo --help` need not wait for torch
    import torch

    from undertow.app.demo import report as duel_report
    from undertow.app.demo.duel import Duel
    from undertow.app.demo.picture import draw
    from undertow.app.demo.view import comparison, in_words, train

    console, picture, report = Terminal(), make_folder(out, "--out") / "adding.png", out / "report.html"
    console.print(
        marked(
            f"\n[bold]The adding problem.[/] {lag} random numbers go by, two of them marked; the answer is "
            "the sum of those two. Both networks see the same sequences. Each learns at the rate that suits "
            "it, and the LSTM starts with its forget gates open (chrono initialisation).\n"
        )
    )
    # networks this small gain little from a second core, and lose much if another process uses it
    torch.set_num_threads(1)
    duel = Duel(seed, lag, steps)
    code = train(duel, console)
    verdicts, after = duel.test(), duel.reach()
    draw(duel, after, picture)
    console.print(comparison(duel, verdicts, after))
    console.print(in_words(duel, verdicts, after))
    duel_report.write(duel, report)
    console.print(marked("\nThe picture: [bold]{path}[/]", path=picture), soft_wrap=True)
    console.print(marked("The report: [bold]{path}[/]", path=report), soft_wrap=True)
    console.print("It shows both networks on one sequence, step by step: open it in a browser.\n")
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(demo)
