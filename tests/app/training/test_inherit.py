"""`train --init-from`: what is taken from the other run, and what is refused."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from inputs import CLASSIFY, FORECAST, TEXT, walk_table, wave_table
from undertow.app.runs.folder import fingerprint, open_run

RUN = ("--epochs", 1, "--lr", 1e-6, "--folder")

HEAD = {"head.weight", "head.bias", "autoregression.weight"}  # of a forecast


def differ(one, other):
    """The tensors that two runs have in another shape, or in other values than so small a step explains."""
    mine, theirs = (open_run(Path(run)).load_model().state_dict() for run in (one, other))
    return {
        name
        for name in mine.keys() | theirs.keys()
        if name not in mine
        or name not in theirs
        or mine[name].shape != theirs[name].shape
        or not torch.allclose(mine[name], theirs[name], atol=1e-3)
    }


def test_a_text_goes_on_with_weights_and_alphabet(undertow, text):
    assert undertow("train", text, *TEXT, "--epochs", 12, "--lr", 0.02, "--folder", "old").code == 0
    Path("new.txt").write_text("the lazy dog jumps over the quick brown fox.\n" * 40)
    result = undertow(
        "train", "new.txt", "--init-from", "old", "--symbols", "characters", "--batch-size", 8, *RUN, "new"
    )
    assert result.code == 0, result.err
    assert "text: as old, whose weights it starts from" in result.out
    assert "weights of old: embedding and layers, and head" in result.out
    old, new = open_run(Path("old")), open_run(Path("new"))
    assert differ("old", "new") == set()
    assert new.facts == old.facts
    assert (new.model, new.data.steps) == (old.model, 16)
    weights = fingerprint(old.path("model.safetensors"))["sha256"]
    assert new.init_from == {"run": str(Path("old").resolve()), "sha256": weights}
    assert f"started from the weights of {Path('old').resolve()}" in undertow("info", "new").out
    alone = undertow("train", "new.txt", *TEXT, *RUN, "alone")
    assert alone.code == 0
    best = {run: open_run(Path(run)).read_metrics()[0]["validation"] for run in ("new", "alone")}
    assert best["new"] < best["alone"] - 1
    assert undertow("train", "--resume", "new", "--epochs", 2).code == 0
    assert undertow("generate", "new", "--prompt", "the", "--length", 3).code == 0


def test_characters_that_the_run_does_not_know_are_named(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "old")
    Path("new.txt").write_text("the Quick brown fox, the Quick dog.\n" * 40)
    refused = undertow("train", "new.txt", "--init-from", "old", "--batch-size", 8, *RUN, "new")
    assert refused.code == 2
    assert "new.txt: not in the text that the model learnt: 'Q' (" in refused.err
    assert "times, from position 5), ',' (" in refused.err
    assert not Path("new").exists()


@pytest.mark.parametrize("kind", ["words", "bpe", "bytes"])
def test_other_symbols_encode_any_text(undertow, text, kind):
    undertow("train", text, *TEXT, "--symbols", kind, "--epochs", 1, "--folder", "old")
    Path("new.txt").write_text("The Fox — über allem!\n" * 90, encoding="utf-8")
    result = undertow("train", "new.txt", "--init-from", "old", "--batch-size", 8, *RUN, "new")
    assert result.code == 0, result.err
    assert open_run(Path("new")).facts == open_run(Path("old")).facts
    if kind == "words":
        assert "% of those that validate are unknown" in result.out


def test_a_forecast_keeps_columns_and_normaliser(undertow, waves):
    assert undertow("train", waves, *FORECAST, "--epochs", 3, "--folder", "old").code == 0
    table = wave_table(90).with_columns(pl.col("level") * 100)
    table.with_columns(extra=pl.lit(1.5)).write_csv("new.csv")
    result = undertow("train", "new.csv", "--init-from", "old", *RUN, "new")
    assert result.code == 0, result.err
    assert "weights of old: layers, columns and normaliser, and head" in result.out
    assert differ("old", "new") == set()
    old, new = open_run(Path("old")), open_run(Path("new"))
    assert new.facts["columns"] == old.facts["columns"]
    assert undertow("train", "--resume", "new", "--epochs", 2).code == 0
    assert differ("old", "new") == set()
    longer = undertow("train", "new.csv", "--init-from", "old", "--horizon", 3, *RUN, "longer")
    assert "normaliser; the head is new, since the horizon is another" in longer.out
    assert differ("old", "longer") == HEAD
    assert undertow("predict", "longer", "new.csv").code == 0


def test_the_embedding_of_series_is_kept_with_a_new_head(undertow, waves):
    assert undertow("train", waves, *FORECAST, "--embed-group", "--epochs", 1, "--folder", "old").code == 0
    longer = undertow("train", waves, "--init-from", "old", "--horizon", 3, *RUN, "longer")
    assert "the head is new, since the horizon is another" in longer.out
    assert differ("old", "longer") == HEAD


def test_the_normaliser_is_what_the_training_uses(undertow, waves):
    """The first loss on the data of before is the last one of before."""
    undertow("train", waves, *FORECAST, "--epochs", 3, "--folder", "old")
    undertow("train", waves, "--init-from", "old", "--epochs", 1, "--lr", 1e-9, "--folder", "new")
    best = min(row["validation"] for row in open_run(Path("old")).read_metrics())
    assert open_run(Path("new")).read_metrics()[0]["validation"] == pytest.approx(best, rel=1e-4)


def test_columns_of_the_run_must_be_there(undertow, waves):
    undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "old")
    wave_table(90).drop("sky").write_csv("new.csv")
    refused = undertow("train", "new.csv", "--init-from", "old", *RUN, "new")
    assert refused.code == 2
    assert "new.csv" in refused.err
    assert "'sky'" in refused.err


def test_classes_decide_about_the_head(undertow, walks):
    assert undertow("train", walks, *CLASSIFY, "--epochs", 2, "--folder", "old").code == 0
    same = undertow("train", walks, "--init-from", "old", *RUN, "same")
    assert "and normaliser, and head" in same.out
    assert differ("old", "same") == set()
    table = walk_table(40)
    table.with_columns(way=pl.when(pl.col("id") == "w2").then(pl.lit("flat")).otherwise("way")).write_csv(
        "more.csv"
    )
    more = undertow("train", "more.csv", "--init-from", "old", *RUN, "more")
    assert more.code == 0, more.err
    assert "the head is new, since the set of classes is another" in more.out
    assert open_run(Path("more")).facts["classes"] == ["down", "flat", "up"]
    assert differ("old", "more") == {"head.weight", "head.bias"}
    assert undertow("train", "--resume", "more", "--epochs", 2).code == 0


@pytest.mark.parametrize("old", ["step", "sequence"])
@pytest.mark.parametrize("new", ["step", "sequence"])
def test_labels_of_steps_and_of_sequences_serve_each_other(undertow, walks, old, new):
    assert undertow("train", walks, *CLASSIFY, "--per", old, *RUN, "old").code == 0
    given = () if old == new else ("--per", new)
    result = undertow("train", walks, "--init-from", "old", *given, *RUN, "new")
    assert result.code == 0, result.err
    head = ", and head" if old == new else "; the head is new, since the --per is another"
    assert f"layers, columns and normaliser{head}" in result.out
    run = open_run(Path("new"))
    assert (run.data.per, run.model.readout) == (new, "every" if new == "step" else "mean-max")
    assert all(name.startswith("head.") for name in differ("old", "new"))
    assert bool(differ("old", "new")) is (old != new)


def test_a_problem_can_be_made_longer(undertow):
    options = ("--steps", 10, "--hidden-size", 8)
    assert undertow("train", "adding", *options, *RUN, "old").code == 0
    longer = undertow("train", "adding", "--steps", 20, "--init-from", "old", *RUN, "new")
    assert longer.code == 0, longer.err
    assert "weights of old: layers, and head" in longer.out  # there are no columns
    assert differ("old", "new") == set()
    other = undertow("train", "temporal-order", "--init-from", "old", *RUN, "other")
    assert other.code == 2
    assert "its network reads 2 features; these data have 8" in other.err


def test_of_an_ensemble_a_member_is_taken(undertow, walks):
    assert undertow("train", walks, *CLASSIFY, "--members", 2, *RUN, "old").code == 0
    refused = undertow("train", walks, "--init-from", "old", *RUN, "new")
    assert refused.code == 2 and not Path("new").exists()
    member = Path("old/members/1")
    assert f"--init-from old: an ensemble; start from a member, such as {member}" in refused.err
    assert undertow("train", walks, "--init-from", member, *RUN, "new").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hidden-size", 64], "--hidden-size 64: contradicts --init-from old, which has --hidden-size 32"),
        (["--cell", "rnn"], "--cell rnn: contradicts --init-from old, which has --cell lstm"),
        (["--symbols", "bpe"], "--symbols bpe: contradicts --init-from old, which has --symbols characters"),
        (
            ["--vocabulary", 500],
            "--vocabulary 500: contradicts --init-from old, which has none; leave it out",
        ),
        (["--task", "forecast"], "--task forecast: contradicts --init-from old, which has --task text"),
        (["--resume", "old"], "--resume old: takes no SOURCE"),
    ],
    ids=str,
)
def test_options_that_contradict_the_run_are_refused(undertow, text, options, said):
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "old")
    refused = undertow("train", text, "--init-from", "old", *options)
    assert refused.code == 2
    assert refused.err.startswith(f"undertow: {said}")


def test_no_run_and_damaged_weights_are_one_line(undertow, text):
    assert undertow("train", text, "--init-from", "nowhere").err == "undertow: nowhere: no such run folder\n"
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "old")
    Path("old/model.safetensors").write_bytes(b"x" * 99)
    refused = undertow("train", text, "--init-from", "old", *RUN, "new")
    assert refused.code == 2
    assert "model.safetensors: damaged" in refused.err
    assert not Path("new").exists()
    content = json.loads(Path("old/config.json").read_text())
    content["init_from"] = {"run": 5}
    Path("old/config.json").write_text(json.dumps(content))
    assert "damaged" in undertow("info", "old").err
