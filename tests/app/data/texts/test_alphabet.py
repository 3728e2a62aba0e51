"""Each kind of symbols: what is encoded comes back, and what cannot be encoded is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.app.data.tasks.text import alphabet_of
from undertow.app.data.texts.alphabet import WORD, Bytes, Characters, Words
from undertow.app.data.texts.bpe import BytePairs
from undertow.app.errors import UserError

TEXT = "The old man's dog, the old cat — 3.5 km away.\n\tNaïve «Zoë»  said:  it's a dog's life!\r\n\n" * 3
ANY = st.text(st.characters(codec="utf-8"), max_size=60)
PAIRS = BytePairs.of([TEXT], 300)
KINDS = [Characters.of(TEXT), Bytes([]), Bytes([], "utf-16-le"), Words.of([TEXT], 1000), PAIRS]


def back(alphabet, text):
    return "".join(alphabet.write(iter(alphabet.encode(text).tolist())))


@pytest.mark.parametrize("alphabet", KINDS, ids=lambda each: each.kind)
def test_a_text_comes_back(alphabet):
    assert back(alphabet, TEXT) == TEXT
    assert back(alphabet, "") == ""
    numbers = alphabet.encode(TEXT)
    assert numbers.dtype == np.int64
    assert numbers.min() >= 0
    assert numbers.max() < alphabet.size == len(alphabet.names)


@pytest.mark.parametrize("alphabet", KINDS, ids=lambda each: each.kind)
def test_an_alphabet_is_kept_and_read_again(alphabet):
    again = alphabet_of(alphabet.facts())
    assert again == alphabet
    assert again.encode(TEXT).tolist() == alphabet.encode(TEXT).tolist()


@given(ANY)
def test_bytes_and_pairs_of_bytes_encode_any_text(text):
    for alphabet in (Bytes([]), PAIRS):
        assert back(alphabet, text) == text


@given(ANY)
def test_words_are_the_whole_text(text):
    words = WORD.findall(text)
    assert "".join(words) == text
    assert back(Words(["<unk>", *dict.fromkeys(words)]), text) == text


def test_words_are_those_that_occur_twice_most_frequent_first():
    words = Words.of(["a b a c", " c\n a a <unk>"], 1000)
    assert words.vocabulary == ["<unk>", " a", " c"]  # the first a has no space before it
    assert Words.of([TEXT], 3).size == 3
    assert words.encode(" a b a").tolist() == [1, 0, 1]
    assert words.unknown(" a b a\n") == [" b", "\n"]
    assert words.unwritten == [0]
    assert Words(["<unk>", "<", "unk", ">"]).encode("<unk>").tolist() == [1, 2, 3]


def test_unknown_characters_are_named_with_their_number():
    with pytest.raises(UserError) as error:
        Characters.of("abc").encode("abxcyx", "new.txt")
    assert str(error.value) == (
        "new.txt: not in the text that the model learnt: "
        "'x' (2 times, from position 3), 'y' (1 time, from position 5)"
    )
    with pytest.raises(UserError, match="'z'"):  # beyond the last character
        Characters.of("abc").encode("z")


@pytest.mark.parametrize("alphabet", [Bytes([]), PAIRS], ids=lambda each: each.kind)
def test_halves_of_characters_are_refused(alphabet):
    with pytest.raises(UserError, match=r"--prompt: expected Unicode text, got 'n\\udce9'"):
        alphabet.encode("n\udce9")


def test_bytes_that_form_no_character_are_replaced():
    assert "".join(Bytes([]).write(iter(b"n\xc3\xa9\xff.\xc3"))) == "né\ufffd.\ufffd"
