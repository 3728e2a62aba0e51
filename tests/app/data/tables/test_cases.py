"""Small files of the kinds that people have: each is read right, or refused with the option to settle it."""

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from inputs import changed
from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.runs.config import DataConfig
from undertow.app.runs.model import normalise

FOLDERS = [parent / "shared" / "cases" for parent in Path(__file__).resolve().parents]
CASES = next((folder for folder in FOLDERS if folder.is_dir()), None)  # beside the checkout; absent elsewhere
SMALL = ("--steps", 12, "--hidden-size", 4, "--epochs", 1, "--folder", "r")

pytestmark = pytest.mark.skipif(CASES is None, reason="shared/cases is not beside this checkout")


def case(name):
    assert CASES is not None
    return CASES / name


def config(name, target, **options):
    values = {"source": str(case(name)), "task": "forecast", "validation": 0.2, "steps": 12}
    return DataConfig(**values | {"target": (target,)} | options)


def series(name, target, **options):
    return read_series(case(name), config(name, target, **options))


def task(name, target, **options):
    return ForecastTask(config(name, target, **options), 16, 0)


def forecast(undertow, name, *options):
    """Train on a case and predict it; what training said, and the predictions."""
    trained = undertow("train", case(name), *changed(SMALL, options))
    assert trained.code == 0, trained.err
    predicted = undertow("predict", "r", case(name), "-o", "out.parquet")
    assert predicted.code == 0, predicted.err
    return trained.out, pl.read_parquet("out.parquet")


def refused(undertow, name, *options):
    result = undertow("train", case(name), *SMALL, *options)
    assert result.code == 2, result.out
    assert result.err.count("\n") == 1
    assert not Path("r").exists()
    return result.err


MONTHLY = ["monthly-us.csv", "monthly-dash.csv", "monthly-name.csv", "monthly-iso.csv"]


@pytest.mark.parametrize("name", MONTHLY)
def test_months_go_on_as_calendar_months(undertow, name):
    said, table = forecast(undertow, name, "--target", "value", "--horizon", 6)
    time = table.columns[0]
    assert "monthly" in said
    assert "seasonal (month-of-year) mean" in said
    assert table.tail(6)[time].to_list() == [date(2010, month, 1) for month in range(1, 7)]
    assert set(table[time].dt.day()) == {1}


def test_a_clean_file_says_no_more_than_before(undertow):
    said, _ = forecast(undertow, "monthly-iso.csv", "--target", "value")
    assert said.count("  data  ") == 2


def test_quarters(undertow):
    said, table = forecast(undertow, "quarterly.csv", "--target", "value", "--horizon", 2)
    assert "quarterly" in said
    assert "seasonal" in said
    assert table.tail(2)["quarter"].to_list() == [date(2010, 1, 1), date(2010, 4, 1)]


def test_digits_as_dates(undertow):
    said, table = forecast(undertow, "weekly-compact.csv", "--target", "co2", "--gaps", "fill")
    assert "400 rows, weekly" in said
    assert table["date"][-1] == date(1990, 1, 6) + timedelta(weeks=400)


@pytest.mark.parametrize("name", ["daily-us.csv", "daily-us-shuffled.csv"])
def test_month_day_year(undertow, name):
    said, table = forecast(undertow, name, "--target", "temp")
    assert "date as %m/%d/%Y" in said
    assert "ordered by date" in said
    assert table["date"].to_list() == [date(2019, 1, 13) + timedelta(days=k) for k in range(589)]


def test_an_ambiguous_order_of_day_and_month_is_asked_for(undertow):
    rows = "".join(f"{k}/{k % 12 + 1}/2020,{k}\n" for k in range(1, 12))
    Path("a.csv").write_text("date,y\n" + rows)
    result = undertow("train", "a.csv", "--target", "y")
    assert result.code == 2
    assert "--time-format '%d/%m/%Y' or --time-format '%m/%d/%Y' settles it" in result.err


def test_the_order_is_taken_from_the_training(undertow):
    forecast(undertow, "monthly-us.csv", "--target", "value", "--steps", 4)
    Path("new.csv").write_text("Date,value\n" + "".join(f"{m}/1/2010,{m}\n" for m in range(1, 6)))
    assert undertow("predict", "r", "new.csv", "-o", "new.parquet").code == 0
    assert pl.read_parquet("new.parquet")["Date"].to_list() == [date(2010, 5, 1), date(2010, 6, 1)]
    assert json.loads(Path("r/config.json").read_text())["facts"]["reading"]["columns"]["Date"] == {
        "kind": "time",
        "format": "%m/%d/%Y",
    }


def test_business_days(undertow):
    said, table = forecast(undertow, "business-days.csv", "--target", "close", "--horizon", 4)
    assert "business days" in said
    assert table["date"].dt.weekday().max() == 5
    days = ["2021-06-21", "2021-06-22", "2021-06-23", "2021-06-24"]
    assert table.tail(4)["date"].cast(pl.String).to_list() == days


