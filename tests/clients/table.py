"""The clients' results as the table of docs/clients.md."""

from pathlib import Path
from statistics import median
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BEGIN, END = "<!-- clients: made by tests/clients/driver.py -->", "<!-- end of clients -->"
HEADINGS = (
    "program",
    "what was run",
    "what is compared: largest difference",
    "nn.LSTM without oneDNN",
    "nn.LSTM",
    "ours",
    "ratio",
)


def write_table(results: dict[str, Any]) -> None:
    """Put the table of ``results`` between the document's two marks."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    rows = [HEADINGS, ["---"] * 4 + ["--:"] * 3, *(row(found) for _, found in sorted(results.items()))]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    DOCUMENT.write_text("\n\n".join([before.rstrip(), BEGIN, "\n".join(lines), END]) + after)


def row(found: dict[str, Any]) -> list[str]:
    other = found["torch's own, without oneDNN"]
    return [
        f"{found['package']} {found['version']}",
        found["what"],
        ", ".join(f"{name} {short(difference)}" for name, difference in found["differences"].items()),
        ", ".join(map(short, other.values())),
        f"{median(found['seconds']['theirs']):.2f} s",
        f"{median(found['seconds']['ours']):.2f} s",
        f"**{found['ratio']:.2f}** ({min(found['ratios']):.2f}–{max(found['ratios']):.2f})",
    ]


def short(difference: float) -> str:
    return f"{difference:.0e}" if difference else "0"
