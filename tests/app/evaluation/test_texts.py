"""Evaluated texts: bits by hand, and what the training itself measured."""

from math import log2
from pathlib import Path

import numpy as np
import pytest

from undertow.app.data.texts.streams import Stream
from undertow.app.evaluation.evaluate import evaluate
from undertow.app.evaluation.texts import PSEUDO, after_another, alone
from undertow.app.runs.folder import open_run

OPTIONS = ("--steps", 16, "--batch-size", 4, "--hidden-size", 8, "--num-layers", 1, "--epochs", 2, "-q")
RHYME = "the wave that came went out again\n" * 60


@pytest.fixture
def rhyme(tmp_path):
    Path("rhyme.txt").write_text(RHYME)
    return "rhyme.txt"


def test_frequencies_by_hand():
    train = Stream(np.array([0, 1, 0, 1, 0, 0, 2]), np.array([1, 0, 0, 0, 0, 1, 0], bool))
    assert alone(train, 3).tolist() == pytest.approx([-log2(5 / 10), -log2(3 / 10), -log2(2 / 10)])
    # after 0 in one document: 1, 1 and in the other 2; the pair 0, 0 crosses from one to the other
    found = after_another(train, 3, np.array([0, 0, 0, 2]), np.array([1, 2, 0, 1]))
    shares = [
        (n + PSEUDO * p) / (total + PSEUDO)
        for n, p, total in ((2, 0.3, 3), (1, 0.2, 3), (0, 0.5, 3), (0, 0.3, 0))
    ]
    assert found.tolist() == pytest.approx([-log2(share) for share in shares])


@pytest.mark.parametrize("symbols", ["characters", "bytes", "words"])
def test_the_part_held_back_scores_as_in_the_training(undertow, rhyme, symbols):
    assert undertow("train", rhyme, *OPTIONS, "--symbols", symbols, "--folder", "r").code == 0
    run = open_run(Path("r"))
    mine, alone_, pair = evaluate(run, None).of("all")
    metric = "bits_char"
    best = min(run.read_metrics(), key=lambda row: row["validation_loss"])
    assert mine[metric] == pytest.approx(best["validation"], rel=1e-4)
    assert (mine["by"], alone_["by"], pair["by"]) == ("LSTM", "symbol frequencies", "pair frequencies")
    assert pair[metric] < alone_[metric]
    assert alone_["skill"] == pytest.approx(1 - mine[metric] / alone_[metric])


def test_another_text_and_the_training_text_gone(undertow, rhyme):
    undertow("train", rhyme, *OPTIONS, "--folder", "r")
    Path("other.txt").write_text("again came the wave\n")
    said = undertow("evaluate", "r", "other.txt", "-o", "m.csv")
    assert said.code == 0, said.err
    assert "20 characters" not in said.out  # the first symbol is no target
    assert "pair frequencies" in Path("m.csv").read_text()
    Path(rhyme).unlink()
    said = undertow("evaluate", "r", "other.txt")
    assert "no baselines: rhyme.txt, whose symbols they count, is gone or has changed" in said.out
    assert "perplexity" in said.out


def test_refusals(undertow, rhyme):
    undertow("train", rhyme, *OPTIONS, "--folder", "r")
    Path("x.txt").write_text("xylophone")
    assert undertow("evaluate", "r", "x.txt").err.startswith(
        "undertow: x.txt: not in the text that the model"
    )
    Path("t.txt").write_text("t")
    assert undertow("evaluate", "r", "t.txt").err == "undertow: t.txt: expected 2 symbols or more, got 1\n"
    assert undertow("evaluate", "r", "--backtest", 3).code == 2
