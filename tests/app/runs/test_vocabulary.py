"""The vocabulary that config.json keeps: its size, and what is refused as damaged."""

import pytest

from undertow.app.runs.vocabulary import as_bytes, letters, pairs, size


@pytest.mark.parametrize(
    ("kind", "vocabulary", "count"),
    [
        ("bytes", [], 256),
        ("characters", ["\n", "a", "é"], 3),
        ("words", ["<unk>", " the", "The"], 3),
        ("bpe", [], 256),
        ("bpe", ["Ġ t", "Ġt h", "h e", "t h", "Ġ th"], 260),  # the last makes " th" again
    ],
)
def test_size(kind, vocabulary, count):
    assert size(kind, vocabulary) == count


@pytest.mark.parametrize(
    ("kind", "vocabulary"),
    [
        ("bytes", ["a"]),
        ("characters", ["b", "a"]),
        ("characters", ["a", "a"]),
        ("characters", ["a", "bc"]),
        ("characters", [""]),
        ("words", []),
        ("words", ["the", "<unk>"]),
        ("words", ["<unk>", "a", "a"]),
        ("words", ["<unk>", ""]),
        ("bpe", ["ab"]),
        ("bpe", ["a b c"]),
        ("bpe", ["ab c"]),
        ("bpe", ["a b", "a b"]),
        ("bpe", ["€ b"]),
    ],
)
def test_a_damaged_vocabulary_is_refused(kind, vocabulary):
    with pytest.raises(ValueError):
        size(kind, vocabulary)


def test_letters_stand_for_the_bytes_as_in_huggingface_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    assert set(letters()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert len(set(letters())) == 256
    for byte in range(256):
        assert as_bytes(letters()[byte]) == bytes([byte])
    coded = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("né \0")
    assert b"".join(as_bytes(piece) for piece, _ in coded) == "né \0".encode()


def test_symbols_are_numbered_bytes_first_then_by_merge():
    assert pairs(["Ġ t", "h e"])[:2] == ["!", '"']
    assert pairs(["Ġ t", "h e", "Ġt he"])[256:] == ["Ġt", "he", "Ġthe"]
