"""What evaluate prints: numbers as people read them, and long tables cut."""

import math

import numpy as np
import pytest

from undertow.app.evaluation.labels import Confusion, rows
from undertow.app.evaluation.result import Result
from undertow.app.evaluation.view import MOST_SERIES, show, value, worst_first
from undertow.app.terminal import Terminal
from undertow.app.words import verdict


def printed(result: Result, metric: str = "rmse", width: int = 100) -> str:
    console = Terminal(width=width, record=True, force_terminal=False)
    show(console, result, metric)
    return console.export_text()


def row(part: str, name: object, by: str, rmse: float, **more: float) -> dict:
    base = {"target": "y", "part": part, "name": name, "by": by, "n": 5, "rmse": rmse, "mae": rmse / 2}
    return base | {"mase": 0.5, "nse": 0.1, "kge": 0.2, "bias": -0.1} | more


def test_values():
    assert value("rmse", 1234.5678) == "1235"
    assert value("accuracy", 0.91666) == "91.7%"
    assert value("nse", np.nan) == "–"


def test_worst_first():
    found = [row("series", k, "LSTM", rmse) for k, rmse in enumerate([1.0, np.nan, 3.0])]
    assert [each["name"] for each in worst_first(found, "rmse")] == [2, 0, 1]
    found = [row("series", k, "LSTM", 1.0, nse=nse) for k, nse in enumerate([0.9, -4.0, 0.1])]
    assert [each["name"] for each in worst_first(found, "nse")] == [1, 2, 0]
    found = [row("series", k, "LSTM", 1.0, bias=bias) for k, bias in enumerate([0.9, -4.0, 0.1])]
    assert [each["name"] for each in worst_first(found, "bias")] == [1, 0, 2]


def test_many_series_are_cut_with_a_count():
    series = [row("series", f"s{k}", "LSTM", float(k)) for k in range(30)]
    text = printed(Result("forecast", "f", ["a line"], [row("all", "", "LSTM", 1.0), *series]))
    assert "the worst 10 of 30 series" in text
    assert "s29" in text and "s20" in text and "s19" not in text
    assert MOST_SERIES == 10
    assert text.startswith("a line")


def test_verdicts_say_who_is_better():
    result = Result("forecast", "f", [], [
        row("all", "", "LSTM", 1.0), row("all", "", "persistence", 2.0, skill=0.5),
        row("all", "", "linear", 0.8, skill=-0.25, n=3),
    ])  # fmt: skip
    text = printed(result)
    assert "persistence: beaten by 50%" in text
    assert "linear: not beaten: it is better by 25% (3 of 5 forecasts)" in text


@pytest.mark.parametrize("ahead", [math.nan, math.inf, -math.inf])
def test_errors_beyond_numbers_are_not_compared(ahead):
    assert verdict(ahead, "%") == "not comparable"


def test_the_horizon_is_cut_and_shows_the_metric_asked_for():
    ahead = [row("ahead", k, "LSTM", 1.0, mase=k / 100) for k in range(1, 31)]
    text = printed(Result("forecast", "f", [], [row("all", "", "LSTM", 1.0), *ahead]), "mase")
    assert "MASE by rows ahead, 12 of 30 rows" in text
    assert "0.01" in text and "0.3" in text


def test_a_large_confusion_matrix_becomes_a_list():
    few = Result("classify", "f", [], rows("LSTM", Confusion(["a", "b"], np.array([[3, 1], [0, 2]]))))
    assert "row true, column predicted" in printed(few)
    counts = np.eye(20, dtype=int)
    counts[4, 7] = 9
    many = Result("classify", "f", [], rows("LSTM", Confusion([f"c{k}" for k in range(20)], counts)))
    text = printed(many)
    assert "confused most often" in text and "row true" not in text
    assert text.split("times")[1].split() == ["c4", "c7", "9"]


def test_heads_are_whole_on_80_columns_and_not_cut_on_60():
    by = ["LSTM", "persistence", "7 rows ago", "seasonal (day-of-year) mean", "linear"]
    found = Result("forecast", "f", [], [row("all", "", name, 1234.5678) for name in by])
    heads = printed(found, width=80).split("RMSE")[0].split()
    assert {"persistence", "(day-of-year)", "linear"} <= set(heads)
    narrow = printed(found, width=60)
    assert "…" not in narrow and narrow.count("1235") == len(by)
