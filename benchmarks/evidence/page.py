"""The tables of docs/evidence.md, from results/evidence.json.

python benchmarks/evidence/page.py
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "evidence.md", ROOT / "benchmarks" / "results" / "evidence.json"
FORECASTS = {"rmse": "RMSE", "mae": "MAE", "mase": "MASE", "nse": "NSE", "kge": "KGE"}
Results = dict[str, Any]


def main() -> None:
    figures = json.loads(RESULTS.read_text())
    found = figures["results"]
    forecasts = {name: each for name, each in found.items() if "mase" in first(each)["mean"]}
    labels = {name: each for name, each in found.items() if "accuracy" in first(each)["mean"]}
    page = PAGE.read_text()
    for name, text in (
        ("forecasts", table(forecasts, FORECASTS)),
        ("labels", table(labels, {"accuracy": "right"})),
        ("machine", machine(figures)),
    ):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        start, stop = page.index(begin) + len(begin), page.index(end)
        page = f"{page[:start]}\n{text}\n{page[stop:]}"
    PAGE.write_text(page)


def first(contestants: Results) -> Results:
    found: Results = next(iter(contestants.values()))
    return found


def table(results: Results, measures: dict[str, str]) -> str:
    """A row for each contestant of each set; the best value of each measure is bold."""
    if not results:
        return "Nothing is measured yet.\n"
    shown = {
        key: name for key, name in measures.items() if any(key in first(r)["mean"] for r in results.values())
    }
    lines = [["set", "contestant", *shown.values(), "seconds", "MiB"]]
    for source, contestants in results.items():
        best = {key: best_of(contestants, key) for key in shown}
        for name, each in contestants.items():
            cells = [cell(each, key, best[key]) for key in shown]
            lines.append(
                [source, name, *cells, f"{each['mean']['seconds']:.0f}", f"{each['mean']['mib']:.0f}"]
            )
            source = ""
    lines.insert(1, ["---", "---", *["--:"] * (len(lines[0]) - 2)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def best_of(contestants: Results, key: str) -> float | None:
    values = [each["mean"][key] for each in contestants.values() if key in each["mean"]]
    higher = key in ("accuracy", "nse", "kge")
    return (max(values) if higher else min(values)) if values else None


def cell(each: Results, key: str, best: float | None) -> str:
    """The mean over seeds, and the standard deviation where there are several."""
    if key not in each["mean"]:
        return ""
    value, spread = each["mean"][key], each["sd"].get(key)
    unit = 100 if key == "accuracy" else 1
    text = f"{unit * value:.1f}%" if unit == 100 else significant(value)
    text = f"**{text}**" if value == best else text
    return f"{text} ± {significant(unit * spread)}" if spread is not None else text


def significant(value: float) -> str:
    """Three or more digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine(figures: Results) -> str:
    """The machine and the versions, in a sentence each."""
    named = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    computer = "{processor}, {cores} cores; {system}".format(**figures["machine"])
    return f"{computer}. {named}. undertow is of commit {figures['commit']}.\n"


if __name__ == "__main__":
    main()
