"""The generated problems: targets recomputed from the inputs, and the stated baselines measured."""

import math

import numpy as np
import pytest

from undertow import problems
from undertow.problems import UNSCORED, reber

RNG_SEED = 20
EVERY = [name for name in problems.names() if problems.get(name).readout == "every"]
LAST = [name for name in problems.names() if name not in EVERY]


def draw(name, n=400, steps=None, seed=RNG_SEED, **options):
    return problems.get(name).sample(np.random.default_rng(seed), n, steps, **options)


def one_hot(x):
    """The symbols [T,N] of one-hot x [T,N,C]."""
    assert set(np.unique(x)) <= {0, 1} and np.all(x.sum(-1) == 1)
    return x.argmax(-1)


# ------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", problems.names())
@pytest.mark.parametrize("longer_by", [0, 1, 7, 200])
def test_shapes_and_types_are_as_promised(name, longer_by):
    problem = problems.get(name)
    steps = problem.min_steps + longer_by
    x, target = draw(name, n=5, steps=steps)
    assert x.shape[1:] == (5, problem.input_size)
    assert x.dtype == np.float32
    if name not in ("reber", "lag-distractors", "copy-memory"):
        assert len(x) == steps
    if problem.task == "regression":
        assert target.shape == (5, problem.output_size)
        assert target.dtype == np.float32
    else:
        assert target.shape == ((5,) if problem.readout == "last" else (len(x), 5))
        assert target.dtype == np.int64
        assert set(target.flat) <= {UNSCORED, *range(problem.output_size)}


@pytest.mark.parametrize("name", problems.names())
def test_same_seed_same_sample(name):
    first, again, other = draw(name), draw(name), draw(name, seed=RNG_SEED + 1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", LAST)
def test_baseline_is_the_error_of_the_best_constant_guess(name):
    problem, (_, target) = problems.get(name), draw(name, n=20_000)
    if problem.task == "regression":
        measured = target.var()
    else:
        share = np.bincount(target, minlength=problem.output_size) / len(target)
        measured = -(share * np.log(share)).sum()
    assert measured == pytest.approx(problem.baseline, rel=0.03)


@pytest.mark.parametrize("name", [n for n in LAST if problems.get(n).task == "classification"])
def test_classes_are_equally_likely(name):
    problem, (_, target) = problems.get(name), draw(name, n=8000, steps=20)
    share = np.bincount(target, minlength=problem.output_size) / len(target)
    assert abs(share - 1 / problem.output_size).max() < 0.02


@pytest.mark.parametrize("name", LAST)
def test_stretch_draws_lengths_as_hochreiter_and_schmidhuber_do(name):
    rng, problem = np.random.default_rng(0), problems.get(name)
    lengths = [len(problem.sample(rng, 2, 100, stretch=0.1)[0]) for _ in range(200)]
    if name != "lag-distractors":
        assert set(lengths) == set(range(100, 111))


@pytest.mark.parametrize("name", problems.names())
def test_published_figures_are_for_lags_that_can_be_drawn(name):
    problem = problems.get(name)
    assert problem.source and problem.criterion.words
    for steps, sequences in problem.published.items():
        assert steps >= problem.min_steps and sequences > 1000
        draw(name, n=2, steps=steps)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"adding, adding-1997, multiplication, .* got 'addition'"):
        problems.get("addition")


@pytest.mark.parametrize("name", problems.names())
def test_too_few_steps_or_sequences_are_refused(name):
    problem = problems.get(name)
    with pytest.raises(ValueError, match=rf"steps: {name} needs at least {problem.min_steps}, got"):
        draw(name, steps=problem.min_steps - 1)
    with pytest.raises(ValueError, match="n: expected at least 1 sequence, got 0"):
        draw(name, n=0)


def test_stretch_out_of_place_is_refused():
    with pytest.raises(ValueError, match="stretch: expected 0: the problem sets its own lengths"):
        draw("reber", stretch=0.1)
    with pytest.raises(ValueError, match="stretch: expected 0 or more, got -1"):
        draw("adding", stretch=-1)


# ------------------------------------------------------------------------- adding, multiplication


@pytest.mark.parametrize("steps", [2, 3, 100, 101])
def test_adding_is_the_sum_of_the_two_marked_values(steps):
    x, target = draw("adding", steps=steps)
    values, markers = x[..., 0], x[..., 1]
    for n in range(x.shape[1]):
        first, second = np.flatnonzero(markers[:, n])  # exactly two, else unpacking fails
        assert first < steps // 2 <= second
        assert target[n, 0] == values[first, n] + values[second, n]
    assert set(np.unique(markers)) <= {0, 1}


