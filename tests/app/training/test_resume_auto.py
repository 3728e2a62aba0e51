"""``--resume auto`` starts a training or goes on with it: the same command both times."""

from pathlib import Path

from inputs import CLASSIFY, changed
from undertow.app.runs.folder import open_run

AUTO = (*CLASSIFY, "--epochs", 2, "--folder", "r", "--resume", "auto")


def test_it_starts_goes_on_and_ends(undertow, walks):
    started = undertow("train", walks, *AUTO)
    assert started.code == 0, started.err
    Path("r/curve.png").unlink()
    again = undertow("train", walks, *AUTO)
    assert (again.code, again.err) == (0, "")
    assert "r: finished already (all 2 epochs done)" in again.out
    assert Path("r/curve.png").exists()
    more = undertow("train", walks, *changed(AUTO, ("--epochs", 3)))
    assert "Going on with r from epoch 3" in more.out
    assert len(open_run(Path("r")).read_metrics()) == 3


def test_it_refuses_another_training(undertow, walks, waves):
    assert undertow("train", walks, *AUTO).code == 0
    other = undertow("train", walks, *changed(AUTO, ("--hidden-size", 9)))
    assert other.err == "undertow: --resume auto: r was begun with another --hidden-size\n"
    source = undertow("train", waves, "--target", "level", "--folder", "r", "--resume", "auto")
    assert source.code == 2 and f"r was begun with {walks}, not {waves}" in source.err
    for command in ((walks, "--resume", "auto"), ("--folder", "r", "--resume", "auto")):
        refused = undertow("train", *command)
        assert refused.err == "undertow: --resume auto: expected SOURCE and --folder, without --overwrite\n"
