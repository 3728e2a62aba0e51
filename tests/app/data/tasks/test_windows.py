"""Windows that are read once are those that are read batch by batch."""

from dataclasses import fields

import pytest
import torch

from undertow.app.data.tasks import windows
from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.runs.config import DataConfig

OPTIONS = [{}, {"horizon": 3, "embed_group": True}, {"head": "decoder", "horizon": 2}, {"simulate": True}]


def batches(path, options):
    given = {"source": str(path), "task": "forecast", "validation": 0.2, "steps": 10, "target": ("level",)}
    task = ForecastTask(DataConfig(**given | {"group": ("place",)} | options), batch_size=16, seed=0)
    return [*task.train_batches(0), *task.train_batches(1), *task.validation_batches()]


def tensors(batch):
    """All of a batch."""
    found = [getattr(batch, field.name) for field in fields(batch)]
    found = [part for each in found for part in (each if isinstance(each, tuple) else [each])]
    return [each for each in found if isinstance(each, torch.Tensor)]


@pytest.mark.parametrize("options", OPTIONS)
def test_kept_windows_are_those_read_batch_by_batch(waves, options, monkeypatch):
    kept = batches(waves, options)
    monkeypatch.setattr(windows, "MOST_KEPT", 0)
    read = batches(waves, options)
    for one, other in zip(kept, read, strict=True):
        for mine, theirs in zip(tensors(one), tensors(other), strict=True):
            assert torch.equal(mine, theirs)


def test_few_windows_are_read_once():
    read = []

    def reading(starts):
        read.append(len(starts))
        return windows.Batch(starts.float().expand(2, 1, -1).transpose(1, 2), starts)

    part = windows.Windows(reading, torch.arange(20))
    for places in ([3, 1, 7], [4]):
        found = list(part.batches(2, torch.tensor(places)))
        assert [len(batch.y) for batch in found] == ([2, 1] if len(places) == 3 else [1])
        assert torch.cat([batch.y for batch in found]).tolist() == places
        assert torch.cat([batch.x[1, :, 0] for batch in found]).tolist() == places
    assert read == [1, 20]
    assert torch.cat([batch.y for batch in part.batches(7)]).tolist() == list(range(20))
