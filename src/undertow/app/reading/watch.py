"""A trained network, watched while it reads: what `inspect` shows and `doctor` judges.

``watch`` opens the data of a run, or other data in their place. The run's model reads them once under
``undertow.trace``, and backward is called on the run's own loss. ``read`` and ``observe`` are the two halves
of ``watch``, for showing the same sequences to several networks.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch.nn import functional

import undertow
from undertow.app.data.sounds.pair import read_pair
from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks.embedded import with_series
from undertow.app.data.tasks.forecast import features, objective_of, truth_of
from undertow.app.data.tasks.inputs import windows
from undertow.app.data.tasks.normalise import with_centre
from undertow.app.data.tasks.problem import ProblemTask
from undertow.app.data.tasks.sequences import pad, read_sequences
from undertow.app.data.tasks.split import validation_rows, window_starts
from undertow.app.data.tasks.symbols import CLASSES, SIGNALS, SYMBOLS
from undertow.app.data.tasks.targets import targets_of
from undertow.app.data.tasks.text import alphabet_of, excerpts, parts, stream
from undertow.app.data.texts.documents import read_documents
from undertow.app.errors import UserError
from undertow.app.runs.device import placed
from undertow.app.runs.facts import columns_of
from undertow.app.runs.folder import Run, fingerprint
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Batch, Objective
from undertow.app.words import counted
from undertow.problems import UNSCORED

Names = list[str]


@dataclass(frozen=True)
class Reading:
    """Sequences as a run's model reads them, and the names of their steps and inputs."""

    batch: Batch  # x [T,N] symbols or [T,N,C] features, y as of the task, lengths [N] if they differ
    steps: list[Names]  # N lists of T: characters, times, or the numbers of the steps
    inputs: Names  # C names of features; of a text the names of its symbols, by number
    about: str  # the source of the sequences, in a few words
    classes: Names  # of a classification, by number; otherwise empty
    symbols: list[Names] | None = None  # N lists of T, if each step is one of ``inputs``


@dataclass(frozen=True)
class Watched:
    """What a network did with a Reading, forward and backward."""

    run: Run
    reading: Reading
    model: SequenceModel  # in eval mode; its LSTM or RNN is called ``rnn``
    trace: undertow.Trace  # trace["rnn"].layers; backward has been called on ``loss``
    objective: Objective
    output: NDArray[np.float32]  # [T,N,outputs] if the head reads every step, else [N,outputs]
    loss: float  # the run's loss, a mean over predictions: nats, or squared error in units of its scale
    # [T,N] nats, whose mean is ``loss``, NaN at steps without a target; None: the only error is at the end
    loss_per_step: NDArray[np.float32] | None


def watch(run: Run, given: str | None = None, *, sequences: int = 1, steps: int | None = None) -> Watched:
    """Have the run's model read some sequences once, forward and backward.

    Args:
        run: The trained run.
        given: A file, or for a language model a text. None: the validation part of the run's own data.
        sequences: N, at least 1; there may be fewer.
        steps: T of a text, of a forecast's window or of a problem, at least 1; a text may have fewer. None:
            the run's own.

    Returns:
        The sequences, what the network did with them, and its loss.

    Raises:
        UserError: The input is missing or does not fit the run.
    """
    return observe(run, read(run, given, sequences=sequences, steps=steps))


def read(run: Run, given: str | None = None, *, sequences: int = 1, steps: int | None = None) -> Reading:
    """Read the sequences only, to show them to several networks.

    Args:
        run: As of ``watch``.
        given: As of ``watch``.
        sequences: As of ``watch``.
        steps: As of ``watch``.

    Returns:
        The sequences as the run's model reads them, with names for a person.

    Raises:
        UserError: The input is missing or does not fit the run.
    """
    run = replace(run, data=replace(run.data, steps=steps or run.data.steps))
    if run.data.task == "problem":
        if given is not None:
            raise UserError(f"--input {given}: {run.data.source} draws its own sequences; leave it out")
        return _read_problem(run, sequences)
    if run.data.task == "text":
        return _read_symbols(run, given, sequences)
    path = source(run, given)
    if run.data.task == "sound":
        return _read_sound(run, sequences)
    run.data = replace(run.data, time=run.facts["time"])
    reader = _read_windows if run.data.task == "forecast" else _read_labelled
    return reader(run, path, sequences, held_back=given is None)


