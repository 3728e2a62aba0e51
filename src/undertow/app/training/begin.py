"""A training from its options: everything is checked before torch is imported, then it starts or resumes.

``undertow train`` and ``undertow.train`` are both this.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.app.errors import UserError
from undertow.app.inputs import check_source
from undertow.app.runs import config

if TYPE_CHECKING:
    from rich.console import Console

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
) -> "Ended":
    """Start or resume a training.

    Args:
        sources: Files or folders, or the name of a built-in problem; none with ``resume``.
        given: Values by option; None and an empty list stand for an option that is left out.
        folder: The run folder. None: the next free one in ``runs``.
        resume: The run to continue. None: a new training.
        init_from: The run whose weights are the first ones. None: new weights.
        overwrite: Whether a run in ``folder`` may be replaced.
        quiet: Whether to print the result only.
        console: Where it is printed. None: the terminal.

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
    config.check_given(given)
    if resume is not None:
        if sources or folder or overwrite or init_from:
            raise UserError(
                f"--resume {resume}: takes no SOURCE, --folder, --overwrite or --init-from; "
                "they are those of the run"
            )
        return _resume(resume, given, quiet, console)
    if not sources:
        raise UserError(
            "SOURCE: expected a file, a folder or a problem, or --resume RUN; see undertow train --help"
        )
    return _start(sources, given, folder, overwrite, quiet, init_from, console)


def _start(
    sources: Sequence[str],
    given: dict[str, Any],
    folder: Path | None,
    overwrite: bool,
    quiet: bool,
    init_from: Path | None,
    console: "Console | None",
) -> "Ended":
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

    return session.start(source, why, options, folder, overwrite, quiet, parent, console)


def _resume(folder: Path, given: dict[str, Any], quiet: bool, console: "Console | None") -> "Ended":
    from undertow.app.runs import lock
    from undertow.app.runs.folder import open_run

    if fixed := sorted(set(given) - set(config.MAY_CHANGE)):
        flag = fixed[0].replace("_", "-")
        raise UserError(f"--{flag} cannot change on --resume; only --{', --'.join(config.MAY_CHANGE)} can")
    open_run(folder)  # before a lock is written into a folder that is no run
    with lock.held(folder):
        opened = open_run(folder)
        from undertow.app.training import session

        return session.Ended(folder, session.resume(opened, given, quiet, console))
