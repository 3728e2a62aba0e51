"""``--resume RUN`` and ``--resume auto``: which run goes on, with which options."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.app.errors import Finished, UserError
from undertow.app.runs import config, lock
from undertow.app.runs.folder import Run, open_run
from undertow.app.training.alone import Alone, led

if TYPE_CHECKING:
    from rich.console import Console

    from undertow.app.training.session import Ended

AUTO = Path("auto")  # the value of --resume that starts a run or goes on with it


def holds_run(folder: Path, team: Alone) -> bool:
    """Tell whether a folder, as the leader sees it, holds a run."""
    return team.tell((folder / "config.json").exists())


def check(
    resume: Path | None, sources: Sequence[str], folder: Path | None, overwrite: bool, init_from: Path | None
) -> None:
    """Check that a command says either what to train on or which training to resume. Raises UserError."""
    if resume == AUTO:
        if not sources or folder is None or overwrite:
            raise UserError("--resume auto: expected SOURCE and --folder, without --overwrite")
    elif resume is not None and (sources or folder or overwrite or init_from):
        raise UserError(
            f"--resume {resume}: takes no SOURCE, --folder, --overwrite or --init-from; "
            "they are those of the run"
        )
    elif resume is None and not sources:
        raise UserError(
            "SOURCE: expected a file, a folder or a problem, or --resume RUN; see undertow train --help"
        )


def resume(
    folder: Path,
    sources: Sequence[str],
    given: dict[str, Any],
    quiet: bool,
    console: "Console | None",
    team: Alone,
) -> "Ended":
    """Resume a training.

    Args:
        folder: The run folder.
        sources: The sources of the command; none with ``--resume RUN``.
        given: The options of the command.
        quiet: Whether to print the result only.
        console: Where it is printed. None: the terminal.
        team: The processes that train together.

    Returns:
        The run folder, and how the training ended.

    Raises:
        UserError: The run is damaged or cannot go on; or it is finished, and no sources are given.
    """
    if not sources:
        _check_may_change(given)
    with team.agreed():
        if team.leads:
            open_run(folder)  # before a lock is written into a folder that is no run
    try:
        return _resume(folder, sources, given, quiet, console, team)
    except Finished as finished:
        if not sources:
            raise
        return _conclude(folder, str(finished), quiet, console, team)


def _resume(
    folder: Path,
    sources: Sequence[str],
    given: dict[str, Any],
    quiet: bool,
    console: "Console | None",
    team: Alone,
) -> "Ended":
    with led(team, lambda: lock.held(folder)):
        run = None
        with team.agreed():
            if team.leads:
                run = open_run(folder)
                given = _changes(run, list(sources), given) if sources else given
        opened, given = team.opened(run), team.tell(given)
        from undertow.app.training import session

        return session.Ended(folder, session.resume(opened, given, quiet, console, team))


def _conclude(folder: Path, said: str, quiet: bool, console: "Console | None", team: Alone) -> "Ended":
    """Finish what a killed process left undone after its training, and say that the training is finished."""
    from undertow.app.terminal import Terminal
    from undertow.app.training import leftovers, session

    if team.leads:
        leftovers.open_run(folder)
    if not quiet:
        (console or Terminal()).print(said, soft_wrap=True)
    return session.Ended(folder, 0)


def _check_may_change(given: dict[str, Any]) -> None:
    if fixed := sorted(set(given) - set(config.MAY_CHANGE)):
        flag = fixed[0].replace("_", "-")
        raise UserError(f"--{flag} cannot change on --resume; only --{', --'.join(config.MAY_CHANGE)} can")


def _changes(run: Run, sources: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The options with which a run goes on, of those of the command that may have begun it."""
    kept = config.to_dict(run.data) | config.to_dict(run.model) | config.to_dict(run.training)
    paths = [str(Path(each).resolve()) for each in sources]
    if sources != [run.data.source] and paths != [run.data.source, *run.data.further]:
        raise UserError(f"--resume auto: {run.folder} was begun with {run.data.source}, not {sources[0]}")
    for name, value in given.items():
        if name not in config.MAY_CHANGE and _plain(kept[name]) != _plain(value):
            raise UserError(f"--resume auto: {run.folder} was begun with another --{name.replace('_', '-')}")
    return {name: value for name, value in given.items() if name in config.MAY_CHANGE}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