def observe(run: Run, reading: Reading) -> Watched:
    """Let a run's model read sequences once under a trace, and call backward on the run's own loss.

    Args:
        run: The run whose model reads.
        reading: The sequences.

    Returns:
        The trace with gradients, the output and the loss.
    """
    model, device = run.load_model(), placed(run.device)
    objective = Objective.of_unit(run.unit)
    if run.model.residual:
        spreads = model.get_buffer("scale")[list(run.model.residual)].tolist()
        objective = objective_of(spreads, run.data.horizon)
    if run.model.quantity:
        scales = model.get_buffer("units.scale").tolist()
        sound = objective.kind == "esr"
        objective = replace(objective, scale=scales[0]) if sound else objective_of(scales, 1)
    batch = reading.batch.to(device)
    with undertow.trace(model.to(device)) as trace:
        output, _ = batch.through(model)
        loss = objective.loss(output, batch.y)
        torch.autograd.backward(loss)
    per_step = None
    if run.model.readout == "every":
        per_step = _by_step(output.detach(), batch.y, objective).cpu()
        trace.loss_per_step = per_step  # [T, N]
    return Watched(
        run, reading, model, trace, objective, output.detach().cpu().numpy(), loss.item(),
        None if per_step is None else per_step.numpy(),
    )  # fmt: skip


def _by_step(output: torch.Tensor, y: torch.Tensor, objective: Objective) -> torch.Tensor:
    """The loss at every step, [T,N]; NaN at steps without a target."""
    if objective.numbers:
        return ((output - y) / output.new_tensor(objective.scale)).square().mean(dim=-1)
    logits = output.movedim(-1, 1)
    loss = functional.cross_entropy(logits, y, reduction="none", ignore_index=UNSCORED)
    return loss.masked_fill(y == UNSCORED, torch.nan)


def source(run: Run, given: str | None) -> Path:
    """Find the file to read.

    Args:
        run: The run that reads it.
        given: The file that the user named. None: the file that the run was trained on.

    Returns:
        The path of a file that exists.

    Raises:
        UserError: The file is missing, or it is not given and has changed since the training.
    """
    path = Path(run.data.source if given is None else given)
    for each in (path, *(map(Path, run.data.further) if given is None else ())):
        if not each.exists():
            hint = ", but the run was trained on it; --input FILE reads another" if given is None else ""
            raise UserError(f"{each}: no such file{hint}")
    if given is None and fingerprint(path, *run.data.further)["sha256"] != run.source.get("sha256"):
        raise UserError(
            f"{path}: has changed since {run.folder} was trained, so the part held back is unknown; "
            f"--input {path} reads all of it"
        )
    return path


# ---------------------------------------------------------------------------------- task by task


def _read_symbols(run: Run, given: str | None, sequences: int) -> Reading:
    """Lanes of a text, side by side; a TEXT or a short file may give fewer or shorter ones."""
    alphabet = alphabet_of(run.facts)
    if given is None or _names_a_file(given):
        path = source(run, given)
        about = f"{path.name}, from its beginning"
        found = read_documents(path, run.data.symbols == "bytes", run.data, alphabet.encoding)
        texts, given_as = found.raws or found.texts, str(path)
        if given is None:
            texts = parts(found, run.data.validation, run.training.seed)[1]
            about = f"{path.name}, the part held back for validation"
    else:
        texts, given_as, about = [given], "--input", "a text of your own"
    text = stream(alphabet, texts, given_as)
    if text.begins.all():
        raise UserError(f"--input {given}: expected 2 symbols or more, got {len(text)}")
    batch = excerpts(text, sequences, run.data.steps)
    steps = [[alphabet.names[k] for k in lane] for lane in batch.x.T.tolist()]
    return Reading(batch, steps, alphabet.names, about, [], steps)


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than any name, or with a character that none may have
        return False


def _read_windows(run: Run, path: Path, sequences: int, held_back: bool) -> Reading:
    """Windows with known targets, spread evenly over the table and including the last one."""
    series = read_series(path, run.data, run.facts)
    columns, model = columns_of(run.facts), run.load_model()
    x = with_centre(
        torch.from_numpy(features(series, path, run.data)), model.get_buffer("centre")
    )  # [rows, C]
    x = with_series(x, series, run.facts["series"])
    inputs = columns.names + (["series"] if run.facts["series"] else [])
    steps, horizon = run.data.steps, run.data.horizon
    starts = window_starts(series.spans, run.data.first + horizon)
    target = np.stack([truth_of(series, path, name) for name in run.data.target], axis=1)  # [rows, K]
    ahead = run.data.first + np.arange(horizon)
    starts = starts[np.isfinite(target[starts[:, None] + ahead]).any(axis=(1, 2))]
    if held_back:
        starts = starts[validation_rows(series, run.data.validation)[starts + run.data.first]]
    if not len(starts):
        longest = max(stop - start for start, stop in series.spans)
        raise UserError(
            f"{path}: the longest series has {counted(longest, 'row')}; expected {steps + horizon} or more"
        )
    chosen = starts[np.linspace(len(starts) - 1, 0, min(sequences, len(starts))).round().astype(int)]
    y = torch.from_numpy(target[chosen[:, None] + ahead]).float().flatten(1)  # [N, horizon * K]
    batch = Batch(windows(x, torch.from_numpy(chosen), steps + run.model.ahead), y)
    times = pl.Series(range(len(x))) if series.time is None else series.table[series.time]
    labels = [str(value) for value in times.to_list()]
    part = ", the part held back for validation" if held_back else ""
    names = [labels[start : start + steps] for start in chosen]
    return Reading(batch, names, inputs, path.name + part, [])


