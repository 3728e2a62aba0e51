"""What ``undertow evaluate`` prints: the metrics in tables that a reader can take in."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undertow.app.evaluation.result import Result
from undertow.app.terminal import coloured, marked
from undertow.app.words import cell, counted, verdict

MOST_SERIES = 10  # printed, worst first
OF_SERIES = ("rmse", "mae", "mase", "nse", "coverage")  # metrics printed for each, beside the one asked for
MOST_AHEAD = 12  # rows of the horizon printed
MOST_CLASSES = 12  # of a confusion matrix printed
NAMES = {
    "rmse": "RMSE", "mae": "MAE", "mase": "MASE", "nse": "NSE", "kge": "KGE", "r2": "R²", "bias": "bias",
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1",
    "precision": "precision", "recall": "recall", "f1": "F1", "coverage": "coverage",
    "width": "interval width", "bits_char": "bits/char", "bits_byte": "bits/byte",
    "perplexity": "perplexity", "esr": "ESR", "esr_db": "ESR, dB", "esr_emphasised": "ESR, pre-emphasised",
    "mae_db": "mean absolute error, dB",
}  # fmt: skip
SHARES = ("accuracy", "balanced_accuracy", "coverage")  # shown in percent
DECIBELS = ("esr_db", "mae_db")  # the lower the better, below 0 too
HIGH_IS_GOOD = ("nse", "kge", "r2", *SHARES, "macro_f1")


def show(console: Console, result: Result, metric: str) -> None:
    """Print an evaluation.

    Args:
        console: Where it is printed.
        result: The evaluation.
        metric: The metric by which series are ordered and rows ahead are shown.
    """
    for each in result.said:
        console.print(Text(each, style="dim"))
    for target in dict.fromkeys(row.get("target") for row in result.rows):
        rows = [row for row in result.rows if row.get("target") == target]
        every = [row for row in rows if row["part"] == "all"]
        if every:
            n = every[0]["n"]
            what = f"{cell(target)}: {counted(n, 'forecast')}" if target else counted(n, result.what)
            console.print()
            _print(console, _overall(every, what))
        for line in _verdicts(every):
            console.print(line)
        tables = _ahead(rows, metric), _series(rows, metric), _classes(rows, result.what), _confusion(rows)
        for part in (*tables, _origins(rows, metric)):
            if part is not None:
                console.print()
                _print(console, part)


def _origins(rows: list[dict[str, Any]], metric: str) -> Table | None:
    """The metric of each forecaster in each period of a backtest, then mean and standard deviation."""
    found = [row for row in rows if row["part"] in ("origin", "origins")]
    if not found:
        return None
    by = list(dict.fromkeys(row["by"] for row in found))
    title = f"{cell(found[0]['target'])}: {NAMES[metric]} of the forecasts from each moment to the next"
    table = _table(title, "from", ["n", *by])
    for name in dict.fromkeys(row["name"] for row in found):
        own = {row["by"]: row for row in found if row["name"] == name}
        cells = [value(metric, own[each][metric]) if each in own else "–" for each in by]
        table.add_row(cell(name), f"{next(iter(own.values()))['n']:,}", *cells)
    return table


def value(name: str, number: float) -> str:
    """Show a metric.

    Args:
        name: Its name in the rows.
        number: Its value.

    Returns:
        Four digits, or percent; a dash where it is not defined.
    """
    if number != number:
        return "–"
    return f"{100 * number:.1f}%" if name in SHARES else f"{number:.4g}"


def _print(console: Console, table: Table) -> None:
    """Print a table under its title, which may be wider than the table."""
    title, table.title = table.title, None
    console.print(title)
    console.print(table)


def _table(title: str, first: str, columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", title=Text(title))
    table.add_column(Text(first), overflow="fold")  # long heads go over several lines
    for name in columns:
        table.add_column(Text(cell(name)), justify="right", overflow="fold")
    return table


def _overall(rows: list[dict[str, Any]], what: str) -> Table:
    """A column for each forecaster, a row for each metric; the best value of a row is bold."""
    table = _table(what, "", [row["by"] for row in rows])
    for name in (name for name in NAMES if name in rows[0]):
        values = [float(row.get(name, np.nan)) for row in rows]
        goodness = [v if name in HIGH_IS_GOOD else -v if name in DECIBELS else -abs(v) for v in values]
        best = np.nanmax(goodness) if np.isfinite(goodness).any() else np.nan
        shown = [
            Text(value(name, v), style="bold" if good == best else "")
            for v, good in zip(values, goodness, strict=True)
        ]
        table.add_row(NAMES[name], *shown)
    return table


def _verdicts(rows: list[dict[str, Any]]) -> list[Text]:
    """Which baselines the network beats, by RMSE, ESR or bits, each over what both forecast."""
    lines = []
    for row in rows[1:]:
        skill = row.get("skill", np.nan)
        if skill != skill:
            continue
        said = coloured(verdict(100 * skill, "%"))
        fewer = f" [dim]({row['n']:,} of {rows[0]['n']:,} forecasts)[/]" if row["n"] < rows[0]["n"] else ""
        lines.append(marked("  {name}: " + said + fewer, name=row["by"]))
    what = next((NAMES[name] for name in ("rmse", "esr") if lines and name in rows[0]), "Bits")
    return [Text(f"{what} against the baselines"), *lines] if lines else []


def _ahead(rows: list[dict[str, Any]], metric: str) -> Table | None:
    """The metric of each forecaster by the rows ahead, some of them if they are many."""
    found = [row for row in rows if row["part"] == "ahead"]
    if not found:
        return None
    steps = list(dict.fromkeys(row["name"] for row in found))
    shown = sorted({round(k) for k in np.linspace(0, len(steps) - 1, min(MOST_AHEAD, len(steps)))})
    by = list(dict.fromkeys(row["by"] for row in found))
    cut = f", {len(shown)} of {len(steps)} rows" if len(shown) < len(steps) else ""
    table = _table(f"{NAMES[metric]} by rows ahead{cut}", "ahead", by)
    for step in (steps[k] for k in shown):
        values = {row["by"]: value(metric, row[metric]) for row in found if row["name"] == step}
        table.add_row(str(step), *(values.get(name, "–") for name in by))
    return table


def _series(rows: list[dict[str, Any]], metric: str) -> Table | None:
    """The network's metrics for the worst series."""
    found = [row for row in rows if row["part"] == "series"]
    if not found:
        return None
    mine = worst_first([row for row in found if row["by"] == found[0]["by"]], metric)
    cut = (
        f"the worst {MOST_SERIES} of {len(mine)} series" if len(mine) > MOST_SERIES else "series, worst first"
    )
    names = [name for name in NAMES if name in mine[0] and name in (*OF_SERIES, metric)]
    table = _table(
        f"{cut}, by {NAMES[metric]} of the {found[0]['by']}",
        "series",
        ["n", *(NAMES[name] for name in names)],
    )
    for row in mine[:MOST_SERIES]:
        table.add_row(cell(row["name"]), f"{row['n']:,}", *(value(name, row[name]) for name in names))
    return table


