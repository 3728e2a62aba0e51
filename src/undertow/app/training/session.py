"""One training from options to run folder: read the data, build the model, train, sum up."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from undertow.app import working
from undertow.app.data import Known, Task
from undertow.app.errors import Finished, UserError
from undertow.app.inputs import check_source as check_readable
from undertow.app.runs import interval, members, selection
from undertow.app.runs.claim import claimed, remove_leftovers, remove_pages
from undertow.app.runs.config import (
    LABELLED,
    POOLED,
    DataConfig,
    ModelConfig,
    TrainConfig,
    epochs_of,
    to_dict,
)
from undertow.app.runs.folder import SCORES, Run, fingerprint, stamp
from undertow.app.runs.model import SequenceModel
from undertow.app.terminal import Terminal, marked
from undertow.app.training import checkpoint, ensemble, inherit, intervals, memory, summary, targets
from undertow.app.training.alone import ALONE, Alone, led
from undertow.app.training.fitting import fit
from undertow.app.training.progress import Progress
from undertow.app.training.trainer import HookMaker, Trainer
from undertow.app.training.view import LiveView, PlainView, View, live
from undertow.app.words import line

TASKS = {  # by name, since some import what others do not need
    "text": ("undertow.app.data.tasks.text", "TextTask"),
    "forecast": ("undertow.app.data.tasks.forecast", "ForecastTask"),
    "classify": ("undertow.app.data.tasks.sequences", "SequenceTask"),
    "regress": ("undertow.app.data.tasks.sequences", "SequenceTask"),
    "problem": ("undertow.app.data.tasks.problem", "ProblemTask"),
    "sound": ("undertow.app.data.tasks.sound", "SoundTask"),
}
EMBEDDING, SERIES = 64, 8  # widest embedding of a symbol, and of a series


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Args:
        folder: Its run folder.
        code: The exit code: 0, or 128 and the number of the signal that stopped the training.
    """

    folder: Path
    code: int


def start(
    source: str,
    why: str,
    options: dict[str, Any],
    folder: Path | None,
    overwrite: bool,
    quiet: bool,
    init_from: Run | None = None,
    console: Console | None = None,
    team: Alone = ALONE,
    hooks: Sequence[HookMaker] = (),
) -> Ended:
    """Train from the beginning.

    Args:
        source: A file, a folder or the name of a built-in problem.
        why: The reason for the task, which is printed.
        options: A value for each option of the task.
        folder: The run folder. None: the next free one in ``runs``.
        overwrite: Whether a run in ``folder`` may be replaced.
        quiet: Whether to print the result only.
        init_from: The run whose weights are the first ones. None: new weights.
        console: Where it is printed. None: the terminal.
        team: The processes that train together.
        hooks: Make what else is told of the training, unless it is that of an ensemble.

    Returns:
        The run folder, and how the training ended.

    Raises:
        UserError: The data, the options or the folder do not fit; nothing has been written then.
    """
    console = console or Terminal()
    with team.agreed(), nullcontext() if quiet else working.shown(console):
        run, task, trainer = _planned(source, options, folder, init_from, team)
    team.check_alike(run.source.get("sha256"), source)
    if not quiet:
        said = "[bold]{kind}[/]: {why} [dim](--task overrides)[/]"
        console.print(marked(said, kind=run.data.task, why=line(why)))
    with led(team, lambda: claimed(folder, Path(source).stem, overwrite)) as run.folder:
        if trainer is None:
            return Ended(run.folder, _start_ensemble(console, run, task, quiet, team))
        trainer.save()
        run.write_config()  # last: from here on the run can be resumed
        if not quiet:
            summary.introduce(console, run, task, trainer.plain, team.size)
        return Ended(run.folder, finish(console, trainer, quiet, hooks))


def _planned(
    source: str, options: dict[str, Any], folder: Path | None, init_from: Run | None, team: Alone
) -> tuple[Run, Task, Trainer | None]:
    """The run, its data, and its training, unless it is an ensemble."""
    where = source if options["task"] == "problem" else str(Path(source).resolve())
    data = _pick(DataConfig, options | {"source": where})
    training = _pick(TrainConfig, {"epochs": 1} | options)
    task = _prepared(data, training, inherit.known(init_from) if init_from is not None else None)
    data = replace(data, **task.facts.settled)
    if "epochs" not in options:
        read = (
            task.steps_per_epoch()
            * training.batch_size
            * (data.steps if data.task in ("text", "sound") else 1)
        )
        training = replace(training, epochs=epochs_of(data.task, read))
    run = team.run(_new_run(data, _model_config(task, options), training, task, folder or Path()))
    memory.check_model(data, run.model, training.batch_size)
    trainer = None if members.is_ensemble(run) else Trainer(run, task, team)
    if init_from is not None:
        if trainer is None:
            raise UserError("--init-from: members of an ensemble start from seeds; leave out one of the two")
        task.facts.lines.append(inherit.take(trainer.plain, run, init_from))
        run.init_from = inherit.record(init_from)
    return run, task, trainer


