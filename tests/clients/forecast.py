"""neuralforecast: its LSTM forecasts twelve generated monthly series."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import DistributionLoss
from neuralforecast.models import LSTM

from client import SEED, main

SERIES, LENGTH, HORIZON = 12, 144, 12


def prepare() -> pd.DataFrame:
    """Trend, season and noise, as in the AirPassengers that its documentation begins with."""
    random = np.random.default_rng(0)
    t = np.arange(LENGTH)
    frames = []
    for n in range(SERIES):
        y = 100 + n * 10 + (0.5 + 0.1 * n) * t + 20 * np.sin(2 * np.pi * (t + n) / 12)
        y += random.normal(0, 5, LENGTH)
        ds = pd.date_range("2010-01-31", periods=LENGTH, freq="ME")
        frames.append(pd.DataFrame({"unique_id": f"series {n}", "ds": ds, "y": y}))
    return pd.concat(frames)


def train(data: pd.DataFrame) -> dict[str, Any]:
    model = LSTM(
        h=HORIZON,
        input_size=48,
        loss=DistributionLoss(distribution="Normal", level=[80, 90]),
        encoder_n_layers=2,
        encoder_hidden_size=128,
        decoder_hidden_size=128,
        decoder_layers=2,
        max_steps=60,
        random_seed=SEED,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    forecast = NeuralForecast(models=[model], freq="ME")
    forecast.fit(df=data)
    fitted = forecast.models[0]
    predicted = forecast.predict().filter(like="LSTM")
    return {
        "weights": torch.cat([p.detach().ravel() for p in fitted.parameters()]),
        "training losses": [loss for _, loss in fitted.train_trajectories],
        "forecast": predicted,
    }


main("neuralforecast", "LSTM, 2 layers of 128 units, 60 steps of training, forecast", prepare, train)
