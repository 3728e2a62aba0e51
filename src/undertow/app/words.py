"""Names, values and counts in words: whatever the data hold, it reads as one word and does nothing else."""

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
    """``visible``, on one line: ↵ in place of a newline, a space in place of a tab."""
    return visible(text).replace("\n", "↵").replace("\t", " ")


def cell(text: object, most: int = CELL) -> str:
    """``line``, cut to ``most`` characters; the last of them is then an ellipsis."""
    whole = line(text)
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def counted(n: float, thing: str) -> str:
    """A number with what it counts: ``1 step``, ``1,000 steps``, ``0.5 minutes``; the plural takes an s."""
    number = f"{n:,}" if isinstance(n, int) else f"{n:g}"
    return f"{number} {thing}" if n == 1 else f"{number} {thing}s"


def literal(text: object, most: int = CELL) -> str:
    """``cell`` for a label in a picture: matplotlib reads what stands between two dollars as a formula.

    Control characters become �, since the font of pictures has no ␛.
    """
    return cell(HARMFUL.sub("�", str(text)), most).replace("$", r"\$")
