"""The terminal: names and values are printed there as they stand."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from undertow.app.words import visible


class Terminal(Console):
    """rich's Console for names and values from data: it prints them as they stand.

    Strings have no markup, no highlighting and no emoji codes: ``marked`` makes a text with styles. Control
    characters reach no terminal, wherever they stand in what is printed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As of Console; every segment of text passes here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def marked(template: str, **data: object) -> Text:
    """Our own markup, with data in its fields: ``marked("[bold]{path}[/]", path=path)``.

    Args:
        template: rich's markup, with fields as of ``str.format``.
        **data: What stands in the fields, as it is: brackets in it are no markup.

    Returns:
        A text to print, or to put into a cell of a table.
    """
    safe = {name: escape(str(value)) for name, value in data.items()}
    return Text.from_markup(template.format(**safe), emoji=False)
