"""The figures of results/ as Markdown: docs/speed.md, and tables in README and docs/variants.md.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from undertow.app.bench.view import duration

HERE = Path(__file__).parent
README, SPEED = HERE.parent / "README.md", HERE.parent / "docs" / "speed.md"
STREAM = HERE.parent / "docs" / "stream.md"
VARIANTS = HERE.parent / "docs" / "variants.md"
BEGIN, END = "<!-- speed: made by benchmarks/tables.py -->\n", "<!-- end of speed -->\n"
Row = dict[str, Any]


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return found


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def shape_text(row: Row) -> str:
    return str(row["shape"]).replace(",", ", ").replace(" x2 both ways", ", 2 layers, both ways")


def spread(ratio: list[float]) -> str:
    return f"**{ratio[1]:.2f}** ({ratio[0]:.2f}–{ratio[2]:.2f})"


def speed(figures: dict[str, Any], threads: int, training: bool) -> str:
    """Ours, nn.LSTM's time over ours, that of the others who compete, and our part of the peak."""
    rows = [row for row in figures["rows"] if row["threads"] == threads and row["training"] == training]
    names = list(rows[0]["others"])
    cells = []
    for row in rows:
        others = [row["others"].get(name) for name in names]
        against = [f"{other['ratio'][1]:.2f}" if other else "" for other in others]
        cells.append(
            [
                shape_text(row),
                duration(row["seconds"][1]),
                spread(row["ratio"]),
                *against,
                f"{row['of_peak']:.0%}",
            ]
        )
    means = [geometric_mean(row["ratio"][1] for row in rows)]
    means += [geometric_mean(row["others"][name]["ratio"][1] for row in rows) for name in names]
    cells.append(["geometric mean", "", *(f"**{mean:.2f}**" for mean in means), ""])
    return table(["N, T, C, H", "ours", "nn.LSTM", *names, "of peak"], cells)


def summary(figures: dict[str, Any], threads: int) -> str:
    """Both kinds side by side, for the README."""
    by_kind = {
        training: [r for r in figures["rows"] if r["threads"] == threads and r["training"] == training]
        for training in (False, True)
    }
    cells = []
    for inference, training in zip(*by_kind.values(), strict=True):
        tuned = training["others"].get("tuned nn.LSTM")
        cells.append(
            [
                shape_text(inference),
                *(
                    part
                    for row in (inference, training)
                    for part in (duration(row["seconds"][1]), spread(row["ratio"]))
                ),
                f"{tuned['ratio'][1]:.2f}" if tuned else "",
                f"{inference['of_peak']:.0%}, {training['of_peak']:.0%}",
            ]
        )
    headings = [
        "N, T, C, H",
        "inference",
        "nn.LSTM's time over ours",
        "training",
        "nn.LSTM's",
        "tuned",
        "of peak",
    ]
    return table(headings, cells)


def memory(figures: list[Row]) -> str:
    rows = [
        [shape_text(row), *(f"{row['bytes'][name] / 2**20:.1f}" for name in ("undertow", "nn.LSTM"))]
        for row in figures
    ]
    return table(["N, T, C, H", "ours, MiB", "nn.LSTM, MiB"], rows)


def lengths(figures: dict[str, Any]) -> str:
    rows = []
    for row in figures["rows"]:
        names = list(row["seconds"])
        times = [duration(row["seconds"][name][1]) for name in names]
        ratios = [
            f"{time} ({row['ratio'][name]:.1f})"
            for name, time in zip(names, times, strict=False)
            if name in row["ratio"]
        ]
        kind = "training" if row["training"] else "inference"
        rows.append([shape_text(row), "{} to {}".format(*row["lengths"]), kind, *ratios, times[-1]])
    return table(["N, T, C, H", "lengths", "", *names], rows)


