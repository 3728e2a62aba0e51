"""``undertow train``: starts or resumes a training. Its options are declared in ``runs.config``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.app.errors import UserError
from undertow.app.runs import config
from undertow.app.runs.options import signature

RUN = "Run"


def train(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="Texts or tables, files or folders, or the name of a built-in problem."),
    ] = None,
    *,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: runs/SOURCE-n)", rich_help_panel=RUN)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run to continue; --epochs, --minutes, --patience and --device may change.",
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
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result only.", rich_help_panel=RUN)
    ] = False,
    **given: Any,
) -> None:
    """Train an LSTM on a text, a table or a built-in problem.

    undertow train book.txt [dim]· next character[/dim]
    undertow train weather.csv --target temp_max [dim]· forecast[/dim]
    undertow train motions.csv --sequence id --label activity [dim]· class or number[/dim]
    undertow train adding --steps 200 [dim]· a long-lag problem[/dim]

    Options that are left out get values that suit the task.

    Ctrl-C finishes the current step, saves everything and exits with code 130;
    SIGTERM and SIGHUP do the same with codes 143 and 129.
    undertow train --resume RUN continues, with the same result as without the
    interruption. A second Ctrl-C ends the training at once.
    """
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    config.check_given(given)
    if resume is not None:
        if source or folder or overwrite or init_from:
            raise UserError(
                f"--resume {resume}: takes no SOURCE, --folder, --overwrite or --init-from; "
                "they are those of the run"
            )
        code = _resume(resume, given, quiet)
    elif not source:
        raise UserError(
            "SOURCE: expected a file, a folder or a problem, or --resume RUN; see undertow train --help"
        )
    else:
        code = _start(source, given, folder, overwrite, quiet, init_from)
    if code:
        raise typer.Exit(code)


signature(train, config.options())


def _start(
    sources: list[str],
    given: dict[str, Any],
    folder: Path | None,
    overwrite: bool,
    quiet: bool,
    init_from: Path | None,
) -> int:
    from undertow.app.inputs import check_source
    from undertow.app.training.task_of import task_of

    if folder is not None:
        from undertow.app.runs.claim import refuse_existing

        refuse_existing(folder, overwrite)
    source, *further = sources
    for each in further:
        check_source(Path(each))
    parent = None
    if init_from is not None:
        from undertow.app.runs.folder import open_run
        from undertow.app.training import inherit

        parent = open_run(init_from)
        given = inherit.with_options(parent, given)
    task, why = task_of(source, given)  # errors come before torch is imported
    options = config.with_defaults(task, given)
    options["further"] = tuple(str(Path(each).resolve()) for each in further)
    options["infer"] = task == "classify" and "task" not in given
    why = why if parent is None else f"as {init_from}, whose weights it starts from"
    config.check_together(options, "")
    from undertow.app.training import session

    return session.start(source, why, options, folder, overwrite, quiet, parent)


def _resume(folder: Path, given: dict[str, Any], quiet: bool) -> int:
    from undertow.app.runs import lock
    from undertow.app.runs.folder import open_run

    if fixed := sorted(set(given) - set(config.MAY_CHANGE)):
        flag = fixed[0].replace("_", "-")
        raise UserError(f"--{flag} cannot change on --resume; only --{', --'.join(config.MAY_CHANGE)} can")
    open_run(folder)  # before a lock is written into a folder that is no run
    with lock.held(folder):
        opened = open_run(folder)
        from undertow.app.training import session

        return session.resume(opened, given, quiet)