def test_holidays_of_the_data_are_none_of_the_days_to_come(tmp_path):
    found = series("business-days.csv", "close").frequency
    last = np.array([np.datetime64("2021-12-30T00:00:00", "us").astype(np.int64)], float)
    after = found.after(np.repeat(last, 3), np.array([1, 2, 3])).astype(np.int64).astype("datetime64[us]")
    assert [str(day)[:10] for day in after] == ["2021-12-31", "2022-01-03", "2022-01-04"]
    eve = np.array([np.datetime64("2020-12-24T00:00:00", "us").astype(np.int64)], float)
    assert (
        str(found.after(eve, np.array([1])).astype(np.int64).astype("datetime64[us]")[0])[:10] == "2020-12-28"
    )


def test_clocks_that_go_back(undertow):
    said = refused(undertow, "hourly-local-dst.csv", "--target", "load")
    assert "2021-10-31 01:00:00 comes twice" in said
    assert "--time-zone" in said
    assert "--duplicates" in said
    _, table = forecast(undertow, "hourly-local-dst.csv", "--target", "load", "--time-zone", "Europe/London")
    steps = table["time"].dt.convert_time_zone("UTC").diff().drop_nulls()
    assert set(steps) == {timedelta(hours=1)}
    assert table["time"].dtype.time_zone == "Europe/London"


@pytest.mark.parametrize(("how", "value"), [("mean", 0), ("first", 1), ("last", 2)])
def test_duplicates(how, value):
    rows = pl.read_csv(case("hourly-local-dst.csv")).filter(pl.col("time") == "2021-10-31 01:00:00")["load"]
    found = series("hourly-local-dst.csv", "load", duplicates=how)
    moment = found.table.filter(pl.col("time") == datetime(2021, 10, 31, 1))
    assert moment["load"].to_list() == [pytest.approx([rows.mean(), rows[0], rows[1]][value])]
    assert len(found.table) == 400
    assert any(how in line for line in found.said)


def test_a_constant_far_outside_is_named(undertow):
    said = refused(undertow, "sentinel.csv", "--target", "flow")
    assert "'flow' holds -9999 30 times" in said
    assert "--missing -9999" in said
    said, table = forecast(
        undertow, "sentinel.csv", "--target", "flow", "--missing", "-9999", "--gaps", "fill"
    )
    assert "30 of flow" in said
    assert table["truth"].min() > 0
    assert table["prediction"].min() > 0
    assert undertow("train", case("sentinel.csv"), *SMALL, "--overwrite", "--target", "flow", "--missing",
                    "none").code == 0  # fmt: skip


def test_a_marker_is_a_number_however_it_is_written(tmp_path):
    rows = "".join(
        f"{k % 28 + 1:02}.{k // 28 + 1:02}.2020;{-999 if k == 50 else k % 9},00\n" for k in range(112)
    )
    (tmp_path / "a.csv").write_text("day;y\n" + rows)
    found = read_series(tmp_path / "a.csv", config("sentinel.csv", "y", missing="-999", gaps="split"))
    assert found.table["y"].min() == 0
    assert len(found.table) == 111


@pytest.mark.parametrize("gaps", ["fill", "flag", "split"])
def test_filled_targets_count_nowhere(gaps):
    made = task("outages.csv", "flow", gaps=gaps)
    raw = pl.read_csv(case("outages.csv"), try_parse_dates=True)
    values = set(raw["flow"].drop_nulls().cast(pl.Float32))
    scored = [batch.y for batch in (*made.train_batches(0), *made.validation_batches())]
    known = [float(y) for batch in scored for y in batch.flatten() if y == y]
    assert set(known) <= values
    parts = made.validation.numpy() + 12
    truth = raw["flow"].to_numpy()
    if gaps != "split":
        assert np.isfinite(truth[parts]).all()  # a window without a truth is none
        last = np.array(raw["flow"].forward_fill())[parts - 1]
        persistence = float(np.sqrt(np.mean((truth[parts] - last) ** 2)))
        assert made.facts.baselines[0].value == pytest.approx(persistence, rel=1e-5)
        early = raw.filter(pl.Series(np.arange(600) < 480))["flow"]
        assert made.facts.values["seasons"]["flow"]["all"][""] == pytest.approx(early.mean())


def test_gaps_may_be_flagged():
    made = task("outages.csv", "flow", gaps="flag")
    assert made.facts.values["columns"]["flags"] == ["flow"]
    raw = pl.read_csv(case("outages.csv"))
    flags = torch.tensor(raw["flow"].is_null().to_list()).float()
    assert torch.equal(made.inputs.x[:, -1], normalise(flags, made.inputs.centre[-1], made.inputs.scale[-1]))
    assert made.inputs.x[:, -1].unique().numel() == 2