def bfloat16(figures: dict[str, Any]) -> str:
    rows = []
    for row in figures["rows"]:
        ours, *others = (row["seconds"][name][1] for name in ("bfloat16", "float32", "nn bfloat16"))
        ratios = [f"{duration(other)} ({other / ours:.2f})" for other in others]
        kind = "training" if row["training"] else "inference"
        rows.append([shape_text(row), kind, duration(ours), *ratios, f"{row['error']:.1e}"])
    return table(["N, T, C, H", "", "bfloat16", "float32", "nn.LSTM bfloat16", "error"], rows)


def neighbour(figures: dict[str, Any]) -> str:
    rows = [
        [
            shape_text(row),
            row["module"],
            *(duration(row[key][1]) for key in ("alone", "loaded")),
            spread(row["ratio"]),
        ]
        for row in figures["rows"]
    ]
    return table(["N, T, C, H", "", "alone", "beside a busy process", "slower"], rows)


def variants(figures: dict[str, Any]) -> str:
    """Time over the same LSTM without the option, and a loop in torch's operations over it."""
    shapes = list(dict.fromkeys(row["shape"] for row in figures["rows"]))
    cells = []
    for option in dict.fromkeys(row["option"] for row in figures["rows"]):
        rows = {row["shape"]: row for row in figures["rows"] if row["option"] == option}
        costs = [f"{rows[s][kind]['cost'][1]:.2f}" for s in shapes for kind in ("inference", "training")]
        loops = [
            f"{rows[s]['training']['loop'][1]:.1f}" if "loop" in rows[s]["training"] else "" for s in shapes
        ]
        if option != "none":
            cells.append([f"`{option}`", *costs, " · ".join(filter(None, loops))])
    headings = [f"{s.replace(',', ', ')}: {kind}" for s in shapes for kind in ("inference", "training")]
    return table(["", *headings, "a loop, training"], cells)


def stream(figures: dict[str, Any]) -> str:
    """Nanoseconds a step, and others' time over ours."""
    cells = []
    for H, row in figures["sizes"].items():
        times = [
            f"{row['ns'][f'undertow{name}']['median']:.0f}"
            for name in ("", ", int16", ", 64 streams", ", Python, bound")
        ]
        ratio = row["ratios"].get("RTNeural / undertow")
        low, high = ratio["quartiles"] if ratio else (0, 0)
        ratios = [spread([low, ratio["median"], high]) if ratio else ""]
        for name in ("ONNX Runtime / bound", "undertow.LSTM / bound"):
            ratios.append(f"{row['ratios'][name]['median']:.0f}" if name in row["ratios"] else "")
        cells.append([H, *times, *ratios])
    own = ["float32", "int16", "of 64 streams", "from Python"]
    return table(["H", *own, "RTNeural", "ONNX Runtime", "undertow.LSTM"], cells)


def main() -> None:
    figures, page = load("speed"), SPEED.read_text()
    threads = sorted({row["threads"] for row in figures["rows"]})
    parts = {
        f"speed {n} {kind}": speed(figures, n, kind == "training")
        for n in threads
        for kind in ("inference", "training")
    }
    parts["memory"] = memory(figures["training_memory"])
    for name, make in (("lengths", lengths), ("bfloat16", bfloat16), ("neighbour", neighbour)):
        parts[name] = make(load(name))
    for name, text in parts.items():
        page = between(page, f"<!-- {name} -->\n", f"<!-- end of {name} -->\n", text)
    SPEED.write_text(page)
    steps = stream(load("stream"))
    marks = "<!-- stream: made by benchmarks/tables.py -->\n", "<!-- end of stream -->\n"
    STREAM.write_text(between(STREAM.read_text(), *marks, steps))
    guide = VARIANTS.read_text()
    VARIANTS.write_text(
        between(guide, "<!-- costs -->\n", "<!-- end of costs -->\n", variants(load("variants")))
    )
    README.write_text(between(README.read_text(), BEGIN, END, summary(figures, threads[-1])))


def between(page: str, begin: str, end: str, text: str) -> str:
    """``page`` with ``text`` between the marks. Raises ValueError where a mark is missing."""
    start, stop = page.index(begin) + len(begin), page.index(end)
    return f"{page[:start]}\n{text}\n{page[stop:]}"


if __name__ == "__main__":
    main()
