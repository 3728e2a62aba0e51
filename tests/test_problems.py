"""The generated problems: targets recomputed from the inputs, and the stated baselines measured."""

import numpy as np
import pytest

from undertow import problems

RNG_SEED = 20


def draw(name, n=400, steps=None, seed=RNG_SEED):
    return problems.get(name).sample(np.random.default_rng(seed), n, steps)


@pytest.mark.parametrize("name", problems.names())
@pytest.mark.parametrize("longer_by", [0, 1, 7, 200])
def test_shapes_and_types_are_as_promised(name, longer_by):
    problem = problems.get(name)
    steps = problem.min_steps + longer_by
    x, target = draw(name, n=5, steps=steps)
    assert x.shape == (steps, 5, problem.input_size)
    assert x.dtype == np.float32
    if problem.task == "regression":
        assert target.shape == (5, problem.output_size)
        assert target.dtype == np.float32
    else:
        assert target.shape == (5,)
        assert target.dtype == np.int64
        assert set(target) <= set(range(problem.output_size))


@pytest.mark.parametrize("name", problems.names())
def test_same_seed_same_sample(name):
    first, again, other = draw(name), draw(name), draw(name, seed=RNG_SEED + 1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(("name", "combine"), [("adding", np.add), ("multiplication", np.multiply)])
@pytest.mark.parametrize("steps", [2, 3, 100, 101])
def test_target_combines_the_two_marked_values(name, combine, steps):
    x, target = draw(name, steps=steps)
    values, markers = x[..., 0], x[..., 1]
    for n in range(x.shape[1]):
        first, second = np.flatnonzero(markers[:, n])  # exactly two, else unpacking fails
        assert first < steps // 2 <= second
        assert target[n, 0] == combine(values[first, n], values[second, n])
    assert set(np.unique(markers)) <= {0, 1}


@pytest.mark.parametrize(("name", "relevant"), [("temporal-order", 2), ("temporal-order-3", 3)])
@pytest.mark.parametrize("steps", [10, 11, 37, 100, 250])
def test_temporal_order_class_is_the_order_of_x_and_y(name, relevant, steps):
    x, target = draw(name, steps=steps)
    assert np.all(x.sum(axis=-1) == 1)
    symbols = x.argmax(axis=-1)  # E B a b c d X Y
    assert np.all(symbols[0] == 0) and np.all(symbols[-1] == 1)
    assert np.all(symbols[1:-1] >= 2)
    for n in range(x.shape[1]):
        order = [s - 6 for s in symbols[:, n] if s >= 6]
        assert len(order) == relevant
        assert target[n] == int("".join(map(str, order)), base=2)


def test_temporal_order_places_are_the_published_ones():
    x, _ = draw("temporal-order", n=4000, steps=100)
    places = np.array([np.flatnonzero(x[:, n, 6:].sum(-1)) for n in range(x.shape[1])])
    assert (places.min(0).tolist(), places.max(0).tolist()) == ([10, 50], [20, 60])


def test_two_sequence_shows_its_class_at_the_start_and_noise_after():
    x, target = draw("two-sequence", n=2000)
    assert np.array_equal(x[:3, :, 0], np.tile(2 * target - 1, (3, 1)))
    assert abs(x[3:].mean()) < 0.01
    assert abs(x[3:].var() - 0.2) < 0.01


@pytest.mark.parametrize("name", problems.names())
def test_baseline_is_the_error_of_the_best_constant_guess(name):
    problem, (_, target) = problems.get(name), draw(name, n=100_000, steps=20)
    if problem.task == "regression":
        measured = target.var()
    else:
        share = np.bincount(target, minlength=problem.output_size) / len(target)
        measured = -(share * np.log(share)).sum()
    assert measured == pytest.approx(problem.baseline, rel=0.02)


def test_correct_and_solved_regression():
    adding, (_, target) = problems.get("adding"), draw("adding", n=1000)
    assert adding.solved(target, target)
    assert adding.correct(target + 0.039, target).all()
    assert not adding.correct(target - 0.041, target).any()
    wrong = target.copy()
    wrong[:11] += 1
    assert adding.correct(wrong, target).sum() == 989
    assert not adding.solved(wrong, target)
    assert not adding.correct(np.full_like(target, np.nan), target).any()


def test_correct_and_solved_classification():
    order, (_, target) = problems.get("temporal-order"), draw("temporal-order", n=1000)
    scores = np.eye(4)[target]
    assert order.solved(scores, target)
    assert not order.solved(np.roll(scores, 1, axis=-1), target)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"adding, multiplication, temporal-order, .* got 'addition'"):
        problems.get("addition")


@pytest.mark.parametrize("name", problems.names())
def test_too_few_steps_or_sequences_are_refused(name):
    problem = problems.get(name)
    with pytest.raises(ValueError, match=rf"steps: {name} needs at least {problem.min_steps}, got"):
        draw(name, steps=problem.min_steps - 1)
    with pytest.raises(ValueError, match="n: expected at least 1 sequence, got 0"):
        draw(name, n=0)
