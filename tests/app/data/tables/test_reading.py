"""Tables as people write them: each is read right and said, or refused in one line that says what to do."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from undertow.app.data.tables.panel import Series
from undertow.app.data.tables.series import read_series
from undertow.app.data.tables.table import numbers
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig

DAYS = [date(2020, 1, 1) + timedelta(days=k) for k in range(60)]
HOURS = [datetime(2020, 3, 26) + timedelta(hours=k) for k in range(60)]


def table(heading, row, n=60):
    """A text with a heading and the rows that ``row`` makes of 0 ... n-1."""
    return "\n".join([heading, *(row(k) for k in range(n)), ""])


def read(text, target="y", name="a.csv", **options) -> Series:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    values = {"source": name, "task": "forecast", "validation": 0.2, "steps": 10, "target": (target,)}
    return read_series(path, DataConfig(**values | options))


def refused(text, **options):
    with pytest.raises(UserError) as caught:
        read(text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ----------------------------------------------------------------------- what stands around numbers

AROUND = {
    "percent": (lambda k: f"{k}%", lambda k: k, "y in percent, as written"),
    "dollar": (lambda k: f'"$1,{k:03}.50"', lambda k: 1000.5 + k, "y written with $"),
    "pound and minus": (lambda k: f"-£{k + 0.5}", lambda k: -k - 0.5, "y written with £"),
    "yen, in some rows": (lambda k: f"¥{k}" if k % 2 else f"{k}", lambda k: k, "y written with ¥"),
    "code": (lambda k: f"{k}.5 EUR", lambda k: k + 0.5, "y written with EUR"),
    "large": (
        lambda k: ("900", "1.5K", "2.5M", "4bn")[k % 4],
        lambda k: (900, 1.5e3, 2.5e6, 4e9)[k % 4],
        "K, M or bn in y",
    ),
    "both": (lambda k: f"${k}.5M", lambda k: 1e6 * k + 5e5, "y written with $; K, M or bn in y"),
    "brackets": (lambda k: f"({k})" if k % 3 else f"{k}", lambda k: -k if k % 3 else k, "brackets in y"),
    "typeset minus": (lambda k: f"\u2212{k}", lambda k: -k, ""),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_stands_around_numbers(name):
    written, value, said = AROUND[name]
    found = read(table("date,y", lambda k: f"{DAYS[k]},{written(k)}"))
    assert found.table["y"].to_list() == pytest.approx([value(k) for k in range(60)])
    assert said in "".join(found.said)


def test_a_currency_with_decimal_commas():
    found = read(table("date;y", lambda k: f"{DAYS[k]};1.{k:03},5 €"))
    assert found.table["y"].to_list() == [1000.5 + k for k in range(60)]
    assert "decimal comma in y" in found.said[0]
    assert "y written with €" in found.said[0]


@pytest.mark.parametrize("signs", ["$€", ["%", ""]])
def test_signs_that_change_the_meaning_are_refused(signs):
    text = table("date,y", lambda k: f"{DAYS[k]},{k + 1}{signs[k % 2]}")
    assert "column 'y' holds" in (said := refused(text))
    assert "write all its numbers alike" in said
    assert "$" not in signs or "'1$' and '2€'" in said


def test_a_further_file_in_another_currency_is_refused():
    facts = read(table("date,y", lambda k: f"{DAYS[k]},{k}$")).facts()
    Path("b.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{k}€"))
    values = {"source": "a.csv", "task": "forecast", "validation": 0.2, "steps": 10, "target": ("y",)}
    further = read_series(Path("b.csv"), DataConfig(**values), facts)
    with pytest.raises(UserError, match="column 'y', row 1: expected a number, got '0€'"):
        numbers(further.table, Path("b.csv"), "y")


# ---------------------------------------------------------------------- units, and time in two columns


@pytest.mark.parametrize("units", ["yyyy-mm-dd,m3/s,°C", ",m3/s,°C", ",m3/s,", "date,-,[mm]"])
def test_a_row_of_units_below_the_heading_is_skipped(units):
    found = read(table(f"date,y,b\n{units}", lambda k: f"{DAYS[k]},{k}.5,{k}"))
    assert found.table["y"].to_list() == [k + 0.5 for k in range(60)]
    assert found.frequency.words == "daily"
    assert "below the heading skipped" in found.said[0]


def test_a_first_row_without_values_is_no_row_of_units():
    found = read(table("place,y\nnorth,NA", lambda k: f"north,{k}"), group=("place",), gaps="split")
    assert len(found.table) == 60
    assert "skipped" not in "".join(found.said)


APART = {
    "clock of 12 hours": ("Date,Time", lambda t: f"{t:%m/%d/%Y},{t:%I:%M %p}"),
    "clock of 24 hours": ("Datum,Uhrzeit", lambda t: f"{t:%d.%m.%Y},{t:%H.%M}"),
    "seconds": ("date,time", lambda t: f"{t:%Y-%m-%d},{t:%H:%M:%S}"),
    "hour": ("date,hour", lambda t: f"{t:%Y-%m-%d},{t.hour}"),
}


@pytest.mark.parametrize("name", APART)
def test_a_date_beside_a_clock(name):
    heading, written = APART[name]
    found = read(table(f"{heading},y", lambda k: f"{written(HOURS[k])},{k}"))
    assert found.frequency.words == "hourly"
    assert found.table[found.time].to_list() == HOURS
    assert f"{heading.split(',')[0]} from {heading.replace(',', ', ')}" in found.said[0]
    assert found.columns.numeric == ["y"]


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@pytest.mark.parametrize(
    ("heading", "row", "often"),
    [
        ("Year,Month", lambda k: f"{1990 + k // 12},{MONTHS[k % 12]}", "monthly"),
        ("year,month", lambda k: f"{1990 + k // 12},{k % 12 + 1}", "monthly"),
        ("Year,Quarter", lambda k: f"{1990 + k // 4},Q{k % 4 + 1}", "quarterly"),
        ("year,qtr", lambda k: f"{1990 + k // 4},{k % 4 + 1}", "quarterly"),
        ("Jahr,KW", lambda k: "{},{}".format(*DAYS[0].fromordinal(730000 + 7 * k).isocalendar()), "weekly"),
    ],
)
def test_a_year_beside_a_part_of_it(heading, row, often):
    found = read(table(f"{heading},y", lambda k: f"{row(k)},{k}"))
    assert found.frequency.words == often
    assert found.columns.numeric == ["y"]


def test_prices_are_no_clocks():
    rows = table("date,item,y", lambda k: f"{DAYS[k // 2]},{'ab'[k % 2]},{10 + k % 9}.{10 + k % 40}")
    found = read(rows, group=("item",))
    assert found.columns.numeric == ["y"]
    assert found.frequency.words == "daily"


# ------------------------------------------------------------------------------- files of all kinds

GERMAN = ["Januar", "Februar", "März"]


def comma(k):
    return f"{k}.5".replace(".", ",")


WAYS = {
    "semicolons, commas and a mark": (
        "\ufeff" + table("Zeit;y", lambda k: f"{DAYS[k]:%d.%m.%Y};{comma(k)}"), "Zeit as %d.%m.%Y"
    ),
    "months in words": (
        table("Tag;y", lambda k: f"{DAYS[k].day}. {GERMAN[DAYS[k].month - 1]} 2020;{comma(k)}"), "%d. %b %Y"
    ),
    "Excel serial dates": (table("Date,y", lambda k: f"{43831 + k},{k}.5"), "Date as excel days"),
    "years of two digits": (table("date,y", lambda k: f"{DAYS[k]:%d/%m/%y},{k}.5"), "date as %d/%m/%y"),
    "a row of totals": (table("date,y", lambda k: f"{DAYS[k]},{k}.5") + "Total,1800\n", "'Total', left out"),
    "totals without a word": (
        table("date,y", lambda k: f"{DAYS[k]},{k}.5") + ",1800\n", "the last row, which has no time, left out"
    ),
    "a source below": (table("date,y", lambda k: f"{DAYS[k]},{k}.5") + "Source: Eurostat\n", "'Source: Eu"),
    "blank rows between": (table("date,y", lambda k: f"{DAYS[k]},{k}.5" + "\n\n," * (k % 7 == 0)), ""),
    "lines before the heading": (
        "Station: Aachen\nSource: office, all rights\n\n"
        + table("date,y,rain", lambda k: f"{DAYS[k]},{k}.5,{k % 3}"),
        "3 lines before the heading skipped",
    ),
    "headings that repeat": (
        table("date,y,y", lambda k: f"{DAYS[k]},{k}.5,{k % 3}"), "2 columns called y: y, y_2"
    ),
    "UTF-16 with tabs": (
        table("date\ty", lambda k: f"{DAYS[k]}\t{k}.5").encode("utf-16"), "encoding utf-16"
    ),
    "tabs and blanks": (table("date \t y ", lambda k: f"{DAYS[k]} \t {k}.5 "), ""),
    "a line for Excel": ("sep=;\n" + table("date;y", lambda k: f"{DAYS[k]};{comma(k)}"), "separator ';'"),
    "numbered rows": (table(",date,y", lambda k: f"{k},{DAYS[k]},{k}.5"), "row numbers in the first column"),
    "rows with names": (table("date,y", lambda k: f'"r{k}",{DAYS[k]},{k}.5'), ""),
    "newest first": (table("date,y", lambda k: f"{DAYS[59 - k]},{59 - k}.5"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_days(name):
    text, said = WAYS[name]
    found = read(text)
    assert found.table[found.time].cast(pl.Date).to_list() == DAYS
    assert found.table["y"].to_list() == [k + 0.5 for k in range(60)]
    assert found.frequency.words == "daily"
    assert said in "".join(found.said)
    assert (not said) == (not found.said)
    assert {"y"} <= set(found.columns.numeric) <= {"y", "y_2", "rain"}


@pytest.mark.parametrize(
    ("written", "often", "last"),
    [
        (lambda k: f"{1990 + k // 4}Q{k % 4 + 1}", "quarterly", "2004-10-01"),
        (lambda k: "{}-W{:02}".format(*weekday_after(DAYS[0], 0, k).isocalendar()), "weekly", "2021-02-22"),
        (lambda k: f"1/1/{30 + k}", "yearly", "1989-01-01"),
        (lambda k: f"{HOURS[k]:%m/%d/%Y %I:%M:%S %p}", "hourly", "2020-03-28 11:00:00"),
        (
            lambda k: f"{HOURS[k] + timedelta(hours=1 + k // 30):%FT%T}+0{1 + k // 30}:00",
            "hourly",
            "2020-03-28 11",
        ),
    ],
)  # fmt: skip
def test_other_times(written, often, last):
    found = read(table("when,y", lambda k: f"{written(k)},{k}"))
    assert found.frequency.words == often
    assert str(found.table["when"][-1]).startswith(last)


def test_years_of_two_digits_are_read_alike_in_a_further_file():
    facts = read(table("date,y", lambda k: f"1/1/{30 + k},{k}")).facts()
    Path("b.csv").write_text("date,y\n" + "".join(f"1/1/{50 + k},{k}\n" for k in range(5)))
    values = {"source": "a.csv", "task": "forecast", "validation": 0.2, "steps": 10, "target": ("y",)}
    further = read_series(Path("b.csv"), DataConfig(**values), facts)
    assert further.table["date"][0] == date(1950, 1, 1)


def test_times_of_excel_where_asked_for():
    found = read(table("t,y", lambda k: f"{43916 + k / 24:.9f},{k}"), time_format="excel")
    assert found.table["t"].to_list() == HOURS
    assert found.frequency.words == "hourly"


def test_records_within_records():
    rows = "".join(f'{{"at": "{DAYS[k]}", "m": {{"y": {k}, "b": {{"c": 1}}}}}}\n' for k in range(60))
    found = read(rows, target="m.y", name="a.jsonl")
    assert found.table["m.y"].to_list() == list(range(60))
    assert found.columns.numeric == ["m.y", "m.b.c"]


def test_categories_of_a_typed_format():
    kinds = pl.Series(["a", "b", "c"] * 20)
    frame = pl.DataFrame({"date": DAYS, "y": range(60), "kind": kinds.cast(pl.Categorical)})
    frame.write_parquet("a.parquet")
    values = {"source": "a.parquet", "task": "forecast", "validation": 0.2, "steps": 10, "target": ("y",)}
    assert read_series(Path("a.parquet"), DataConfig(**values)).columns.categories == {
        "kind": ["a", "b", "c"]
    }


SPRING = [datetime(2020, 3, 28) + timedelta(hours=k) for k in range(61) if k != 26]
REFUSED = {
    "clocks that skip an hour": (table("time,y", lambda k: f"{SPRING[k]},{k}"), "--time-zone ZONE"),
    "zones in half of the rows": (
        table("time,y", lambda k: f"{HOURS[k]:%FT%T}{'+01:00' * (k < 30)},{k}"), "write all its times alike"
    ),
    "a word among numbers": (
        table("date,y", lambda k: f"{DAYS[k]},{'ice' if k == 9 else k}"),
        "row 10: expected a number, got 'ice'; --missing 'ice'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    text, said = REFUSED[name]
    assert said in refused(text)


def test_local_time_whose_clocks_skip_an_hour():
    found = read(REFUSED["clocks that skip an hour"][0], time_zone="Europe/Berlin")
    assert found.frequency.words == "hourly"


@pytest.mark.parametrize("value", ["1e308", "-1e39"])
def test_numbers_too_large_for_the_network_are_refused(value):
    found = read(table("date,y", lambda k: f"{DAYS[k]},{value if k == 30 else k}"))
    with pytest.raises(UserError, match=r"column 'y', row 31: expected a number of at most 1e\+38 in size"):
        numbers(found.table, Path("a.csv"), "y")


def test_columns_that_stay_unused_are_named():
    found = read(table("date,y,seen,who", lambda k: f"{DAYS[k]},{k},{DAYS[k]:%d.%m.%Y},name{k % 25}"))
    assert found.columns.ignored == ["seen", "who"]
    assert "warning: seen holds dates and is not used; --time seen orders the rows by it" in found.said
    assert any(line.startswith("warning: who holds 25 names and is not used") for line in found.said)


def test_predictions_are_written_before_anything_is_printed(undertow, monkeypatch):
    Path("a.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{k % 7}"))
    assert undertow("train", "a.csv", *SMALL).code == 0

    def broken(*_):
        raise UserError("cannot be shown")

    monkeypatch.setattr("undertow.app.verbs.predict.show", broken)
    assert undertow("predict", "r", "a.csv", "-o", "out.csv").code == 2
    assert len(pl.read_csv("out.csv")) == 51


# --------------------------------------------------------------------------------- business days


def weekday_after(start, weekday, weeks=0):
    return start + timedelta(days=(weekday - start.weekday()) % 7 + 7 * weeks)


def new_york(year, easter):
    """Holidays on which the stock exchange is closed, some of them fixed and most of them moving."""
    fixed = {date(year, 1, 1), date(year, 7, 4), date(year, 12, 25)}
    moving = {weekday_after(date(year, 11, 1), 3, 3), easter - timedelta(days=2)}
    moving |= {weekday_after(date(year, month, 1), 0, week) for month, week in ((1, 2), (2, 2), (9, 0))}
    return fixed | moving


EASTER = {2013: date(2013, 3, 31), 2014: date(2014, 4, 20), 2015: date(2015, 4, 5)}


def test_moving_holidays_do_not_break_business_days():
    closed = set().union(*(new_york(year, easter) for year, easter in EASTER.items()))
    every = [date(2013, 1, 1) + timedelta(days=k) for k in range(3 * 365)]
    opened = [day for day in every if day.weekday() < 5 and day not in closed]
    found = read(table("date,y", lambda k: f"{opened[k]},{k % 7}", len(opened)))
    assert found.frequency.words == "business days"
    assert {"01-01", "12-25"} <= set(found.frequency.holidays) <= {"01-01", "07-04", "12-25"}
    assert len(found.table) == len(opened)
    last = np.repeat(found.ticks[-1:], 9)
    ahead = found.frequency.after(last, np.arange(1, 10)).astype(np.int64).astype("datetime64[us]")
    assert [str(day)[:10] for day in ahead[:2]] == ["2016-01-04", "2016-01-05"]  # 1 January was a Friday
    assert all(np.is_busday(day) for day in ahead.astype("datetime64[D]"))


# --------------------------------------------------------------------------------- further files

TITLE = "Station, Aachen\nSource, DWD\n"
SMALL = ("--target", "y", "--steps", 10, "--hidden-size", 4, "--epochs", 1, "--folder", "r")


def test_predict_says_what_the_training_did_not_know(undertow):
    Path("a.csv").write_text(table("date;y", lambda k: f"{DAYS[k]:%d.%m.%Y};{k % 7},5"), encoding="utf-8")
    said = undertow("train", "a.csv", *SMALL)
    assert "separator ';'; decimal comma in y; date as %d.%m.%Y" in said.out
    again = undertow("predict", "r", "a.csv")
    assert again.code == 0, again.err
    assert "data   " not in again.out
    Path("b.csv").write_text("# täglich\n" + Path("a.csv").read_text(), encoding="latin-1")
    other = undertow("predict", "r", "b.csv")
    assert "data   read with encoding latin-1; comments after '#' skipped\n" in other.out


@pytest.mark.parametrize(("trained", "asked"), [("fill", "flag"), ("flag", "fill")])
def test_predict_refuses_gaps_that_the_network_does_not_know(undertow, trained, asked):
    Path("a.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{k % 7 if k % 19 else ''}"))
    assert undertow("train", "a.csv", *SMALL, "--gaps", trained).code == 0
    said = undertow("predict", "r", "a.csv", "--gaps", asked)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"--gaps {asked}: the run was trained with --gaps {trained}" in said.err
    assert undertow("predict", "r", "a.csv", "--gaps", "split").code == 0


@pytest.mark.parametrize("command", [("predict", "r"), ("evaluate", "r"), ("inspect", "r", "--input")])
def test_a_table_without_a_complete_row_is_refused(undertow, command):
    Path("a.csv").write_text(table("date,y,b", lambda k: f"{DAYS[k]},{k % 7},{k % 3}"))
    Path("b.csv").write_text(
        table("date,y,b", lambda k: f"{DAYS[k]},{k % 7 if k % 2 else ''},{'' if k % 2 else 1}")
    )
    assert undertow("train", "a.csv", *SMALL, "--gaps", "split").code == 0
    said = undertow(*command, "b.csv")
    assert (said.code, said.err) == (2, "undertow: b.csv: no row has a value in every column that is used\n")


def test_predict_names_the_reading_option_that_it_takes(undertow):
    said = undertow("predict", "--help").out
    assert "Only --gaps may differ" in said
    refused = undertow("predict", "r", "a.csv", "--decimal", ",")
    assert (refused.code, "--decimal" in refused.err) == (2, True)


def test_a_title_is_no_heading_to_the_command_either(undertow):
    Path("a.csv").write_text(TITLE + table("date,y,b", lambda k: f"{DAYS[k]},{k % 7},{k % 3}"))
    said = undertow("train", "a.csv", *SMALL)
    assert said.code == 0, said.err
    assert "2 lines before the heading skipped" in said.out


def test_predict_refuses_a_marker_that_the_training_did_not_have(undertow):
    Path("a.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{k % 17}.5"))
    Path("b.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{-9999 if k == 30 else k % 17}"))
    assert undertow("train", "a.csv", *SMALL).code == 0
    said = undertow("predict", "r", "b.csv")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "column 'y' holds -9999 1 time, far from all other values (0 to 16)" in said.err
    assert "; correct the file, or train with an option: --missing -9999 reads it as missing" in said.err
    assert undertow("train", "a.csv", *SMALL, "--missing", "none", "--overwrite").code == 0
    assert undertow("predict", "r", "b.csv").code == 0


def test_a_network_of_a_folder_predicts_one_of_its_files(undertow):
    Path("d").mkdir()
    for name in ("01", "1"):  # names are texts: these are two series
        Path(f"d/{name}.csv").write_text(table("date,y", lambda k: f"{DAYS[k]},{k % 7}.5"))
    said = undertow("train", "d", *SMALL)
    assert "120 rows in 2 series" in said.out, said.err
    for source, rows in (("d/01.csv", 51), ("d", 102)):
        predicted = undertow("predict", "r", source, "-o", "out.csv", "--overwrite")
        assert predicted.code == 0, predicted.err
        out = pl.read_csv("out.csv", infer_schema=False)
        assert (len(out), out["file"][0]) == (rows, "01")


def test_the_keys_of_partitions_are_texts():
    for key, days in (("01", DAYS[:30]), ("1", DAYS[30:])):
        Path(f"d/gauge={key}").mkdir(parents=True)
        pl.DataFrame({"date": days, "y": np.arange(30.0)}).write_parquet(f"d/gauge={key}/part.parquet")
    config = DataConfig(source="d", task="forecast", validation=0.2, steps=10, target=("y",))
    assert read_series(Path("d"), config).columns.categories == {"gauge": ["01", "1"]}


# ------------------------------------------------------------------------- points, names and widths

POINTS = {
    "semicolons": ("date;y", lambda k: f"{DAYS[k]};1.{k:03}"),
    "beside hundreds": ("date\ty", lambda k: f"{DAYS[k]}\t{950 + k if k < 50 else f'1.{k:03}'}"),
}


@pytest.mark.parametrize("name", POINTS)
def test_points_for_thousands_or_decimals_are_asked_for(name):
    text = table(*POINTS[name])
    assert "may have a decimal point or one for thousands; --decimal , or --decimal ." in refused(text)
    assert read(text, decimal=",").table["y"][-1] == 1059
    assert read(text, decimal=".").table["y"][-1] == 1.059


@pytest.mark.parametrize("name", ["commas beside", "points beside", "small", "comma-separated"])
def test_points_that_the_table_settles(name):
    heading, row, last = {
        "commas beside": ("date;y;b", lambda k: f"{DAYS[k]};1.{k:03};{k},5", 1059),
        "points beside": ("date;y;b", lambda k: f"{DAYS[k]};1.{k:03};{k}.5", 1.059),
        "small": ("date;y", lambda k: f"{DAYS[k]};0.{k:03}", 0.059),
        "comma-separated": ("date,y", lambda k: f"{DAYS[k]},1.{k:03}", 1.059),
    }[name]
    assert read(table(heading, row)).table["y"][-1] == last


@pytest.mark.parametrize("name", ["t", "monthly_revenue", "yearly_rain"])
def test_numbers_with_the_name_of_a_time_that_are_none(name):
    values = {"t": 20.5, "monthly_revenue": 200_000_000, "yearly_rain": 1500}
    text = table(f"{name},y", lambda k: f"{values[name] + 37 * k % 61},{k}")
    found = read(text)
    assert (found.time, found.columns.numeric) == (None, [name, "y"])
    assert found.table["y"].to_list() == list(range(60))


def test_the_row_of_widths_of_the_geological_survey_is_skipped():
    names, widths = "agency\tsite\tdatetime\ty\tcd", "5s\t15s\t20d\t14n\t10s"
    rows = table(f"# USGS\n{names}\n{widths}", lambda k: f"USGS\t01031500\t{DAYS[k]}\t{k if k else 'Ice'}\tA")
    found = read(rows, missing="Ice", gaps="flag")
    assert len(found.table) == 60
    assert "the row of widths below the heading skipped" in found.said[0]
    assert found.table["site"][0] == "01031500"


def test_a_year_with_decimals_is_read_alike_by_predict(undertow):
    Path("a.csv").write_text(table("YEAR,y", lambda k: f"{1900 + k}.0,{k % 7}"))
    assert undertow("train", "a.csv", *SMALL).code == 0
    said = undertow("predict", "r", "a.csv")
    assert said.code == 0, said.err


@pytest.mark.parametrize(("roll", "last", "following"), [(-1, 31, "2025-01-31"), (0, 1, "2025-01-01")])
def test_first_and_last_business_days_of_months_are_monthly(roll, last, following):
    months = np.arange("2020-01", "2025-01", dtype="datetime64[M]")
    days = np.busday_offset((months - roll).astype("datetime64[D]"), roll, "forward")
    assert len({str(day)[8:] for day in days}) > 1
    found = read(table("date,y", lambda k: f"{days[k]},{k}"))
    assert (found.frequency.months, found.frequency.day) == (1, last)
    moved = found.frequency.after(found.ticks[-1:], np.array([1]))
    assert str(moved.astype(np.int64).astype("datetime64[us]")[0])[:10] == following
    gaps = read(table("date,y", lambda k: f"{days[k + (k > 5)]},{k}", 59), gaps="fill")
    kept = [str(day) for k, day in enumerate(days) if k != 6]
    assert [str(day) for k, day in enumerate(gaps.table["date"]) if k != 6] == kept


@pytest.mark.parametrize("day", [3, 28])
def test_months_keep_their_day(day):
    found = read(table("date,y", lambda k: f"{2020 + k // 12}-{k % 12 + 1:02}-{day:02},{k}"))
    assert (found.frequency.months, found.frequency.day) == (1, day)


def test_an_empty_column_of_a_workbook_says_nothing(caplog):
    pl.DataFrame({"date": DAYS, "y": range(60), "note": [None] * 60}).write_excel("a.xlsx")
    path = Path("a.xlsx")
    read(path.read_bytes(), name="a.xlsx")
    assert not caplog.records


def test_predict_refuses_a_marker_in_labelled_sequences_too(undertow):
    rows = [f"{s},{'up' if s % 2 else 'down'},{(s * 7 + t * 3) % 17}.5" for s in range(20) for t in range(4)]
    Path("a.csv").write_text("\n".join(["id,way,x", *rows]))
    Path("b.csv").write_text("\n".join(["id,way,x", *rows[:-1], "19,up,-9999"]))
    options = ("--sequence", "id", "--label", "way", "--epochs", 1, "--hidden-size", 3, "--folder", "r", "-q")
    assert undertow("train", "a.csv", *options).code == 0
    said = undertow("predict", "r", "b.csv")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "column 'x' holds -9999 1 time" in said.err
    assert undertow("predict", "r", "a.csv").code == 0
