"""Trainings on a GPU, as far as a CPU can prove it: the same numbers, and no step that waits."""

import math
from dataclasses import replace

import polars as pl
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import sounds
from far import META, layer, numbers_are_one
from inputs import CLASSIFY, FORECAST, TEXT, changed, walk_table, wave_table
from undertow import LSTM
from undertow.app import loop
from undertow.app.data.tasks import forecast, problem, sequences, sound, text, windows
from undertow.app.runs import near
from undertow.app.runs.folder import open_run
from undertow.app.runs.objective import Objective
from undertow.app.runs.selection import ValidationScore
from undertow.app.training import curve, ensemble, intervals, progress, targets
from undertow.app.training import trainer as training
from undertow.kernels import dispatch

DAYS = changed(FORECAST, ("--batch-size", 16, "--epochs", 2, "--dropout", 0.1, "--interval", 0))
STEPS = ("--sequence", "id", "--label", "sign", "--per", "step", "--hidden-size", 8)
PLANS = {
    "text": ("rhyme.txt", *TEXT, "--epochs", 1),
    "documents": ("rhymes", *TEXT, "--epochs", 1),
    "forecast": ("waves.csv", *DAYS),
    "decoder": ("waves.csv", *changed(DAYS, ("--horizon", 3, "--head", "decoder", "--embed-group"))),
    "several": ("waves.csv", *DAYS, "--target", "other"),
    "simulate": ("waves.csv", *changed(DAYS, ("--target", "other", "--simulate"))),
    "classify": ("walks.csv", *CLASSIFY, "--epochs", 3, "--class-weights", "balanced", "--select", "f1"),
    "pooled": ("walks.csv", *CLASSIFY, "--epochs", 3, "--readout", "attention", "--bidirectional"),
    "regress": ("walks.csv", *changed(CLASSIFY, ("--label", "end", "--epochs", 3))),
    "steps": ("steps.csv", *STEPS, "--epochs", 3),
    "sound": ("clean.wav", "amp.wav", *sounds.SOUND, "--epochs", 1),
    "problem": ("two-sequence", "--steps", 8, "--hidden-size", 4, "--batch-size", 4, "--epochs", 1),
}  # fmt: skip
TABLES = [name for name, plan in PLANS.items() if "waves.csv" in plan]
EACH = pytest.mark.parametrize(
    ("plan", "most"), [*((name, windows.MOST_KEPT) for name in PLANS), *((name, 0) for name in TABLES)]
)
RESULTS = ("step", "train", "validation", "train_loss", "validation_loss", "cost", "grad_norm", "clipped")


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(problem, "BATCHES", 6)
    monkeypatch.setattr(problem, "VALIDATION", 250)
    monkeypatch.setattr(curve, "draw", lambda *_: None)  # it takes longer than the training
    rhyme = "the quick brown fox jumps over the lazy dog.\n"
    (tmp_path / "rhyme.txt").write_text(rhyme * 40)
    (tmp_path / "rhymes").mkdir()
    for name, times in (("a.txt", 30), ("b.txt", 14)):
        (tmp_path / "rhymes" / name).write_text(rhyme * times)
    level = pl.col("level")
    table = wave_table(110).with_columns(other=level.shift(2).fill_null(0.0) + 1)
    table.write_csv(tmp_path / "waves.csv")
    x, walks = pl.col("x"), walk_table(44)
    walks.with_columns(end=x.last().over("id").round(3)).write_csv(tmp_path / "walks.csv")
    high, low = pl.when(x > 1).then(pl.lit("high")), pl.lit("low")  # between them no label
    walks.with_columns(sign=high.when(x < -3).then(low)).write_csv(tmp_path / "steps.csv")
    clean = sounds.plucked(1)
    sounds.write(tmp_path / "clean.wav", clean)
    sounds.write(tmp_path / "amp.wav", sounds.driven(clean))


def metrics(folder):
    return [[row[name] for name in RESULTS] for row in open_run(folder).read_metrics()]


@EACH
def test_the_way_of_a_gpu_gives_the_same_training(undertow, tmp_path, monkeypatch, plan, most):
    monkeypatch.setattr(windows, "MOST_KEPT", most)
    assert undertow("train", *PLANS[plan], "--folder", "near", "-q").code == 0
    monkeypatch.setattr(near, "NEAR", ())
    done = undertow("train", *PLANS[plan], "--folder", "far", "-q")
    assert done.code == 0, done.err
    for mine, other in zip(metrics(tmp_path / "far"), metrics(tmp_path / "near"), strict=True):
        assert mine == pytest.approx(other, rel=2e-4, abs=1e-5, nan_ok=True)


