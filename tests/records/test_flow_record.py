"""The names of layers in records."""

import pytest

from undertow.records.flow_record import layer_name


@pytest.mark.parametrize(
    ("module", "layer", "reverse", "name"),
    [
        ("lstm", 0, False, "lstm.l0"),
        ("encoder.rnn", 1, True, "encoder.rnn.l1_reverse"),
        ("", 0, False, "l0"),
        (None, 2, True, "l2_reverse"),  # as polars reads the empty string of a CSV file
    ],
)
def test_a_layer_is_named_as_torch_names_its_parameters(module, layer, reverse, name):
    assert layer_name(module, layer, reverse) == name
