"""How many rows a forecast reads by itself."""

from datetime import datetime

import polars as pl
import pytest

from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks.window import window_rows
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run


def series_of(folder, every, rows):
    start = datetime(2020, 1, 1)
    times = pl.datetime_range(start, datetime(2029, 1, 1), every, eager=True)[:rows]
    pl.DataFrame({"time": times, "level": range(rows)}).write_csv(folder / "rows.csv")
    config = DataConfig(str(folder / "rows.csv"), "forecast", validation=0.2, steps=0, target=("level",))
    return read_series(folder / "rows.csv", config)


@pytest.mark.parametrize(
    ("every", "rows", "horizon", "expected"),
    [("30m", 1000, 1, 48), ("1h", 1000, 1, 32), ("1h", 1000, 40, 40), ("1d", 500, 7, 32), ("7d", 400, 4, 52),
     ("5m", 1000, 1, 192), ("1mo", 100, 12, 32), ("1mo", 40, 6, 17), ("1d", 4, 1, 1)],
)  # fmt: skip
def test_a_window_holds_a_season_and_leaves_windows_to_train_on(tmp_path, every, rows, horizon, expected):
    assert window_rows(series_of(tmp_path, every, rows), horizon) == expected


def test_a_training_keeps_the_window_that_its_data_chose(undertow, tmp_path):
    series_of(tmp_path, "30m", 300)
    options = ("--target", "level", "--epochs", 1, "--hidden-size", 4, "--folder", "run")
    said = undertow("train", "rows.csv", *options)
    assert "each forecast reads 48 rows (--steps)" in " ".join(said.out.split()), said.err
    assert open_run(tmp_path / "run").data.steps == 48
    assert undertow("predict", "run", "rows.csv").code == 0
