"""One palette: legible on its grounds, and no colour of its own in any other module."""

import re
from pathlib import Path

import pytest

import undertow
from undertow import palette

WHITE, DARK_PAPER = "#FFFFFF", "#11171D"
STAND_INS = {"#010101", "#888888"}  # which the pages replace by colours of the theme


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [palette.LSTM, palette.RNN])
def test_both_networks_stand_out_on_light_and_dark(colour):
    assert contrast(colour, WHITE) > 3
    assert contrast(palette.DARK[colour], DARK_PAPER) > 4.5


def test_every_colour_has_one_for_dark_grounds():
    assert {*palette.LINES, *palette.GATES.values(), palette.GREY, palette.PALE} == set(palette.DARK)
    assert all(contrast(palette.DARK[colour], DARK_PAPER) > 4.5 for colour in palette.LINES)


def test_css_variables():
    light, dark = palette.css_variables("n"), palette.css_variables("n", dark=True)
    assert light.startswith("--n0: #0072B2; --n1: #D55E00;") and light.count("--n") == len(palette.LINES)
    assert f"--n1: {palette.DARK[palette.RNN]};" in dark


def test_no_other_module_has_colours_of_its_own():
    package = Path(undertow.__file__).parent
    for path in set(package.rglob("*.py")) - {package / "palette.py"}:
        found = set(re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text(encoding="utf-8")))
        assert found <= STAND_INS, path
