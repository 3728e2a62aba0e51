"""docs/live.html reads what is typed as undertow.stream does, and shows it."""

import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from browser import chromium, opened
from undertow.networks import Dense, Embedding, Network, Recurrent
from undertow.stream import load

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "live.html"
TOOL = ROOT / "tools" / "live.py"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def said(page, words):
    """What the page says of a step, once it has these words: it is written with the next frame."""
    has = "words => document.querySelector('#reading').textContent.includes(words)"
    page.wait_for_function(has, arg=words)
    return page.locator("#reading").inner_text()


def guesses(page):
    """What stands beside the text: symbols and their probabilities."""
    rows = page.locator("#bars li").all_inner_texts()
    return {row.split("\n")[0]: row.split("\n")[-1] for row in rows}


def test_the_page_is_small_and_asks_for_nothing():
    text = PAGE.read_text("utf-8")
    assert len(text.encode()) <= 400_000
    assert "http" not in re.sub(r'"wasm": "[^"]+"', "", text)


def test_it_guesses_what_the_stream_guessed_when_it_was_made(browser):
    with opened(browser, PAGE) as page:
        found = page.evaluate("(readText(facts.sample), Array.from(guessesAfter(read.T)))")
        expected = page.evaluate("facts.guesses")
    assert len(found) == len(expected) > 20
    assert max(expected) > 2 / len(expected)  # it says something
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_what_is_typed_moves_guesses_gates_and_the_text(browser):
    with opened(browser, PAGE) as page:
        before = guesses(page), page.evaluate("read.T")
        picture = page.evaluate("strips[0].canvas.toDataURL()")
        page.locator("#text").press_sequentially("king q")
        page.wait_for_timeout(300)
        assert page.evaluate("read.T") == before[1] + 6
        assert guesses(page) != before[0]
        assert next(iter(guesses(page))) == "u"  # after q
        assert page.evaluate("strips[0].canvas.toDataURL()") != picture
        assert page.locator("#mirror").inner_text().startswith(page.locator("#text").input_value())
        ghost = page.evaluate("ghost")
        page.locator("#text").press("ArrowRight")
        word = page.locator("#text").input_value().split("king q")[1]
        assert word and ghost.startswith(word)
        page.locator("#text").press_sequentially("7")
        assert "7" in page.locator("#note").inner_text()
        page.locator("#bars button").first.click()
        assert (
            page.locator("#text").input_value().endswith(page.evaluate("symbols[read.symbols[read.T - 1]]"))
        )


def test_a_unit_is_followed_through_the_text_and_a_step_is_read(browser):
    with opened(browser, PAGE) as page:
        colours = "[...document.querySelectorAll('#mirror span')].map((s) => s.style.backgroundColor).join()"
        before = page.evaluate(colours)
        page.locator("figure[data-name=f] canvas").click(position={"x": 100, "y": 41})
        unit, t = page.evaluate("unit"), page.evaluate("step()")
        assert page.evaluate(colours) != before
        f = page.evaluate(f"read.f[{t} * H + {unit}]")
        assert f"f {f:.2f}" in said(page, f"Unit {unit + 1}:")
        assert page.locator("#unit").input_value() == str(unit)
        page.locator("#strips").press("ArrowDown")
        assert page.evaluate("order.indexOf(unit)") == 21
        page.locator("#strips").press("Escape")
        page.mouse.move(5, 5)
        assert page.evaluate("unit") is None
        assert page.evaluate(colours) == before


def test_it_writes_on_until_it_is_stopped(browser):
    with opened(browser, PAGE) as page:
        page.locator("#write").click()
        page.wait_for_timeout(1000)
        page.locator("#write").click()
        written = page.locator("#text").input_value()
        assert len(written) > len(page.evaluate("facts.opening"))
        page.wait_for_timeout(300)
        assert page.locator("#text").input_value() == written
        page.locator("#clear").click()
        assert page.locator("#text").input_value() == ""
        assert said(page, "Nothing") == "Nothing is read yet."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, scheme):
    with opened(browser, PAGE, scheme, width=390, height=844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_a_page_of_another_network_computes_its_every_step_as_the_stream(browser, tmp_path):
    if shutil.which("emcc") is None:
        pytest.skip("emcc is not installed")
    rng = np.random.default_rng(0)
    symbols, H = tuple("abc de\n<"), 13

    def draw(*shape):
        return rng.uniform(-1, 1, shape)

    layer = Recurrent("lstm", draw(4 * H, 5), draw(4 * H, H), draw(4 * H), h_0=draw(H), c_0=draw(H))
    stages = (Embedding(draw(8, 5)), layer, Dense(3 * draw(8, H), draw(8)))
    tool = runpy.run_path(str(TOOL))
    network = tool["rounded"](tool["with_softmax"](Network(stages, labels=symbols)))
    (tmp_path / "page.html").write_text(tool["page"](Network(stages, labels=symbols), "Drawn."), "utf-8")
    text = "abba <cab>\nabc"
    known = [symbols.index(c) for c in text if c in symbols]
    expected = load(network).process(np.float32(known)[:, None])
    with opened(browser, tmp_path / "page.html") as page:
        for typed in ("abba dab", "abba ca", text):  # goes back to where the text differs
            page.locator("#text").fill(typed)
        found = page.evaluate("Array.from(read.guesses.subarray(0, read.T * V))")
        assert page.evaluate("read.T") == len(known) == len(text) - 1
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=TOLERANCE)
