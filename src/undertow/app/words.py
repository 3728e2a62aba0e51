"""Names, values and counts as printed. Nothing that the data hold is obeyed by the terminal."""

import math
import re

# Control characters (C0 but for newline and tab, DEL, C1), line and paragraph separators, marks that turn the
# direction of what follows, halves of characters: a terminal obeys them or cannot print them.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CELL = 40  # characters of a cell of a table


def visible(text: object) -> str:
    """Text that a terminal shows and does not obey; lines and tabs stay.

    Args:
        text: Anything; ``str`` of it is taken.

    Returns:
        The text with a picture in place of each control character (␛ for escape, ␡ for delete), and � in
        place of each other character that a terminal would obey or could not print.
    """
    return HARMFUL.sub(_picture, str(text))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


def line(text: object) -> str:
    """Make text ``visible`` on one line.

    Args:
        text: Anything; ``str`` of it is taken.

    Returns:
        The text with ↵ in place of each newline and a space in place of each tab.
    """
    return visible(text).replace("\n", "↵").replace("\t", " ")


def cell(text: object, most: int = CELL) -> str:
    """Cut a ``line`` to the width of a table's cell.

    Args:
        text: Anything; ``str`` of it is taken.
        most: The most characters; the last one is an ellipsis if the text was cut.

    Returns:
        The text on one line.
    """
    whole = line(text)
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def counted(n: float, thing: str, several: str = "") -> str:
    """Say a number with what it counts: ``1 step``, ``1,000 steps``, ``0.5 minutes``.

    Args:
        n: The number.
        thing: The noun in the singular.
        several: The noun in the plural. (default: with an s)

    Returns:
        The number and the noun.
    """
    number = f"{n:,}" if isinstance(n, int) else f"{n:g}"
    return f"{number} {thing if n == 1 else several or thing + 's'}"


def all_of(n: int, thing: str, part: int | None = None, which: str = "last") -> str:
    """Say all things of a kind, or how many of them: ``the row``, ``the 3 rows``, ``the last 2 of 3 rows``.

    Args:
        n: How many there are.
        thing: The noun in the singular, one whose plural takes an s.
        part: How many are meant, if not all.
        which: Where these stand, such as last.

    Returns:
        The words.
    """
    if part is None or part == n:
        return f"the {thing}" if n == 1 else f"the {counted(n, thing)}"
    return f"the {which}{f' {part:,}' * (part > 1)} of {counted(n, thing)}"


def literal(text: object, most: int = CELL) -> str:
    """Make a ``cell`` for a label in a picture, where matplotlib reads text between two dollars as a formula.

    Args:
        text: Anything; ``str`` of it is taken.
        most: The most characters.

    Returns:
        The text with dollars escaped and with � in place of control characters: the font has no ␛.
    """
    return cell(HARMFUL.sub("�", str(text)), most).replace("$", r"\$")


def verdict(ahead: float, unit: str) -> str:
    """Say whether a baseline is beaten.

    Args:
        ahead: How much better the network is; negative if the baseline is better.
        unit: "%" or "point".

    Returns:
        ``beaten by 40%``, ``not beaten: it is better by less than 1 point``, ``as good``, or
        ``not comparable`` where an error is too large for a number.
    """
    if not math.isfinite(ahead):
        return "not comparable"
    if ahead == 0:
        return "as good"
    size = max(1, round(abs(ahead)))
    by = f"{size:,}%" if unit == "%" else counted(size, unit)
    less = "less than " * (abs(ahead) < 0.5)
    return f"{'beaten' if ahead > 0 else 'not beaten: it is better'} by {less}{by}"
