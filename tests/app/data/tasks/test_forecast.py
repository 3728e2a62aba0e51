"""Forecasts: what is learnt from what, and against what it is measured."""

import tracemalloc
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from inputs import FORECAST, wave_table
from undertow.app.data.tables.series import read_series
from undertow.app.data.tasks import forecast
from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.data.tasks.normalise import fit_normaliser
from undertow.app.data.tasks.split import validation_rows
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run


def data_config(path, **options):
    values = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 10}
    return DataConfig(**values | {"target": ("level",), "group": ("place",)} | options)


def task_of(path, **options):
    return ForecastTask(data_config(path, **options), batch_size=16, seed=0)


@pytest.mark.parametrize("horizon", [1, 4])
def test_no_training_window_reaches_into_the_validation_part(waves, horizon):
    task = task_of(waves, horizon=horizon)
    days = read_series(waves, data_config(waves)).table["day"].to_list()
    last_target = task.config.steps + horizon - 1
    newest = max(days[start + last_target] for start in task.starts.tolist())
    oldest = min(days[start + task.config.steps] for start in task.validation.tolist())
    assert newest < oldest == date(2020, 1, 1) + timedelta(days=128)


def test_windows_stay_within_their_series(waves):
    task = task_of(waves)
    for start in torch.cat([task.starts, task.validation]).tolist():
        assert start // 160 == (start + task.config.steps) // 160


def test_normaliser_sees_the_training_part_alone(waves):
    task = task_of(waves)
    table = wave_table(160).filter(pl.col("day") < date(2020, 1, 1) + timedelta(days=128))
    column = task.columns[0]
    centre, scale = (float(task.buffers()[name][column]) for name in ("centre", "scale"))
    assert centre == pytest.approx(table["level"].median(), rel=1e-6)
    assert scale == pytest.approx(np.quantile(np.abs(table["level"] - centre), 0.683), rel=1e-5)


def test_normaliser_of_rare_and_constant_features():
    rare = torch.zeros(100, 2)
    rare[:5, 0] = 4.0
    centre, scale = fit_normaliser(rare, 0.5)
    assert centre.tolist() == pytest.approx([0.2, 0.0])
    assert scale.tolist() == pytest.approx([float(rare[:, 0].std(correction=0)), 1.0])


def test_batches_hold_windows_and_what_follows_them(waves):
    task = task_of(waves, horizon=3)
    values = wave_table(160)["level"].to_numpy().astype(np.float32)
    batch = next(iter(task.validation_batches()))
    start = int(task.validation[0])
    assert batch.normalised
    last, size, moves = batch.window
    found = (last + size * moves)[:, 0, 0]
    torch.testing.assert_close(found, torch.from_numpy(values[start : start + 10]), rtol=1e-6, atol=1e-6)
    assert torch.equal(batch.x[:, 0, task.columns[0]], moves[:, 0, 0].asinh())
    others = [column for column in range(batch.x.shape[2]) if column not in task.columns]
    assert float(batch.x[:, :, others].abs().max()) < 5
    assert batch.y[0].tolist() == values[start + 10 : start + 13].tolist()
    seen = torch.cat([batch.y[:, 0] for batch in task.train_batches(0)])
    assert len(seen) == len(task.starts)
    assert sorted(seen.tolist()) == sorted(task._targets(task.starts)[:, 0].tolist())


def test_an_epoch_of_a_long_table_draws_other_windows_each_time(waves, monkeypatch):
    monkeypatch.setattr(forecast, "MOST_WINDOWS", 40)
    task = task_of(waves)
    assert len(task.starts) > 40

    def epoch(number):
        return torch.cat([batch.y[:, 0] for batch in task.train_batches(number)]).tolist()

    every = [epoch(number) for number in range(3)]
    assert all(len(set(each)) == len(each) == 40 for each in every)
    assert len({tuple(sorted(each)) for each in every}) == 3
    assert [epoch(number) for number in range(3)] == every


def test_an_epoch_of_a_long_table_does_not_shuffle_all_windows(waves, monkeypatch):
    task, drawn = task_of(waves), []
    task.starts = torch.zeros(1, dtype=torch.int32).expand(20_000_000)
    monkeypatch.setattr(task._train, "batches", lambda size, places: drawn.append(places) or ())
    tracemalloc.start()
    assert not list(task.train_batches(0))
    assert tracemalloc.get_traced_memory()[1] < len(task.starts)
    tracemalloc.stop()
    assert len(drawn[0].unique()) == forecast.MOST_WINDOWS


