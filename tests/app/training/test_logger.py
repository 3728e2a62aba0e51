"""`--logger tensorboard`: the rows of metrics.jsonl as event files."""

from pathlib import Path

import pytest

from inputs import FORECAST
from undertow.app.runs.folder import open_run
from undertow.app.training import logger
from undertow.app.training.events import TAGS


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore")  # of tensorboard's packages
def test_event_files_hold_the_metrics_also_of_a_resumed_training(undertow, waves):
    pytest.importorskip("tensorboard")
    log = ("--logger", "tensorboard", "--folder", "r")
    assert undertow("train", waves, *FORECAST, "--epochs", 2, *log, "-q").code == 0
    assert undertow("train", "--resume", "r", "--epochs", 3, "-q").code == 0
    rows, found = open_run(Path("r")).read_metrics(), scalars(Path("r"))
    assert len(rows) > 2
    for name, tag in TAGS.items():
        assert found[tag] == [(row["step"], pytest.approx(row[name])) for row in rows], tag
    again = undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r", "--overwrite", "-q")
    assert again.code == 0
    assert not Path("r/tensorboard").exists()


def test_a_missing_library_is_one_line(undertow, waves, monkeypatch):
    monkeypatch.setattr(logger, "find_spec", lambda name: None)
    refused = undertow("train", waves, *FORECAST, "--logger", "tensorboard")
    assert refused.code == 2
    needed = "--logger tensorboard: needs tensorboard: pip install 'undertow[tensorboard]'"
    assert refused.err == f"undertow: {needed}\n"
    assert not Path("runs").exists()
