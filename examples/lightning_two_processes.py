"""undertow.LSTM under Lightning on two processes, with a FlowMonitor: `adding`, a problem of the literature.

    python examples/lightning_two_processes.py [steps of the optimizer]

Needs torch and lightning. Each process learns from sequences of its own. Lightning averages their gradients
(DistributedDataParallel). Each process watches its own copy of the network; the first one prints what it saw.
"""

import sys
from collections.abc import Iterator

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import undertow
from undertow import problems

PROCESSES, LAG, BATCH_SIZE, HIDDEN_SIZE, SEED = 2, 50, 32, 32, 0
ADDING = problems.get("adding")


class Sequences(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches without end, other ones in each process: x [T,N,C], and the sum that is asked for, [N,1]."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([SEED, torch.distributed.get_rank()])
        while True:
            x, y = ADDING.sample(rng, BATCH_SIZE, LAG)
            yield torch.from_numpy(x), torch.from_numpy(y)


class Adding(pl.LightningModule):
    """An LSTM, and a linear layer that answers after the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = undertow.LSTM(ADDING.input_size, HIDDEN_SIZE)
        self.head = torch.nn.Linear(HIDDEN_SIZE, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][-1])

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 5e-3)


def main(steps: int = 300) -> None:
    pl.seed_everything(SEED, verbose=False)  # both processes begin with the same weights
    model = Adding()
    monitor = undertow.FlowMonitor(model, every=max(1, steps // 5))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=PROCESSES,
        strategy="ddp",  # starts this script once more
        max_steps=steps,
        callbacks=[monitor.callback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, DataLoader(Sequences(), batch_size=None))
    if trainer.is_global_zero:
        print("step  mean forget gate  steps until 1% of the gradient is left")
        for record in monitor.records:
            print(f"{record.step:4}  {record.summary.f_mean:16.3f}  {record.summary.horizon_1pct:.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
