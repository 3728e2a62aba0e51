"""Series that several columns tell apart together: named by all of them, wherever they are named."""

from datetime import date, timedelta

import polars as pl
import pytest

from undertow.app.data.tables.series import read_series
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run

PANEL = ("--target", "sold", "--group", "store", "--group", "item", "--steps", 5, "--hidden-size", 4)
LEVELS = {("north", "milk"): 10, ("north", "tea"): 20, ("south", "milk"): 30, ("south", "tea"): 40}


def panel_table(days: int = 40) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame(
            {
                "day": [date(2020, 1, 1) + timedelta(days=k) for k in range(days)],
                "store": store,
                "item": item,
                "sold": [float(level + k % 3) for k in range(days)],
            }
        )
        for (store, item), level in LEVELS.items()
    )


def read(table: pl.DataFrame, path, **options):
    table.write_csv(path)
    values = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 5, "target": ("sold",)}
    return read_series(path, DataConfig(**values | {"group": ("store", "item")} | options))


def test_keys_tell_series_apart_together(tmp_path):
    series = read(panel_table().sample(fraction=1.0, shuffle=True, seed=0), tmp_path / "a.csv")
    assert series.spans == [(0, 40), (40, 80), (80, 120), (120, 160)]
    assert series.names()[::40].to_list() == ["north / milk", "north / tea", "south / milk", "south / tea"]
    assert [series.name(start) for start, _ in series.spans] == series.names()[::40].to_list()
    assert series.columns.numeric == ["sold"]
    assert series.columns.categories == {}  # a key is no feature


def test_neither_gaps_nor_fillings_cross_two_series(tmp_path):
    table = panel_table().filter(
        ~((pl.col("store") == "north") & (pl.col("item") == "tea") & (pl.col("day") == date(2020, 1, 3)))
    )
    series = read(table, tmp_path / "a.csv", gaps="fill")
    assert series.spans == [(0, 40), (40, 80), (80, 120), (120, 160)]
    assert series.table["sold"][42] == series.table["sold"][41] == 21.0
    assert series.table["item"][42] == "tea"


def test_a_series_without_a_complete_row_is_named_by_all_its_keys(tmp_path):
    empty = pl.when((pl.col("store") == "south") & (pl.col("item") == "milk")).then(None)
    series = read(
        panel_table().with_columns(empty.otherwise(pl.col("sold")).alias("sold")), tmp_path / "a.csv"
    )
    assert "left out, since no row is complete: south / milk" in series.said


def test_one_key_of_two_gives_the_same_time_twice(tmp_path):
    with pytest.raises(UserError, match="--group store --group item tells several series apart"):
        read(panel_table(), tmp_path / "a.csv", group=("store",))


def test_two_series_with_one_name_are_refused(tmp_path):
    table = pl.concat(
        [panel_table(9)[:9].with_columns(store=pl.lit(s), item=pl.lit(i)) for s, i in AMBIGUOUS]
    )
    with pytest.raises(UserError, match="two series have the name 'a / b / c'"):
        read(table, tmp_path / "a.csv")


AMBIGUOUS = (("a / b", "c"), ("a", "b / c"))


def test_a_run_names_series_by_all_keys(undertow, tmp_path):
    panel_table().write_csv("sales.csv")
    said = undertow("train", "sales.csv", *PANEL, "--epochs", 1, "--folder", "r")
    assert said.code == 0, said.err
    assert "160 rows in 4 series" in said.out
    run = open_run(tmp_path / "r")
    assert run.data.group == ("store", "item")
    assert set(run.facts["seasons"]["sold"]) == {" / ".join(keys) for keys in LEVELS}
    assert run.facts["seasons"]["sold"]["south / tea"]["01-01"] == 40.0
    assert undertow("predict", "r", "sales.csv", "-o", "out.csv").code == 0
    table = pl.read_csv("out.csv")
    assert table.columns == ["store", "item", "day", "prediction", "lower", "upper", "truth"]
    assert table.select("store", "item").unique(maintain_order=True).rows() == list(LEVELS)
    assert "group store and item" in undertow("info", "r").out


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (("store", "store"), ("--group store: given 2 times",)),
        (("store", "shelf"), ("no column 'shelf' (--group)", "item")),
    ],
)
def test_a_key_given_twice_or_unknown_is_an_error_of_one_line(undertow, keys, named):
    panel_table().write_csv("sales.csv")
    said = undertow("train", "sales.csv", "--target", "sold", *(x for key in keys for x in ("--group", key)))
    assert (said.code, said.err.count("\n")) == (2, 1)
    for word in named:
        assert word in said.err