def _start_ensemble(console: Console, run: Run, task: Task, quiet: bool, team: Alone) -> int:
    """Write the config.json of an ensemble, from where on it can be resumed, and train it."""
    with team.agreed():
        if team.leads:
            run.write_config()
    if not quiet:
        summary.introduce(console, run, task, SequenceModel(run.model))
    with nullcontext() if quiet else working.shown(console):
        return ensemble.train(
            run, task, console, lambda progress: view(console, quiet, progress), quiet, team
        )


def _resume_ensemble(console: Console, run: Run, task: Task, quiet: bool, team: Alone) -> int:
    finished = None
    with team.agreed():
        if team.leads and not (finished := ensemble.finished(run, task)):
            for name in (SCORES, interval.FILE):
                run.path(name).unlink(missing_ok=True)
            remove_leftovers(run.folder)
            remove_pages(run.folder)
    if finished := team.tell(finished):
        raise Finished(finished)
    if not quiet:
        console.print(f"Going on with {run.folder}", soft_wrap=True)
    return _start_ensemble(console, run, task, quiet, team)


def again(run: Run, data: DataConfig, folder: Path) -> int:
    """Train from the beginning with the options of a run on other data, and print no lines.

    Args:
        run: The run, whose task is to forecast.
        data: The source of the data and how they are read.
        folder: The new run folder; a run in it is replaced.

    Returns:
        The exit code, as in ``Ended``.

    Raises:
        UserError: The data do not fit the options.
    """
    options = to_dict(run.model) | to_dict(run.training) | to_dict(data)
    del options["readout"]  # which follows from the data of a forecast
    silent, hooks = Terminal(quiet=True), live(working.console())
    ended = start(data.source, "", options, folder, overwrite=True, quiet=True, console=silent, hooks=hooks)
    return ended.code


def resume(
    run: Run, given: dict[str, Any], quiet: bool, console: Console | None = None, team: Alone = ALONE
) -> int:
    """Resume a training.

    Args:
        run: The run.
        given: Options with new values, of those in ``MAY_CHANGE``.
        quiet: Whether to print the result only.
        console: Where it is printed. None: the terminal.
        team: The processes that train together.

    Returns:
        The exit code, as in ``Ended``.

    Raises:
        Finished: The training is finished.
        UserError: Its data have changed, or the run is damaged.
    """
    console, folder = console or Terminal(), run.folder
    run.training = replace(run.training, **given)
    with team.agreed(), nullcontext() if quiet else working.shown(console):
        task, trainer = _taken_up(run, team)
    if trainer is None:
        return _resume_ensemble(console, run, task, quiet, team)
    gone = _cleared(run) if team.leads else []
    if not quiet:
        console.print(f"Going on with {folder} from epoch {trainer.progress.at.epoch + 1}", soft_wrap=True)
        if gone:
            console.print(f"  Removed {' and '.join(gone)}, which showed the model of before")
        summary.introduce(console, run, task, trainer.plain, team.size)
    return finish(console, trainer, quiet)


def _taken_up(run: Run, team: Alone) -> tuple[Task, Trainer | None]:
    """The data of a run, and its training where it stands, unless it is an ensemble."""
    _check_source(run)
    whole = members.is_ensemble(run)
    if not whole and team.leads:
        checkpoint.check_weights(run)
        if run.read_metrics():
            run.count_parameters()  # the best weights are read at the end, for intervals
    task = _prepared(run.data, run.training, _known(run))
    memory.check_model(run.data, run.model, run.training.batch_size)
    if whole:
        return task, None
    trainer = Trainer(run, task, team)
    checkpoint.check(run, task, trainer.plain)
    trainer.resume()
    if trainer.progress.at.finished and not (team.leads and intervals.missing(run)):
        raise Finished(
            f"{run.folder}: finished already ({trainer.progress.at.finished}); "
            "a larger --epochs, --patience or --minutes continues it"
        )
    return task, trainer


def _cleared(run: Run) -> list[str]:
    """Prepare a folder for further training; the names of the pages that were removed."""
    run.write_config()
    run.path(interval.FILE).unlink(missing_ok=True)  # of the model that is about to change
    remove_leftovers(run.folder)
    return remove_pages(run.folder)


