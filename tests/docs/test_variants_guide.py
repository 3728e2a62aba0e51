"""docs/variants.md names every option, and its examples do what they say."""

import runpy
from pathlib import Path

import pytest
import torch

import undertow
from undertow.nn.options import Options

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/variants.md").read_text(encoding="utf-8")


def test_the_guide_names_every_option():
    assert [name for name in Options._fields if f"`{name}" not in GUIDE] == []
    assert [name for name in Options._fields if name not in undertow.LSTM.__doc__] == []


def test_the_agent_learns_to_remember():
    assert runpy.run_path(str(ROOT / "examples/rollouts.py"))["main"](60) == 1.0


@pytest.mark.parametrize("options", [{}, {"weight_drop": 0.4}], ids=str)
def test_the_language_model_learns(options):
    example = runpy.run_path(str(ROOT / "examples/language_model.py"))
    text = torch.tensor([0, 1, 2, 1]).repeat(300)  # what follows 1 is known only to who remembers
    bits = example["train"](text[:1000], text[1000:], 5, **options)
    assert bits < 0.1  # half a bit for who does not
