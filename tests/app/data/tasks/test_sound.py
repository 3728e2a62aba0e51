"""The task sound: what is read side by side, what is scored, and what two recordings must be."""

import numpy as np
import pytest
import torch

from sounds import RATE, delayed, driven, plucked, write
from undertow.app import metrics
from undertow.app.data.sounds.pair import read_pair
from undertow.app.data.tasks.sound import VALIDATION_WINDOW, WARM_UP, SoundTask
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig


def config(pair, **options):
    values = {"source": str(pair[0]), "further": (str(pair[1]),), "task": "sound", "validation": 0.25}
    return DataConfig(**values | {"steps": 64} | options)


def task_of(pair, batch_size=8, **options):
    return SoundTask(config(pair, **options), batch_size, seed=3)


def number(tmp_path, n, late=0):
    """Recordings whose samples are their own places, so that a batch shows where it is read from."""
    places = np.arange(1, n + 1, dtype=np.float32)
    return write(tmp_path / "x.wav", places), write(tmp_path / "y.wav", delayed(places, late))


def test_the_target_is_that_of_the_same_moment(tmp_path):
    task = task_of(number(tmp_path, 12_000, late=5), delay=5)
    for batch in (*task.train_batches(0), *task.validation_batches()):
        known = ~batch.y.isnan()
        assert torch.equal(batch.y[known], batch.x[known])


def test_every_lane_warms_up_then_every_sample_counts_once(tmp_path):
    task = task_of(number(tmp_path, 12_000), delay=0)
    batches = list(task.train_batches(1))
    assert len(batches) == task.steps_per_epoch()
    assert [each.carried for each in batches] == [False] + [True] * (len(batches) - 1)
    assert [len(each.x) for each in batches] == [WARM_UP + 64] + [64] * (len(batches) - 1)
    x, y = (torch.cat([getattr(each, name) for each in batches])[..., 0] for name in ("x", "y"))
    assert bool((x.diff(dim=0) == 1).all())  # a lane goes on where its window ended
    assert bool(y[:WARM_UP].isnan().all())
    assert not y[WARM_UP:].isnan().any()
    scored = y[WARM_UP:].T.flatten().tolist()
    assert len(set(scored)) == len(scored)
    assert (
        max(scored) <= 9000 < 9000 + task.lane % 64 + 8 * 64 + WARM_UP
    )  # the validation part is not touched
    assert len(scored) > 9000 - WARM_UP - 8 * 64


def test_epochs_are_repeatable_and_begin_elsewhere(tmp_path):
    task = task_of(number(tmp_path, 12_000), delay=0)
    first = [int(next(task.train_batches(epoch)).x[0, 0]) for epoch in (0, 1, 2, 3, 0)]
    assert first[0] == first[-1]
    assert len(set(first)) > 2


def test_the_validation_part_is_one_lane_scored_whole(tmp_path):
    task = task_of(number(tmp_path, 80_000), delay=0)
    batches = list(task.validation_batches())
    y = torch.cat([each.y for each in batches]).flatten()
    assert y[~y.isnan()].tolist() == list(range(60_001, 80_001))
    assert max(len(each.x) for each in batches[1:]) == VALIDATION_WINDOW
    assert [each.carried for each in batches] == [False] + [True] * (len(batches) - 1)


def test_levels_are_those_of_the_training_part(amp):
    task, x = task_of(amp), plucked(2)
    n = 3 * len(x) // 4
    found = {name: float(value) for name, value in task.buffers().items()}
    assert found["scale"] == pytest.approx(np.sqrt(np.mean(x[:n] ** 2)), rel=1e-6)
    assert found["units.scale"] == pytest.approx(np.sqrt(np.mean(driven(x)[:n] ** 2)), rel=1e-6)


def test_what_is_shown_is_the_error_to_signal_ratio(amp):
    task, total, count = task_of(amp), 0.0, 0
    for batch in task.validation_batches():
        scored = int((~batch.y.isnan()).sum())
        total += float(task.objective.loss(0.5 * batch.x, batch.y)) * scored
        count += scored
    x, y = plucked(2)[-count:], driven(plucked(2))[-count:]
    assert total / count == pytest.approx(((0.5 * x - y) ** 2).sum() / (y**2).sum(), rel=1e-5)


