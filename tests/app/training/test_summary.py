"""What training says after it ends, and that nobody listening does no harm."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from undertow.app.runs.config import DataConfig, ModelConfig, TrainConfig
from undertow.app.runs.folder import Run
from undertow.app.runs.objective import Objective
from undertow.app.terminal import Terminal
from undertow.app.training import session, summary
from undertow.app.training.alone import ALONE
from undertow.app.training.progress import Position, Progress

FOLDER = Path("runs/a folder whose name is longer than a line of the terminal/walks-1")


QUOTED = f"'{FOLDER}'"  # as a shell takes it


def run(**options):
    data = DataConfig("walks.csv", "classify", 0.2, 0, sequence="id", label="way", per="sequence")
    model = ModelConfig("lstm", 4, 1, 0.0, 2, "last", inputs=1)
    training = TrainConfig(lr=0.1, batch_size=1, epochs=4, patience=5, clip=1.0, seed=0)
    return Run(FOLDER, data, model, training, {}, **options)


def said(run, done, width=120, **at):
    screen = io.StringIO()
    plan = Progress(run.training, Objective("accuracy", "right"), 10, 1, Position(**at))
    summary.conclude(Terminal(file=screen, width=width), run, plan, done)
    return screen.getvalue()


def test_commands_to_type_next_stand_on_one_line_in_a_narrow_terminal():
    following = said(run(), True, width=30).splitlines()
    assert following == [
        f"Saved in {FOLDER}. Next:",
        f"  undertow predict {QUOTED} TABLE",
        f"  undertow inspect {QUOTED}",
        f"  undertow doctor {QUOTED}",
    ]
    stopped = said(run(), False, width=30, step=7).splitlines()
    assert stopped[0].startswith("Stopped by Ctrl-C at step 7; everything is saved in ")
    assert stopped[1:] == [f"  undertow train --resume {QUOTED}"]


def test_the_best_evaluation_stands_against_each_baseline():
    best = {"validation": 0.9, "validation_loss": 0.2, "epoch": 2.0}
    found = said(run(baselines={"most frequent": 0.5, "oracle": 1.0}), True, best=best, finished="all done")
    words = " ".join(found.split())
    best_of = "90.0% right on the validation part, way of each sequence (best, epoch 2; all done; 00:00)"
    assert words.startswith(best_of)
    assert "LSTM 90.0% right" in words
    assert "most frequent 50.0% right beaten by 40 points" in words
    assert "oracle 100.0% right not beaten: it is better by 10 points" in words
    assert "(best, epoch 2; interrupted; 00:00)" in " ".join(said(run(), False, best=best).split())


@pytest.mark.parametrize("done", [True, False])
def test_a_terminal_that_is_gone_ends_no_interrupted_training_with_an_error(done):
    """SIGHUP: then nobody reads; a training that is done has to say that it could not."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError("terminal gone")

    trained = run()
    trainer = SimpleNamespace(
        run=trained,
        progress=Progress(trained.training, Objective("accuracy", "right"), 10, 1),
        fit=lambda view: done,
        team=ALONE,
        loop=SimpleNamespace(interrupt=SimpleNamespace(code=129, name="SIGHUP")),
    )
    if done:
        with pytest.raises(OSError, match="terminal gone"):
            session.finish(Terminal(file=Gone()), trainer, quiet=True)
    else:
        assert session.finish(Terminal(file=Gone()), trainer, quiet=True) == 129
