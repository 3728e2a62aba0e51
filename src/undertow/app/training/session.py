"""One training from options to run folder: read the data, build the model, train, sum up."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from undertow.app.data import Task
from undertow.app.data.forecast import ForecastTask
from undertow.app.data.problem import ProblemTask
from undertow.app.data.sequences import SequenceTask
from undertow.app.data.text import TextTask
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, ModelConfig, TrainConfig, text_epochs
from undertow.app.runs.folder import (
    Run,
    fingerprint,
    next_folder,
    prepare_folder,
    remove_pages,
    stamp,
)
from undertow.app.training import summary
from undertow.app.training.progress import Progress
from undertow.app.training.task_of import check_file
from undertow.app.training.trainer import Trainer
from undertow.app.training.view import LiveView, PlainView, View

TASKS: dict[str, Any] = {
    "text": TextTask,
    "forecast": ForecastTask,
    "classify": SequenceTask,
    "problem": ProblemTask,
}
EMBEDDING = 64  # widest embedding of a symbol


def start(
    source: str, why: str, options: dict[str, Any], folder: Path | None, overwrite: bool, quiet: bool
) -> bool:
    """Train from the beginning; False where Ctrl-C ended it. Raises UserError before anything is written."""
    console, kind = Console(), options["task"]
    where = source if kind == "problem" else str(Path(source).resolve())
    data = pick(DataConfig, options | {"source": where})
    if not quiet:
        console.print(f"[bold]{kind}[/]: {escape(why)} [dim](--task overrides)[/]", highlight=False)
    training = pick(TrainConfig, {"epochs": 1} | options)
    task: Task = TASKS[kind](data, training.batch_size, training.seed)
    if "epochs" not in options:
        training = replace(
            training, epochs=text_epochs(task.steps_per_epoch() * data.steps * training.batch_size)
        )
    run = new_run(data, model_config(task, options), training, task, folder or next_folder(Path(source).stem))
    trainer = Trainer(run, task)
    prepare_folder(run.folder, overwrite)
    run.write_config()
    if not quiet:
        summary.introduce(console, run, task, trainer.plain)
    return finish(console, trainer, quiet)


def resume(run: Run, given: dict[str, Any], quiet: bool) -> bool:
    """Go on with a run; False where Ctrl-C ended it again."""
    console, folder = Console(), run.folder
    run.training = replace(run.training, **given)
    check_source(run)
    task: Task = TASKS[run.data.task](run.data, run.training.batch_size, run.training.seed)
    trainer = Trainer(run, task)
    trainer.resume()
    if trainer.progress.at.finished:
        raise UserError(
            f"{folder}: finished already ({trainer.progress.at.finished}); "
            "a larger --epochs, --patience or --minutes goes on"
        )
    run.write_config()
    gone = remove_pages(folder)
    if not quiet:
        console.print(
            f"Going on with {escape(str(folder))} from epoch {trainer.progress.at.epoch + 1}", highlight=False
        )
        if gone:
            console.print(f"  {' and '.join(gone)} showed it as it was: removed", highlight=False)
        summary.introduce(console, run, task, trainer.plain)
    return finish(console, trainer, quiet)


def check_source(run: Run) -> None:
    """Raises UserError where the data file is gone or is no longer the one the run began with."""
    if run.data.task == "problem":
        return
    path = Path(run.data.source)
    check_file(path)
    if fingerprint(path)["sha256"] != run.source.get("sha256"):
        raise UserError(f"{path}: has changed since {run.folder} was begun; start a new run")


def finish(console: Console, trainer: Trainer, quiet: bool) -> bool:
    from undertow.app.training import curve

    run, progress = trainer.run, trainer.progress
    done = trainer.fit(view(console, quiet, progress))
    if progress.rows:
        curve.draw(run, progress.rows)
    summary.conclude(console, run, progress, done)
    return done


def view(console: Console, quiet: bool, progress: Progress) -> View:
    speaking = LiveView if sys.stdout.isatty() else PlainView
    return (View if quiet else speaking)(console, progress)


def pick(kind: Any, options: dict[str, Any]) -> Any:
    """The dataclass ``kind`` filled from those options that are its own."""
    return kind(**{field.name: options[field.name] for field in fields(kind) if field.name in options})


def model_config(task: Task, options: dict[str, Any]) -> ModelConfig:
    shape, max_lag = task.shape, 0
    if options["init"] == "chrono":
        max_lag = options["steps"] or shape.longest
        if max_lag <= 2:
            raise UserError(f"--init chrono needs sequences of more than 2 steps, got {max_lag}")
    return ModelConfig(
        cell=options["cell"],
        hidden_size=options["hidden_size"],
        num_layers=options["num_layers"],
        dropout=options["dropout"],
        noise=options["noise"],
        outputs=shape.outputs,
        readout=shape.readout,
        inputs=shape.inputs,
        symbols=shape.symbols,
        width=min(EMBEDDING, shape.symbols),
        residual=shape.residual,
        init=options["init"],
        max_lag=max_lag,
        forget_bias=options["forget_bias"],
    )


def new_run(data: DataConfig, model: ModelConfig, training: TrainConfig, task: Task, folder: Path) -> Run:
    created, versions = stamp()
    return Run(
        folder,
        data,
        model,
        training,
        facts=task.facts.values,
        source={} if data.task == "problem" else fingerprint(Path(data.source)),
        baselines={baseline.name: baseline.value for baseline in task.facts.baselines},
        unit=task.objective.unit,
        created=created,
        versions=versions,
    )
