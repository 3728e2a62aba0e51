"""The arrays of predictions and truth: which row each one is for, and what is not known."""

from pathlib import Path

import numpy as np
import polars as pl

from inputs import CLASSIFY, FORECAST
from undertow.app.reading.predictions import forecasts, is_training_table, labels
from undertow.app.runs.folder import open_run


def test_forecasts_stand_beside_the_rows_that_they_are_for(undertow, waves):
    undertow("train", waves, *FORECAST, "--horizon", 3, "--epochs", 1, "--folder", "r")
    (found,) = forecasts(open_run(Path("r")), waves)
    table = pl.read_csv(waves, try_parse_dates=True)
    level = table["level"].to_numpy()  # 160 rows of north, then 160 of south
    assert found.target == "level"
    assert found.predicted.shape == found.truth.shape == (2 * 151, 3)
    np.testing.assert_array_equal(found.rows[0], [10, 11, 12])
    np.testing.assert_array_equal(found.rows[151], [170, 171, 172])
    np.testing.assert_allclose(found.truth[0], level[10:13])
    np.testing.assert_allclose(found.truth[150], [np.nan] * 3)  # after the end of north, not rows of south
    np.testing.assert_allclose(found.truth[149], [level[159], np.nan, np.nan])
    np.testing.assert_array_equal(found.last[149], [159, 159, 159])
    assert str(found.times()[149 * 3 + 2]) == "2020-06-10"  # two days after the table's last one
    assert is_training_table(open_run(Path("r")), waves)


def test_labels_come_with_the_chances_of_all_classes(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    found = labels(open_run(Path("r")), walks)
    assert found.classes == ["down", "up"]
    assert found.chances.shape == (40, 2)
    np.testing.assert_allclose(found.chances.sum(axis=1), 1, atol=1e-6)
    assert found.truth[:2] == ["down", "up"]
    assert found.likeliest == [found.classes[k] for k in found.chances.argmax(axis=1)]
    pl.read_csv(walks).drop("way").write_csv("bare.csv")
    assert labels(open_run(Path("r")), Path("bare.csv")).truth is None
    assert not is_training_table(open_run(Path("r")), Path("bare.csv"))
