"""Peers that label sequences: an LSTM as a tutorial has it, and a ridge classifier on summaries."""

from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sources import Source, load

Sequences = list[NDArray[np.float32]]  # [T, C] each


def read(folder: Path, file: str) -> tuple[Sequences, NDArray[np.str_], list[str]]:
    """The sequences, their labels and their names."""
    x, y, names = [], [], []
    for name, each in load(folder, file).groupby("sequence", sort=False):
        x.append(each.drop(columns=["sequence", "label"]).to_numpy(np.float32))
        y.append(each["label"].iloc[0])
        names.append(str(name))
    return x, np.array(y), names


def lstm(source: Source, folder: Path, seed: int, seconds: int) -> pd.DataFrame:
    """nn.LSTM of 64 units, the last hidden state and a linear layer; Adam with 1e-3, 100 epochs, batch 32."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_sequence

    torch.manual_seed(seed)
    x, y, _ = read(folder, "train.csv")
    stacked = np.concatenate(x)
    mean, spread = stacked.mean(0), stacked.std(0) + 1e-8
    classes = np.unique(y)
    target = torch.from_numpy(np.searchsorted(classes, y))
    layer, head = nn.LSTM(stacked.shape[1], 64), nn.Linear(64, len(classes))
    optimiser = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=1e-3)

    def scores(some: Sequences) -> torch.Tensor:
        packed = pack_sequence([torch.from_numpy((v - mean) / spread) for v in some], enforce_sorted=False)
        return head(layer(packed)[1][0][-1])  # [N, classes]

    start = process_time()
    for _ in range(100):
        for batch in torch.randperm(len(x)).split(32):
            loss = nn.functional.cross_entropy(scores([x[k] for k in batch]), target[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if process_time() > start + seconds:
            break
    test, _, names = read(folder, "all.csv")
    with torch.no_grad():
        found = classes[scores(test).argmax(-1).numpy()]
    return pd.DataFrame({"sequence": names, "prediction": found})


def ridge(source: Source, folder: Path, *_: int) -> pd.DataFrame:
    """RidgeClassifierCV on each channel stretched to 32 steps, flattened."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, _ = read(folder, "train.csv")
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10))).fit(flat(x), y)
    test, _, names = read(folder, "all.csv")
    return pd.DataFrame({"sequence": names, "prediction": model.predict(flat(test))})


def flat(x: Sequences, steps: int = 32) -> NDArray[np.float64]:
    """Each sequence as one row: every channel at ``steps`` equal distances."""
    rows = []
    for each in x:
        at, known = np.linspace(0, len(each) - 1, steps), np.arange(len(each))
        rows.append(np.concatenate([np.interp(at, known, channel) for channel in each.T]))
    return np.stack(rows)
