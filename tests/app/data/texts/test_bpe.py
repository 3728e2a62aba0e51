"""Byte pair encoding: merges by frequency, kept as text, and one line where the package is missing."""

import sys
from pathlib import Path

import pytest

from inputs import TEXT
from undertow.app.data.texts.bpe import BytePairs
from undertow.app.runs.folder import open_run


def test_the_most_frequent_pair_is_merged_first():
    found = BytePairs.of(["aaab aab " * 5], 258)
    assert found.vocabulary == ["a a", "Ġ aa"]
    assert found.size == 258
    assert found.names[256] == "aa"


def test_few_merges_where_the_text_gives_no_more():
    assert BytePairs.of(["ab"], 1000).vocabulary == ["a b"]


def test_a_character_of_several_symbols_is_written_whole():
    found = BytePairs.of(["x"], 257)
    assert list(found.write(iter(found.encode("é").tolist()))) == ["", "é", ""]
    assert found.names[found.encode("é")[0]] == "\\xc3"


def test_the_vocabulary_is_that_of_the_training_part(undertow, text):
    beginning = "the quick brown fox jumps over the lazy dog.\n" * 72
    text.write_text(beginning + "zigzag " * 51)
    options = ("--validation", 0.0993, "--symbols", "bpe", "--vocabulary", 300)
    assert undertow("train", text, *TEXT, *options, "--epochs", 1, "--folder", "r").code == 0
    run = open_run(Path("r"))
    assert not any("z i" in merge or "zag" in merge for merge in run.facts["vocabulary"])
    assert run.model.symbols == run.model.outputs == len(BytePairs(run.facts["vocabulary"]).names) <= 300


def test_without_the_package_one_line_says_what_to_install(undertow, text, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    refused = undertow("train", text, *TEXT, "--symbols", "bpe")
    assert (refused.code, refused.err) == (
        2,
        "undertow: --symbols bpe: needs the package tokenizers: pip install 'undertow[bpe]'\n",
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize("n", [1, 256])
def test_a_vocabulary_holds_the_bytes(undertow, text, n):
    refused = undertow("train", text, "--symbols", "bpe", "--vocabulary", n)
    assert refused.code == 2
    assert refused.err.startswith(f"undertow: --vocabulary {n}: expected ")