def test_words_become_places_and_dates_cycles(waves):
    task = task_of(waves)
    columns = task.facts.values["columns"]
    assert columns["numeric"] == ["level"]
    assert columns["categories"] == {"sky": ["clear", "cloud"]}
    assert columns["calendar"] == ["week"]  # 160 days show no year
    assert task.shape.inputs == 1 + 2 + 2


def test_baselines_by_hand(waves):
    task = task_of(waves)
    rows = wave_table(160).with_columns(before=pl.col("level").shift().over("place"))
    late = rows.filter(pl.col("day") >= date(2020, 1, 1) + timedelta(days=128))
    errors = {baseline.name: baseline.value for baseline in task.facts.baselines}
    persistence = float(((late["level"] - late["before"]) ** 2).mean()) ** 0.5
    assert errors["persistence"] == pytest.approx(persistence, rel=1e-5)
    early = rows.filter(pl.col("day") < date(2020, 1, 1) + timedelta(days=128))
    means = early.group_by("place").agg(
        pl.col("level").mean().alias("mean")
    )  # no day of the year comes twice
    joined = late.join(means, on="place")
    seasonal = float(((joined["level"] - joined["mean"]) ** 2).mean()) ** 0.5
    assert errors["seasonal (day-of-year) mean"] == pytest.approx(seasonal, rel=1e-5)


def test_seasonal_mean_is_taken_by_day_of_year(tmp_path):
    days = [date(2018, 1, 1) + timedelta(days=k) for k in range(4 * 365)]
    level = [float(day.timetuple().tm_yday + 10 * (day.year - 2018)) for day in days]
    path = tmp_path / "years.csv"
    pl.DataFrame({"day": days, "level": level}).write_csv(path)
    task = task_of(path, group=(), validation=0.25)
    seasons = task.facts.values["seasons"]["level"]["all"]
    assert seasons["03-01"] in (pytest.approx(60 + 10), pytest.approx(60 + 10 + 1 / 3))
    assert task.facts.values["columns"]["calendar"] == ["year", "week"]


def test_untrained_model_is_persistence(waves):
    """The first forecast is the last value, so that training starts from the baseline."""
    from undertow.app.runs.config import ModelConfig
    from undertow.app.runs.model import SequenceModel

    task = task_of(waves, horizon=2)
    shape = task.shape
    config = ModelConfig("lstm", 4, 1, 0.0, 2, "last", inputs=shape.inputs, residual=shape.residual)
    batch = next(iter(task.validation_batches()))
    network = SequenceModel(config)
    for name, value in task.buffers().items():
        network.get_buffer(name).copy_(value)
    persistence = task.inputs.last[task.validation + 9].expand(-1, 2)  # [windows, horizon]
    output, _ = batch.through(network)
    torch.testing.assert_close(output, persistence, rtol=1e-6, atol=0.0)
    raw = network.get_buffer("centre") + network.get_buffer("scale") * batch.x[..., : shape.inputs].sinh()
    raw[..., task.columns] = batch.window.last + batch.window.size * batch.window.moves
    torch.testing.assert_close(network(raw)[0], persistence, rtol=1e-6, atol=0.0)


def test_trains_beats_the_baselines_and_predicts(undertow, waves, tmp_path):
    result = undertow("train", waves, *FORECAST, "--epochs", 30, "--lr", 0.01, "--folder", "r")
    assert result.code == 0, result.err
    assert "forecast: a table with --target level" in result.out
    assert result.out.count("beaten by") == 2
    run = open_run(tmp_path / "r")
    best = min(run.read_metrics(), key=lambda row: row["validation_loss"])
    assert best["validation"] < 0.5 * run.baselines["persistence"]
    # the same error again, through predict and the written table
    said = undertow("predict", "r", waves, "--output", "out.csv")
    assert said.code == 0, said.err
    assert "persistence" in said.out
    assert "trained on" in said.out
    table = pl.read_csv("out.csv", try_parse_dates=True)
    assert table.columns == ["place", "day", "prediction", "lower", "upper", "truth"]
    assert len(table) == 2 * (160 - 10 + 1)
    assert table.filter(pl.col("truth").is_null())["day"].to_list() == [date(2020, 6, 9)] * 2
    late = table.filter(pl.col("day").is_between(date(2020, 5, 8), date(2020, 6, 8)))
    error = float(((late["prediction"] - late["truth"]) ** 2).mean()) ** 0.5
    assert error == pytest.approx(best["validation"], rel=1e-4)


