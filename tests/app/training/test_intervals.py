"""Intervals of a run: they hold what they promise, cost the forecasts nothing, and survive interruptions."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import torch

from inputs import CLASSIFY, FORECAST, changed
from undertow.app.loop import Hook
from undertow.app.runs import interval
from undertow.app.runs.folder import open_run
from undertow.app.training import calibration, intervals, session

SHORT = changed(FORECAST, ("--epochs", 2, "--horizon", 2))


class StopAt(Hook):
    """Presses Ctrl-C at a step, as the signal handler would."""

    def __init__(self, step):
        self.step = step

    def on_step(self, loop, steps):
        loop.interrupt.asked = loop.step == self.step


def files(folder):
    return {name: (Path(folder) / name).read_bytes() for name in ("model.safetensors", interval.FILE)}


def test_bounds_follow_noise_of_known_size():
    """The spread is 0.2 to 2.2, a function of the first feature; coverage is held to binomial bounds."""
    rng = torch.Generator().manual_seed(0)
    features = torch.rand(12_000, 3, generator=rng)
    spread = 0.2 + 2 * features[:, :1]
    errors = spread * torch.randn(12_000, 1, generator=rng)
    part = slice(4000, 8000)
    found = intervals.fit((features[:4000], errors[:4000]), (features[part], errors[part]), 0.9, seed=0)
    correction = calibration.conformal(found.distances(features[part]), errors[part], 0.9)
    found.get_buffer("correction").copy_(correction)
    distances, errors, spread = found(features[8000:]), errors[8000:], spread[8000:]
    assert abs(calibration.coverage(distances, errors) - 0.9) < 4 * (2 * 0.9 * 0.1 / 4000) ** 0.5
    for rows in (spread[:, 0] < 0.7, spread[:, 0] > 1.7):  # also where noise is small, and where it is large
        bound = 4 * (0.9 * 0.1 / int(rows.sum())) ** 0.5 + 0.03  # 0.03: a softplus is not quite a line
        assert abs(calibration.coverage(distances[rows], errors[rows]) - 0.9) < bound
    assert float((distances[..., 0] / (1.645 * spread) - 1).abs().mean()) < 0.1


def test_errors_that_are_all_zero_or_unknown_give_finite_bounds():
    features = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    errors = torch.zeros(50, 2)
    errors[:, 1] = torch.nan
    assert intervals.fit((features, errors), (features, errors), 0.9, seed=0)(features).isfinite().all()


def test_the_network_is_that_of_a_run_without_intervals(undertow, waves):
    undertow("train", waves, *SHORT, "--folder", "with")
    undertow("train", waves, *SHORT, "--interval", 0, "--folder", "without")
    assert Path("with/model.safetensors").read_bytes() == Path("without/model.safetensors").read_bytes()
    assert not (Path("without") / interval.FILE).exists()
    predicted = undertow("predict", "without", waves)
    assert "interval" not in predicted.out and "lower" not in predicted.out


def test_predict_writes_both_bounds_and_counts_the_truths_between_them(undertow, waves):
    trained = undertow("train", waves, *SHORT, "--folder", "r", "--interval", 0.8).out
    said = re.search(r"80% intervals: .* wide on average; .*% of the truths lie inside .*", trained)
    assert said and said[0].rstrip() in undertow("info", "r").out
    assert json.loads(Path("r/config.json").read_text())["training"]["interval"] == 0.8
    predicted = undertow("predict", "r", waves, "-o", "p.parquet")
    assert predicted.code == 0, predicted.err
    table = pl.read_parquet("p.parquet")
    assert table.columns == ["place", "day", "ahead", "prediction", "lower", "upper", "truth"]
    assert (table["lower"] <= table["prediction"]).all() and (table["prediction"] <= table["upper"]).all()
    known = table.drop_nulls("truth")
    inside = known.filter(pl.col("truth").is_between("lower", "upper"))
    width = float((table["upper"] - table["lower"]).mean())
    assert f"80% intervals: {100 * len(inside) / len(known):.1f}% of the known truths inside" in predicted.out
    assert f"({len(inside)} of {len(known)}), {width:.4g} wide on average" in predicted.out
    late = pl.col("day") >= pl.date(2020, 1, 1) + pl.duration(days=129)  # all of it in the validation part
    assert 0.75 < len(inside.filter(late)) / len(known.filter(late)) < 0.85  # which calibrated them
    (Path("r") / interval.FILE).write_bytes(b"not a file of tensors")
    for verb in (("predict", "r", waves), ("info", "r")):
        refused = undertow(*verb)
        assert refused.code == 2 and f"{Path('r') / interval.FILE}: damaged" in refused.err


@pytest.mark.parametrize("stop", [1, "end"])
def test_resumed_intervals_are_those_of_an_undisturbed_run(undertow, waves, monkeypatch, stop):
    undertow("train", waves, *SHORT, "--folder", "whole")
    last = open_run(Path("whole")).read_metrics()[-1]["step"]
    with monkeypatch.context() as patch:
        patch.setattr(session, "view", lambda *_: StopAt(last - 1 if stop == "end" else stop))
        assert undertow("train", waves, *SHORT, "--folder", "part").code == 130
    assert undertow("train", "--resume", "part").code == 0
    assert files("part") == files("whole")


def test_a_run_killed_before_its_intervals_were_written_gets_them_on_resume(undertow, waves):
    undertow("train", waves, *SHORT, "--folder", "r")
    whole = files("r")
    assert "finished already" in undertow("train", "--resume", "r").err
    (Path("r") / interval.FILE).unlink()
    predicted = undertow("predict", "r", waves)
    assert predicted.code == 0 and "lower" not in predicted.out
    assert undertow("train", "--resume", "r").code == 0
    assert files("r") == whole


def test_an_interrupted_run_has_intervals_and_a_resumed_one_not_the_old_ones(undertow, waves, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(session, "view", lambda *_: StopAt(9))
        undertow("train", waves, *changed(SHORT, ("--epochs", 9)), "--folder", "r")
    assert (Path("r") / interval.FILE).exists()
    monkeypatch.setattr(session, "finish", lambda *_: 0)  # what a kill right after the start would leave
    undertow("train", "--resume", "r")
    assert not (Path("r") / interval.FILE).exists()


@pytest.mark.parametrize("share", ["1", "-0.1", "nan", "90"])
def test_a_share_is_from_0_to_below_1(undertow, waves, share):
    refused = undertow("train", waves, *FORECAST, "--interval", share)
    assert refused.code == 2 and f"--interval {float(share)}" in refused.err


def test_only_forecasts_have_intervals(undertow, walks):
    refused = undertow("train", walks, *CLASSIFY, "--interval", 0.9)
    assert refused.code == 2 and "--interval: has no meaning for task classify" in refused.err


def test_each_target_has_bounds_in_its_own_unit(undertow, waves):
    table = pl.read_csv(waves).with_columns(hundredfold=pl.col("level") * 100)
    table.write_csv("two.csv")
    undertow("train", "two.csv", *SHORT, "--target", "hundredfold", "--folder", "r")
    undertow("predict", "r", "two.csv", "-o", "p.parquet")
    found = pl.read_parquet("p.parquet")
    assert (found["lower"] <= found["prediction"]).all() and (found["prediction"] <= found["upper"]).all()
    width = found.group_by("target").agg((pl.col("upper") - pl.col("lower")).mean().alias("width"))
    narrow, wide = (width.filter(target=name)["width"].item() for name in ("level", "hundredfold"))
    assert 30 < wide / narrow < 300
    assert re.search(
        r"90% intervals: .* \(level\), .* \(hundredfold\) wide on average", undertow("info", "r").out
    )
