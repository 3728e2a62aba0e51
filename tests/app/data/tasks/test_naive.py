"""Naive forecasts: seasons from the frequency, scales of MASE, and no value across two series."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks.naive import naive_scales, season_rows, seasonal_naive
from undertow.app.runs.config import DataConfig


def series_of(table: pl.DataFrame, tmp_path, group=(), time="t"):
    path = tmp_path / "table.csv"
    table.write_csv(path)
    config = DataConfig(str(path), "forecast", 0.2, 4, target=("y",), time=time, group=group)
    return read_series(path, config)


def dated(every: str, n: int = 60) -> pl.DataFrame:
    times = pl.datetime_range(datetime(2020, 1, 1), datetime(2060, 1, 1), every, eager=True)[:n]
    return pl.DataFrame({"t": times, "y": np.arange(n) * 1.0})


@pytest.mark.parametrize(
    ("every", "season"),
    [("15m", 96), ("1h", 24), ("1d", 7), ("1w", 52), ("1mo", 12), ("1q", 4), ("1y", 1), ("7h", 1)],
)
def test_season_of_a_frequency(tmp_path, every, season):
    assert season_rows(series_of(dated(every, 40), tmp_path)) == season


def test_season_of_business_days_and_of_plain_numbers(tmp_path):
    days = [date(2020, 1, 6) + timedelta(days=k) for k in range(80)]
    table = pl.DataFrame({"t": [day for day in days if day.weekday() < 5]})
    table = table.with_columns(y=pl.int_range(len(table)).cast(pl.Float64))
    assert season_rows(series_of(table, tmp_path)) == 5
    numbered = series_of(pl.DataFrame({"t": range(60), "y": [1.5] * 60}), tmp_path, time=None)
    assert season_rows(numbered) == 1


def test_seasonal_naive_repeats_the_last_season_within_its_series(tmp_path):
    table = pl.concat(
        [dated("1d", 10).with_columns(k=pl.lit("a")), dated("1d", 10).with_columns(k=pl.lit("b"))]
    )
    series = series_of(table, tmp_path, ("k",))
    values = np.arange(20.0)
    found = seasonal_naive(series, values, np.array([7, 12]), horizon=4, season=3)
    np.testing.assert_array_equal(found[0], [5, 6, 7, 5])  # rows 8 to 11: one season ago, the last one twice
    np.testing.assert_array_equal(found[1], [10, 11, 12, 10])
    early = seasonal_naive(series, values, np.array([11]), horizon=3, season=3)
    np.testing.assert_array_equal(early[0], [np.nan, 10, 11])  # row 9 belongs to the other series
    np.testing.assert_array_equal(seasonal_naive(series, values, np.array([4]), 2, 1)[0], [4, 4])


def test_scales_use_the_training_part_and_never_two_series(tmp_path):
    table = pl.concat(
        [dated("1d", 10).with_columns(k=pl.lit("a")), dated("1d", 10).with_columns(k=pl.lit("b"))]
    )
    series = series_of(table, tmp_path, ("k",))
    values = np.concatenate([np.arange(10.0), 100 + 5 * np.arange(10.0)])
    values[9], values[19] = 1e6, -1e6  # after the training part
    early = np.tile(np.arange(10) < 9, 2)
    assert naive_scales(series, values, early, 7) == {"a": 7.0, "b": 35.0}
    assert naive_scales(series, values, early, 1) == {"a": 1.0, "b": 5.0}
    assert naive_scales(series, values, early, 52) == {"a": 1.0, "b": 5.0}  # shorter than a season
    assert naive_scales(series, values, np.tile(np.arange(10) < 1, 2), 7) == {}