def worst_first(rows: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Order rows by a metric.

    Args:
        rows: Rows of a Result.
        metric: The metric; of the bias its size counts.

    Returns:
        The rows from the worst to the best, then those for which it is not defined.
    """

    def badness(row: dict[str, Any]) -> tuple[bool, float]:
        found = float(row[metric])
        return found == found, -found if metric in HIGH_IS_GOOD else abs(found)

    return sorted(rows, key=badness, reverse=True)


def _classes(rows: list[dict[str, Any]], what: str) -> Table | None:
    found = [row for row in rows if row["part"] == "class"]
    if not found:
        return None
    table = _table("by class", "class", ["precision", "recall", "F1", f"{what}s"])
    for row in found:
        shares = [value(name, row[name]) for name in ("precision", "recall", "f1")]
        table.add_row(cell(row["name"]), *shares, f"{row['n']:,}")
    return table


def _confusion(rows: list[dict[str, Any]]) -> Table | None:
    """The confusion matrix; of many classes the pairs that are confused most often."""
    found = [row for row in rows if row["part"] == "confusion"]
    if not found:
        return None
    classes = [row["name"] for row in rows if row["part"] == "class"]
    if len(classes) > MOST_CLASSES:
        wrong = sorted((row for row in found if row["name"] != row["predicted"]), key=lambda row: -row["n"])
        table = _table("confused most often", "class", ["taken for", "times"])
        for row in wrong[:MOST_CLASSES]:
            table.add_row(cell(row["name"]), cell(row["predicted"]), f"{row['n']:,}")
        return table if wrong else None
    n = {(row["name"], row["predicted"]): row["n"] for row in found}
    table = _table("confusion: row true, column predicted", "", [cell(name, 12) for name in classes])
    for true in classes:
        cells = [n.get((true, taken), 0) for taken in classes]
        styles = ["bold" if true == taken else "" for taken in classes]
        table.add_row(
            cell(true),
            *(Text(f"{k:,}" if k else "·", style=style) for k, style in zip(cells, styles, strict=True)),
        )
    return table