def _known(run: Run) -> Known | None:
    """What is kept when a training is resumed: a vocabulary, and what came from the run of --init-from."""
    if run.data.task != "text" and not run.init_from:
        return None
    tensors = {} if members.is_ensemble(run) else run.read_last()[0]  # its members start from new weights
    return Known(run.facts, {name.removeprefix("model."): value for name, value in tensors.items()})


def _prepared(data: DataConfig, training: TrainConfig, known: Known | None = None) -> Task:
    """Read the data and prepare them for training, as another training did if that is known."""
    if data.task == "problem":
        memory.check_problem(data, training.batch_size)
    module, name = TASKS[data.task]
    task: Task = getattr(import_module(module), name)(data, training.batch_size, training.seed, known)
    selection.check(training.select, task.objective)
    return task


def _check_source(run: Run) -> None:
    """Raise UserError if the data are gone or have changed since the run began."""
    if run.data.task == "problem":
        return
    path = Path(run.data.source)
    for each in (path, *map(Path, run.data.further)):
        check_readable(each)
    if fingerprint(path, *run.data.further)["sha256"] != run.source.get("sha256"):
        raise UserError(f"{path}: has changed since {run.folder} began; start a new run")


def finish(console: Console, trainer: Trainer, quiet: bool, hooks: Sequence[HookMaker] = ()) -> int:
    """Train to the end or to a signal, draw the learning curve and print the result.

    Args:
        console: Where it is printed.
        trainer: The training, at its start or resumed.
        quiet: Whether to print the result only.
        hooks: Make what else is told of the training.

    Returns:
        The exit code, as in ``Ended``.
    """
    run, progress = trainer.run, trainer.progress
    with nullcontext() if quiet else working.shown(console):
        done = fit(trainer, view(console, quiet, progress), *(make(trainer) for make in hooks))
    interrupt = trainer.loop.interrupt
    if not trainer.team.leads:
        return 0 if done else interrupt.code
    each = targets.errors(run, trainer.task) if progress.at.best else {}
    with nullcontext() if done else suppress(OSError):  # after SIGHUP nobody may be there to read
        summary.conclude(console, run, progress, done, interrupt.name, each)
    return 0 if done else interrupt.code


def view(console: Console, quiet: bool, progress: Progress) -> View:
    """Choose how progress is shown.

    Args:
        console: Where it is shown.
        quiet: Whether to show nothing.
        progress: Where the training stands.

    Returns:
        A live line in a terminal, lines elsewhere.
    """
    speaking = LiveView if sys.stdout.isatty() else PlainView
    return (View if quiet else speaking)(console, progress)


def _pick(kind: Any, options: dict[str, Any]) -> Any:
    """Fill the dataclass ``kind`` from the options that are its fields."""
    return kind(**{field.name: options[field.name] for field in fields(kind) if field.name in options})


def _model_config(task: Task, options: dict[str, Any]) -> ModelConfig:
    shape, max_lag = task.shape, 0
    if options["init"] == "chrono":
        max_lag = options["steps"] or shape.longest
        if max_lag <= 2:
            raise UserError(f"--init chrono: expected sequences of more than 2 steps, got {max_lag}")
    return ModelConfig(
        cell=options["cell"],
        hidden_size=options["hidden_size"],
        num_layers=options["num_layers"],
        dropout=options["dropout"],
        noise=options["noise"],
        outputs=shape.outputs,
        readout=_readout(task, options),
        bidirectional=options.get("bidirectional", False),
        inputs=shape.inputs,
        symbols=shape.symbols,
        width=min(SERIES, -(-shape.series // 2)) if shape.series else min(EMBEDDING, shape.symbols),
        residual=shape.residual,
        panel=shape.panel,
        autoregression=shape.longest if shape.residual else 0,
        quantity=shape.quantity,
        linear=shape.linear,
        skip=options.get("skip", False),
        ahead=shape.ahead,
        known=shape.known,
        series=shape.series,
        init=options["init"],
        max_lag=max_lag,
        forget_bias=options["forget_bias"],
    )


def _readout(task: Task, options: dict[str, Any]) -> Any:
    """What the head reads. Raises UserError if ``--readout`` is given and each step has a label."""
    given = options.get("readout")
    if task.shape.readout == "every" or options["task"] not in LABELLED:
        if given:
            raise UserError(f"--readout {given}: has no meaning where each step has a label")
        return task.shape.readout
    return given or POOLED


def _new_run(data: DataConfig, model: ModelConfig, training: TrainConfig, task: Task, folder: Path) -> Run:
    created, versions = stamp()
    return Run(
        folder,
        data,
        model,
        training,
        facts=task.facts.values,
        source={} if data.task == "problem" else fingerprint(Path(data.source), *data.further),
        baselines={baseline.name: baseline.value for baseline in task.facts.baselines},
        unit=task.objective.unit,
        created=created,
        versions=versions,
    )
