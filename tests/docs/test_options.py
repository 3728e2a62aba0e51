"""docs/options.md holds the table that the declarations make."""

import re
from pathlib import Path

from undertow.app.cli import load
from undertow.app.runs import config
from undertow.app.runs.options import table

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_table_is_that_of_the_declarations():
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- options -->\n", "<!-- end of options -->"
    assert page[page.index(begin) + len(begin) : page.index(end)].strip() == table(config.options()).strip()


def test_the_page_names_the_options_that_are_not_declared():
    """Those of the verb itself, which the table does not hold."""
    command = load("train")
    flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
    others = flags - {option.flag for option in config.options()}
    last = PAGE.read_text(encoding="utf-8").partition("<!-- end of options -->")[2]
    assert set(re.findall(r"`(--[a-z-]+)`", last)) == others - {"--help"}
