"""One contestant on one data set, in a process of its own.

python benchmarks/evidence/peers.py CONTESTANT FOLDER SEED SECONDS

FOLDER holds what ``sources.prepare`` wrote; predictions go to FOLDER/predicted.csv.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scores import truth_of
from sources import Source, load

Values = NDArray[np.float64]


# -- forecasts that need no learning --------------------------------------------------------------


def naive(source: Source, folder: Path, *_: int, season: int = 1) -> pd.DataFrame:
    """The last known value of the same season; without seasons the last value."""
    table, asked = load(folder, "all.csv"), truth_of(source, folder)
    values = {n: filled(each[source.target]) for n, each in table.groupby("series", sort=False)}
    back = -(-asked["ahead"] // season) * season
    rows = np.maximum(asked["row"] - back, 0)
    asked["prediction"] = [values[name][row] for name, row in zip(asked["series"], rows, strict=True)]
    return asked


def seasonal(source: Source, folder: Path, *_: int) -> pd.DataFrame:
    """The value of one season before."""
    return naive(source, folder, season=source.season)


def filled(values: pd.Series) -> Values:
    """Without missing values: each repeats the one before."""
    return values.ffill().bfill().to_numpy(float)


# -- gradient boosting on lags --------------------------------------------------------------------

MOST = 200_000  # rows of training


def boosted(source: Source, folder: Path, seed: int, _: int) -> pd.DataFrame:
    """HistGradientBoostingRegressor with its defaults: lags and the place in the season, one model for all.

    Lags and target are differences from the last value, over the window's mean absolute value, so that
    series of any size share one model.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    train, asked = load(folder, "train.csv"), truth_of(source, folder)
    rng, x, y = np.random.default_rng(seed), [], []
    per_series = MOST // train["series"].nunique()
    for _name, each in train.groupby("series", sort=False):
        values = filled(each[source.target])
        origins, ahead = grid(len(values), source, rng, per_series)
        inputs, last, scale = lags(values, each, origins, ahead, source)
        x.append(inputs)
        y.append((values[origins + ahead - 1] - last) / scale)
    model = HistGradientBoostingRegressor(random_state=seed).fit(np.concatenate(x), np.concatenate(y))
    parts = []
    for name, each in load(folder, "all.csv").groupby("series", sort=False):
        mine = asked[asked["series"] == name].copy()
        origins, ahead = mine["origin"].to_numpy(), mine["ahead"].to_numpy()
        inputs, last, scale = lags(filled(each[source.target]), each, origins, ahead, source)
        mine["prediction"] = last + scale * model.predict(inputs)
        parts.append(mine)
    return pd.concat(parts)


