"""`undertow train` and the loop that a user of torch writes: the same data and network, by turns.

python benchmarks/train.py --forecast weather.csv --classes motions.csv --text shakespeare.txt [--repeats 5]
    [--precision bf16-mixed] [--torch-precision 32-true] [--clock processor]

The loop of torch has nn.LSTM, a DataLoader, AdamW and a validation after each epoch; its data are normalised
beforehand. Each round has another seed, and the median errors of both are about the same, or nothing is
reported. Ours writes its run folder meanwhile.
Reading the file and starting the process do not count. A text is trained for a part of an epoch, and
validated on as large a part.
On a busy machine --clock processor counts the time on the processor, in one thread: without the turns of
other programs, and without waiting for the disk.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

import record
from undertow.app.bench.speed import spread
from undertow.app.bench.view import duration
from undertow.app.loop import warm_up_then_cosine
from undertow.app.runs import config
from undertow.app.runs.objective import Batch
from undertow.app.training import session
from undertow.app.training.progress import LOWEST_RATE, WARM_UP
from undertow.app.training.task_of import task_of
from undertow.app.training.trainer import Trainer
from undertow.app.training.view import View
from undertow.app.verbs.bench import machine

OPTIONS = {  # what is trained -> its options, epochs, and the batches of an epoch if not all
    "forecast": ({"target": ("temp_max",)}, 10, None),
    "classes": ({"sequence": "sequence", "label": "label"}, 10, None),
    "text": ({}, 1, 40),
}
VALIDATION_BATCH = 512
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "processor": process_time}
ALIKE = 0.15  # largest difference of the two validation losses, as a share of the smaller one


class Network(nn.Module):
    """The network of `undertow train`, of torch's modules."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        width = model.width or model.inputs
        self.embedding = nn.Embedding(model.symbols, width) if model.symbols else None
        between = model.dropout if model.num_layers > 1 else 0.0
        self.linear = nn.Linear(model.autoregression, model.outputs, bias=False) if model.residual else None
        self.rnn = nn.LSTM(
            width + 2 * len(model.residual),
            model.hidden_size,
            model.num_layers,
            dropout=between,
            bidirectional=model.bidirectional,
        )
        self.dropout = nn.Dropout(model.dropout)
        states = model.hidden_size * model.directions
        self.head = nn.Linear(2 * states if model.readout == "mean-max" else states, model.outputs)
        self.readout, self.noise = model.readout, model.noise

    def forward(self, x: Any, state: Any = None) -> Any:
        if self.embedding is not None:
            x = self.embedding(x)
        moves = None
        if self.linear is not None:  # the last feature is the window in its own unit, for the linear part
            x, moves = x[..., :-1], x[..., -1]
        y, state = self.rnn(x, state)
        output = self.head(self.dropout(self._read_out(y, state)))
        return output if self.linear is None else output + self.linear(moves.T), state

    def _read_out(self, y: Any, state: Any) -> Tensor:
        if self.readout != "mean-max":
            return y if self.readout == "every" else state[0][-1]
        if not isinstance(y, PackedSequence):
            return torch.cat([y.mean(0), y.amax(0)], dim=-1)
        y, lengths = pad_packed_sequence(y)
        beyond = (torch.arange(len(y))[:, None] >= lengths)[..., None]
        largest = y.masked_fill(beyond, -torch.inf).amax(0)
        return torch.cat([y.sum(0) / lengths[:, None], largest], dim=-1)


def examples(batches: Iterable[Batch]) -> list[tuple[Tensor, Tensor]]:
    """Each sequence [T,C] with its target."""
    found = []
    for batch in batches:
        T, N = batch.x.shape[:2]
        lengths = [T] * N if batch.lengths is None else batch.lengths.tolist()
        found += [(batch.x[:length, n].clone(), batch.y[n]) for n, length in enumerate(lengths)]
    return found