def _read_labelled(run: Run, path: Path, sequences: int, held_back: bool) -> Reading:
    """Labelled sequences: held-back ones with classes in turn, others in the table's order."""
    data, columns = read_sequences(path, run.data, run.facts), columns_of(run.facts)
    assert data.labels is not None
    targets = targets_of(data.labels, data.lengths, path, run.data, run.facts.get("classes", []))
    every = torch.from_numpy(data.encode(path, columns, run.data.gaps))
    x = data.split(with_centre(every, run.load_model().get_buffer("centre")).numpy())
    chosen = torch.arange(len(x))
    if held_back:
        chosen = targets.split(run.data.validation, run.training.seed)[1]
        if targets.classes and not targets.every:
            chosen = chosen[_in_turn(targets.pad(chosen).tolist())]
    chosen = torch.tensor([k for k in chosen.tolist() if len(targets.known(torch.tensor([k])))][:sequences])
    if not len(chosen):
        raise UserError(f"{path}: no sequence has a label in {run.data.label!r}")
    features, lengths = pad([x[k] for k in chosen.tolist()])  # [T, N, C], [N]
    part = ", the part held back for validation" if held_back else ""
    names = [_numbered(int(length)) for length in lengths]
    return Reading(
        Batch(features, targets.pad(chosen), lengths),
        names,
        columns.names,
        path.name + part,
        targets.classes,
    )


def _in_turn(labels: list[int]) -> list[int]:
    """Order the places of ``labels`` so that every class comes once before any comes twice."""
    return sorted(range(len(labels)), key=lambda k: labels[:k].count(labels[k]))


def _read_sound(run: Run, sequences: int) -> Reading:
    """Windows of the part held back, each the loudest of an equal share of it, from a zero state."""
    pair, steps = read_pair(run.data), run.data.steps
    start = pair.held_back(run.data.validation)
    T = min(steps, len(pair.x) - start)
    N = max(1, min(sequences, (len(pair.x) - start) // T))
    energy = np.cumsum(np.r_[0, np.square(pair.x, dtype=np.float64)])
    shares = np.linspace(start, len(pair.x), N + 1).astype(np.int64)
    starts = [a + int(np.argmax(energy[a + T : b + 1] - energy[a : b + 1 - T])) for a, b in pairwise(shares)]
    x, y = (
        torch.from_numpy(each[np.array(starts) + np.arange(T)[:, None]][..., None])
        for each in (pair.x, pair.y)
    )
    names = [[f"{(first + k) / pair.rate:.6f} s" for k in range(T)] for first in starts]
    about = f"{Path(run.data.source).name}, the part held back for validation"
    return Reading(Batch(x, y), names, ["sound"], about, [])


def _read_problem(run: Run, sequences: int) -> Reading:
    """Sequences of the validation stream, not used in training, each up to its last scored step."""
    task = ProblemTask(run.data, sequences, run.training.seed)
    first = next(task.validation_batches())
    batch = Batch(first.x[:, :sequences], first.y[:sequences])
    if run.model.readout == "every":
        batch = _up_to_the_end(batch.x, first.y[:, :sequences])
    inputs = SYMBOLS.get(run.data.source, SIGNALS)[: batch.x.shape[-1]]
    classes = CLASSES.get(run.data.source, _numbered(run.model.outputs))
    if task.problem.task == "regression":
        classes = []
    T, N = batch.x.shape[:2]
    given = "T =" if run.data.steps == T else "--steps"  # some problems set lengths of their own
    about = f"{run.data.source}, {given} {run.data.steps}, drawn afresh"
    lengths = [T] * N if batch.lengths is None else batch.lengths.tolist()
    symbols = None
    if run.data.source in SYMBOLS:
        read = batch.x.argmax(-1).T.tolist()  # N lists of T
        symbols = [[inputs[k] for k in lane[:length]] for lane, length in zip(read, lengths, strict=True)]
    return Reading(batch, [_numbered(length) for length in lengths], inputs, about, classes, symbols)


def _up_to_the_end(x: torch.Tensor, y: torch.Tensor) -> Batch:
    """Cut x [T,N,C] and y [T,N] after each sequence's last scored step: what follows is padding."""
    ends = ((y != UNSCORED) * torch.arange(1, len(y) + 1)[:, None]).amax(dim=0)  # [N]
    T = int(ends.max())
    return Batch(x[:T], y[:T], None if bool((ends == T).all()) else ends)


def _numbered(n: int) -> Names:
    return [str(k) for k in range(n)]