def test_what_is_minimised_is_the_ratio_before_and_after_the_pre_emphasis(amp):
    task = task_of(amp, emphasis=0.9)
    first = next(task.train_batches(0))
    output = 0.5 * first.x
    e = (output - first.y)[WARM_UP:].double().numpy()
    y = driven(plucked(2))[: task.cut].astype(np.float64)
    after = np.mean((e[1:] - 0.9 * e[:-1]) ** 2) / np.mean((y[1:] - 0.9 * y[:-1]) ** 2)
    expected = (np.mean(e**2) / np.mean(y**2) + after) / 2
    assert float(task.objective.loss(output, first.y, first.unit)) == pytest.approx(expected, rel=1e-4)


def test_baselines_lie_between_nothing_and_the_truth(amp):
    gain, linear = (each.value for each in task_of(amp).facts.baselines)
    assert 0 < linear < gain < 1
    y = driven(plucked(2))
    assert metrics.esr(y, 0 * y) == 1


# -- two recordings -------------------------------------------------------------------------------


def test_a_delay_is_found_said_and_taken_away(tmp_path):
    x = plucked(3)
    pair = read_pair(
        config((write(tmp_path / "x.wav", x), write(tmp_path / "y.wav", delayed(driven(x), 37))))
    )
    assert 31 <= pair.delay <= 37
    assert pair.said == [
        f"y.wav lags by {pair.delay} samples ({pair.delay / 8:.2f} ms): shifted (--delay overrides)"
    ]
    np.testing.assert_array_equal(pair.y[:1000], delayed(driven(x), 37)[pair.delay :][:1000])
    assert len(pair.x) == len(pair.y) == len(x) - pair.delay


def test_oddities_are_said(tmp_path):
    x = plucked(3)
    y = np.clip(-2 * driven(x), -0.3, 0.3)[:-100] + np.float32(0.1)
    pair = read_pair(config((write(tmp_path / "x.wav", x), write(tmp_path / "y.wav", y))))
    said = " | ".join(pair.said)
    assert "y.wav looks clipped: " in said
    assert "y.wav has an offset of 0.0" in said
    assert "x.wav is longer by 100 samples: cut to the shorter" in said
    assert "y.wav has the opposite polarity" in said
    assert "y.wav has no delay" in said


def test_a_drift_is_said(tmp_path):
    x = plucked(16)
    places = np.arange(len(x)) * (1 - 3e-4)
    for name, y, drifts in (
        ("y", np.interp(places, np.arange(len(x)), driven(x)), True),
        ("z", driven(x), False),
    ):
        said = read_pair(config((write(tmp_path / "x.wav", x), write(tmp_path / f"{name}.wav", y)))).said
        assert (f"{name}.wav drifts: its delay is " in " | ".join(said)) == drifts


def test_one_channel_of_several(tmp_path):
    x, y = plucked(2), driven(plucked(2))
    mono = write(tmp_path / "x.wav", x)
    for name, channels in (("same", [y, y]), ("left", [y, 0 * y]), ("right", [0 * y, y])):
        pair = read_pair(config((mono, write(tmp_path / f"{name}.wav", np.column_stack(channels)))))
        np.testing.assert_array_equal(pair.y, y)
    both = write(tmp_path / "both.wav", np.column_stack([0.5 * x, y]))
    with pytest.raises(UserError, match=r"both.wav: 2 channels that differ; --channel 1 reads the first"):
        read_pair(config((mono, both)))
    np.testing.assert_array_equal(read_pair(config((mono, both), channel=2)).y, y)
    with pytest.raises(UserError, match=r"--channel 3: .*both.wav has 2 channels"):
        read_pair(config((mono, both), channel=3))


@pytest.mark.parametrize(
    ("y", "rate", "said"),
    [
        (0 * plucked(2), RATE, "y.wav: silent"),
        (plucked(2), 2 * RATE, "y.wav: 16,000 samples a second, and x.wav has 8,000; convert one of them"),
        (plucked(2, seed=7), RATE, "y.wav: no clear delay from x.wav within 4.10 s"),
        (np.r_[driven(plucked(2))[:RATE], np.zeros(RATE)], RATE, "y.wav: the last 0.5 s are silent"),
    ],
)  # fmt: skip
def test_pairs_that_teach_nothing_are_refused(tmp_path, y, rate, said):
    pair = write(tmp_path / "x.wav", plucked(2)), write(tmp_path / "y.wav", y, rate)
    with pytest.raises(UserError) as error:
        task_of(pair)
    assert said in str(error.value)


def test_a_short_recording_is_refused(amp):
    with pytest.raises(
        UserError,
        match=r"2.00 s in both recordings, too short: --batch-size 32 lanes of --steps 512 need 2.56 s",
    ):
        task_of(amp, batch_size=32, steps=512)
