"""Pictures of evaluations: what is drawn is what was found."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from inputs import CLASSIFY, FORECAST
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
