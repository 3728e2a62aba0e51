"""Whether labels are classes or quantities."""

from pathlib import Path

import polars as pl
import pytest

from inputs import CLASSIFY
from undertow.app.runs.folder import open_run

TRAIN = (*CLASSIFY, "--epochs", 1, "--folder", "r")


def table(labels, path="a.csv", separator=","):
    rows = [(k, step, step * k % 7, labels[k % len(labels)]) for k in range(90) for step in range(3)]
    pl.DataFrame(rows, schema=["id", "step", "x", "way"], orient="row").write_csv(path, separator=separator)
    return path


@pytest.mark.parametrize(
    ("labels", "asked", "task", "said"),
    [
        (range(3), None, "classify", "way holds 3 different whole numbers: classes are learnt"),
        ([1.0, 2.0], None, "classify", "2 different whole numbers: classes are learnt; --task regress"),
        ([0.5, 1.5], None, "regress", "2 different numbers with fractions: a number is learnt"),
        ([0.5, 1.5], "classify", "classify", "2 classes: 0.5, 1.5"),
        (range(30), None, "regress", "30 different whole numbers: a number is learnt; --task classify"),
        (range(30), "classify", "classify", "30 classes"),
        (range(3), "regress", "regress", "way of each sequence: 0 to 2, mean 1"),
        (["0,5", "1,5"], None, "regress", "decimal comma in way"),
        (["$1,020.5", "$2,000.5"], None, "regress", "way of each sequence: 1020 to 2000"),
        (["01", "02", "003"], None, "classify", "3 classes: 003, 01, 02"),
        (["1.5", "2.5", "low"], None, "classify", "3 classes: 1.5, 2.5, low"),
    ],
)
def test_the_labels_decide_about_the_task(undertow, labels, asked, task, said):
    path = table(labels)
    result = undertow("train", path, *TRAIN, *(("--task", asked) if asked else ()))
    assert result.code == 0, result.err
    assert result.out.startswith(f"{task}: ")
    assert said in result.out
    data = open_run(Path("r")).data
    assert (data.task, data.infer) == (task, False)


def test_a_word_among_quantities_is_refused(undertow):
    path = table(["1.5", "2.5", "low"])
    result = undertow("train", path, *TRAIN, "--task", "regress")
    assert result.code == 2
    assert "column 'way', row 7: expected a number, got 'low'" in result.err


def test_numbers_with_two_readings_are_refused(undertow):
    path = table(["1,020", "2,345", "3,020"], separator=";")
    result = undertow("train", path, *TRAIN)
    assert result.code == 2
    assert "'1,020' may have a decimal comma or one for thousands; --decimal" in result.err


def steps(labels, path="a.csv"):
    """Twelve sequences of four steps, which have these labels."""
    rows = [(k, step, step * k % 7, labels[step]) for k in range(12) for step in range(4)]
    pl.DataFrame(rows, schema=["id", "step", "x", "way"], orient="row").write_csv(path)
    return path


@pytest.mark.parametrize(
    ("labels", "options", "per", "said"),
    [
        ("aabb", (), "step", "way changes within a sequence: it is learnt at every step"),
        ([1.5, 2.5, 2.5, None], (), "step", "way at every step: 1.5 to 2.5"),
        (["a", None, "b", None], (), "step", "24 rows without a label: not scored"),
        ([1.5, 2.5, 3.5, 4.5], ("--per", "step"), "step", "way at every step"),
    ],
)
def test_the_labels_decide_what_they_belong_to(undertow, labels, options, per, said):
    result = undertow("train", steps(labels), *TRAIN, *options)
    assert result.code == 0, result.err
    assert said in result.out
    run = open_run(Path("r"))
    assert (run.data.per, run.model.readout) == (per, "every")


def test_labels_that_do_not_change_are_learnt_at_every_step_where_asked(undertow):
    result = undertow("train", table(["up", "down"]), *TRAIN, "--per", "step")
    assert result.code == 0, result.err
    assert open_run(Path("r")).model.readout == "every"


def test_a_label_in_one_row_is_that_of_its_sequence(undertow):
    rows = [
        (k, step, step * k % 7, "ab"[k % 2] if step == 2 else None) for k in range(12) for step in range(3)
    ]
    pl.DataFrame(rows, schema=["id", "step", "x", "way"], orient="row").write_csv("a.csv")
    assert undertow("train", "a.csv", *TRAIN).code == 0
    assert open_run(Path("r")).data.per == "sequence"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("uvuu", "sequence '0' has 2 different labels in 'way'; expected one, or --per step"),
        ([None] * 4, "column 'way' is empty"),
    ],
)
def test_labels_that_do_not_fit_are_refused(undertow, labels, said):
    result = undertow("train", steps(labels), *TRAIN, "--per", "sequence")
    assert result.code == 2
    assert said in result.err


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["u,u", "v,v"], "2 sequences, none of which can validate: expected 2 or more of one class"),
        (["u,v"], "1 sequence, none of which can validate: expected 2 or more"),
        (["0.5,1.5"], "1 sequence, none of which can validate: expected 2 or more"),
    ],
)
def test_a_table_whose_sequences_must_all_train_is_refused(undertow, labels, said):
    rows = [
        f"{k},{k + step},{way}\n" for k, ways in enumerate(labels) for step, way in enumerate(ways.split(","))
    ]
    Path("a.csv").write_text("".join(["id,x,way\n", *rows]))
    result = undertow("train", "a.csv", *TRAIN)
    assert result.code == 2
    assert result.err.strip().endswith(said)


def test_predict_names_no_option_of_train(undertow):
    assert undertow("train", table(["u", "v"]), *TRAIN).code == 0
    result = undertow("predict", "r", steps("uvuu"))
    assert result.code == 2
    assert result.err.strip().endswith("different labels in 'way'; expected one, as in the training")


def test_a_sequence_without_a_label_is_refused(undertow):
    pl.DataFrame({"id": ["a", "b", "c"], "x": [1, 2, 3], "way": ["u", None, "v"]}).write_csv("a.csv")
    result = undertow("train", "a.csv", *TRAIN)
    assert result.code == 2
    assert "column 'way', row 2: sequence 'b' has no label" in result.err
