"""Known future: what a decoder reads over the horizon, and rows after the end of the table."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from undertow.app.data.tables.known import future_of, positions, static_columns
from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run

DAYS, AHEAD = 120, 4
SALES = ("--target", "sold", "--group", "store", "--known", "promo", "--horizon", AHEAD, "--steps", 8)
SMALL = ("--hidden-size", 12, "--dropout", 0)


def sales_table(days: int = DAYS, future: int = 0) -> pl.DataFrame:
    """Sales that a promotion of the same day, drawn at random, raises by 50; the last rows lack them."""
    rng, tables = np.random.default_rng(0), []
    for store, size in (("north", 100.0), ("south", 200.0)):
        n = days + future
        promo = rng.integers(0, 2, n)
        sold = size + 50.0 * promo + rng.normal(size=n)
        tables.append(
            pl.DataFrame(
                {
                    "day": [date(2020, 1, 1) + timedelta(days=k) for k in range(n)],
                    "store": store,
                    "size": size,
                    "promo": promo,
                    "heat": rng.normal(size=n).round(3),
                    "sold": [*sold[:days].round(3).tolist(), *[None] * future],
                }
            )
        )
    return pl.concat(tables)


def config_of(path, **options) -> DataConfig:
    values = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 8, "horizon": AHEAD}
    values |= {"target": ("sold",), "group": ("store",), "known": ("promo",), "head": "decoder"}
    return DataConfig(**values | options)


@pytest.fixture
def sales(tmp_path) -> Path:
    path = tmp_path / "sales.csv"
    sales_table(future=3).write_csv(path)
    return path


def test_last_rows_without_a_target_are_the_future_and_no_gap(sales):
    series = read_series(sales, config_of(sales))
    assert series.spans == [(0, DAYS), (DAYS, 2 * DAYS)]
    assert series.table["sold"].null_count() == 0
    assert len(series.future) == 6
    with pytest.raises(UserError, match=r"'sold'.*the value is missing"):
        ForecastTask(config_of(sales, head="direct", known=()), 16, 0)


def test_a_missing_target_within_the_table_is_still_a_gap(tmp_path):
    path = tmp_path / "hole.csv"
    table = sales_table(future=3)
    hole = (pl.col("day") == date(2020, 2, 1)) & (pl.col("store") == "north")
    table.with_columns(pl.when(hole).then(None).otherwise("sold").alias("sold")).write_csv(path)
    with pytest.raises(UserError, match="the value is missing"):
        ForecastTask(config_of(path), 16, 0)


def test_the_future_of_each_series_stands_after_its_end(sales):
    series, config = read_series(sales, config_of(sales)), config_of(sales)
    future = future_of(series, sales, config, ["promo", "size"])
    table = sales_table(future=3)
    promo = table["promo"].to_numpy().reshape(2, -1)[:, DAYS:]
    x = future.x.reshape(2, AHEAD, -1)
    columns = series.columns.numeric
    assert x[:, :3, columns.index("promo")].tolist() == promo.tolist()
    assert np.isnan(x[:, 3, columns.index("promo")]).all()
    assert x[:, :, columns.index("size")].tolist() == [[100.0] * AHEAD, [200.0] * AHEAD]
    assert np.isnan(x[:, :, columns.index("heat")]).all()  # unknown, and a target least of all
    assert np.isnan(x[:, :, columns.index("sold")]).all()
    assert future.known.tolist() == [[True, True, True, False]] * 2


def test_static_columns_are_found(sales):
    assert static_columns(read_series(sales, config_of(sales))) == ["size"]


def test_the_decoder_reads_known_features_alone(sales):
    task = ForecastTask(config_of(sales), 16, 0)
    names = read_series(sales, config_of(sales)).columns.names
    columns = [*names, "sine of week", "cosine of week"]
    assert [columns[k] for k in task.shape.known] == ["size", "promo", "sine of week", "cosine of week"]
    assert task.shape.outputs == 1
    batch = next(iter(task.validation_batches()))
    assert batch.x.shape[0] == 8 + AHEAD
    assert positions(read_series(sales, config_of(sales)).columns, []) == []


def test_no_forecast_depends_on_what_is_unknown_of_the_horizon(sales):
    from undertow.app.runs.config import ModelConfig
    from undertow.app.runs.model import SequenceModel

    task = ForecastTask(config_of(sales), 16, 0)
    shape = task.shape
    config = ModelConfig(
        "lstm", 6, 2, 0.0, 1, "last", inputs=shape.inputs, residual=shape.residual, ahead=AHEAD,
        known=shape.known,
    )  # fmt: skip
    torch.manual_seed(0)
    model = SequenceModel(config).eval()
    torch.nn.init.normal_(model.head.weight)
    x = task.inputs.windows(task.validation, 8 + AHEAD)
    changed, unknown = x.clone(), [k for k in range(x.shape[2]) if k not in shape.known]
    changed[8:, :, unknown] = torch.nan
    before, after = model(x)[0], model(changed)[0]
    assert before.shape == (x.shape[1], AHEAD)
    assert torch.equal(before, after)
    later = x.clone()
    later[8 + 2 :, :, list(shape.known)] += 1.0  # the third row of the horizon, and those after it
    other = model(later)[0]
    assert torch.equal(before[:, :2], other[:, :2])
    assert (before[:, 2:] != other[:, 2:]).all()


def test_a_decoder_learns_what_the_known_future_does(undertow, sales, tmp_path):
    said = undertow("train", sales, *SALES, *SMALL, "--epochs", 30, "--lr", 0.02, "--folder", "r")
    assert said.code == 0, said.err
    assert "known over the horizon: promo, size, time of week" in said.out
    assert "static, constant in every series: size" in said.out
    assert "6 last rows without sold: the future, not learnt from" in said.out
    run = open_run(tmp_path / "r")
    best = min(row["validation"] for row in run.read_metrics())
    assert best < 0.3 * run.baselines["persistence"]
    predicted = undertow("predict", "r", sales, "-o", "out.csv")
    assert predicted.code == 0, predicted.err
    assert (
        "no forecast for the last of 4 rows after the table: the future of promo is missing" in predicted.out
    )
    table = pl.read_csv("out.csv", try_parse_dates=True)
    after = table.filter(pl.col("truth").is_null() & (pl.col("store") == "south")).tail(3)
    assert after["ahead"].to_list() == [1, 2, 3]
    assert after["day"].to_list() == [date(2020, 1, 1) + timedelta(days=DAYS + k) for k in range(3)]
    promo = sales_table(future=3).filter(pl.col("store") == "south")["promo"][-3:].to_numpy()
    np.testing.assert_allclose(after["prediction"], 200 + 50 * promo, atol=20)
    late = table.filter(pl.col("truth").is_not_null())
    late = late.filter(pl.col("day") - pl.duration(days=pl.col("ahead") - 1) >= date(2020, 4, 6))
    late = late.filter(pl.col("day") + pl.duration(days=AHEAD - pl.col("ahead")) <= date(2020, 4, 29))
    error = float(((late["prediction"] - late["truth"]) ** 2).mean()) ** 0.5
    assert error == pytest.approx(best, rel=1e-4)  # the decoder of predict reads what that of train read
    for verb in ("info", "doctor", "inspect"):
        assert undertow(verb, "r").code == 0
    assert " of 8 steps and the 4 rows to forecast of " in " ".join(undertow("doctor", "r").out.split())
    assert "known promo, head decoder" in undertow("info", "r").out
    assert undertow("evaluate", "r", sales).code == 0


def test_without_future_rows_predict_says_what_is_missing(undertow, sales, tmp_path):
    assert undertow("train", sales, *SALES, *SMALL, "--epochs", 1, "--folder", "r").code == 0
    sales_table().write_csv("past.csv")
    said = undertow("predict", "r", "past.csv", "-o", "out.csv")
    assert said.code == 0, said.err
    assert "no forecast for the 4 rows after the table: the future of promo is missing" in said.out
    table = pl.read_csv("out.csv", try_parse_dates=True)
    assert table["truth"].null_count() == 0
    assert table["day"].max() == date(2020, 1, 1) + timedelta(days=DAYS - 1)


def test_predict_names_what_is_missing_and_in_how_many_series(undertow, sales):
    table = sales_table(future=4).with_columns(holiday=pl.lit(0) + pl.col("day").dt.day() // 20)
    table.write_csv(sales)
    options = (*SALES, "--known", "holiday", *SMALL, "--epochs", 1, "--folder", "r")
    assert undertow("train", sales, *options).code == 0
    late = (pl.col("sold").is_null()) & (pl.col("store") == "south")
    table.with_columns(promo=pl.when(late).then(None).otherwise("promo")).write_csv("south.csv")
    said = undertow("predict", "r", "south.csv")
    assert (
        "no forecast for the 4 rows after the table, in 1 of 2 series: the future of promo is missing; "
        "expected rows with promo, holiday and without sold" in said.out
    )
    assert "no forecast" not in undertow("predict", "r", sales).out


def test_forecasts_across_rows_that_a_split_left_out_are_named(undertow, sales):
    missing = (pl.col("store") == "north") & (pl.col("day").dt.ordinal_day() == 40)
    table = sales_table(future=4).with_columns(sold=pl.when(~missing).then("sold"))
    table.write_csv(sales)
    assert (
        undertow("train", sales, *SALES, *SMALL, "--gaps", "split", "--epochs", 1, "--folder", "r").code == 0
    )
    said = undertow("predict", "r", sales)
    assert "no forecast across 1 place where --gaps split left rows out: the future of promo" in said.out
    assert "after the table" not in said.out


def test_calendar_and_static_columns_need_no_future_rows(undertow, sales):
    options = ("--target", "sold", "--group", "store", "--horizon", AHEAD, "--steps", 8, "--head", "decoder")
    assert undertow("train", sales, *options, *SMALL, "--epochs", 1, "--folder", "r").code == 0
    said = undertow("predict", "r", sales, "-o", "out.csv")
    assert "not known" not in said.out
    assert pl.read_csv("out.csv")["truth"].null_count() == 2 * (1 + 2 + 3 + 4)


def test_predict_of_windows_without_any_future_says_so_and_has_no_intervals(undertow):
    sales_table().write_csv("sales.csv")
    assert undertow("train", "sales.csv", *SALES, *SMALL, "--epochs", 1, "--folder", "r").code == 0
    sales_table(8).write_csv("short.csv")
    said = undertow("predict", "r", "short.csv")
    assert (said.code, said.err) == (0, "")
    assert "No errors: no forecast of sold has a known truth" in said.out
    assert "intervals" not in said.out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--known", "sold"), "--known sold: the future of a target is what is forecast"),
        (("--known", "day"), "--known day: expected a column of numbers or of few words"),
        (("--known", "prom"), "no column 'prom' (--known)"),
        (("--known", "promo", "--head", "direct"), "--head direct: reads nothing of the horizon"),
    ],
)
def test_a_known_future_that_cannot_be_is_refused(undertow, sales, options, named):
    said = undertow("train", sales, "--target", "sold", "--group", "store", *options)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert named in said.err


def test_a_decoder_has_intervals_of_each_row_of_the_horizon(undertow, sales):
    options = ("--interval", 0.8, "--epochs", 3, "--folder", "r")
    assert undertow("train", sales, *SALES, *SMALL, *options).code == 0
    said = undertow("predict", "r", sales, "-o", "out.csv")
    assert said.code == 0, said.err
    table = pl.read_csv("out.csv")
    assert table.select("lower", "prediction", "upper").null_count().sum_horizontal()[0] == 0
    assert (table["lower"] <= table["upper"]).all()
    assert "nan" not in said.out


# -- an embedding of the series -------------------------------------------------------------------


def ramp_table(stores=("north", "south", "west"), days: int = 60) -> pl.DataFrame:
    """Steps of +1, 0 or -1 a day by store, at levels that tell nothing about it."""
    rng, tables = np.random.default_rng(1), []
    for k, store in enumerate(stores):
        step = np.where(np.arange(days) % 2, 1.0, -1.0) * (k - 1) * 3
        tables.append(
            pl.DataFrame(
                {
                    "day": [date(2020, 1, 1) + timedelta(days=k) for k in range(days)],
                    "store": store,
                    "sold": (step + 0.1 * rng.normal(size=days)).round(3),
                }
            )
        )
    return pl.concat(tables)


@pytest.mark.parametrize("head", ["direct", "decoder"])
def test_series_have_embeddings_and_strangers_their_mean(undertow, tmp_path, head):
    ramp_table().write_csv("ramps.csv")
    options = ("--target", "sold", "--group", "store", "--steps", 5, "--horizon", 2, "--head", head)
    said = undertow("train", "ramps.csv", *options, *SMALL, "--embed-group", "--epochs", 2, "--folder", "r")
    assert said.code == 0, said.err
    run = open_run(tmp_path / "r")
    assert run.facts["series"] == ["north", "south", "west"]
    model = run.load_model()
    assert model.series.weight.shape == (3, run.model.width)
    known = undertow("predict", "r", "ramps.csv", "-o", "known.csv")
    assert "not in the training" not in known.out
    table = ramp_table()
    pl.concat([table, table[:60].with_columns(store=pl.lit("zenith"))]).write_csv("more.csv")
    more = undertow("predict", "r", "more.csv", "-o", "more-out.csv")
    assert more.code == 0, more.err
    assert "not in the training, so read with the mean of all embeddings: zenith" in more.out
    before, after = pl.read_csv("known.csv"), pl.read_csv("more-out.csv")
    assert after[: len(before)].equals(before)
    x = torch.zeros(7 if head == "decoder" else 5, 1, run.model.inputs + 1)
    x[..., -1] = -1.0
    read = model._inputs(x, True, model._window(x))[0, 0]
    torch.testing.assert_close(read[-run.model.width :], model.series.weight.detach().mean(0))
    for verb in ("info", "doctor", "inspect"):
        assert undertow(verb, "r").code == 0


def test_an_embedding_needs_several_series(undertow, tmp_path):
    ramp_table(("north",)).drop("store").write_csv("one.csv")
    said = undertow("train", "one.csv", "--target", "sold", "--embed-group")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--embed-group: there is one series; --group COLUMN tells several apart" in said.err
