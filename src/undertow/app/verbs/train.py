"""``undertow train``: its options. What it does is in ``session``."""

from pathlib import Path
from typing import Annotated, Any

import typer

DATA, MODEL, TRAINING, RUN = "Data", "Model", "Training", "Run"


def train(
    source: Annotated[
        str | None,
        typer.Argument(help="A text file, a CSV, TSV or Parquet table, or the name of a built-in problem."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="text, forecast, classify or problem; guessed otherwise.", rich_help_panel=DATA),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to forecast.", rich_help_panel=DATA, metavar="COLUMN")
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(help="Rows to forecast after each window. (default: 1)", rich_help_panel=DATA),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column that orders the rows.", rich_help_panel=DATA, metavar="COLUMN")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column that tells several series apart.", rich_help_panel=DATA, metavar="COLUMN"),
    ] = None,
    sequence: Annotated[
        str | None,
        typer.Option(help="Column that tells sequences apart.", rich_help_panel=DATA, metavar="COLUMN"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Column with each sequence's class.", rich_help_panel=DATA, metavar="COLUMN"),
    ] = None,
    gaps: Annotated[
        str | None,
        typer.Option(
            help="Missing values or rows: error, fill (from the row before) or ignore (rows only).",
            rich_help_panel=DATA,
        ),
    ] = None,
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="Read text as bytes, not characters.", rich_help_panel=DATA)
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="Window of a text or forecast, lag of a problem.", rich_help_panel=DATA),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Fraction held back: the end, or whole sequences.", rich_help_panel=DATA),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(help="lstm or rnn (plain, tanh). (default: lstm)", rich_help_panel=MODEL)
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Units a layer, H.", rich_help_panel=MODEL)] = None,
    num_layers: Annotated[
        int | None, typer.Option(help="Layers. (default: 2 for text, else 1)", rich_help_panel=MODEL)
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Between layers and before the head.", rich_help_panel=MODEL)
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="On features while training. (default: 0.5 to classify, else 0)", rich_help_panel=MODEL
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="torch, orthogonal, or chrono: forget gates that hold for 1 to --steps steps at the start. "
            "(default: chrono for a problem's LSTM, else torch)",
            rich_help_panel=MODEL,
        ),
    ] = None,
    forget_bias: Annotated[
        float | None, typer.Option(help="Of the LSTM's forget gates at the start.", rich_help_panel=MODEL)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", rich_help_panel=TRAINING)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences a step, N.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training part.", rich_help_panel=TRAINING)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget in all.", rich_help_panel=TRAINING)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Evaluations without improvement before it stops.", rich_help_panel=TRAINING),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(help="Largest gradient norm; 0 never clips. (default: 1)", rich_help_panel=TRAINING),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of all random numbers. (default: 0)", rich_help_panel=TRAINING)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda. (default: auto)", rich_help_panel=TRAINING)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="32-true, 64-true, bf16-mixed or 16-mixed. (default: 32-true)", rich_help_panel=TRAINING
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: runs/SOURCE-n)", rich_help_panel=RUN)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run as it was set up; --epochs, --minutes and --patience may change.",
            rich_help_panel=RUN,
            metavar="RUN",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --run.", rich_help_panel=RUN)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only say how it ended.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Train an LSTM on a text, a table or a built-in problem.

    undertow train book.txt [dim]· next character[/dim]
    undertow train weather.csv --target temp_max [dim]· forecast[/dim]
    undertow train motions.csv --sequence id --label activity [dim]· classification[/dim]
    undertow train adding --steps 200 [dim]· a long-lag problem[/dim]

    Options left out suit the task that the source stands for.

    Ctrl-C finishes the step in hand, saves everything and exits with code 130.
    undertow train --resume RUN goes on, with the same result as if nothing had
    happened. Ctrl-C twice ends at once.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("source", "run", "resume", "overwrite", "quiet"):
        given.pop(name, None)
    begin(source, given, run, resume, overwrite, quiet)


def begin(
    source: str | None,
    given: dict[str, Any],
    run: Path | None,
    resume: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Start or resume; exit code 130 where Ctrl-C ended it."""
    from undertow.app.errors import UserError
    from undertow.app.training import session

    if not given["as_bytes"]:
        del given["as_bytes"]
    if resume is not None:
        if source or run or overwrite:
            raise UserError(
                "--resume RUN takes source and folder from the run; leave out SOURCE, --run, --overwrite"
            )
        done = session.resume(resume, given, quiet)
    elif source is None:
        raise UserError(
            "train what? Give a file or a problem, or --resume RUN; undertow train --help says more"
        )
    else:
        done = session.start(source, given, run, overwrite, quiet)
    if not done:
        raise typer.Exit(130)
