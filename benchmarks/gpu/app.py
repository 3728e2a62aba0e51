"""The commands on the GPU: no step of `train` waits, trainings repeat, runs are read there; and times."""

import math
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from functools import partial
from io import StringIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import undertow
from gpu.setting import DEVICE, DRY, Row, Run, proved
from gpu.timing import by_the_cpu, raced, wait, without_waiting
from undertow.app.runs import config
from undertow.app.training import session
from undertow.app.training.task_of import task_of
from undertow.app.training.trainer import Trainer
from undertow.app.verbs import doctor, inspect

PRECISIONS = ["32-true", "bf16-mixed"] if DRY else ["32-true", "bf16-mixed", "16-mixed", "64-true"]
STEPS = 2 if DRY else 20
Given = dict[str, Any]


def sources(folder: Path) -> Iterator[tuple[str, str, Given]]:
    """A table and a text, with options."""
    rows, draw = 200 if DRY else 20_000, random.Random(0)
    level = [math.sin(k / 5) + 0.1 * draw.gauss(0, 1) for k in range(rows)]
    (folder / "waves.csv").write_text("level\n" + "\n".join(f"{value:.4f}" for value in level))
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs"]
    (folder / "words.txt").write_text(" ".join(draw.choice(words) for _ in range(rows)))
    size = {"hidden_size": 8, "batch_size": 8} if DRY else {}
    quick = {"interval": 0.0} if DRY else {}  # whose fit takes a second
    yield "forecast", str(folder / "waves.csv"), size | quick | {"target": ("level",), "steps": 20}
    yield "text", str(folder / "words.txt"), size | {"steps": 16 if DRY else 64}


def trainer_of(source: str, given: Given, folder: Path) -> Trainer:
    """A training of one epoch, on the device."""
    given = given | {"device": DEVICE, "epochs": 1}
    kind, _ = task_of(source, given)
    trainer = session._planned(source, config.with_defaults(kind, given), folder, None, session.ALONE)[2]
    assert trainer is not None
    return trainer


def steps_of(trainer: Trainer, count: int = STEPS) -> Run:
    """Some steps of a training, as its loop does them between two readings."""
    trainer.task.to(torch.device(DEVICE))
    batches = cycle(trainer.task.train_batches(0))

    def run() -> None:
        for batch in islice(batches, count):
            trainer.progress.add_step(trainer.learner.learn(batch))

    return run


class Theirs(nn.Module):
    """The network of a user of torch, of the same size; without what a forecast has beside its layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(model.symbols, model.width) if model.symbols else None
        width = model.width if model.symbols else model.inputs + 2 * len(model.residual)
        self.rnn = nn.LSTM(width, model.hidden_size, model.num_layers, dropout=model.dropout)
        self.head = nn.Linear(model.hidden_size, model.outputs)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x if self.embedding is None else self.embedding(x))
        return self.head(y if self.embedding is not None else y[-1])


def their_steps(trainer: Trainer) -> Run:
    """The loop of a user of torch on batches of the CPU: copies, a step, and the loss that is logged."""
    net = Theirs(trainer.run.model).to(DEVICE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    trainer.task.to(None)
    batches = cycle([(batch.x, batch.y) for batch in trainer.task.train_batches(0)])

    def run() -> None:
        for given in islice(batches, STEPS):
            x, y = (each.to(DEVICE) for each in given)
            output = net(x)
            loss = (
                functional.mse_loss(output, y)
                if y.is_floating_point()
                else functional.cross_entropy(output.flatten(0, -2), y.flatten())
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return run


def trained(source: str, given: Given, folder: Path) -> list[Any]:
    """The metrics of a whole training, without its times."""
    trainer = trainer_of(source, given, folder)
    trainer.run.folder = folder
    folder.mkdir(exist_ok=True)
    trainer.fit()
    assert trainer.run.load_model().head.weight.is_cpu  # as another machine reads it
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.progress.rows]


def read(source: str, folder: Path, given: Given) -> Row:
    """Let runs be read by every command, there and on the CPU."""
    kept, options = [], {"epochs": 1, "device": DEVICE, "quiet": True, "folder": folder, "overwrite": True}
    for cell in ("lstm",) if DRY else ("rnn", "lstm"):
        run = undertow.train(source, **given, **options, cell=cell)
        for verb in (inspect.inspect, doctor.doctor):
            with redirect_stdout(StringIO()):
                verb(folder, device=DEVICE)
        scores = [run.evaluate(device=kind) for kind in ("cpu", DEVICE)]
        column = "rmse" if "rmse" in scores[0].columns else "bits_char"
        kept.append([float(each[column][0]) for each in scores])
    if column == "rmse":
        here, there = (run.predict(source, device=kind)["prediction"].to_numpy() for kind in ("cpu", DEVICE))
        kept.append([float(np.abs(each).mean()) for each in (here, there)])
    else:
        assert len(run.generate("the", length=20, device=DEVICE)) == 23
    return {"ok": all(math.isclose(*each, rel_tol=5e-3) for each in kept), "cpu, gpu": kept}


def app() -> Iterator[Row]:
    """Trainings of a table and of a text."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, source, given in sources(folder):
            for precision in PRECISIONS:
                what = {"task": task, "precision": precision, "what": "no step waits"}
                how = given | {"precision": precision}
                yield proved(what, partial(_without_waiting, source, how, folder))
            rows = [trained(source, given, folder / f"{task}-{k}") for k in range(2)]
            yield {"task": task, "what": "two trainings are the same", "ok": rows[0] == rows[1]}
            what = {"task": task, "what": "read as on the CPU"}
            with by_the_cpu() if DRY else nullcontext():  # the interpreter would take half a minute
                yield proved(what, partial(read, source, folder / "run", given))
            trainer = trainer_of(source, given, folder)
            ways = {"torch": their_steps(trainer), "ours": steps_of(trainer)}
            times = {who: seconds / STEPS for who, seconds in raced(ways, 10).items()}
            yield {"task": task, "us_a_step": {who: seconds * 1e6 for who, seconds in times.items()}}


def _without_waiting(source: str, given: Given, folder: Path) -> Row:
    """Steps in one precision; 64-true is torch's own operators, 16-mixed a scaler as well."""
    trainer = trainer_of(source, given, folder)
    with warnings.catch_warnings(record=True) as said:
        without_waiting(steps_of(trainer))()
        wait()
    trainer.progress.read()
    assert trainer.progress.diverged is None, "the loss is not finite"
    return {"warned": sorted({str(each.message)[:200] for each in said})}
