"""``undertow info``: what is in a run folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertow.app.runs import interval, members, shapes
from undertow.app.runs.objective import Objective, perplexity
from undertow.app.runs.selection import best_of
from undertow.app.words import counted

if TYPE_CHECKING:
    from undertow.app.runs.folder import Run


def info(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Say what is in a run folder: task, data, model, training, result."""
    from rich.table import Table

    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_run
    from undertow.app.words import line

    opened = open_run(run)
    grid = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    sections = {"run": _about_run, "data": _about_data, "model": _about_model, "training": _about_training}
    for heading, about in (sections | {"result": _about_result}).items():
        for number, each in enumerate(about(opened)):
            grid.add_row("" if number else heading, line(each))
    Terminal().print(grid)


def _about_run(run: "Run") -> list[str]:
    present = [path.name for path in sorted(run.folder.iterdir()) if not path.name.startswith(".")]
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return [str(run.folder), f"begun {run.created}", versions, f"files: {', '.join(present)}"]


def _about_data(run: "Run") -> list[str]:
    data = run.data
    to = f" to {data.further[0]}" if data.task == "sound" else ""
    lines = [f"{data.task}: {data.source}{to}"]
    if run.source:
        lines.append(f"{run.source['bytes']:,} bytes, SHA-256 {run.source['sha256'][:16]}...")
    options = {
        "target": " and ".join(data.target) or None,
        "time": data.time or run.facts.get("time"),
        "group": " and ".join(data.group) or None,
        "known": " and ".join(data.known) or None,
        "simulated": "from the other columns" if data.simulate else None,
        "head": data.head if data.task == "forecast" and data.head != "direct" else None,
        "sequence": data.sequence,
        "label": f"{data.label} of each {data.per}" if data.label else None,
        "window": data.steps or None,
        "horizon": data.horizon if data.task == "forecast" else None,
        "validation": data.validation or None,
        "delay": data.delay,
        "sample rate": run.facts.get("sample_rate"),
        "classes": ", ".join(run.facts.get("classes", [])) or None,
    }
    lines.append(", ".join(f"{name} {value}" for name, value in options.items() if value is not None))
    if "columns" in run.facts:
        from undertow.app.runs.facts import columns_of

        lines.append(columns_of(run.facts).describe())
    return [line for line in lines if line]


def _about_model(run: "Run") -> list[str]:
    if members.is_ensemble(run):
        each = run.describe(shapes.count(run.model))
        return [f"an ensemble of {run.training.members}, each: {each}", f"dropout {run.model.dropout:g}"]
    return [run.describe(run.count_parameters()), f"dropout {run.model.dropout:g}"]


def _about_training(run: "Run") -> list[str]:
    if members.is_ensemble(run):
        return _about_members(run)
    training = run.training
    rows = run.read_metrics()
    started = [f"started from the weights of {run.init_from['run']}"] if "run" in run.init_from else []
    if not rows:
        return [*started, "no evaluation yet"]
    last = rows[-1]
    return [
        *started,
        f"{last['epoch']:g} of {counted(training.epochs, 'epoch')}, {counted(last['step'], 'step')} "
        f"in {last['seconds']:.0f} s, seed {training.seed}",
        f"batch size {training.batch_size}, learning rate {training.lr:g}, precision {training.precision}",
        f"gradient norm {last['grad_norm']:.3g}, {100 * last['clipped']:.0f}% of steps clipped at "
        f"{training.clip:g} (since the evaluation before the last)",
    ]


def _about_members(run: "Run") -> list[str]:
    """How many members are trained, and a line for each that has begun."""
    lines, training = [], run.training
    for k in range(1, training.members + 1):
        if members.plan(run, k).path("config.json").exists():
            rows = members.plan(run, k).read_metrics()
            steps = counted(rows[-1]["step"] if rows else 0, "step")
            lines.append(f"member {k}: {steps}, seed {training.seed + k - 1}")
    state = "all trained" if members.scores(run) else "not all trained yet"
    return [f"{counted(training.members, 'member')}, {state}", *lines]


def _about_result(run: "Run") -> list[str]:
    objective, scores = Objective.of_unit(run.unit), members.scores(run)
    rows = run.read_metrics()
    if scores is not None:
        mine = scores.ensemble
        each = ", ".join(map(objective.show, scores.members))
        lines = [f"{objective.show(mine)} on the validation part", f"its members: {each}"]
    elif rows:
        best = best_of(run.training.select, rows)
        mine = best["validation"]
        lines = [
            f"{objective.show(mine)}{perplexity(best['validation_loss'], run.facts)} "
            f"on the validation part, best at epoch {best['epoch']:g} "
            f"(training part then: {objective.show(best['train'])})"
        ]
    else:
        return []
    for name, value in run.baselines.items():
        lines.append(f"{name}: {objective.show(value)}, {objective.verdict(mine, value)}")
    if (found := interval.about(run.folder)) is not None:
        lines.append(found.describe(run.data.target))
    return lines