def collate(items: list[tuple[Tensor, Tensor]]) -> Batch:
    x, y = zip(*items, strict=True)
    lengths = torch.tensor([len(each) for each in x])
    even = bool((lengths == lengths[0]).all())
    return Batch(pad_sequence(list(x)), torch.stack(y), None if even else lengths)


def prepared(batches: list[Batch], task: Any) -> list[tuple[Tensor, Tensor]]:
    """Windows in their own unit; the target in it too, with the unit in that of the loss."""
    found = []
    for batch in batches:
        window = batch.window
        assert window is not None
        x = torch.cat([batch.x, window.moves], dim=-1)
        y = (batch.y - window.last) / window.size
        y = torch.stack([y, window.size / task.objective.scale], dim=-1)
        found += [(x[:, n].clone(), y[n]) for n in range(len(y))]
    return found


class Theirs:
    """The loop of a user of torch, on the examples that ours trains on."""

    def __init__(self, trainer: Trainer, epochs: int, precision: str) -> None:
        run, task, self.epochs = trainer.run, trainer.task, epochs
        torch.manual_seed(run.training.seed)
        self.net, self.is_text = Network(run.model), run.data.task == "text"
        names = dict(self.net.named_parameters())
        own = {name: value for name, value in trainer.plain.state_dict().items() if name in names}
        self.net.load_state_dict(own, strict=False)  # but the linear part, whose weights start as zeros
        if self.net.linear is not None:
            nn.init.zeros_(self.net.linear.weight)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=run.training.lr)
        self.half = precision == "bf16-mixed"
        self.peak, self.step, self.steps = run.training.lr, 0, trainer.progress.total_steps
        self.train: Any = list(task.train_batches(0))
        self.validation: Any = list(task.validation_batches())
        if not self.is_text:
            parts = [examples(part) for part in (self.train, self.validation)]
            if run.data.task == "forecast":
                parts = [prepared(part, task) for part in (self.train, self.validation)]
            sizes = run.training.batch_size, VALIDATION_BATCH
            self.train, self.validation = (
                DataLoader(part, n, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]
                for part, n, shuffle in zip(parts, sizes, (True, False), strict=True)
            )

    def loss(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        x: Any = batch.x
        if self.net.training and self.net.noise:
            x = x + self.net.noise * torch.randn_like(x)
        if batch.lengths is not None:
            x = pack_padded_sequence(x, batch.lengths, enforce_sorted=False)
        output, state = self.net(x, state if batch.carried else None)
        if batch.y.is_floating_point():
            target, size = batch.y.unbind(-1)
            return ((output - target) * size).square().mean(), state
        return functional.cross_entropy(output.flatten(0, -2), batch.y.flatten()), state

    def fit(self) -> float:
        """Train. Returns the least validation loss."""
        return min(self._epoch() for _ in range(self.epochs))

    def _epoch(self) -> float:
        state = None
        for batch in self.train:
            with self._precision():
                loss, state = self.loss(batch, state)
            done, rising = self.step / self.steps, min(WARM_UP, 1 + self.steps // 10)
            rate = warm_up_then_cosine(self.peak, self.step, rising, done, LOWEST_RATE)
            self.optimizer.param_groups[0]["lr"] = rate
            self.step += 1
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            state = tuple(tensor.detach() for tensor in state)
            loss.item()  # people log it
        return self._validate()

    def _precision(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext()

    @torch.no_grad()
    def _validate(self) -> float:
        self.net.eval()
        total, count, state = 0.0, 0, None
        for batch in self.validation:
            with self._precision():
                loss, state = self.loss(batch, state)
            total, count = total + loss.item() * batch.y.numel(), count + batch.y.numel()
        self.net.train()
        return total / count


class Ours:
    """`undertow train`, from the first step to the end."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.view = trainer, View(Console(quiet=True), trainer.progress)

    def fit(self) -> float:
        """Train. Returns the least validation loss."""
        self.trainer.fit(self.view)
        return float(self.trainer.progress.at.best["validation_loss"])


def trainer_of(source: Path, name: str, precision: str, folder: str, seed: int = 0) -> Trainer:
    """A training of a file with the default options."""
    own, epochs, batches = OPTIONS[name]
    given = own | {"epochs": epochs, "patience": epochs + 1, "precision": precision, "seed": seed}
    kind, _ = task_of(str(source), given)
    options = config.with_defaults(kind, given)
    data = session._pick(config.DataConfig, options | {"source": str(source.resolve())})
    training = session._pick(config.TrainConfig, options)
    task: Any = session._prepared(data, training)
    if batches is not None:
        every, late = task.train_batches, task.validation_batches
        share = batches * task.evaluations / task.steps_per_epoch()
        windows = math.ceil(share * sum(1 for _ in late()))
        task.train_batches = lambda epoch: islice(every(epoch), batches)
        task.validation_batches = lambda: islice(late(), windows)
        task.steps_per_epoch, task.evaluations = lambda: batches, 1
    data = replace(data, **task.facts.settled)
    run = session._new_run(data, session._model_config(task, options), training, task, Path(folder))
    return Trainer(run, task)


def measure(
    source: Path, name: str, precisions: tuple[str, str], clock: Clock, repeats: int
) -> dict[str, Any]:
    """Seconds an epoch with its validation, of both. Raises AssertionError if they learn differently."""
    epochs, (precision, of_torch) = OPTIONS[name][1], precisions
    times: dict[str, list[float]] = {"ours": [], "torch": []}
    losses: dict[str, list[float]] = {"ours": [], "torch": []}
    for seed in range(repeats):
        for who in ("ours", "torch"):
            with tempfile.TemporaryDirectory() as folder:
                trainer = trainer_of(source, name, precision, folder, seed)
                contestant = Ours(trainer) if who == "ours" else Theirs(trainer, epochs, of_torch)
                began = clock()
                losses[who].append(contestant.fit())
                times[who].append((clock() - began) / epochs)
    mine, theirs = (median(losses[who]) for who in ("ours", "torch"))
    if abs(mine - theirs) > ALIKE * min(mine, theirs):
        raise AssertionError(f"{name}: validation losses differ: {mine:.4g} and {theirs:.4g}")
    ratios = [theirs / mine for mine, theirs in zip(times["ours"], times["torch"], strict=True)]
    return {
        "seconds": {who: spread(found) for who, found in times.items()},
        "ratio": spread(ratios),
        "losses": {"ours": mine, "torch": theirs},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name in OPTIONS:
        options.add_argument(f"--{name}", type=Path, help="the file")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--precision", default="32-true")
    options.add_argument("--torch-precision", help="of the loop of torch, if another")
    options.add_argument("--clock", choices=CLOCKS, default="wall")
    chosen = options.parse_args()
    precisions = chosen.precision, chosen.torch_precision or chosen.precision
    torch.set_num_threads(chosen.threads)
    how = f"threads: {chosen.threads}, precision: {' and '.join(precisions)}, {chosen.clock} time"
    print(f"{machine()}, {how}; an epoch, medians\n")
    found = {}
    for name in OPTIONS:
        if (source := getattr(chosen, name)) is None:
            continue
        row = found[name] = measure(source, name, precisions, CLOCKS[chosen.clock], chosen.repeats)
        ours, torchs = (duration(row["seconds"][who][1]) for who in ("ours", "torch"))
        low, middle, high = row["ratio"]
        print(f"{name:10} undertow {ours:>8}  torch {torchs:>8}  ratio {middle:.2f} ({low:.2f}-{high:.2f})")
    figures = {
        "machine": machine(),
        "threads": chosen.threads,
        "precision": precisions,
        "clock": chosen.clock,
    }
    record.write("train", figures | {"rows": found})


if __name__ == "__main__":
    main()
