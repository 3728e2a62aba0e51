"""A study from its options: open it, work on it, sum it up."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from undertow.app.outputs import make_folder
from undertow.app.runs.folder import fingerprint
from undertow.app.terminal import Terminal
from undertow.app.training.view import live
from undertow.app.tuning import view
from undertow.app.tuning.space import Domain
from undertow.app.tuning.storage import open_storage
from undertow.app.tuning.study import Plan, take_part
from undertow.app.tuning.worker import Worker
from undertow.app.words import counted
from undertow.app.working import shown


def run(
    sources: list[str],
    given: dict[str, Any],
    space: list[Domain],
    trials: int,
    folder: Path,
    url: str | None,
    quiet: bool,
    task: tuple[str, str],
) -> int:
    """Work on a study until it has its trials.

    Args:
        sources: The data.
        given: The options that are the same in all trials.
        space: The options that vary.
        trials: The number of trials.
        folder: The folder of the study.
        url: Where the study is kept, as of ``open_storage``.
        quiet: Whether to print the result only.
        task: The task and the reason for it.

    Returns:
        The exit code: 0, or 128 and the number of the signal that came.

    Raises:
        UserError: The study cannot be opened or is another one, or all its first trials failed.
    """
    first, *further = sources
    digest = first if task[0] == "problem" else fingerprint(Path(first), *further)["sha256"]
    plan = Plan(sources, given, space, trials, make_folder(folder, "--folder"), digest)
    study = take_part(plan, open_storage(url, folder))
    console = Terminal()
    if not quiet:
        view.introduce(console, study, plan, task[1], task[0], url)

    def wait(number: int) -> None:
        if not quiet:
            console.print(f"Waiting for {counted(number, 'trial')} of other workers")

    worker = Worker(
        study,
        plan,
        live(None if quiet else console),
        lambda trial: None if quiet else view.say(console, study, plan, trial),
        wait,
    )
    with nullcontext() if quiet else shown(console):
        code = worker.work()
        view.conclude(console, study, plan, code)
    return code