def test_where_no_kernel_takes_lengths_sequences_are_packed(undertow, tmp_path, monkeypatch):
    assert undertow("train", *PLANS["pooled"], "--folder", "near", "-q").code == 0
    monkeypatch.setattr(near, "NEAR", ())
    monkeypatch.setattr(LSTM, "serves_lengths", lambda self, x: False)
    assert undertow("train", *PLANS["pooled"], "--folder", "far", "-q").code == 0
    for mine, other in zip(metrics(tmp_path / "far"), metrics(tmp_path / "near"), strict=True):
        assert mine == pytest.approx(other, rel=2e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("kind", ["accuracy", "bits"])
def test_a_batch_without_targets_teaches_nothing(monkeypatch, kind):
    monkeypatch.setattr(near, "NEAR", ())
    output = torch.randn(4, 3, requires_grad=True)
    Objective(kind, "right").loss(output, torch.full((4,), -100)).backward()
    assert not output.grad.any()
    output = torch.randn(4, 1, requires_grad=True)
    Objective("rmse", "RMSE").loss(output, torch.full((4, 1), math.nan)).backward()
    assert not output.grad.any()


# -- waiting --------------------------------------------------------------------------------------
#
# Tensors on the device meta have no numbers: who asks for one raises. So do masks as indices and copies to
# the CPU, whose size or time the device would have to tell. Copies the other way are counted.


class Copies(TorchDispatchMode):
    """What comes from the CPU to the device: copies for which the CPU waits, and mixed operations."""

    def __init__(self):
        super().__init__()
        self.found, self.sent = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        given, made = (
            [t for t in flat(part) if isinstance(t, torch.Tensor)] for part in ((args, kwargs), result)
        )
        if not any(t.is_meta for t in (*given, *made)):
            return result
        name = function.overloadpacket._qualified_op_name
        copies = name in ("aten::_to_copy", "aten::copy_")
        if copies and given[-1].is_cpu:
            self.sent += given[-1].numel()
            if not (kwargs.get("non_blocking") or (name == "aten::copy_" and True in args)):
                self.found.append(f"{name} {list(given[-1].shape)}")
        elif name == "aten::lift_fresh" or any(t.is_cpu and t.dim() for t in given):
            self.found.append(f"{name} {[(t.device.type, list(t.shape)) for t in given]}")
        return result


class Lists(TorchFunctionMode):
    """Tensors that are made on the device of numbers in a list: on a GPU these are copies that wait."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and result.is_meta
        if made and not isinstance(args[-1], torch.Tensor):
            self.found().append(f"{function.__name__}{args}")
        return result


def flat(part):
    return torch.utils._pytree.tree_leaves(part)


@pytest.fixture
def on_meta(monkeypatch):
    """Trainings lie on the device meta, what is read is 1. Returns what came from the CPU by step."""
    copies, by_step = Copies(), []
    run, learn = loop.Loop._run, loop.Learner.learn

    def ones(rows):
        return [tuple(1.0 if isinstance(value, torch.Tensor) else value for value in row) for row in rows]

    def watched(self, *given):
        with copies, Lists(lambda: copies.found):
            run(self, *given)

    def counted(self, batch):  # all that came since the step before: the batch, hooks, an evaluation
        step = learn(self, batch)
        by_step.append((copies.found, copies.sent))
        copies.found, copies.sent = [], 0
        return step

    for module in (training, progress):
        monkeypatch.setattr(module, "read", ones)
    monkeypatch.setattr(training, "device_of", lambda config: META)
    monkeypatch.setattr(training.Trainer, "save", lambda self: None)
    monkeypatch.setattr(training.Trainer, "_write_measured", lambda self: None)
    monkeypatch.setattr(ValidationScore, "cost", lambda *_: 1.0)
    monkeypatch.setattr(loop.Loop, "_run", watched)
    monkeypatch.setattr(loop.Learner, "learn", counted)
    monkeypatch.setattr(dispatch, "layer", layer)
    monkeypatch.setattr(dispatch, "knows", lambda *_: True)
    return by_step


@EACH
def test_no_step_waits_and_data_stay_on_the_device(undertow, on_meta, monkeypatch, plan, most):
    monkeypatch.setattr(windows, "MOST_KEPT", most)
    undertow("train", *PLANS[plan], "--folder", "run", "-q")
    assert len(on_meta) > 4
    later = on_meta[2:]  # the objective's constants are copied when the first step is counted
    assert [found for found, _ in later] == [[]] * len(later)
    if plan != "problem":  # whose sequences are drawn on the CPU
        assert sorted(sent for _, sent in on_meta)[len(on_meta) // 2] <= 64  # lengths


@pytest.mark.parametrize("plan", ["forecast", "documents", "steps", "sound"])
def test_no_step_waits_for_data_without_room_on_the_device(undertow, on_meta, monkeypatch, plan):
    for module in (windows, forecast, text, sequences, sound):
        monkeypatch.setattr(module, "fits", lambda *_: False)
    undertow("train", *PLANS[plan], "--folder", "run", "-q")
    assert len(on_meta) > 4
    assert all(not found and sent for found, sent in on_meta[1:])


def test_a_step_that_waits_would_be_seen(undertow, on_meta, monkeypatch):
    before = loop.Learner.backward

    def waiting(self, loss):
        before(self, loss * torch.tensor([1.0, 2.0]).to(loss.device).sum())

    monkeypatch.setattr(training.FabricLearner, "backward", waiting)
    undertow("train", *PLANS["text"], "--folder", "run", "-q")
    assert all(found for found, _ in on_meta)
    del on_meta[:]
    monkeypatch.setattr(training.FabricLearner, "backward", lambda self, loss: loss.new_tensor([1.0]) * loss)
    undertow("train", *PLANS["text"], "--folder", "second", "-q")
    assert all(found for found, _ in on_meta)
    monkeypatch.setattr(training.FabricLearner, "backward", lambda self, loss: loss.item())
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        undertow("train", *PLANS["text"], "--folder", "other", "-q")


def test_what_follows_a_training_is_computed_there(undertow, monkeypatch):
    """Intervals, the score of an ensemble and the error of each target: they read all validation data."""
    calls, found, here = [], {}, dispatch.layer

    def computed(call):
        calls.append(call.x.device.type)
        return layer(call) if call.x.is_meta else here(call)

    def watched(name, function):
        def run(*given):
            del calls[:]
            result = function(*given)
            found[name] = set(calls)
            return result

        return run

    numbers_are_one(monkeypatch)
    monkeypatch.setattr(dispatch, "layer", computed)
    monkeypatch.setattr(intervals, "STEPS", 2)
    for module, name in ((intervals, "add"), (ensemble, "score"), (targets, "errors")):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
        monkeypatch.setattr(module, "device_of", lambda config: META)
    options = changed(DAYS, ("--interval", 0.9, "--epochs", 1, "--members", 2))
    done = undertow("train", "waves.csv", *options, "--target", "other", "--folder", "run", "-q")
    assert done.code == 0, done.err
    assert found == {"add": {"meta"}, "score": {"meta"}, "errors": {"meta"}}


# -- what is read late -----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_told_with_its_own_step(undertow, monkeypatch):
    monkeypatch.setattr(near, "NEAR", ())
    monkeypatch.setattr(training, "READ_EVERY", 1e9)
    learn, count = loop.Learner.learn, iter(range(100))

    def third(self, batch):
        step = learn(self, batch)
        return replace(step, loss=step.loss + math.nan) if next(count) == 2 else step

    monkeypatch.setattr(loop.Learner, "learn", third)
    done = undertow("train", *PLANS["text"], "--folder", "run", "-q")
    assert done.code == 2
    assert "the loss is nan at step 3;" in done.err


def test_numbers_are_read_together(monkeypatch):
    rows = [(1, torch.tensor(2.5), torch.tensor(3)), (2, torch.tensor(0.1), torch.tensor(2**40))]
    stacked, before = [], torch.stack
    monkeypatch.setattr(torch, "stack", lambda each: stacked.append(len(each)) or before(each))
    assert near.read(rows) == [(1, 2.5, 3.0), (2, torch.tensor(0.1).item(), 2.0**40)]
    assert stacked == [2, 2, 2]  # two columns, and both of them
    assert near.read([]) == []
