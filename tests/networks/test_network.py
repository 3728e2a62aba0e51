"""A Network refuses stages that do not fit, and keeps its arrays from being changed."""

import numpy as np
import pytest

from undertow.networks import Dense, Embedding, Network, Normalise, Pool, Recurrent, Unsupported


def lstm(C: int, H: int, **more: object) -> Recurrent:
    return Recurrent("lstm", np.ones((4 * H, C)), np.ones((4 * H, H)), np.ones(4 * H), **more)  # type: ignore[arg-type]


def test_sizes_are_those_of_the_ends() -> None:
    network = Network((Embedding(np.ones((7, 3))), lstm(3, 5), Dense(np.ones((2, 5)), np.zeros(2))))
    assert (network.input_size, network.output_size, network.symbols) == (1, 2, 7)
    assert [layer.hidden_size for layer in network.recurrent()] == [5]


def test_parameters_are_counted_without_states_of_zero() -> None:
    layers = (Normalise([0], [1]), lstm(1, 3), lstm(3, 3, c_0=[1, 0, 0]), Dense(np.ones((2, 3)), [0, 0]))
    assert Network(layers).count_parameters() == (12 + 36 + 12) + (36 + 36 + 12 + 3) + 8


def test_arrays_are_copies_that_cannot_change() -> None:
    weight = np.ones((2, 5))
    dense = Dense(weight, np.zeros(2))
    weight[:] = 9
    assert dense.weight.dtype == np.float32 and (dense.weight == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        dense.weight[0, 0] = 2


def test_states_are_zero_where_none_are_given() -> None:
    layer = lstm(1, 3)
    assert layer.h_0.tolist() == layer.c_0.tolist() == [0, 0, 0]
    assert lstm(1, 3, c_0=[1, 2, 3]).c_0.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Network(()), "stages: expected at least one"),
        (lambda: Network((lstm(1, 3), lstm(4, 3))), "expected stage 1 to read 3 values, got Recurrent of 4"),
        (lambda: Network((lstm(1, 3),), skip=2), "skip: expected between 0 and 1, got 2"),
        (lambda: Network((lstm(1, 3),), labels=("a",)), "labels: expected 3, got 1"),
        (lambda: lstm(1, 3, c_0=[1]), r"c_0: expected shape \[3\]"),
        (lambda: lstm(1, 3, gain_x=np.ones(12)), "gain_h: expected with"),
        (lambda: Recurrent("rnn", np.ones((3, 1)), np.ones((3, 3)), np.ones(3), coupled=True), "coupled"),
        (
            lambda: Recurrent("lstm", np.ones((6, 1)), np.ones((6, 1)), np.ones(6)),
            r"weight_ih: .*\[4\*H, C\]",
        ),
        (lambda: Pool("attention", 3), "query"),
        (lambda: Pool("ends", 3), "expected an even number"),
        (lambda: Normalise([0, 1], [1]), "scale"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def test_an_activation_that_no_stage_has_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="elu"):
        Dense(np.ones((2, 5)), np.zeros(2), "elu")  # type: ignore[arg-type]
