"""Two workers of one study, one of which is killed: no trial is lost, none is done twice."""

import subprocess
import sys

import optuna
import pytest

from inputs import FORECAST
from undertow.app.tuning.storage import open_storage

TRIALS = 5
TUNE = (
    "--space",
    "hidden_size=2,3",
    "--space",
    "steps=5,6",
    "--batch-size",
    16,
    "--trials",
    TRIALS,
)
SLOW = """
import sys, time
from undertow.app.training import trainer
from undertow.app.tuning import storage, worker
storage.HEARTBEAT, storage.GRACE, worker.POLL = 1, 3, 0.2
held, learn = sys.argv.pop(1) == "held", trainer.Trainer.on_step
def on_step(self, loop, steps):
    learn(self, loop, steps)
    if held and loop.step == 2:
        print("holding", self.run.folder, flush=True)
        time.sleep(600)
trainer.Trainer.on_step = on_step
from undertow.app import main
sys.argv[0] = "undertow"
main()
"""


def begin(kind, waves, *more):
    """A worker in a process of its own; one that is held stops in its first training until it is killed."""
    command = [sys.executable, "-c", SLOW, kind, "tune", waves, *FORECAST[:4], *TUNE, "--epochs", 1, *more]
    return subprocess.Popen(
        list(map(str, command)), cwd=waves.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_until(worker, said):
    """Read what a worker prints up to a line that begins with ``said``."""
    lines = []
    while not (lines and lines[-1].startswith(said)):
        lines.append(worker.stdout.readline())
        assert lines[-1], ("".join(lines), worker.stderr.read())


def kill_one_of_two(waves, *more):
    """One worker is killed within a training when the other one has done the rest and waits for it."""
    dying = begin("held", waves, *more)
    try:
        read_until(dying, "holding ")
        living = begin("free", waves, *more)
        read_until(living, "Waiting for 1 trial of other workers")
    finally:
        dying.kill()
    _, err = living.communicate(timeout=600)
    assert living.returncode == 0, err
    dying.communicate()


def trials_of(name, storage):
    """The trials of a study; the connections to its database are closed then."""
    found = optuna.load_study(study_name=name, storage=storage).trials
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.remove_session()
        storage.engine.dispose()
    return found


def check(trials):
    """All trials done once; the one of the killed worker has failed and was done again with its options."""
    states = [trial.state.name for trial in trials]
    assert states.count("FAIL") == 1
    assert states.count("COMPLETE") + states.count("PRUNED") == TRIALS == len(trials) - 1
    dead = trials[states.index("FAIL")]
    again = [trial for trial in trials if trial.params == dead.params and trial is not dead]
    assert len(again) == 1
    assert again[0].system_attrs["failed_trial"] == dead.number
    assert len({tuple(trial.params.items()) for trial in trials}) == TRIALS


def test_a_killed_worker_loses_nothing_with_sqlite(waves):
    kill_one_of_two(waves)
    folder = waves.parent / "runs/waves-tune"
    check(trials_of("waves-tune", open_storage(None, folder)))
    assert (folder / "best/model.safetensors").exists()


def test_a_killed_worker_loses_nothing_with_postgresql(waves, postgresql):
    kill_one_of_two(waves, "--storage", postgresql)
    check(trials_of("waves-tune", open_storage(postgresql, waves.parent)))
    assert not (waves.parent / "runs/waves-tune/study.db").exists()


@pytest.mark.parametrize("kind", ["sqlite", "journal", "grpc", "postgresql"])
def test_two_workers_share_the_trials(waves, kind, request):
    url = {"sqlite": None, "journal": f"journal:{waves.parent}/study.log"}.get(kind, "")
    url = request.getfixturevalue(kind) if url == "" else url
    more = ["--folder", "shared", *([] if url is None else ["--storage", url])]
    workers = [begin("free", waves, *more) for _ in range(2)]
    for worker in workers:
        _, err = worker.communicate(timeout=600)
        assert worker.returncode == 0, err
    trials = trials_of("shared", open_storage(url, waves.parent / "shared"))
    done = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(done) == TRIALS
    assert len({tuple(trial.params.items()) for trial in done}) == TRIALS
    assert all(trial.state.name == "FAIL" for trial in trials if trial not in done)
