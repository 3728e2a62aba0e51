"""``undertow tune``: a search for the options with which a network learns best."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from undertow.app.errors import UserError
from undertow.app.runs import config
from undertow.app.runs.claim import RUNS
from undertow.app.runs.options import signature

STUDY = "Study"
LEFT_OUT = ("members",)  # options of train that mean nothing here


def tune(
    source: Annotated[
        list[str],
        typer.Argument(help="Texts or tables, files or folders, or the name of a built-in problem."),
    ],
    *,
    trials: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Trainings in all.", rich_help_panel=STUDY)
    ] = 60,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of an option: lr=0.001..0.01 or hidden_size=32,64. May be given several times.",
            metavar="OPTION=VALUES",
            rich_help_panel=STUDY,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database that workers share, such as postgresql://HOST/NAME. (default: in --folder)",
            metavar="URL",
            rich_help_panel=STUDY,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the study. (default: runs/SOURCE-tune)", rich_help_panel=STUDY),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result only.", rich_help_panel=STUDY)
    ] = False,
    **given: Any,
) -> None:
    """Search for the options with which a network learns best.

    undertow tune weather.csv --target temp_max --trials 60
    undertow tune weather.csv --target temp_max --space lr=0.001..0.01

    Each trial is a training with other options; those that fall behind end early.
    Options of undertow train that are given here are the same in all trials.

    --folder gets the runs as trials/N, a copy of the best one as best, and a
    picture of what mattered. The same command continues a study until there are
    --trials trainings. Started again elsewhere, it adds a worker to the study.
    Ctrl-C keeps what is done and exits with code 130.
    """
    if find_spec("optuna") is None:
        raise UserError("undertow tune needs optuna: pip install 'undertow[tune]'")
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    config.check_given(given)
    from undertow.app.training.begin import options_of
    from undertow.app.tuning.space import space_of

    why, options, _ = options_of(source, given)  # errors come before torch is imported
    domains = space_of(options["task"], space or [], given)
    where = folder or RUNS / f"{Path(source[0]).stem}-tune"
    from undertow.app.tuning.command import run

    code = run(source, given, domains, trials, where, storage, quiet, (options["task"], why))
    if code:
        raise typer.Exit(code)


signature(tune, (option for option in config.options() if option.name not in LEFT_OUT))