def test_several_rows_ahead(undertow, waves, small_files):
    assert undertow("train", waves, *FORECAST, "--horizon", 3, "--epochs", 1, "--folder", "r").code == 0
    with small_files:
        full = undertow("predict", "r", waves, "--output", "out.parquet")
    assert (full.code, full.err) == (2, "undertow: out.parquet: cannot be written: File too large\n")
    undertow("predict", "r", waves, "--output", "out.parquet")
    table = pl.read_parquet("out.parquet")
    assert table.columns == ["place", "day", "ahead", "prediction", "lower", "upper", "truth"]
    newest = table.filter(pl.col("place") == "north").tail(3)
    assert newest["day"].to_list() == [date(2020, 6, day) for day in (9, 10, 11)]
    assert newest["truth"].null_count() == 3
    known = table.filter(pl.col("place") == "north").drop_nulls()
    truth = dict(wave_table(160).filter(pl.col("place") == "north").select("day", "level").iter_rows())
    assert all(truth[day] == value for day, value in known.select("day", "truth").iter_rows())


def test_without_dates_the_order_is_the_files(undertow, tmp_path):
    wave_table(80).filter(pl.col("place") == "north").select("level").write_parquet("plain.parquet")
    options = ("--target", "level", "--steps", 8, "--hidden-size", 4, "--epochs", 1, "--folder", "r")
    assert undertow("train", "plain.parquet", *options).code == 0
    undertow("predict", "r", "plain.parquet", "-o", "out.csv")
    assert pl.read_csv("out.csv")["row"].to_list() == list(range(9, 82))
    assert list(open_run(tmp_path / "r").baselines) == ["persistence"]


def test_numbered_rows_are_ordered_by_the_column_that_time_names(undertow, tmp_path):
    rows = [f"{day},{day % 7}" for day in reversed(range(80))]
    (tmp_path / "days.csv").write_text("\n".join(["day,level", *rows]) + "\n")
    options = ("--target", "level", "--time", "day", "--epochs", 1, "--folder", "run")
    assert "ordered by day; validates from 64" in " ".join(
        undertow("train", "days.csv", *options).out.split()
    )
    assert undertow("predict", "run", "days.csv", "-o", "out.csv").code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("32,")


def test_series_whose_rows_are_numbered_are_each_validated_at_their_end(tmp_path):
    lengths = {"long": 100, "short": 50}
    rows = [f"{name},{row},{row % 7}" for name, length in lengths.items() for row in range(length)]
    (tmp_path / "lengths.csv").write_text("\n".join(["name,row,level", *rows]) + "\n")
    config = data_config(tmp_path / "lengths.csv", time="row", group=("name",))
    series = read_series(tmp_path / "lengths.csv", config)
    late = validation_rows(series, 0.2)
    assert np.flatnonzero(late).tolist() == [*range(80, 100), *range(140, 150)]
    assert "validates on the end of each" in ForecastTask(config, 8, 0).facts.lines[0]


def test_fill_repeats_the_row_before(tmp_path):
    table = wave_table(40).with_columns(
        pl.when(pl.col("day") == date(2020, 1, 20)).then(None).otherwise(pl.col("level")).alias("level")
    )
    path = tmp_path / "holes.csv"
    table.filter(~pl.col("day").is_in([date(2020, 1, 10), date(2020, 1, 11)])).write_csv(path)
    series = read_series(path, data_config(path, gaps="fill"))
    assert series.spans == [(0, 40), (40, 80)]
    north = series.table[:40]
    assert north["day"].to_list() == wave_table(40)["day"][:40].to_list()
    assert north["level"][9] == north["level"][10] == north["level"][8]
    assert north["level"][19] == north["level"][18]


def test_ignore_takes_rows_as_they_come(tmp_path):
    path = tmp_path / "workdays.csv"
    table = wave_table(60).filter(pl.col("day").dt.weekday() <= 5)
    table.write_csv(path)
    series = read_series(path, data_config(path, gaps="ignore"))
    assert len(series.table) == len(table)


def test_rows_are_put_in_the_order_of_time(tmp_path):
    path = tmp_path / "mixed.csv"
    wave_table(30).sample(fraction=1.0, shuffle=True, seed=1).write_csv(path)
    table = read_series(path, data_config(path)).table
    assert table.select("place", "day").equals(wave_table(30).select("place", "day"))


# -- several targets ------------------------------------------------------------------------------

TWO = (*FORECAST[2:], "--target", "level", "--target", "flow")


