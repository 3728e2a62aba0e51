"""The terminal: names and values printed as they stand, times, and curves drawn with blocks."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from undertow.app.words import visible

BLOCKS = "▁▂▃▄▅▆▇█"
REFRESH = 0.2  # seconds between updates of a live line


def clock(seconds: float) -> str:
    """``00:59``, ``1:00:00``: a time without its fraction of a second."""
    return str(timedelta(seconds=int(seconds)))[2 if seconds < 3600 else 0 :]


def sparkline(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """Values as blocks from ``low`` to ``high``, by default the lowest and the highest of them."""
    low = min(values, default=0.0) if low is None else low
    high = max(values, default=0.0) if high is None else high
    span = (high - low) or 1.0
    heights = (min(1.0, max(0.0, (value - low) / span)) for value in values)
    return "".join(BLOCKS[round(height * (len(BLOCKS) - 1))] for height in heights)


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
