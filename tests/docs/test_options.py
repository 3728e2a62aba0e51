"""docs/options.md holds the table that the declarations make."""

from pathlib import Path

from undertow.app.runs import config
from undertow.app.runs.options import table

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_table_is_that_of_the_declarations():
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- options -->\n", "<!-- end of options -->"
    assert page[page.index(begin) + len(begin) : page.index(end)].strip() == table(config.options()).strip()
