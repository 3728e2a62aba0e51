"""Bad input: one line that names what and where, exit code 2, no traceback, nothing written or lost."""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from inputs import CLASSIFY, FORECAST, TEXT, changed, walk_table, wave_table
from undertow.app.training.trainer import Trainer


def refused(result, *words):
    """Exit code 2 and one line on stderr with all these words in it."""
    assert result.code == 2, result.out + result.err
    assert result.err.startswith("undertow: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err, result.err


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def edit(table, row, **values):
    """The table with some cells of one row (counted from 1) replaced; as text where they do not fit."""
    for name, value in values.items():
        column = table[name].cast(pl.String).to_list()
        column[row - 1] = value
        changed = pl.Series(name, column)
        with contextlib.suppress(pl.exceptions.InvalidOperationError):
            changed = changed.cast(table.schema[name])
        table = table.with_columns(changed)
    return table


FORECASTS = {
    "no such column": (wave_table(40), ("--target", "height"), ("'height'", "--target", "level")),
    "no such time": (wave_table(40), ("--time", "hour"), ("'hour'", "--time")),
    "no such group": (wave_table(40), ("--group", "town"), ("'town'", "--group")),
    "words as target": (wave_table(40), ("--target", "sky"), ("sky", "numbers")),
    "text in a number column": (edit(wave_table(40), 7, level="high"), (), ("'level'", "row 7", "'high'")),
    "missing value": (edit(wave_table(40), 9, level=None), (), ("'level'", "row 9", "missing")),
    "NaN": (edit(wave_table(40), 9, level="NaN"), (), ("'level'", "row 9", "missing")),
    "infinite": (edit(wave_table(40), 9, level="inf"), (), ("'level'", "row 9", "infinite")),
    "missing word": (edit(wave_table(40), 3, sky=None), (), ("'sky'", "row 3", "missing")),
    "gap": (
        wave_table(40).filter(pl.col("level").is_first_distinct()).remove(pl.col("day").dt.day() == 20),
        (),
        ("row 20", "gap", "2020-01-19", "2020-01-21"),
    ),
    "bad date": (edit(wave_table(40), 5, day="soon"), ("--time", "day"), ("'day'", "row 5", "'soon'")),
    "bad first date": (edit(wave_table(40), 1, day="soon"), ("--time", "day"), ("'day'", "row 1", "'soon'")),
    "bad date, time guessed": (edit(wave_table(40), 5, day="soon"), (), ("'day'", "row 5", "'soon'")),
    "missing date": (edit(wave_table(40), 5, day=None), (), ("'day'", "row 5", "missing")),
    "same time twice": (edit(wave_table(40), 5, day="2020-01-04"), (), ("row 5", "twice")),
    "series run into one": (wave_table(40).drop("place"), ("--group", "sky"), ("twice",)),
    "shorter than the window": (wave_table(9), (), ("9 rows", "--steps 10")),
    "one row": (wave_table(1).head(1), (), ("1 rows", "--steps 10")),
    "no training window": (wave_table(12), (), ("--steps 10", "train")),
    "horizon too long": (wave_table(40), ("--horizon", 60), ("--horizon 60", "40 rows")),
    "no rows": (wave_table(40).clear(), (), ("no rows",)),
    "bad --gaps": (wave_table(40), ("--gaps", "drop"), ("--gaps", "drop", "ignore")),
}


@pytest.mark.parametrize("case", FORECASTS)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_forecast(undertow, tmp_path, case, suffix):
    table, options, words = FORECASTS[case]
    path = tmp_path / f"waves{suffix}"
    table.write_csv(path) if suffix == ".csv" else table.write_parquet(path)
    before = snapshot(tmp_path)
    refused(
        undertow("train", path, *changed(FORECAST, options)),
        f"waves{suffix}" if case != "bad --gaps" else "",
        *words,
    )
    assert snapshot(tmp_path) == before


CLASSIFICATIONS = {
    "no such sequence": (walk_table(8), ("--sequence", "walk"), ("'walk'", "--sequence")),
    "no such label": (walk_table(8), ("--label", "class"), ("'class'", "--label")),
    "one class only": (walk_table(8).with_columns(way=pl.lit("up")), (), ("'way'", "one class", "'up'")),
    "two labels in a sequence": (
        edit(walk_table(8), 2, way="up"),
        ("--per", "sequence"),
        ("'w0'", "'way'", "2 different"),
    ),
    "sequence without a label": (
        walk_table(8).with_columns(way=pl.when(pl.col("id") != "w1").then("way")),
        (),
        ("'way'", "'w1'", "no label"),
    ),
    "missing name": (edit(walk_table(8), 4, id=None), (), ("'id'", "row 4", "missing")),
    "missing value": (edit(walk_table(8), 6, x=None), (), ("'x'", "row 6", "missing")),
    "text in a number column": (edit(walk_table(8), 6, x="left"), (), ("'x'", "row 6", "'left'")),
    "no feature": (walk_table(8).drop("x"), (), ("feature",)),
    "one sequence each": (walk_table(2), (), ("2 sequences", "expected 2 or more of one class")),
}


@pytest.mark.parametrize("case", CLASSIFICATIONS)
def test_classify(undertow, tmp_path, case):
    table, options, words = CLASSIFICATIONS[case]
    table.write_csv("walks.csv")
    before = snapshot(tmp_path)
    refused(undertow("train", "walks.csv", *changed(CLASSIFY, options)), "walks.csv", *words)
    assert snapshot(tmp_path) == before


SOURCES = {
    "missing": (None, "no such file"),
    "empty": (b"", "empty"),
    "too short": (b"abc" * 20, "too few"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_text(undertow, tmp_path, case):
    content, word = SOURCES[case]
    if content is not None:
        Path("book.txt").write_bytes(content)
    refused(undertow("train", "book.txt"), "book.txt", word)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.tsv"])
def test_unreadable_table(undertow, name):
    Path(name).write_bytes(b"\x00\xff\x13PAR1,\n\xfe")
    refused(undertow("train", name, "--target", "x"), name)
    Path(name).write_bytes(b"")
    refused(undertow("train", name, "--target", "x"), name, "empty")


def test_a_name_in_another_encoding(undertow, text, waves):
    for source, options in ((text, ()), (waves, ("--target", "level"))):
        name = "n\udce9" + source.suffix  # é in Latin-1, as Python has it
        source.rename(name)
        refused(undertow("train", name, *options), r"'n\udce9", "expected a name in Unicode")


def test_folder_as_source(undertow, tmp_path):
    refused(undertow("train", tmp_path), str(tmp_path), "folder")


def test_table_without_a_task(undertow, waves):
    refused(undertow("train", waves), "waves.csv", "--target", "--sequence", "level")
    refused(undertow("train", waves, "--label", "sky"), "waves.csv", "--sequence")


def test_problem_lag_too_short(undertow):
    refused(undertow("train", "temporal-order", "--steps", 2), "temporal-order", "2")


OPTIONS = {
    "--hidden-size": 0,
    "--num-layers": 0,
    "--batch-size": -1,
    "--epochs": 0,
    "--patience": 0,
    "--lr": 0,
    "--dropout": 1.5,
    "--clip": -1,
    "--noise": 0.1,
    "--minutes": -1,
    "--validation": 1.0,
    "--steps": 0,
    "--seed": -1,
    "--cell": "gru",
    "--device": "abacus",
    "--precision": "8",
    "--task": "poetry",
    "--target": "level",
    "--horizon": 2,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_out_of_range_or_place(undertow, text, tmp_path, option):
    refused(undertow("train", text, option, OPTIONS[option]), option)
    assert not (tmp_path / "runs").exists()


def test_no_cuda_device(undertow, text, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(undertow("train", text, *TEXT, "--device", "cuda"), "--device cuda")
    assert not (tmp_path / "runs").exists()


def test_no_source_and_resume_with_source(undertow, text):
    refused(undertow("train"), "--resume")
    refused(undertow("train", text, "--resume", "r"), "--resume")


def test_output_is_not_overwritten_unless_asked(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    Path("mine.csv").write_text("precious")
    refused(undertow("predict", "r", walks, "-o", "mine.csv"), "mine.csv", "--overwrite")
    assert Path("mine.csv").read_text() == "precious"
    assert undertow("predict", "r", walks, "-o", "mine.csv", "--overwrite").code == 0
    refused(undertow("predict", "r", walks, "-o", "mine.txt"), "mine.txt", ".csv")
    refused(undertow("predict", "r", walks, "-o", "no/mine.csv"), "no/mine.csv", "folder")


def test_run_folder_is_not_overwritten_unless_asked(undertow, walks, tmp_path):
    options = (walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    undertow("train", *options)
    before = snapshot(tmp_path / "r")
    refused(undertow("train", *options), "r:", "--overwrite", "--resume")
    refused(undertow("train", "nowhere.txt", "--folder", "r", "--overwrite"), "nowhere.txt")
    refused(undertow("train", walks, *CLASSIFY, "--lr", -1, "--folder", "r", "--overwrite"), "--lr")
    assert snapshot(tmp_path / "r") == before
    assert undertow("train", *options, "--overwrite").code == 0


def test_a_folder_that_is_no_run_is_never_touched(undertow, walks):
    Path("photos").mkdir()
    Path("photos/cat.jpg").write_text("cat")
    refused(undertow("train", walks, *CLASSIFY, "--folder", "photos", "--overwrite"), "photos", "no run")
    refused(undertow("train", walks, *CLASSIFY, "--folder", "photos/cat.jpg"), "photos/cat.jpg", "file")
    assert Path("photos/cat.jpg").read_text() == "cat"


def test_each_run_gets_its_own_folder(undertow, walks):
    for n in (1, 2):
        assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--quiet").code == 0
        assert Path(f"runs/walks-{n}/model.safetensors").exists()


def config_with(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def without(name):
    return lambda folder: (folder / name).unlink()


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:40])


def other_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["head.bias"] = tensors["head.bias"][:1].contiguous()
    save_file(tensors, folder / "model.safetensors")


def tensor_missing(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["centre"]
    save_file(tensors, folder / "model.safetensors")


def misspelt(folder):
    content = json.loads((folder / "config.json").read_text())
    content["model"]["hidden_siez"] = content["model"].pop("hidden_size")
    (folder / "config.json").write_text(json.dumps(content))


DAMAGE = {
    "no folder": (lambda folder: folder.rename(folder.with_name("gone")), ("no such run",)),
    "no config": (without("config.json"), ("config.json",)),
    "config cut short": (cut("config.json"), ("config.json", "damaged")),
    "not ours": (lambda folder: (folder / "config.json").write_text("[]"), ("config.json", "not written by")),
    "newer version": (config_with(undertow_run=2, versions={"undertow": "9.1"}), ("format 2", "9.1")),
    "older version": (config_with(undertow_run=0), ("format 0",)),
    "unknown option": (misspelt, ("config.json", "hidden_siez")),
    "no model": (without("model.safetensors"), ("model.safetensors", "missing")),
    "model cut short": (cut("model.safetensors"), ("model.safetensors", "damaged")),
    "other shape": (other_shape, ("model.safetensors", "head.bias", "[1]")),
    "tensor missing": (tensor_missing, ("model.safetensors", "centre")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_run(undertow, walks, tmp_path, case):
    assert undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r").code == 0
    damage, words = DAMAGE[case]
    damage(tmp_path / "r")
    before = snapshot(tmp_path)
    refused(undertow("predict", "r", walks), "r", *words)
    refused(undertow("info", "r"), "r", *words)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("damage", [cut("last.safetensors"), without("last.safetensors")])
def test_damaged_checkpoint(undertow, walks, tmp_path, damage):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    damage(tmp_path / "r")
    before = snapshot(tmp_path)
    refused(undertow("train", "--resume", "r", "--epochs", 2), "last.safetensors")
    assert snapshot(tmp_path) == before


def test_resume_refuses_other_data_and_other_options(undertow, walks, tmp_path):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    refused(undertow("train", "--resume", "r", "--lr", 0.1), "--lr", "--epochs")
    walk_table(41).write_csv(walks)
    refused(undertow("train", "--resume", "r", "--epochs", 2), "walks.csv", "changed")
    walks.unlink()
    refused(undertow("train", "--resume", "r", "--epochs", 2), "walks.csv", "no such file")


def test_verbs_refuse_runs_of_another_task(undertow, walks, text):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "walks-run")
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "text-run")
    refused(undertow("generate", "walks-run"), "walks-run", "classify")
    refused(undertow("predict", "text-run", walks), "text-run", "generate")
    refused(undertow("generate", "text-run", "--prompt", "fox 9"), "'9'", "position 5")


def test_predict_names_what_the_table_lacks(undertow, waves, walks):
    undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r")
    refused(undertow("predict", "r", "nowhere.csv"), "nowhere.csv")
    for column in ("level", "sky", "day", "place"):
        wave_table(40).drop(column).write_csv("less.csv")
        refused(undertow("predict", "r", "less.csv"), "less.csv", f"'{column}'")
    wave_table(8).write_csv("short.csv")
    refused(undertow("predict", "r", "short.csv"), "short.csv", "8 rows", "10")
    edit(wave_table(40), 30, level="?").write_csv("bad.csv")
    refused(undertow("predict", "r", "bad.csv"), "bad.csv", "'level'", "row 30", "'?'")


def test_a_folder_below_a_file_is_refused_before_a_cache_is_written(undertow, waves):
    result = undertow("train", waves, *FORECAST, "--cache", "kept", "--folder", f"{waves}/new")
    refused(result, f"--folder {waves}/new", "is a file")
    assert not Path("kept").exists()


@pytest.mark.parametrize("folder", [(), ("--folder", "new/deeper")])
def test_a_folder_without_permission_is_refused_before_a_cache_is_written(
    undertow, waves, folder, monkeypatch
):
    Path("kept").mkdir()
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name == "kept" and access(path, mode))
    result = undertow("train", waves, *FORECAST, "--cache", "kept", *folder)
    refused(result, f"--folder {folder[-1] if folder else 'runs'}: no permission to write into")
    assert not list(Path("kept").iterdir())


def test_divergence_is_said_and_what_was_saved_stays(undertow, waves, monkeypatch):
    def diverging(trainer, loop, steps):
        lost = [replace(step, loss=float("nan")) for step in steps]
        on_step(trainer, loop, steps if loop.step < 10 else lost)

    on_step = Trainer.on_step
    with monkeypatch.context() as changed:
        changed.setattr(Trainer, "on_step", diverging)
        result = undertow("train", waves, *FORECAST, "--epochs", 9, "--folder", "r")
    refused(result, "diverged", "step 10", "stays in r", "--lr")
    assert undertow("predict", "r", waves).code == 0
    result = undertow("train", waves, *FORECAST, "--lr", 1e5, "--batch-size", 8, "--folder", "early")
    refused(result, "diverged", "there is no model yet", "--lr")
    assert not Path("early").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "level", "--group", "level"), ("--group level", "--target names it")),
        (("--target", "level", "--time", "day", "--group", "day"), ("--time day", "--group names it")),
        (("--sequence", "id", "--label", "id"), ("--label id", "--sequence names it")),
        (("--sequence", "id", "--label", "way", "--time", "way"), ("--time way", "--label names it")),
    ],
)
def test_a_column_has_one_part(undertow, tmp_path, options, words):
    wave_table(40).write_csv(tmp_path / "waves.csv")
    refused(undertow("train", "waves.csv", *options), *words)


def test_what_is_read_is_never_replaced(undertow, waves, walks):
    undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r")
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "labels")
    Path("many").mkdir()
    Path("many/a.csv").write_bytes(waves.read_bytes())
    Path("net.safetensors").write_bytes(Path("labels/model.safetensors").read_bytes())
    before = snapshot(Path.cwd())
    lost = "is read, and would be lost"
    for output in (waves, Path("..") / Path.cwd().name / waves.name):
        refused(undertow("predict", "r", waves, "-o", output, "--overwrite"), f"--output {output}", lost)
    refused(undertow("predict", "r", "many", "-o", "many/a.csv", "--overwrite"), "--output many/a.csv", lost)
    refused(undertow("evaluate", "r", waves, "-o", waves, "--overwrite"), f"--output {waves}", lost)
    refused(undertow("evaluate", "r", "-o", "r/config.json", "--overwrite"), "--output r/config.json", lost)
    refused(
        undertow("evaluate", "r", "--picture", "r/curve.png", "--overwrite"), "--picture r/curve.png", lost
    )
    model = "labels/model.safetensors"
    refused(undertow("export", "labels", "--to", "safetensors", "-o", model, "--overwrite"), model, lost)
    assert snapshot(Path.cwd()) == before
    assert undertow("evaluate", "r", "-o", "r/scores.json").code == 0
    assert undertow("evaluate", "r", "-o", "r/scores.json", "--overwrite").code == 0


@pytest.mark.parametrize(
    "arguments", [("train", ""), ("train", "a.csv", "--folder", ""), ("predict", "r", ""), ("info", "")]
)
def test_an_empty_value_is_not_the_current_folder(undertow, arguments):
    refused(undertow(*arguments), "expected a value, got an empty one")


def test_a_source_is_given_once(undertow, text, waves):
    refused(undertow("train", text, text, *TEXT), f"{text}: given 2 times; expected once")
    refused(undertow("train", waves, f"../{Path.cwd().name}/{waves.name}", *FORECAST), "given 2 times")
    refused(undertow("train", "adding", waves), f"{waves}: has no meaning with the problem adding")
