"""``undertow train``: starts or resumes a training. Its options are declared in ``runs.config``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.app.runs import config
from undertow.app.runs.options import signature
from undertow.app.training import begin, place

RUN = "Run"


def train(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts or tables, files or folders, two recordings, or the name of a built-in problem."
        ),
    ] = None,
    *,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: runs/SOURCE-n)", rich_help_panel=RUN)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run to continue; --epochs, --minutes, --patience and --device may change. "
            "auto: the run in --folder, if there is one.",
            rich_help_panel=RUN,
            metavar="RUN",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of another run, with its sizes, columns or alphabet.",
            rich_help_panel=RUN,
            metavar="RUN",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --folder.", rich_help_panel=RUN)
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            help="Processes on this machine that share every batch, each with a device. "
            "(default: 1, or what torchrun or SLURM started)",
            rich_help_panel=RUN,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds that a process waits for the others.", rich_help_panel=RUN),
    ] = place.TIMEOUT,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result only.", rich_help_panel=RUN)
    ] = False,
    **given: Any,
) -> None:
    """Train an LSTM on a text, a table, two recordings or a built-in problem.

    undertow train book.txt [dim]· next character[/dim]
    undertow train weather.csv --target temp_max [dim]· forecast[/dim]
    undertow train motions.csv --sequence id --label activity [dim]· class or number[/dim]
    undertow train clean.wav amp.wav [dim]· a device, before and after it[/dim]
    undertow train adding --steps 200 [dim]· a long-lag problem[/dim]

    Options that are left out get values that suit the task.

    Ctrl-C finishes the current step, saves everything and exits with code 130;
    SIGTERM and SIGHUP do the same with codes 143 and 129.
    undertow train --resume RUN continues, with the same result as without the
    interruption. A second Ctrl-C ends the training at once.
    """
    ended = begin.begin(
        source or [],
        given,
        folder=folder,
        resume=resume,
        init_from=init_from,
        overwrite=overwrite,
        quiet=quiet,
        devices=devices,
        timeout=timeout,
    )
    if ended.code:
        raise typer.Exit(ended.code)


signature(train, config.options())
