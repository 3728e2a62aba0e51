"""``of``: a tape of some of the sequences keeps all else."""

from dataclasses import fields

import numpy as np
import pytest

from undertow import equations
from undertow.equations import variants
from undertow.tape import RNNTape, Tape

T, N, C, H = 4, 5, 2, 3
CHOSEN = np.array([3, 0])


def made(kind, lengths, reverse, equations_of=equations, **options):
    rng = np.random.default_rng(0)
    G, states = (4, 2) if kind == "lstm" else (1, 1)
    arrays = rng.normal(size=(T, N, C)), *rng.normal(size=(states, N, H))
    weights = rng.normal(size=(G * H, C)), rng.normal(size=(G * H, H))
    layer = getattr(equations_of, kind)
    return layer(*arrays, *weights, lengths=lengths, reverse=reverse, **options)[1]


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
@pytest.mark.parametrize("lengths", [None, [4, 0, 1, 2, 3]], ids=["full", "ragged"])
@pytest.mark.parametrize("reverse", [False, True])
def test_some_sequences_of_a_tape(kind, lengths, reverse):
    tape = made(kind, lengths, reverse)
    found = tape.of(CHOSEN)
    assert type(found) is type(tape)
    assert found.reverse == tape.reverse
    for field in fields(tape):
        array = getattr(tape, field.name)
        if isinstance(array, np.ndarray):
            expected = array[CHOSEN] if field.name == "lengths" else array[:, CHOSEN]
            np.testing.assert_array_equal(getattr(found, field.name), expected)
    assert (found.lengths is None) == (lengths is None)


@pytest.mark.parametrize(("kind", "kept"), [("lstm", Tape), ("rnn", RNNTape)])
def test_what_was_added_to_the_equations_is_still_named(kind, kept):
    mask = np.ones((T, N), bool)
    tape = made(kind, None, False, variants, variant=variants.Variant(mask=mask))
    assert tape.added == ("mask",)
    found = tape.of(CHOSEN)
    assert type(found) is kept  # without the variant's arrays, which are of all sequences
    assert found.added == ("mask",)
