"""How good forecasts and labels are, in the field's usual measures."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sources import Source, load

Values = NDArray[np.float64]


def truth_of(source: Source, folder: Path) -> pd.DataFrame:
    """Every forecast that is scored, with its truth and the scale of its series.

    Returns:
        Columns series, origin (rows known), ahead, row, truth, and scale: the mean absolute error of the
        seasonal naive forecast on the training part, as in MASE (Hyndman and Koehler, 2006).
    """
    train, table = load(folder, "train.csv"), load(folder, "all.csv")
    parts = []
    for name, each in table.groupby("series", sort=False):
        values, known = each[source.target].to_numpy(float), len(each) - source.test
        past = train.loc[train["series"] == name, source.target].to_numpy(float)
        season = source.season if len(past) > source.season else 1
        scale = np.nanmean(np.abs(past[season:] - past[:-season]))
        origins = np.arange(known, len(each) - source.horizon + 1, source.stride)
        rows = origins[:, None] + np.arange(source.horizon)  # [origins, horizon]
        parts.append(
            pd.DataFrame(
                {
                    "series": name,
                    "origin": np.repeat(origins, source.horizon),
                    "ahead": np.tile(np.arange(1, source.horizon + 1), len(origins)),
                    "row": rows.ravel(),
                    "truth": values[rows.ravel()],
                    "scale": scale,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def forecast_scores(source: Source, folder: Path, predicted: pd.DataFrame) -> dict[str, float]:
    """Compare forecasts with the truth, all of them or none.

    Args:
        source: The data set.
        folder: Where it was prepared.
        predicted: Columns series, origin, ahead, prediction.

    Returns:
        rmse and mae in the target's unit, mase, and for discharge nse and kge.

    Raises:
        ValueError: A forecast is missing.
    """
    keys = ["series", "origin", "ahead"]
    found = truth_of(source, folder).merge(predicted[[*keys, "prediction"]], on=keys, how="left")
    found = found[found["truth"].notna()]
    if found["prediction"].isna().any():
        raise ValueError(
            f"{source.name}: {found['prediction'].isna().sum()} of {len(found)} forecasts missing"
        )
    error = found["prediction"] - found["truth"]
    scores = {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(error.abs().mean()),
        "mase": float((error.abs() / found["scale"]).groupby(found["series"]).mean().mean()),
        "forecasts": len(found),
    }
    if source.discharge:
        scores |= hydrology(found["prediction"].to_numpy(float), found["truth"].to_numpy(float))
    return scores


def hydrology(predicted: Values, truth: Values) -> dict[str, float]:
    """NSE (Nash and Sutcliffe, 1970) and KGE (Gupta et al., 2009)."""
    nse = 1 - np.mean((predicted - truth) ** 2) / truth.var()
    r = np.corrcoef(predicted, truth)[0, 1]
    spread, bias = predicted.std() / truth.std(), predicted.mean() / truth.mean()
    return {"nse": float(nse), "kge": float(1 - np.sqrt((r - 1) ** 2 + (spread - 1) ** 2 + (bias - 1) ** 2))}


def label_scores(folder: Path, predicted: pd.DataFrame) -> dict[str, float]:
    """The share of the test sequences whose label is right; columns sequence, prediction."""
    truth = load(folder, "all.csv").groupby("sequence", sort=False)["label"].first()
    right = predicted.set_index("sequence")["prediction"].reindex(truth.index) == truth
    return {"accuracy": float(right.mean()), "sequences": len(truth)}