def grid(rows: int, source: Source, rng: np.random.Generator, most: int) -> tuple[Values, Values]:
    """Origins with a season of past, and the rows ahead of each: at most ``most`` of them."""
    first = min(source.season, rows // 2) or 1
    origins = np.arange(first, rows - source.horizon + 1)
    pairs = np.stack(np.meshgrid(origins, np.arange(1, source.horizon + 1)), -1).reshape(-1, 2)
    pairs = pairs[rng.permutation(len(pairs))[:most]]
    return pairs[:, 0], pairs[:, 1]


def lags(
    values: Values, table: pd.DataFrame, origins: Values, ahead: Values, source: Source
) -> tuple[Values, Values, Values]:
    """The inputs of each forecast, the last value and the scale: [N, C], [N], [N]."""
    recent = origins[:, None] - np.arange(1, 1 + min(24, max(8, source.horizon)))
    season = max(source.season, 1)
    back = origins + ahead - 1 - -(-ahead // season) * season
    around = back[:, None] + np.arange(-1, 2)
    found = values[np.maximum(np.concatenate([recent, around], 1), 0)]  # [N, lags]
    last = values[origins - 1]
    scale = np.abs(found).mean(1) + 1e-9
    others = table.drop(columns=[source.target, "series", "time"]).select_dtypes("number").to_numpy(float)
    inputs = [(found - last[:, None]) / scale[:, None], ahead[:, None], *calendar(table, origins, ahead)]
    return np.concatenate([*inputs, others[origins - 1]], 1), last, scale


def calendar(table: pd.DataFrame, origins: Values, ahead: Values) -> list[Values]:
    """Month, day of the week and hour of the row that is forecast; [] where times are numbers."""
    if not isinstance(table["time"].iloc[0], str):
        return []
    times = pd.DatetimeIndex(pd.to_datetime(table["time"]))
    step = times[1] - times[0]
    at = times[origins - 1] + step * ahead
    return [np.stack([at.month, at.dayofweek, at.hour], 1).astype(float)]


# -- neuralforecast's LSTM ------------------------------------------------------------------------


def neuralforecast(source: Source, folder: Path, seed: int, seconds: int) -> pd.DataFrame:
    """NeuralForecast's LSTM with its defaults; other columns are its exogenous inputs, as its guide says."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import LSTM
    from pytorch_lightning import Callback

    class Budget(Callback):
        """Ends the training once it has computed for its seconds."""

        def on_train_start(self, *_: Any) -> None:
            self.start = process_time()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = process_time() > self.start + seconds

    table = load(folder, "all.csv")
    table = table.rename(columns={"series": "unique_id", "time": "ds", source.target: "y"})
    table["unique_id"] = table["unique_id"].astype(str)
    dated = isinstance(table["ds"].iloc[0], str)
    if dated:
        table["ds"] = pd.to_datetime(table["ds"])
    frequency = pd.infer_freq(table["ds"].iloc[:50]) if dated else 1
    for fill in ("ffill", "bfill"):  # this peer refuses missing values
        others = table.columns.difference(["unique_id"])
        table[others] = getattr(table.groupby("unique_id", sort=False)[others], fill)()
    numbers = table.drop(columns=["unique_id", "ds", "y"]).select_dtypes("number")
    changes = numbers.groupby(table["unique_id"]).nunique().gt(1).any()
    static = [name for name in numbers if not changes[name] and table["unique_id"].nunique() > 1]
    moving = [name for name in numbers if changes[name]]
    model = LSTM(
        h=source.horizon, hist_exog_list=moving or None, stat_exog_list=static or None, random_seed=seed,
        callbacks=[Budget()], enable_progress_bar=False, logger=False, enable_checkpointing=False,
    )  # fmt: skip
    forecaster = NeuralForecast(models=[model], freq=frequency)
    places = table.groupby("unique_id", as_index=False)[static].first() if static else None
    test = source.test - (source.test - source.horizon) % source.stride
    found = forecaster.cross_validation(
        df=table[["unique_id", "ds", "y", *moving]], static_df=places, n_windows=None,
        test_size=test, step_size=source.stride, refit=False,
    )  # fmt: skip
    return by_origin(source, folder, found.reset_index(), dated)


def by_origin(source: Source, folder: Path, found: pd.DataFrame, dated: bool) -> pd.DataFrame:
    """A cross-validation's forecasts, by the number of rows known to each."""
    table = load(folder, "all.csv")
    table["series"] = table["series"].astype(str)
    table["row"] = table.groupby("series", sort=False).cumcount()
    table["ds"] = pd.to_datetime(table["time"]) if dated else table["time"]
    place = table[["series", "ds", "row"]]
    found = found.rename(columns={"unique_id": "series", "LSTM": "prediction"})
    found["series"] = found["series"].astype(str)
    found["ahead"] = found.groupby(["series", "cutoff"], sort=False).cumcount() + 1
    found = found.merge(place, on=["series", "ds"])
    found["origin"] = found["row"] - found["ahead"] + 1
    return found


# -- labels ---------------------------------------------------------------------------------------


def main() -> None:
    name, folder, seed, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    source = Source(**json.loads((folder / "source.json").read_text()))
    import labels

    contestants: dict[str, Callable[..., pd.DataFrame]] = {
        "naive": naive, "seasonal naive": seasonal, "boosting": boosted,
        "neuralforecast LSTM": neuralforecast, "nn.LSTM": labels.lstm, "ridge": labels.ridge,
    }  # fmt: skip
    contestants[name](source, folder, seed, seconds).to_csv(folder / "predicted.csv", index=False)


if __name__ == "__main__":
    main()
