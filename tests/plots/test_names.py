"""Names that people give are no formulas."""

import io

import numpy as np
import pytest

from undertow import flow, plots


@pytest.mark.parametrize("name", ["$a_{$", "cost in $ and $", "a$b"])
def test_dollars_in_a_name_are_dollars(name):
    figure, ax = plots.lyapunov({name: flow.Lyapunov(np.linspace(0, -1, 4)[None], 0)})
    figure.savefig(io.BytesIO(), format="svg")
    (label,) = [text for text in ax.texts if text.get_text() == name]
    assert not label.get_parse_math()
