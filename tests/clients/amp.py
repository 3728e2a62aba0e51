"""neural-amp-modeler: ``nam-full`` learns an amplifier, here a distortion of generated sound."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from nam.cli import nam_full

from client import main

RATE, SECONDS, VALIDATION = 48_000, 9, 1
DATA = {
    "common": {"x_path": "input.wav", "y_path": "output.wav", "delay": 0},
    "train": {"start_seconds": None, "stop_seconds": float(SECONDS - VALIDATION), "ny": 8192},
    "validation": {"start_seconds": float(SECONDS - VALIDATION), "stop_seconds": None, "ny": None},
}
# as in its own example of an LSTM
MODEL = {
    "net": {
        "name": "LSTM",
        "config": {"num_layers": 1, "hidden_size": 24, "train_burn_in": 4096, "train_truncate": 512},
    },
    "loss": {"val_loss": "mse", "mask_first": 4096, "pre_emph_weight": 1.0, "pre_emph_coef": 0.85},
    "optimizer": {"lr": 0.01},
    "lr_scheduler": {"class": "ExponentialLR", "kwargs": {"gamma": 0.995}},
}
LEARNING = {
    "train_dataloader": {"batch_size": 16, "shuffle": True, "drop_last": True, "num_workers": 0},
    "val_dataloader": {},
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 6},
}


def write(name: str, sound: np.ndarray) -> None:
    with wave.open(name, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def prepare() -> None:
    """Plucked notes, and what a soft clipper behind a filter makes of them."""
    random = np.random.default_rng(0)
    t = np.arange(RATE * SECONDS) / RATE
    notes = 110 * 2 ** (random.integers(0, 24, SECONDS * 2) / 12)
    sound = sum(np.sin(2 * np.pi * k * notes[(t * 2).astype(int)] * t) / k for k in (1, 2, 3))
    sound = 0.4 * sound * np.exp(-3 * (t * 2 % 1))
    sound[RATE * (SECONDS - VALIDATION - 1) : RATE * (SECONDS - VALIDATION)] = 0  # as it demands
    write("input.wav", np.clip(sound, -1, 1))
    write("output.wav", 0.5 * np.tanh(4 * np.convolve(sound, [0.6, 0.3, 0.1])[: len(sound)]))
    for name, content in {"data": DATA, "model": MODEL, "learning": LEARNING}.items():
        Path(f"{name}.json").write_text(json.dumps(content))


def train(_: None) -> dict:
    sys.argv = ["nam-full", "data.json", "model.json", "learning.json", "out", "--no-plots"]
    nam_full()
    exported = json.loads(next(Path("out").rglob("model.nam")).read_text())
    checkpoint = torch.load(next(Path("out").rglob("checkpoint_epoch*.ckpt")), weights_only=False)
    states = {name: state for name, state in checkpoint["callbacks"].items() if "ModelCheckpoint" in name}
    best = next(state for name, state in states.items() if "val_loss" in name)
    return {"weights": exported["weights"], "validation losses": sorted(best["best_k_models"].values())}


main("neural-amp-modeler", "`nam-full`, LSTM of 24 units on 8 s of sound, 6 epochs", prepare, train)
