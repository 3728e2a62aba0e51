"""Each file is a document; which ones, or which part of each, validate."""

import pytest

from undertow.app.data.texts.documents import MANY, read_documents, split
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig


def test_each_file_is_a_document_in_the_order_given(tmp_path):
    for name in ("b", "a", "c/d"):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    assert read_documents(tmp_path, False).texts == ["a", "b", "c/d"]
    first = str(tmp_path / "b.txt")
    config = DataConfig(first, "text", 0.1, 4, further=(str(tmp_path / "c"), str(tmp_path / "a.txt")))
    assert read_documents(tmp_path / "b.txt", False, config).texts == ["b", "c/d", "a"]
    assert read_documents(tmp_path / "b.txt", True, config).raws == [b"b", b"c/d", b"a"]


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(UserError, match=r"b\.txt: the file is empty"):
        read_documents(tmp_path, False)


def test_of_few_documents_the_end_of_each_validates():
    assert split([100], 0.1, 0) == [90]
    assert split([100, 50, 7], 0.1, 0) == [90, 45, 7]


def test_of_many_documents_whole_ones_validate_and_make_up_the_fraction():
    lengths = [10 + k % 7 for k in range(5 * MANY)]
    places = split(lengths, 0.2, 0)
    held_back = [length for length, place in zip(lengths, places, strict=True) if place == 0]
    assert all(place in (0, length) for length, place in zip(lengths, places, strict=True))
    assert 0.15 * sum(lengths) < sum(held_back) <= 0.2 * sum(lengths)
    assert split(lengths, 0.2, 0) == places != split(lengths, 0.2, 1)


def test_one_document_that_outweighs_the_others_is_never_held_back_whole():
    lengths = [1000] + [1] * MANY
    assert split(lengths, 0.1, 0)[0] == 900
    assert split([1000] + [10] * MANY, 0.1, 0)[0] == 1000
