"""Texts on disk: the same as in memory, wherever the pieces are cut; or refused."""

import pytest
import torch

from undertow.app.data.files import disk
from undertow.app.data.tasks import long_text
from undertow.app.data.tasks.text import TextTask
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

RHYME = "Grüße, döner & 東京!\r\nthe quick brown fox\n" * 40


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(long_text, "PIECE", 97)


def task(path, cache=None, **options):
    config = DataConfig(str(path), "text", 0.1, 16, **({"cache": cache} | options))
    return TextTask(config, 4, 0)


def check_equal(found, expected):
    assert found.train.mapped
    assert not expected.train.mapped
    for name, arguments in (("train_batches", (0,)), ("validation_batches", ())):
        both = zip(getattr(found, name)(*arguments), getattr(expected, name)(*arguments), strict=True)
        for one, other in both:
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.y, other.y)
            assert one.carried == other.carried
            assert (one.reset is None) == (other.reset is None)
            assert one.reset is None or torch.equal(one.reset, other.reset)
    assert found.facts.values == expected.facts.values
    assert [line for line in found.facts.lines if "on disk" not in line] == expected.facts.lines
    assert found.objective == expected.objective
    assert found.steps_per_epoch() == expected.steps_per_epoch()


@pytest.mark.parametrize("symbols", [None, "characters", "bytes"])
@pytest.mark.parametrize("files", [1, 3, 25])
def test_no_difference(tmp_path, symbols, files):
    folder = tmp_path / "texts"
    folder.mkdir()
    for k in range(files):
        (folder / f"{k:02}.txt").write_bytes((RHYME[k:] if k != 1 else RHYME[:50]).encode())
    check_equal(task(folder, str(tmp_path), symbols=symbols), task(folder, symbols=symbols))


def test_what_was_read_is_released(tmp_path, monkeypatch):
    monkeypatch.setattr("undertow.app.data.tasks.text.RELEASED_EVERY", 1)
    path = tmp_path / "a.txt"
    path.write_text(RHYME, encoding="utf-8")
    check_equal(task(path, str(tmp_path)), task(path))


def test_binary_content_is_read_as_bytes(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(1, 256)) * 20)
    check_equal(task(path, str(tmp_path), symbols="bytes"), task(path, symbols="bytes"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RHYME.encode("latin-1", "replace"), "not in UTF-8"),
        (RHYME.encode("utf-8-sig"), "byte order mark"),
        (RHYME.encode() + b"\xc3", "not in UTF-8"),
        (b"\x1f\x8b" + RHYME.encode(), "gzip file"),
    ],
)
def test_what_is_read_as_a_whole_is_refused(tmp_path, content, said):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.txt: a .*{said}.*is read into memory as a whole"):
        task(path, str(tmp_path))


def test_words_are_refused_and_so_are_too_many_characters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(map(chr, range(300, 1500))), encoding="utf-8")
    with pytest.raises(UserError, match="--cache: --symbols words reads all of the text into memory"):
        task(path, str(tmp_path), symbols="words")
    with pytest.raises(UserError, match="more than 1,000 different characters; --symbols bytes"):
        task(path, str(tmp_path))


def test_the_size_decides(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(RHYME, encoding="utf-8")
    expected = task(path)
    monkeypatch.setattr(disk, "memory", lambda: long_text.SPACE * path.stat().st_size - 1)
    check_equal(task(path), expected)
