"""Formats of files: each gives the table that was written, and keeps what its texts are."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from inputs import FORECAST, wave_table
from undertow.app.data.tables.series import read_series
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run

SMALL = (*FORECAST, "--epochs", 1, "--folder", "r")
WAVES = wave_table(40)


def read(path, **options):
    values = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 10}
    return read_series(
        Path(path), DataConfig(**values | {"target": ("level",), "group": ("place",)} | options)
    )


def zstd(table, path):
    import zstandard

    Path(path).write_bytes(zstandard.compress(table.write_csv().encode()))


WRITERS = {
    "a.csv": pl.DataFrame.write_csv,
    "a.csv.gz": lambda table, path: Path(path).write_bytes(gzip.compress(table.write_csv().encode())),
    "a.csv.zst": zstd,
    "a.tsv": lambda table, path: table.write_csv(path, separator="\t"),
    "a.txt": lambda table, path: table.write_csv(path, separator=";"),
    "a.dat": lambda table, path: Path(path).write_text(table.write_csv().replace(",", "   ")),
    "a.parquet": pl.DataFrame.write_parquet,
    "a.feather": pl.DataFrame.write_ipc,
    "a.arrows": pl.DataFrame.write_ipc_stream,
    "a.jsonl": pl.DataFrame.write_ndjson,
    "a.json": pl.DataFrame.write_json,
    "a.xlsx": pl.DataFrame.write_excel,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_table(tmp_path, name):
    WRITERS[name](WAVES, tmp_path / name)
    table = read(tmp_path / name).table
    assert table.select("place", "sky", "level").equals(WAVES.select("place", "sky", "level"))
    assert table["day"].cast(pl.Date).equals(WAVES["day"])


@pytest.mark.parametrize("name", ["a.xlsx", "a.feather", "a.csv.zst"])
def test_binary_tables_are_trained_as_tables(undertow, name):
    WRITERS[name](WAVES, name)
    result = undertow("train", name, *SMALL)
    assert result.code == 0, result.err
    assert "80 rows in 2 series" in result.out
    assert undertow("predict", "r", name).code == 0


def test_the_content_decides_not_the_name(undertow):
    WAVES.write_parquet("a.txt")
    assert undertow("train", "a.txt", *SMALL).code == 0
    Path("b.csv").write_bytes(bytes(range(256)))
    refused = undertow("train", "b.csv", *FORECAST)
    assert refused.code == 2
    assert "binary content" in refused.err


def test_of_several_sheets_one_must_be_named(undertow):
    import xlsxwriter

    with xlsxwriter.Workbook("a.xlsx") as book:
        for name in ("notes", "data"):
            WAVES.write_excel(book, name)
    refused = undertow("train", "a.xlsx", *FORECAST)
    assert (refused.code, "--sheet" in refused.err, "notes, data" in refused.err) == (2, True, True)
    assert undertow("train", "a.xlsx", *SMALL, "--sheet", "data").code == 0
    assert open_run(Path("r")).facts["reading"]["sheet"] == "data"


def test_partitions_give_columns_of_text(tmp_path):
    for place, name in (("north", "01"), ("south", "1")):
        (tmp_path / f"gauge={name}").mkdir()
        WAVES.filter(pl.col("place") == place).write_parquet(tmp_path / f"gauge={name}" / "0.parquet")
    table = read(tmp_path, group=("gauge",)).table
    assert table["gauge"].unique().sort().to_list() == ["01", "1"]
    assert len(table) == 80


def test_a_folder_of_places_is_a_panel_and_one_of_months_a_series(undertow):
    for place in ("north", "south"):
        Path("panel").mkdir(exist_ok=True)
        WAVES.filter(pl.col("place") == place).drop("place").write_csv(f"panel/{place}.csv")
    options = ("--target", "level", "--steps", 10, "--hidden-size", 4, "--epochs", 1)
    said = undertow("train", "panel", *options, "--folder", "r")
    assert said.code == 0, said.err
    assert "80 rows in 2 series" in said.out
    assert "2 files; a series for each file" in said.out
    predicted = undertow("predict", "r", "panel", "-o", "out.csv")
    assert predicted.code == 0, predicted.err
    assert "trained on" in predicted.out
    assert pl.read_csv("out.csv")["file"].unique().sort().to_list() == ["north", "south"]
    north = WAVES.filter(pl.col("place") == "north").drop("place")
    north[:20].write_csv("one.csv")
    north[20:].write_csv("two.csv")
    said = undertow("train", "two.csv", "one.csv", *options, "--folder", "s")
    assert said.code == 0, said.err
    assert "40 rows, ordered by day" in said.out
    assert "one series over all files" in said.out
    again = undertow("train", "--resume", "s", "--epochs", 2)
    assert again.code == 0, again.err


def test_several_texts_are_documents(undertow):
    for name in "ab":
        Path(f"{name}.txt").write_text(f"{name} rhyme of its own\n" * 60)
    options = ("--steps", 16, "--batch-size", 4, "--hidden-size", 8, "--num-layers", 1, "--epochs", 1)
    said = undertow("train", "a.txt", "b.txt", *options, "--folder", "r")
    assert said.code == 0, said.err
    assert "2,280 characters in 2 files" in said.out


def test_netcdf(undertow):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset("a.nc", "w") as file:
        file.createDimension("time", 60)
        file.createDimension("gauge", 2)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", range(60)
        name = file.createVariable("gauge", str, ("gauge",))
        name[0], name[1] = "007", "7"
        flow = file.createVariable("flow", "f4", ("time", "gauge"), fill_value=-9999.0)
        flow[:] = [[k % 8 + 1.5, k % 5 + 0.5] for k in range(60)]
    options = ("--target", "flow", "--group", "gauge", "--steps", 10, "--hidden-size", 4, "--epochs", 1)
    said = undertow("train", "a.nc", *options, "--folder", "r")
    assert said.code == 0, said.err
    assert "120 rows in 2 series" in said.out
    assert undertow("predict", "r", "a.nc", "-o", "out.parquet").code == 0
    assert str(pl.read_parquet("out.parquet")["time"][-1])[:10] == "2020-03-01"


def test_without_a_heading(undertow):
    WAVES.write_csv("a.csv", include_header=False)
    options = (
        "--group",
        "column_2",
        "--target",
        "column_4",
        "--steps",
        10,
        "--hidden-size",
        4,
        "--epochs",
        1,
    )
    said = undertow("train", "a.csv", *options, "--folder", "r")
    assert said.code == 0, said.err
    assert "no heading: the columns are column_1" in said.out
    assert "80 rows in 2 series" in said.out
    assert undertow("train", "a.csv", *options, "--no-header", "--folder", "s").code == 0


def test_the_line_with_too_many_fields_is_named(undertow):
    lines = WAVES.write_csv().splitlines()
    lines[5] += ",1,2"
    Path("a.csv").write_text("\n".join(lines))
    refused = undertow("train", "a.csv", *FORECAST)
    assert "a.csv: line 6: expected 4 fields, found 6" in refused.err


PARTS = {
    "date and clock": ("Date;Time;y", "{d}/{m}/2020;{H:02}:00:00;{y}"),
    "date and hour": ("dteday,hr,y", "2020-{m:02}-{d:02},{H},{y}"),
    "year to hour": ("year,month,day,hour,y", "2020,{m},{d},{H},{y}"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_time_in_several_columns(tmp_path, name):
    heading, row = PARTS[name]
    lines = [row.format(d=k // 24 + 1, m=3, H=k % 24, y=k % 7) for k in range(480)]
    (tmp_path / "a.csv").write_text("\n".join([heading, *lines, ""]))
    found = read(tmp_path / "a.csv", target=("y",), group=())
    assert found.frequency.words == "hourly"
    assert str(found.table[found.time][-1]) == "2020-03-20 23:00:00"
    assert found.columns.numeric == ["y"]


@pytest.mark.parametrize("unit", [1, 1000])
def test_unix_times(tmp_path, unit):
    rows = "".join(f"{unit * (1546300800 + 3600 * k)},{k % 7}\n" for k in range(100))
    (tmp_path / "a.csv").write_text("timestamp,y\n" + rows)
    found = read(tmp_path / "a.csv", target=("y",), group=())
    assert found.frequency.words == "hourly"
    assert str(found.table["timestamp"][1]) == "2019-01-01 01:00:00"
