"""Pictures of evaluations: what is drawn is what was found."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from inputs import CLASSIFY, FORECAST, walk_table
from undertow.app.evaluation import picture
from undertow.app.evaluation.evaluate import evaluate
from undertow.app.evaluation.labels import Confusion
from undertow.app.runs.folder import open_run


def test_forecasts_over_time_and_by_rows_ahead(undertow, waves):
    undertow("train", waves, *FORECAST, "--horizon", 3, "--epochs", 1, "--folder", "r")
    found = evaluate(open_run(Path("r")), None)
    figure = picture._forecasts(found, "rmse")
    *series, ahead = figure.axes
    assert [ax.get_title(loc="left").split(":")[0] for ax in series] in (
        ["level of north", "level of south"], ["level of south", "level of north"],
    )  # fmt: skip
    lines = series[0].get_lines()
    assert len(lines) == 1 + 10  # the truth, and forecasts of three rows each over the last 32
    scored = found.pictured[0]
    place = series[0].get_title(loc="left").split()[2].rstrip(":")
    mine = np.flatnonzero((scored.names == place) & np.isfinite(scored.truth).all(axis=1))
    np.testing.assert_array_equal(lines[1].get_ydata(), scored.found.predicted[mine[2]])
    figure.canvas.draw()
    dates = [label.get_window_extent() for label in series[0].get_xticklabels() if label.get_text()]
    assert len(dates) > 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(dates))
    rows = found.of("ahead", by="LSTM")
    network = next(line for line in ahead.get_lines() if line.get_linewidth() > 2)
    np.testing.assert_allclose(network.get_ydata(), [row["rmse"] for row in rows])
    assert undertow("evaluate", "r", "--picture", "p.png").code == 0
    with Image.open("p.png") as image:
        assert image.width > 1000
    assert undertow("evaluate", "r", "--picture", "p.png").code == 2


def test_each_target_is_drawn(undertow, waves):
    pl.read_csv(waves).with_columns(depth=pl.col("level") * 2).write_csv("two.csv")
    options = (*FORECAST, "--target", "depth", "--horizon", 2, "--epochs", 1)
    assert undertow("train", "two.csv", *options, "--folder", "r").code == 0
    found = evaluate(open_run(Path("r")), None)
    titles = [ax.get_title(loc="left") for ax in picture._forecasts(found, "mae").axes]
    assert [title.split()[0] for title in titles] == ["level", "level", "MAE", "depth", "depth", "MAE"]
    assert [titles[2], titles[5]] == ["MAE of level by rows ahead", "MAE of depth by rows ahead"]
    many = replace(found, pictured=found.pictured * 5)
    assert len(picture._forecasts(many, "mae").axes) == 3 * picture.MOST_TARGETS
    assert many.said[-1] == "the picture shows the first 8 of 10 targets"


def test_numbers_beside_the_truth(undertow):
    table = walk_table(40).with_columns(end=pl.col("x").last().over("id").round(3)).drop("way")
    table.write_csv("ends.csv")
    options = ("--sequence", "id", "--label", "end", "--hidden-size", 8, "--epochs", 1, "--folder", "r")
    assert undertow("train", "ends.csv", *options).code == 0
    found = evaluate(open_run(Path("r")), None)
    (row, _) = found.of("all")
    (ax,) = picture._numbers(found.pictured, row).axes
    diagonal, points = ax.get_lines()
    x, y = points.get_data()
    assert np.sqrt(np.mean((y - x) ** 2)) == pytest.approx(row["rmse"]) and len(x) == row["n"]
    np.testing.assert_array_equal(*diagonal.get_data())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true end", "predicted end")
    assert undertow("evaluate", "r", "--picture", "p.png").code == 0
    assert Path("p.png").stat().st_size > 5000


def test_without_rows_ahead_bars_compare_the_forecasters(undertow, waves):
    undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r")
    found = evaluate(open_run(Path("r")), None)
    bars = picture._forecasts(found, "mae").axes[-1]
    np.testing.assert_allclose(
        [bar.get_width() for bar in bars.patches][::-1], [row["mae"] for row in found.of("all")]
    )


def test_a_matrix_shows_its_counts(undertow, walks):
    figure = picture._matrix(Confusion(["a", "b"], np.array([[30, 0], [5, 15]])))
    (ax,) = figure.axes
    assert sorted(text.get_text() for text in ax.texts) == ["15", "30", "5"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0], [0.25, 0.75]])
    assert "90.0% of 50 right" in ax.get_title(loc="left")
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    assert undertow("evaluate", "r", "--picture", "p.png").code == 0
    assert Path("p.png").stat().st_size > 5000
