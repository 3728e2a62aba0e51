"""Classification of sequences whose lengths differ."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from inputs import CLASSIFY, walk_table
from undertow.app.data.tasks.sequences import SequenceTask, pad, read_sequences
from undertow.app.runs.config import DataConfig, ModelConfig
from undertow.app.runs.folder import open_run
from undertow.app.runs.model import SequenceModel


def data_config(path, **options):
    values = {"source": str(path), "task": "classify", "validation": 0.25, "steps": 0}
    return DataConfig(**values | {"sequence": "id", "label": "way"} | options)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_padding_changes_no_answer(cell):
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(cell, 5, 2, 0.0, 3, "last", inputs=2)).eval()
    sequences = [torch.randn(length, 2) for length in (3, 7, 1, 5)]
    x, lengths = pad(sequences)
    together = model(x, lengths=lengths)[0]
    alone = torch.cat([model(sequence[:, None])[0] for sequence in sequences])
    torch.testing.assert_close(together, alone)


def test_noise_is_for_training_alone():
    model = SequenceModel(ModelConfig("lstm", 5, 1, 0.0, 3, "last", inputs=2, noise=0.5))
    x = torch.randn(4, 2, 2)
    assert not torch.equal(model(x)[0], model(x)[0])
    assert torch.equal(model.eval()(x)[0], model(x)[0])


def test_sequences_keep_the_files_order_and_their_own_steps(tmp_path):
    path = tmp_path / "mixed.csv"
    table = walk_table(6)
    mixed = pl.concat([table.filter(pl.col("step") % 2 == k).reverse() for k in (0, 1)])
    mixed.write_csv(path)
    data = read_sequences(path, data_config(path))
    assert data.names == mixed["id"].unique(maintain_order=True).to_list()
    assert data.time == "step"
    assert dict(zip(data.names, data.labels, strict=True)) == dict(table.select("id", "way").unique().rows())
    for name, length in zip(data.names, data.lengths, strict=True):
        assert length == len(table.filter(pl.col("id") == name))
    rows = data.table.filter(pl.col("id") == "w0")
    assert rows["x"].to_list() == table.filter(pl.col("id") == "w0")["x"].to_list()


def test_order_column_label_and_name_are_no_features(walks):
    task = SequenceTask(data_config(walks), 8, 0)
    assert task.facts.values["columns"]["numeric"] == ["x"]
    assert task.facts.values["classes"] == ["down", "up"]


def test_normaliser_sees_training_sequences_alone(walks):
    task = SequenceTask(data_config(walks), 8, 0)
    rows = torch.cat([task.x[k] for k in task.train.tolist()])
    assert np.median(rows.numpy()) == pytest.approx(0, abs=1e-5)  # the centre
    assert np.quantile(np.abs(rows.numpy()), 0.25) == pytest.approx(
        np.arcsinh(1), rel=1e-4
    )  # a quarter in one scale


def test_trains_and_labels(undertow, walks):
    result = undertow("train", walks, *CLASSIFY, "--epochs", 12, "--lr", 0.02, "--folder", "r")
    assert result.code == 0, result.err
    assert "classify: a table with --sequence and --label" in result.out
    assert "2 classes: down, up" in result.out
    walk_table(30, seed=5).write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv")
    assert "100.0% right: 30 of 30 sequences" in said.out
    table = pl.read_csv("out.csv")
    assert table.columns == ["id", "prediction", "probability", "truth"]
    assert (table["prediction"] == table["truth"]).all()
    assert table["probability"].min() > 0.5
    assert open_run(Path("r")).read_metrics()[-1]["validation"] == 1.0


def test_labels_a_table_that_has_none(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    walk_table(3).drop("way").write_csv("new.csv")
    said = undertow("predict", "r", "new.csv", "-o", "out.csv")
    assert "the labels cannot be compared with the truth" in said.out
    assert pl.read_csv("out.csv").columns == ["id", "prediction", "probability"]


def test_new_order_of_sequences_changes_no_answer(undertow, walks):
    undertow("train", walks, *CLASSIFY, "--epochs", 1, "--folder", "r")
    table = walk_table(8)
    table.write_csv("a.csv")
    table.sort("id", "step", descending=[True, False]).write_csv("b.csv")
    for name in "ab":
        undertow("predict", "r", f"{name}.csv", "-o", f"out-{name}.csv")
    first, second = (pl.read_csv(f"out-{name}.csv").sort("id") for name in "ab")
    assert first["prediction"].equals(second["prediction"])
    assert first["probability"].to_list() == pytest.approx(second["probability"].to_list(), rel=1e-5)
