"""Output on the terminal: names and values printed verbatim, times, and curves drawn with blocks."""

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
    """Show a duration as ``00:59`` or ``1:00:00``.

    Args:
        seconds: The duration; a fraction of a second is dropped.

    Returns:
        Minutes and seconds, with hours from one hour on.
    """
    return str(timedelta(seconds=int(seconds)))[2 if seconds < 3600 else 0 :]


def sparkline(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """Draw values as a row of blocks.

    Args:
        values: The values; each becomes one character.
        low: The value of the lowest block. None: the smallest value.
        high: The value of the highest block. None: the largest value.

    Returns:
        The blocks; values outside of ``low`` to ``high`` get the nearest one.
    """
    low = min(values, default=0.0) if low is None else low
    high = max(values, default=0.0) if high is None else high
    span = (high - low) or 1.0
    heights = (min(1.0, max(0.0, (value - low) / span)) for value in values)
    return "".join(BLOCKS[round(height * (len(BLOCKS) - 1))] for height in heights)


class Terminal(Console):
    """rich's Console for names and values from data, which it prints verbatim.

    In strings there is no markup, highlighting or emoji code; ``marked`` makes a text with styles. Control
    characters never reach the terminal.

    Args:
        **options: Options of rich's Console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Console does; every segment of text passes here, and is made visible.

        Args:
            renderable: What is printed.
            options: The width and other properties of the output.

        Yields:
            Segments without control characters.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def marked(template: str, **data: object) -> Text:
    """Fill our own markup with data: ``marked("[bold]{path}[/]", path=path)``.

    Args:
        template: rich's markup, with fields as in ``str.format``.
        **data: The values of the fields; brackets in them are no markup.

    Returns:
        A text to print, or to put into a cell of a table.
    """
    safe = {name: escape(str(value)) for name, value in data.items()}
    return Text.from_markup(template.format(**safe), emoji=False)


def coloured(verdict: str) -> str:
    """Add the markup of a verdict on a baseline: green where it is beaten, red where it is better."""
    colour = {"beaten": "green", "not": "red"}.get(verdict.split()[0])
    return f"[{colour}]{verdict}[/]" if colour else verdict