def two_targets(days: int) -> pl.DataFrame:
    """The waves, and a second target of another size that falls when the first rises."""
    return wave_table(days).with_columns(flow=1000 - 50 * pl.col("level").shift(1, fill_value=10.0))


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    two_targets(160).write_csv(path)
    return path


def test_targets_of_several_come_row_by_row(pairs):
    task = task_of(pairs, horizon=3, target=("flow", "level"))
    values = two_targets(160).select("flow", "level").to_numpy().astype(np.float32)  # [rows, K]
    batch, start = next(iter(task.validation_batches())), int(task.validation[0])
    assert batch.y[0].tolist() == values[start + 10 : start + 13].ravel().tolist()
    assert task.shape.outputs == 6
    assert [task.facts.values["columns"]["numeric"][k] for k in task.shape.residual] == ["flow", "level"]


def test_the_error_of_several_targets_is_in_units_of_each_ones_spread(pairs):
    task = task_of(pairs, target=("level", "flow"))
    alone = [task_of(pairs, target=(name,)) for name in ("level", "flow")]
    spreads = [float(each.inputs.scale[each.columns[0]]) for each in alone]
    each = [one.facts.baselines[0].value / spread for one, spread in zip(alone, spreads, strict=True)]
    joint = task.facts.baselines[0]
    assert joint.name == "persistence"
    assert joint.value == pytest.approx(np.sqrt(np.mean(np.square(each))), rel=1e-5)
    assert task.objective.show(0.5) == "0.5 NRMSE"
    error = torch.tensor([[2 * spreads[0], 0.0]])
    assert float(task.objective.loss(error, torch.zeros(1, 2))) == pytest.approx(2.0)


def test_an_untrained_model_of_several_targets_is_persistence(pairs):
    from undertow.app.runs.config import ModelConfig
    from undertow.app.runs.model import SequenceModel

    task = task_of(pairs, horizon=2, target=("level", "flow"))
    config = ModelConfig("lstm", 4, 1, 0.0, 4, "last", inputs=task.shape.inputs, residual=task.shape.residual)
    model = SequenceModel(config)
    for name, value in task.buffers().items():
        model.get_buffer(name).copy_(value)
    batch = next(iter(task.validation_batches()))
    output, _ = batch.through(model)
    last = task.inputs.last[task.validation[: len(output)] + 9]  # [N, K]
    torch.testing.assert_close(output, last.repeat(1, 2), rtol=1e-5, atol=1e-4)


def test_several_targets_train_and_predict(undertow, pairs, tmp_path):
    said = undertow("train", pairs, *TWO, "--horizon", 2, "--epochs", 20, "--lr", 0.01, "--folder", "r")
    assert said.code == 0, said.err
    assert "forecast: a table with --target level --target flow" in said.out
    assert "NRMSE on the validation part, forecasting level, flow" in said.out
    run = open_run(tmp_path / "r")
    assert (run.unit, run.data.target) == ("NRMSE", ("level", "flow"))
    predicted = undertow("predict", "r", pairs, "-o", "out.csv")
    assert predicted.code == 0, predicted.err
    assert "RMSE of level over" in predicted.out
    assert "RMSE of flow over" in predicted.out
    table = pl.read_csv("out.csv", try_parse_dates=True)
    assert table.columns == ["place", "day", "ahead", "target", "prediction", "lower", "upper", "truth"]
    assert table["target"][:4].to_list() == ["level", "flow", "level", "flow"]
    assert table["ahead"][:4].to_list() == [1, 1, 2, 2]
    late = table.filter(pl.col("day").is_between(date(2020, 5, 8), date(2020, 6, 8))).drop_nulls()
    late = late.filter((pl.col("day") - pl.duration(days=pl.col("ahead") - 1)) >= date(2020, 5, 8))
    late = late.filter((pl.col("day") + pl.duration(days=2 - pl.col("ahead"))) <= date(2020, 6, 8))
    for name in ("level", "flow"):
        rows = late.filter(pl.col("target") == name)
        error = float(((rows["prediction"] - rows["truth"]) ** 2).mean()) ** 0.5
        assert f"{error:.4g} RMSE of {name}" in said.out
    for verb in ("info", "doctor", "inspect"):
        assert undertow(verb, "r").code == 0


def test_a_target_given_twice_is_refused(undertow, pairs):
    said = undertow("train", pairs, "--target", "level", "--target", "level")
    assert (said.code, said.err) == (
        2,
        "undertow: --target level: given 2 times; expected another value each time\n",
    )