@pytest.mark.parametrize("stretch", [0.0, 0.1])
@pytest.mark.parametrize("steps", [6, 21, 100])
@pytest.mark.parametrize(
    ("name", "at_first", "combine", "lowest"),
    [
        ("adding-1997", 0.0, lambda a, b: 0.5 + (a + b) / 4, -1),
        ("multiplication", 1.0, lambda a, b: a * b, 0),
    ],
)
def test_marks_and_targets_of_1997(name, at_first, combine, lowest, steps, stretch):
    x, target = draw(name, steps=steps, n=2000, stretch=stretch)
    values, markers = x[..., 0], x[..., 1]
    assert lowest <= values.min() < lowest + 0.01 and 0.99 < values.max() <= 1
    seen = set()
    for n in range(x.shape[1]):
        marked = np.flatnonzero(markers[:, n] == 1)
        assert len(marked) == 2
        assert marked.min() < min(10, steps // 2 - 1) and marked.max() < steps // 2 - 1
        seen |= set(marked)
        a, b = (np.float32(at_first) if k == 0 else values[k, n] for k in marked)
        assert target[n, 0] == pytest.approx(combine(a, b), abs=1e-6)
        ends = {k for k in (0, len(x) - 1) if k not in marked}
        assert set(np.flatnonzero(markers[:, n] == -1)) == ends
    assert seen == set(range(steps // 2 - 1))
    assert target.min() >= 0 and target.max() <= 1


# ----------------------------------------------------------------------------- temporal order


@pytest.mark.parametrize(("name", "relevant"), [("temporal-order", 2), ("temporal-order-3", 3)])
@pytest.mark.parametrize("steps", [10, 11, 37, 100, 250])
def test_temporal_order_class_is_the_order_of_x_and_y(name, relevant, steps):
    x, target = draw(name, steps=steps)
    symbols = one_hot(x)  # E B a b c d X Y
    assert np.all(symbols[0] == 0) and np.all(symbols[-1] == 1)
    assert np.all(symbols[1:-1] >= 2)
    for n in range(x.shape[1]):
        order = [s - 6 for s in symbols[:, n] if s >= 6]
        assert len(order) == relevant
        assert target[n] == int("".join(map(str, order)), base=2)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("temporal-order", [10, 50], [20, 60]), ("temporal-order-3", [10, 33, 66], [20, 43, 76])],
)
def test_temporal_order_places_are_the_published_ones(name, low, high):
    for stretch in (0.0, 0.1):
        x, _ = draw(name, n=4000, steps=100, stretch=stretch)
        places = np.array([np.flatnonzero(x[:, n, 6:].sum(-1)) for n in range(x.shape[1])])
        assert (places.min(0).tolist(), places.max(0).tolist()) == (low, high)


# ------------------------------------------------------------------------------ two sequences


@pytest.mark.parametrize("name", ["two-sequence", "two-sequence-noisy", "expected-target"])
def test_two_sequence_shows_its_class_at_the_start_and_noise_after(name):
    x, target = draw(name, n=4000)
    shown = 2 * target - 1 if name != "expected-target" else np.sign(x[0, :, 0])
    off = x[:3, :, 0] - shown
    if name == "two-sequence-noisy":
        assert abs(off.mean()) < 0.02 and abs(off.var() - 0.2) < 0.02
    else:
        assert not off.any()
    assert abs(x[3:].mean()) < 0.01
    assert abs(x[3:].var() - 0.2) < 0.01


def test_expected_target_is_02_or_08_under_noise_of_variance_01():
    problem, (x, target) = problems.get("expected-target"), draw("expected-target", n=20_000)
    truth = problem.truth(x)
    np.testing.assert_array_equal(truth, np.where(x[0] == 1, np.float32(0.2), np.float32(0.8)))
    noise = target - truth
    assert abs(noise.mean()) < 0.01 and abs(noise.var() - 0.1) < 0.005
    assert problem.solved(truth, truth) and not problem.solved(target, truth)


# ------------------------------------------------------------------------------------ lags


def test_noise_free_is_two_sequences_alike_but_for_their_ends():
    x, target = draw("lag-noise-free", n=200)
    whole = np.concatenate([one_hot(x), target[-1:]])  # [p + 1, N]
    np.testing.assert_array_equal(whole[1:], target)
    assert {tuple(column) for column in whole.T} == {(end, *range(99), end) for end in (99, 100)}


def test_random_letters_differ_and_the_ends_agree():
    x, target = draw("lag-random", n=500)
    whole = np.concatenate([one_hot(x), target[-1:]])
    np.testing.assert_array_equal(whole[1:], target)
    assert set(whole[0]) == {99, 100}
    np.testing.assert_array_equal(whole[0], whole[-1])
    letters = whole[1:-1]
    assert set(letters.flat) == set(range(99))
    assert abs(np.bincount(letters.flat) / letters.size - 1 / 99).max() < 0.003


def test_distractors_come_between_the_symbol_and_its_trigger():
    rng, problem, more = np.random.default_rng(1), problems.get("lag-distractors"), []
    for _ in range(400):
        x, target = problem.sample(rng, 3, 50)
        symbols = one_hot(x)  # 100 letters, then e b x y
        assert np.all(symbols[0] == 101) and np.all(symbols[-1] == 100)
        np.testing.assert_array_equal(symbols[1], 102 + target)
        assert symbols[2:-1].max() < 100
        more.append(len(x) + 1 - 54)  # k: the whole sequence has q + k + 4 symbols
    assert min(more) == 0
    assert np.mean(more) == pytest.approx(10 - 1, abs=1.5)  # geometric, from 0: 0.9 / 0.1


# ----------------------------------------------------------------------------------- Reber

SYMBOLS = "BTPSXVE"


def is_reber(word):
    """By hand, symbol by symbol, unlike the generator's tables."""
    follow = {
        "B": {"T": "t", "P": "p"}, "t": {"S": "t", "X": "x"}, "p": {"T": "p", "V": "v"},
        "x": {"X": "p", "S": "s"}, "v": {"P": "x", "V": "s"}, "s": {"E": ""},
    }  # fmt: skip
    if not word.startswith("B"):
        return False
    state = "B"
    for letter in word[1:]:
        if letter not in follow.get(state, {}):
            return False
        state = follow[state][letter]
    return state == ""


def is_embedded(word):
    return (
        len(word) >= 9
        and word[0] == "B"
        and word[1] in "TP"
        and word[-2:] == word[1] + "E"
        and is_reber(word[2:-2])
    )


def words_of(x, target):
    """The strings of a sample of ``reber``, x and target having been held against each other."""
    for n in range(x.shape[1]):
        inside = target[:, n] != UNSCORED
        T = int(inside.sum())
        assert inside[:T].all() and not x[T:, n].any()
        assert np.array_equal(one_hot(x[:T, n])[1:], target[: T - 1, n]) and x[0, n, 0] == 1
        yield "B" + "".join(SYMBOLS[k] for k in target[:T, n])


@pytest.mark.parametrize("word", ["BTXSE", "BPVVE", "BTSXXTVVE", "BPTVPXTTVPSE"])
def test_the_checker_knows_reber_strings(word):
    assert is_reber(word) and is_embedded(f"BP{word}PE")
    assert not is_embedded(f"BT{word}PE") and not is_reber(word[:-1]) and not is_reber(word[:-2] + "TE")


def test_strings_are_grammatical_and_every_branch_is_taken():
    words = list(words_of(*draw("reber", n=4000)))
    assert all(map(is_embedded, words))
    assert abs(np.mean([word[1] == "T" for word in words]) - 0.5) < 0.03
    assert np.mean([len(word) for word in words]) == pytest.approx(12, abs=0.2)
    for part in ("BTS", "BTX", "XS", "XX", "VP", "VV", "TT", "SS"):
        assert any(part in word[2:-2] for word in words)


def test_strings_that_are_too_long_are_drawn_again():
    words = list(words_of(*draw("reber", n=300, steps=11)))
    assert all(map(is_embedded, words))
    assert {len(word) for word in words} == {9, 10, 11}


def test_the_continual_stream_is_strings_end_to_end():
    x, target = draw("continual-reber", n=20, steps=500)
    stream = np.concatenate([one_hot(x), target[-1:]])
    np.testing.assert_array_equal(stream[1:], target)
    for n in range(20):
        text = "".join(SYMBOLS[k] for k in stream[:, n])
        count = 0
        while len(text) > 60:  # the last string may be cut off
            end = next(k for k in range(9, 60) if is_embedded(text[:k]))
            text, count = text[end:], count + 1
        assert count > 20


def test_possible_symbols_are_all_that_follow_the_same_beginning():
    _, target = draw("reber", n=6000)
    possible = reber.possible(target)
    followers = {}
    for n in range(6000):
        word = "B"
        for symbol in target[:6, n]:
            followers.setdefault(word, set()).add(symbol)
            word += SYMBOLS[symbol]
    for n in range(50):
        word = "B"
        for t, symbol in enumerate(target[:4, n]):
            assert set(np.flatnonzero(possible[t, n])) == followers[word]
            word += SYMBOLS[symbol]


@pytest.mark.parametrize("name", ["reber", "continual-reber"])
def test_reber_is_solved_by_the_possible_symbols_and_by_nothing_less(name):
    problem, (_, target) = problems.get(name), draw(name, n=64)
    scores = reber.possible(target).astype(float)
    assert problem.solved(scores, target)
    scores[3, 5] = 1 - scores[3, 5]
    assert problem.error(scores, target).tolist() == [float(n == 5) for n in range(64)]
    assert not problem.solved(scores, target)
    assert not problem.correct(np.full_like(scores, np.nan), target).any()
    assert not problem.correct(np.zeros_like(scores), target).any()  # a tie is no answer


# ----------------------------------------------------------------------------------- copying


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_copy_memory_says_the_ten_letters_again(steps):
    x, target = draw("copy-memory", steps=steps)
    symbols = one_hot(x)
    assert len(symbols) == steps + 20
    letters = symbols[:10]
    assert letters.min() == 0 and letters.max() == 7
    assert np.all(symbols[10 : 9 + steps] == 8) and np.all(symbols[9 + steps] == 9)
    assert np.all(symbols[10 + steps :] == 8) or steps == 0
    np.testing.assert_array_equal(target[-10:], letters)
    assert np.all(target[:-10] == 8)


# ----------------------------------------------------------------------------------- criteria


def test_correct_and_solved_regression():
    adding, (_, target) = problems.get("adding-1997"), draw("adding-1997", n=2000)
    assert adding.solved(target, target)
    assert adding.correct(target + 0.039, target).all()
    assert not adding.correct(target - 0.041, target).any()
    assert not adding.solved(target + 0.011, target)  # each correct, but the mean error is too large
    wrong = target.copy()
    wrong[7] += 1
    assert adding.correct(wrong, target).sum() == 1999
    assert not adding.solved(wrong, target)
    assert not adding.correct(np.full_like(target, np.nan), target).any()


def test_some_criteria_allow_some_wrong():
    product, (_, target) = problems.get("multiplication"), draw("multiplication", n=2000)
    wrong = target.copy()
    wrong[:12] += 1
    assert product.solved(wrong, target)
    wrong[12] += 1
    assert not product.solved(wrong, target)
    assert not product.solved(wrong[:100], target[:100])  # in proportion: 13 of 100 are too many


def test_correct_and_solved_classification():
    order, (_, target) = problems.get("temporal-order"), draw("temporal-order", n=2000)
    scores = 10 * np.eye(4)[target]
    assert order.solved(scores, target)
    assert not order.solved(np.roll(scores, 1, axis=-1), target)
    assert not order.correct(np.eye(4)[target], target).any()  # the right class, at e/(e + 3): too unsure
    # softmax of (z, 0, 0, 0): all off by less than 0.3 from e^z/(e^z + 3) > 0.7 on
    z = math.log(3 * 0.7 / 0.3)
    assert order.correct((z + 0.01) * np.eye(4)[target], target).all()
    assert not order.correct((z - 0.01) * np.eye(4)[target], target).any()


def test_scored_steps_decide_and_others_do_not():
    copying, (_, target) = problems.get("copy-memory"), draw("copy-memory", n=3, steps=5)
    scores = 20 * np.eye(9)[target]
    assert copying.solved(scores, target)
    scores[2, 1] = 0
    assert copying.correct(scores, target).tolist() == [True, False, True]
    target[2, 1] = UNSCORED
    assert copying.correct(scores, target).all()


def test_lag_random_is_judged_at_the_end_alone():
    problem, (_, target) = problems.get("lag-random"), draw("lag-random", n=4)
    scores = np.zeros((*target.shape, 101))
    assert not problem.correct(scores, target).any()
    scores[-1] = 20 * np.eye(101)[target[-1]]
    assert problem.correct(scores, target).all()
    assert not problems.get("lag-noise-free").correct(scores, target).any()
