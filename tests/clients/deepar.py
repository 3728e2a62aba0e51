"""pytorch-forecasting: DeepAR on generated series, as in its tutorial."""

from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from pytorch_forecasting import DeepAR, TimeSeriesDataSet
from pytorch_forecasting.data.examples import generate_ar_data
from torch.utils.data import DataLoader

from client import SEED, main

ENCODER, PREDICTION = 60, 20


def prepare() -> pd.DataFrame:
    data = generate_ar_data(seasonality=10.0, timesteps=200, n_series=50, seed=42)
    return data.astype({"series": str})


def train(data: pd.DataFrame) -> dict[str, Any]:
    cutoff = data["time_idx"].max() - PREDICTION
    training = TimeSeriesDataSet(
        data[data.time_idx <= cutoff],
        time_idx="time_idx",
        target="value",
        group_ids=["series"],
        static_categoricals=["series"],
        time_varying_unknown_reals=["value"],
        max_encoder_length=ENCODER,
        max_prediction_length=PREDICTION,
    )
    validation = TimeSeriesDataSet.from_dataset(training, data, min_prediction_idx=cutoff + 1)
    model = DeepAR.from_dataset(
        training, learning_rate=0.01, hidden_size=64, rnn_layers=2, dropout=0.1, log_interval=-1
    )
    pl.seed_everything(SEED)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        gradient_clip_val=0.1,
        limit_train_batches=40,
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
    )
    loader: DataLoader[Any] = validation.to_dataloader(train=False, batch_size=128, num_workers=0)
    trainer.fit(model, training.to_dataloader(train=True, batch_size=128, num_workers=0), loader)
    torch.manual_seed(SEED)
    predicted = model.predict(loader, trainer_kwargs={"accelerator": "cpu", "logger": False})
    return {
        "weights": torch.cat([p.detach().ravel() for p in model.parameters()]),
        "validation loss": [trainer.callback_metrics["val_loss"]],
        "forecast": predicted,
    }


main(
    "pytorch-forecasting",
    "DeepAR, 2 layers of 64 units, 80 steps of training, forecast",
    prepare,
    train,
)
