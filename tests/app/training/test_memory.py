"""A training that does not fit into memory is refused before it begins."""

import os
from pathlib import Path

import pytest

from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, ModelConfig
from undertow.app.training import memory

TEXT = DataConfig("book.txt", "text", 0.1, 100)
ADDING = DataConfig("adding", "problem", 0.0, 1000)  # two numbers a step
SMALL = ModelConfig("lstm", 64, 2, 0.0, 10, "every", symbols=10, width=8)


@pytest.fixture
def room(monkeypatch):
    """``room(count)`` sets the bytes of memory there are."""
    return lambda count: monkeypatch.setattr(memory, "available", lambda: count)


def test_the_weights_their_gradients_and_moments_must_fit(room):
    weights = 10 * 8 + 256 * (8 + 64 + 2) + 256 * (64 + 64 + 2) + 10 * 64 + 10
    needed = 4 * 4 * weights
    few = DataConfig("book.txt", "text", 0.1, 1)
    room(needed)
    memory.check_model(few, SMALL, 1)
    room(needed - 1)
    with pytest.raises(UserError, match=rf"--hidden-size 64 and --num-layers 2: a network of {weights:,} "):
        memory.check_model(few, SMALL, 1)


def test_what_a_batch_keeps_must_fit(room):
    needed = 4 * 32 * 100 * 2 * 6 * 64
    room(needed)
    memory.check_model(TEXT, SMALL, 32)
    room(needed - 1)
    with pytest.raises(
        UserError, match=r"--batch-size 32, --steps 100, .* keeps of a batch needs about 0\.0"
    ):
        memory.check_model(TEXT, SMALL, 32)
    memory.check_model(DataConfig("walks.csv", "classify", 0.2, 100), SMALL, 32)  # may have shorter ones


@pytest.mark.parametrize(("batch_size", "drawn"), [(1, 250), (300, 300)])
def test_the_sequences_of_a_problem_must_fit(room, batch_size, drawn):
    needed = 8 * drawn * 1000 * 2
    room(needed)
    memory.check_problem(ADDING, batch_size)
    room(needed - 1)
    with pytest.raises(UserError, match=f"--steps 1000 and --batch-size {batch_size}: a batch of sequences"):
        memory.check_problem(ADDING, batch_size)


def test_the_message_says_how_much_there_is(room):
    room(3 * 2**30 // 2)
    with pytest.raises(UserError, match=r"needs about 2\.0 GiB, and this machine has 1\.5 GiB of memory"):
        memory.refuse(2**31, "--hidden-size 9", "a network")


def test_this_machines_memory(monkeypatch):
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(Path, "read_text", lambda path: "max\n")
    assert memory.available() == 4096 * 1000
    monkeypatch.setattr(Path, "read_text", lambda path: "1000\n")
    assert memory.available() == 1000  # of a container
    monkeypatch.setattr(os, "sysconf", lambda name: int("unknown"))
    assert memory.available() == 2**63
