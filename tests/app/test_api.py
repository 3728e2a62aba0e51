"""`undertow.train` and `undertow.load_run`: what the command does, from Python, by the same code."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import undertow
from inputs import CLASSIFY, FORECAST, TEXT
from undertow.app.reading import frames

WAVES = {"target": "level", "group": "place", "steps": 10, "hidden_size": 16}


@pytest.fixture(name="command")
def _command(request):
    """The fixture ``undertow``, which runs the command, beside the module of that name."""
    return request.getfixturevalue("undertow")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_is_that_of_the_command(command, waves, capsys):
    run = undertow.train(waves, epochs=2, folder="a", **WAVES)
    said = capsys.readouterr().out
    told = command("train", waves, *FORECAST, "--epochs", 2, "--folder", "b")
    assert said.replace("a", "b").splitlines()[:3] == told.out.replace("a", "b").splitlines()[:3]
    other = undertow.load_run("b")
    for mine, theirs in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert_frame_equal(run.metrics.drop("seconds"), other.metrics.drop("seconds"))
    assert repr(run) == "Run('a'): forecast, LSTM of 16 units"


def test_without_a_folder_it_is_the_next_one(here, waves, capsys):
    runs = [undertow.train(waves, epochs=1, quiet=True, **WAVES) for _ in range(2)]
    assert [str(run.folder) for run in runs] == ["runs/waves-1", "runs/waves-2"]
    assert capsys.readouterr() == ("", "")


def test_a_training_goes_on(here, waves):
    run = undertow.train(waves, epochs=1, folder="r", quiet=True, **WAVES)
    again = undertow.train(resume="r", epochs=np.int64(2), quiet=True)
    assert again.folder == run.folder
    assert again.metrics["epoch"].max() == 2


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("no.csv", {}, "no.csv: no such file"),
        ("waves.csv", {"target": "depth"}, "waves.csv: no column 'depth' (--target); columns: day, place"),
        (
            "waves.csv",
            {"target": "level", "hidden_size": 0},
            "--hidden-size 0: expected a whole number from 1",
        ),
        ("waves.csv", {"hiden_size": 3}, "hiden_size: no such option; did you mean hidden_size?"),
        ("waves.csv", {"devices": 2}, "devices: an option of the command line alone; torchrun"),
        (
            pl.DataFrame({"x": [1]}),
            {},
            "source: expected a path, a list of paths or a problem, got DataFrame",
        ),
        (None, {}, "SOURCE: expected a file, a folder or a problem"),
        ("waves.csv", {"folder": ""}, "--folder: expected a value, got an empty one"),
        ("waves.csv", {"target": ["level", ""]}, "--target: expected a value, got an empty one"),
        ("waves.csv", {"cache": ""}, "--cache: expected a value, got an empty one"),
    ],
    ids=str,
)
def test_errors_are_the_line_of_the_command(here, waves, source, options, said):
    with pytest.raises(undertow.UserError) as caught:
        undertow.train(source, **options)
    assert str(caught.value).startswith(said)


def test_an_empty_path_is_not_the_current_folder(here, waves, monkeypatch):
    undertow.train(waves, epochs=1, folder="r", quiet=True, **WAVES)
    monkeypatch.chdir("r")
    with pytest.raises(undertow.UserError, match="RUN: expected a value, got an empty one"):
        undertow.load_run("")


def test_an_interrupted_training_is_saved_and_goes_on(here, waves, monkeypatch):
    from undertow.app.loop import Loop
    from undertow.app.training import trainer

    def interrupt(self, loop, steps):
        loop.interrupt.asked = loop.step == 3
        original(self, loop, steps)

    original = trainer.Trainer.on_step
    monkeypatch.setattr(trainer.Trainer, "on_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        undertow.train(waves, epochs=1, folder="r", quiet=True, **WAVES)
    monkeypatch.setattr(trainer.Trainer, "on_step", original)
    assert Loop
    assert undertow.train(resume="r", quiet=True).metrics["epoch"].max() == 1


@pytest.fixture
def forecaster(here, waves):
    return undertow.train(waves, epochs=1, folder="r", quiet=True, **WAVES)


def test_frames_are_predicted_as_files_are(forecaster, waves):
    by_path = forecaster.predict(waves)
    assert {"prediction", "truth", "lower", "upper"} <= set(by_path.columns)
    frame = pl.read_csv(waves, try_parse_dates=True)
    assert_frame_equal(forecaster.predict(frame), by_path)
    as_pandas = pd.read_csv(waves)
    found = forecaster.predict(as_pandas)
    assert type(found) is pd.DataFrame
    assert list(found.columns) == by_path.columns
    assert np.array_equal(found["prediction"], by_path["prediction"])
    assert np.array_equal(found["truth"], by_path["truth"].to_numpy(), equal_nan=True)
    indexed = forecaster.predict(as_pandas.assign(day=pd.to_datetime(as_pandas["day"])).set_index("day"))
    assert np.array_equal(indexed["prediction"], by_path["prediction"])


def test_a_frame_that_does_not_fit_is_called_the_table(forecaster, waves):
    with pytest.raises(undertow.UserError, match=r"^the table: no column 'level'"):
        forecaster.predict(pl.read_csv(waves).drop("level"))
    with pytest.raises(undertow.UserError, match="table: expected a path or a DataFrame, got int"):
        forecaster.predict(3)
    with pytest.raises(undertow.UserError, match="--gaps flag: the run was trained with --gaps error"):
        forecaster.predict(waves, gaps="flag")
    with pytest.raises(undertow.UserError, match="r: expected a run trained on text"):
        forecaster.generate()


def test_an_evaluation_is_that_of_the_command(command, forecaster, waves):
    assert command("evaluate", "r", "--output", "e.csv").code == 0
    written, found = pl.read_csv("e.csv"), forecaster.evaluate()
    assert found.columns == written.columns
    assert found["rmse"].to_list() == pytest.approx(written["rmse"].to_list())
    on_frame = forecaster.evaluate(pl.read_csv(waves))
    assert set(on_frame["part"]) == set(found["part"])
    assert len(forecaster.evaluate(backtest=2).filter(pl.col("part") == "origin")["name"].unique()) == 2
    with pytest.raises(undertow.UserError, match="--retrain: expected together with --backtest K"):
        forecaster.evaluate(retrain=True)


def test_texts_are_written_as_by_the_command(command, text):
    assert command("train", text, *TEXT, "--epochs", 1, "--folder", "r").code == 0
    options = ("--prompt", "the", "--length", 20, "--seed", 4, "--temperature", 0.5, "--stop", "zz")
    said = command("generate", "r", *options).out
    run = undertow.load_run("r")
    assert run.generate("the", length=20, seed=4, temperature=0.5, stop="zz") + "\n" == said
    with pytest.raises(undertow.UserError, match="r: expected a run trained on a table"):
        run.predict(text)


def test_labels_and_the_metrics_of_an_ensemble(command, walks):
    assert command("train", walks, *CLASSIFY, "--epochs", 1, "--members", 2, "--folder", "r").code == 0
    run = undertow.load_run("r")
    assert run.metrics["member"].unique().sort().to_list() == [1, 2]
    found = run.predict(pd.read_csv(walks))
    assert set(found["prediction"]) <= {"up", "down"}
    assert len(found) == 40


def test_columns_of_pandas_keep_their_values():
    zone = datetime.timezone.utc
    table = pd.DataFrame(
        {
            "number": [1, 2],
            "part": [0.5, float("nan")],
            "flag": [True, False],
            "word": ["a", None],
            "kind": pd.Categorical(["x", "y"]),
            "whole": pd.array([1, None], dtype="Int64"),
            "time": pd.to_datetime(["2020-01-01 10:00", None]),
            "local": pd.to_datetime(["2020-07-01 10:00", "2020-07-02 10:00"]).tz_localize("Europe/London"),
        },
        index=pd.Index([7, 8], name="place"),
    )
    frame = frames.of_pandas(table)
    assert frame["place"].to_list() == [7, 8]
    assert frame["number"].dtype == pl.Int64
    assert frame["part"].to_list() == [0.5, None]
    assert frame["flag"].to_list() == [True, False]
    assert frame["word"].to_list() == ["a", None]
    assert frame["kind"].to_list() == ["x", "y"]
    assert frame["whole"].to_list() == [1, None]
    assert frame["time"].to_list() == [datetime.datetime(2020, 1, 1, 10), None]
    assert frame["local"][0].astimezone(zone) == datetime.datetime(2020, 7, 1, 9, tzinfo=zone)
    back = frames.to_pandas(frame)
    assert back["local"].tolist() == table["local"].tolist()
    assert back["time"][0] == table["time"].iloc[0]
    assert back["word"].tolist()[0] == "a"
    assert back["word"].isna().tolist() == [False, True]
