"""One training from options to run folder: read the data, build the model, train, sum up."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

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
from undertow.app.terminal import Terminal, marked
from undertow.app.training import summary
from undertow.app.training.loop import Trainer
from undertow.app.training.task_of import check_file
from undertow.app.training.view import LiveView, PlainView, View
from undertow.app.words import line

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
    console, kind = Terminal(), options["task"]
    where = source if kind == "problem" else str(Path(source).resolve())
    data = pick(DataConfig, options | {"source": where})
    if not quiet:
        console.print(marked("[bold]{kind}[/]: {why} [dim](--task overrides)[/]", kind=kind, why=line(why)))
    training = pick(TrainConfig, {"epochs": 1} | options)
    task: Task = TASKS[kind](data, training.batch_size, training.seed)
    if "epochs" not in options:
        training = replace(
            training, epochs=text_epochs(task.steps_per_epoch() * data.steps * training.batch_size)
        )
    run = new_run(data, model_config(task, options), training, task, folder or next_folder(Path(source).stem))
    trainer = Trainer(run, task, view(console, quiet))
    prepare_folder(run.folder, overwrite)
    run.write_config()
    if not quiet:
        summary.introduce(console, run, task, trainer.plain)
    return finish(console, trainer)


def resume(run: Run, given: dict[str, Any], quiet: bool) -> bool:
    """Go on with a run; False where Ctrl-C ended it again."""
    console, folder = Terminal(), run.folder
    run.training = replace(run.training, **given)
    check_source(run)
    task: Task = TASKS[run.data.task](run.data, run.training.batch_size, run.training.seed)
    trainer = Trainer(run, task, view(console, quiet))
    trainer.resume()
    if trainer.at.finished:
        raise UserError(
            f"{folder}: finished already ({trainer.at.finished}); "
            "a larger --epochs, --patience or --minutes goes on"
        )
    run.write_config()
    gone = remove_pages(folder)
    if not quiet:
        console.print(f"Going on with {folder} from epoch {trainer.at.epoch + 1}", soft_wrap=True)
        if gone:
            console.print(f"  {' and '.join(gone)} showed it as it was: removed")
        summary.introduce(console, run, task, trainer.plain)
    return finish(console, trainer)


def check_source(run: Run) -> None:
    """Raises UserError where the data file is gone or is no longer the one the run began with."""
    if run.data.task == "problem":
        return
    path = Path(run.data.source)
    check_file(path)
    if fingerprint(path)["sha256"] != run.source.get("sha256"):
        raise UserError(f"{path}: has changed since {run.folder} was begun; start a new run")


def finish(console: Console, trainer: Trainer) -> bool:
    from undertow.app.training import curve

    done = trainer.fit()
    if trainer.rows:
        curve.draw(trainer.run, trainer.rows)
    summary.conclude(console, trainer, done)
    return done


def view(console: Console, quiet: bool) -> View:
    if quiet:
        return View()
    return LiveView(console) if sys.stdout.isatty() else PlainView(console)


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
