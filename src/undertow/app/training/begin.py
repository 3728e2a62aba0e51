"""A training from its options: everything is checked before torch is imported, then it starts or resumes.

``undertow train`` and ``undertow.train`` are both this.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.app.errors import UserError
from undertow.app.inputs import check_source
from undertow.app.runs import config
from undertow.app.training import launch, logger, place, resuming
from undertow.app.training.alone import Alone

if TYPE_CHECKING:
    from rich.console import Console

    from undertow.app.runs.folder import Run
    from undertow.app.training.session import Ended


def begin(
    sources: Sequence[str],
    given: dict[str, Any],
    *,
    folder: Path | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    console: "Console | None" = None,
    devices: int | None = None,
    timeout: float = place.TIMEOUT,
) -> "Ended":
    """Start or resume a training.

    Args:
        sources: Files or folders, or the name of a built-in problem; none with ``resume``.
        given: Values by option; None and an empty list stand for an option that is left out.
        folder: The run folder. None: the next free one in ``runs``.
        resume: The run to continue; ``auto``: the one in ``folder``, if there is one. None: a new training.
        init_from: The run whose weights are the first ones. None: new weights.
        overwrite: Whether a run in ``folder`` may be replaced.
        quiet: Whether to print the result only.
        console: Where it is printed. None: the terminal.
        devices: Processes to start on this machine. None: 1, or those that torchrun or SLURM started.
        timeout: Seconds that a process waits for the others.

    Returns:
        The run folder, and how the training ended.

    Raises:
        UserError: The data, the options or the folder do not fit; nothing has been written then.
    """
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    with place.one_voice(place.started()):
        config.check_given(given)
        resuming.check(resume, sources, folder, overwrite, init_from)
        here = place.find(place.checked(devices, timeout))
    with place.one_voice(here):
        team = launch.join(here, given.get("device", "auto"), timeout)
        if resume == resuming.AUTO and folder is not None:
            resume = folder if resuming.holds_run(folder, team) else None
        console = console if team.leads else _silence()
        if resume is not None:
            ended = resuming.resume(resume, sources, given, quiet, console, team)
        else:
            ended = _start(sources, given, folder, overwrite, quiet, init_from, console, team)
    return ended


def _silence() -> "Console":
    from undertow.app.terminal import Terminal

    return Terminal(quiet=True)


def _start(
    sources: Sequence[str],
    given: dict[str, Any],
    folder: Path | None,
    overwrite: bool,
    quiet: bool,
    init_from: Path | None,
    console: "Console | None",
    team: Alone,
) -> "Ended":
    with team.agreed():
        if team.leads:  # before the data are read, and a cache is written
            from undertow.app.runs.claim import refuse_existing

            refuse_existing(folder, overwrite)
        why, options, parent = options_of(sources, given, init_from)
    from undertow.app.training import session

    return session.start(sources[0], why, options, folder, overwrite, quiet, parent, console, team)


def options_of(
    sources: Sequence[str], given: dict[str, Any], init_from: Path | None = None
) -> tuple[str, dict[str, Any], "Run | None"]:
    """Complete the options of a training, without torch.

    Args:
        sources: As of ``begin``.
        given: Values by option, of the right types.
        init_from: As of ``begin``.

    Returns:
        The reason for the task, a value for each of its options, and the run of ``init_from``.

    Raises:
        UserError: The data or the options do not fit.
    """
    from undertow.app.training.task_of import task_of

    source, *further = sources
    for each in further:
        check_source(Path(each))
        if (times := [Path(other).resolve() for other in sources].count(Path(each).resolve())) > 1:
            raise UserError(f"{each}: given {times} times; expected once")
    parent = None
    if init_from is not None:
        from undertow.app.runs import members
        from undertow.app.runs.folder import open_run
        from undertow.app.training import inherit

        parent = open_run(init_from)
        if members.is_ensemble(parent):
            raise UserError(
                f"--init-from {init_from}: an ensemble; start from a member, such as "
                f"{members.plan(parent, 1).folder}"
            )
        given = inherit.with_options(parent, given)
    task, why = task_of(source, given, further)  # errors come before torch is imported
    options = config.with_defaults(task, given)
    options["further"] = tuple(str(Path(each).resolve()) for each in further)
    if options.get("cache") is not None:
        options["cache"] = str(Path(options["cache"]).resolve())
    options["infer"] = task == "classify" and "task" not in given
    why = why if parent is None else f"as {init_from}, whose weights it starts from"
    config.check_together(options, "")
    logger.check(options["logger"])
    return why, options, parent
