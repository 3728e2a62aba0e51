"""``undertow bench``: a table from validated timings, and refusal to time what differs."""

import json

import pytest
import torch

from undertow.app import speed

SMALL = speed.Shape(2, 3, 4, 5)


def test_times_every_shape_and_writes_the_figures(undertow, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "QUICK", [SMALL])
    result = undertow("bench", "--repeats", 2, "--threads", "1,2", "--output", "out.json")
    assert result.code == 0
    assert "2,3,4,5" in result.out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["threads"], row["training"]) for row in rows] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]
    assert all(row["seconds"][1] > 0 and row["gflops"][0] > 0 for row in rows)


def test_wrong_results_are_not_timed(undertow, monkeypatch):
    def modules(shape):
        return torch.nn.LSTM(shape.C, shape.H), torch.nn.LSTM(shape.C, shape.H)  # other weights

    monkeypatch.setattr(speed, "QUICK", [SMALL])
    monkeypatch.setattr(speed, "modules", modules)
    result = undertow("bench", "--repeats", 2)
    assert result.code == 2
    assert "2,3,4,5" in result.err
    assert "not timed" in result.err


def test_flops_counts_layers_and_directions():
    assert speed.Shape(2, 3, 4, 5).flops == 2 * 3 * 2 * 20 * 9
    deep = speed.Shape(2, 3, 4, 5, num_layers=2, bidirectional=True)
    assert deep.flops == 2 * (2 * 3 * 2 * 20 * 9) + 2 * (2 * 3 * 2 * 20 * 15)


@pytest.mark.parametrize("threads", ["0", "two", "1,-1"])
def test_bad_thread_counts(undertow, threads):
    result = undertow("bench", "--threads", threads)
    assert result.code == 2
    assert "--threads" in result.err


def test_output_into_no_folder(undertow):
    result = undertow("bench", "--output", "nowhere/out.json")
    assert result.code == 2
    assert "--output" in result.err