def test_no_window_crosses_a_gap_that_splits():
    made = task("outages.csv", "flow", gaps="split")
    days = series("outages.csv", "flow", gaps="split").table["date"].to_list()
    for start in [*made.starts.tolist(), *made.validation.tolist()]:
        assert days[start + 12] - days[start] == timedelta(days=12)


@pytest.mark.parametrize("gaps", ["error", "fill"])
def test_leading_gaps_are_dropped_and_said(undertow, gaps):
    said, table = forecast(undertow, "leading-gap.csv", "--target", "flow", "--gaps", gaps)
    assert "3 leading rows without a value left out" in said
    assert table["date"][0] == date(2019, 1, 4) + timedelta(days=12)


def test_decimal_commas(undertow):
    said, table = forecast(undertow, "decimal-comma.csv", "--target", "temp")
    assert "decimal comma in temp, regen" in said
    assert "datum as %d.%m.%Y" in said
    assert table["truth"].max() < 20
    assert table["datum"][-1] == date(2019, 1, 1) + timedelta(days=600)
    assert series("decimal-comma.csv", "temp").columns.numeric == ["temp", "regen"]


def test_thousands(undertow):
    said, table = forecast(undertow, "thousands.csv", "--target", "count")
    assert "comma for thousands in count" in said
    assert 120_000 < table["truth"].drop_nulls().mean() < 150_000


def test_comments_and_padded_names(undertow):
    said, table = forecast(undertow, "preamble.csv", "--target", "temp")
    assert "comments after '#' skipped" in said
    assert len(table) == 589


@pytest.mark.parametrize(
    ("name", "target", "encoding"),
    [("latin-1.csv", "précipitation", "latin-1"), ("utf-16.csv", "temp", "utf-16")],
)
def test_encodings_are_found_and_named(undertow, name, target, encoding):
    said, _ = forecast(undertow, name, "--target", target)
    assert f"encoding {encoding}" in said
    assert f"features: {target}" in said
    given = undertow("train", case(name), *SMALL, "--overwrite", "--target", target, "--encoding", encoding)
    assert given.code == 0
    assert "read with" not in given.out
    wrong = undertow("train", case(name), "--target", target, "--encoding", "utf-8")
    assert wrong.code == 2
    assert "--encoding utf-8" in wrong.err


def test_a_text_in_another_encoding(undertow):
    options = (
        "--steps",
        16,
        "--batch-size",
        8,
        "--hidden-size",
        8,
        "--num-layers",
        1,
        "--epochs",
        1,
        "--folder",
        "r",
    )
    said = undertow("train", case("latin-1.txt"), *options)
    assert said.code == 0, said.err
    assert "encoding latin-1" in said.out
    assert "bits/char" in said.out
    assert undertow("generate", "r", "--prompt", "été", "--length", 5).out.startswith("été")
    assert undertow("train", case("latin-1.txt"), *options, "--overwrite", "--symbols", "bytes").code == 0
    assert undertow("generate", "r", "--prompt", "été", "--length", 5).out.startswith("été")


@pytest.mark.parametrize("name", ["daily.csv.gz", "daily.jsonl"])
def test_compressed_tables_and_json_lines(undertow, name):
    said, table = forecast(undertow, name, "--target", "temp")
    assert "600 rows, ordered by date" in said
    assert len(table) == 589


def test_names_print_as_they_stand(undertow):
    said, _ = forecast(undertow, "markup.csv", "--target", "rate [/h]")
    assert "forecasting rate [/h]" in said
    assert "level [m]" in said
    predicted = undertow("predict", "r", case("markup.csv"))
    assert "RMSE of rate [/h] over" in predicted.out


def test_identifiers_keep_their_zeros(undertow):
    said, table = forecast(undertow, "panel-ids.csv", "--target", "flow", "--group", "gauge")
    assert "3 series" in said
    assert table["gauge"].unique().sort().to_list() == ["01031500", "1031500", "late"]
    assert "nan" not in said


def test_series_without_a_training_part_are_named(undertow):
    options = ("--target", "flow", "--group", "gauge", "--validation", 0.5)
    said, _ = forecast(undertow, "panel-ids.csv", *options)
    assert "no training part, so left out of the seasonal mean: late" in said
    assert "nan" not in said


def test_the_column_that_tells_series_apart_is_named(undertow):
    said = refused(undertow, "panel-ids.csv", "--target", "flow")
    assert "2019-01-01 comes twice" in said
    assert "--group gauge tells several series apart" in said


def test_a_number_for_each_sequence_is_learnt(undertow):
    result = undertow(
        "train", case("number-per-sequence.csv"), "--sequence", "sequence", "--label", "score", "--epochs", 1
    )
    assert result.code == 0, result.err
    assert "different numbers with fractions: a number is learnt" in result.out
    assert "--task classify" in result.out


def test_zones_are_kept_apart_from_utc():
    table = series("hourly-local-dst.csv", "load", time_zone="Europe/London").table
    first = table["time"][0]
    assert first == datetime(2021, 10, 24, 23, tzinfo=timezone.utc)
