"""Colours with one meaning wherever they stand: figures, pages and the terminal. Needs no other library.

Okabe & Ito's colours (2008), which colour-blind readers tell apart; purple and gold are darker, for white
paper. ``DARK`` has each for a dark ground.
"""

BLUE, ORANGE, GREEN, PURPLE, SKY, GOLD = "#0072B2", "#D55E00", "#009E73", "#B5609A", "#56B4E9", "#C98A00"
INK, GREY, PALE = "#30343B", "#8A8F98", "#E3E6EA"
LINES = (BLUE, ORANGE, GREEN, PURPLE, INK, SKY, GOLD)  # in this order

LSTM, RNN = BLUE, ORANGE
GATES = {"i": GREEN, "f": BLUE, "g": ORANGE, "o": PURPLE, "c": INK, "h": SKY}

DARK = {
    BLUE: "#5CB8EE", ORANGE: "#F0A04B", GREEN: "#4CC9A4", PURPLE: "#CF9FE0", SKY: "#8FD0FF", GOLD: "#D8C65A",
    INK: "#E6EAEE", GREY: "#97A3AF", PALE: "#2D3843",
}  # fmt: skip


def css_variables(prefix: str, dark: bool = False) -> str:
    """``LINES`` as declarations ``--PREFIX0: ...; --PREFIX1: ...;`` for the style of a page."""
    colours = (DARK[colour] if dark else colour for colour in LINES)
    return " ".join(f"--{prefix}{k}: {colour};" for k, colour in enumerate(colours))
