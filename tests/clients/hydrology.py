"""neuralhydrology: its CudaLSTM on its generic dataset, three generated basins, trained and evaluated."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from neuralhydrology.nh_run import eval_run, start_run
from ruamel.yaml import YAML

from client import SEED, main

DATES = pd.date_range("2000-01-01", "2003-12-31", name="date")
BASINS = ("north", "south", "west")
CONFIG = {
    "experiment_name": "run",
    "train_basin_file": "basins.txt",
    "validation_basin_file": "basins.txt",
    "test_basin_file": "basins.txt",
    "train_start_date": "01/01/2001",
    "train_end_date": "31/12/2002",
    "validation_start_date": "01/01/2003",
    "validation_end_date": "30/06/2003",
    "test_start_date": "01/07/2003",
    "test_end_date": "31/12/2003",
    "device": "cpu",
    "validate_every": 1,
    "validate_n_random_basins": 3,
    "metrics": ["NSE"],
    "model": "cudalstm",
    "head": "regression",
    "output_activation": "linear",
    "hidden_size": 64,
    "initial_forget_bias": 1,
    "output_dropout": 0.4,
    "optimizer": "Adam",
    "loss": "MSE",
    "learning_rate": {0: 1e-3},
    "batch_size": 256,
    "epochs": 4,
    "clip_gradient_norm": 1,
    "predict_last_n": 1,
    "seq_length": 365,
    "num_workers": 0,
    "log_interval": 5,
    "log_tensorboard": False,
    "save_weights_every": 1,
    "save_validation_results": False,
    "seed": SEED,
    "dataset": "generic",
    "data_dir": ".",
    "dynamic_inputs": ["precipitation", "temperature"],
    "target_variables": ["discharge"],
    "static_attributes": ["area"],
    "clip_targets_to_zero": ["discharge"],
}


def prepare() -> None:
    """Rain, temperature, and what two leaking stores, one of them snow, let out of them."""
    random = np.random.default_rng(0)
    Path("time_series").mkdir()
    Path("attributes").mkdir()
    for number, basin in enumerate(BASINS):
        warmth = 8 - 10 * np.cos(2 * np.pi * DATES.dayofyear / 365) + random.normal(0, 2, len(DATES))
        rain = random.gamma(0.3, 10, len(DATES))
        store, snow, discharge = 10.0, 0.0, np.empty(len(DATES))
        for day, (w, r) in enumerate(zip(warmth, rain, strict=True)):
            melt = min(snow, max(w, 0) * 2)
            snow += (r if w < 0 else 0) - melt
            store += (r if w >= 0 else 0) + melt
            discharge[day] = store * (0.02 + 0.03 * number)
            store -= discharge[day]
        columns = {"precipitation": rain, "temperature": warmth, "discharge": discharge}
        pd.DataFrame(columns, DATES).to_xarray().to_netcdf(f"time_series/{basin}.nc")
    pd.DataFrame({"basin": BASINS, "area": [10.0, 20.0, 30.0]}).to_csv(
        "attributes/attributes.csv", index=False
    )
    Path("basins.txt").write_text("\n".join(BASINS))
    YAML().dump(CONFIG, Path("config.yml"))


def train(_: None) -> dict[str, Any]:
    start_run(Path("config.yml"))
    run = next(Path("runs").iterdir())
    eval_run(run, period="test")
    weights = torch.load(run / "model_epoch004.pt", weights_only=True)
    results = pd.read_pickle(run / "test" / "model_epoch004" / "test_results.p")
    discharge = [results[basin]["1D"]["xr"]["discharge_sim"].to_numpy() for basin in BASINS]
    return {"weights": torch.cat([w.ravel() for w in weights.values()]), "predicted discharge": discharge}


main(
    "neuralhydrology",
    "`nh-run train` and `evaluate`, CudaLSTM of 64 units, 365 days, 4 epochs",
    prepare,
    train,
)
